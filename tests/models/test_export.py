"""Programs of networks for any size of a batch: `jax.export`, with the backend that is for it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import models
from models import backends

# Sides of the smallest images, where 32 is too small or large enough to take long.
SIDES = {
    "resnet20": 8,
    "alexnet": 64,
    "alexnet_2012": 64,
    "inception_v3": 75,
    "unet_2015": 188,
    "yolov1": 64,
}
# One of each kind that has layers of its own; the others are these, deeper or wider.
EXPORTED = (
    "mlp",
    "lenet5",
    "plain_cnn",
    "alexnet",
    "vgg11_bn",
    "resnet20",
    "googlenet_2014",
    "unet",
    "fcn8s",
    "deeplabv3plus_resnet50",
    "rcnn_resnet18",
    "fastrcnn_resnet18",
    "fasterrcnn_resnet18_fpn",
    "retinanet_resnet18_fpn",
    "fcos_resnet18_fpn",
    "yolov1_small",
    "yolov3_small",
    "yolox_small",
    "cnn1d",
    "resnet1d_small",
    "tcn_small",
    "m5",
)


def some(name):
    """What a network takes, as many as a symbol says; shapes alone."""
    (size,) = export.symbolic_shape("batch")
    side = SIDES.get(name, 32)
    if name in models.names("sequence"):
        return [jax.ShapeDtypeStruct((size, 40, 1), jnp.float32)]
    found = [jax.ShapeDtypeStruct((size, side, side, 3), jnp.float32)]
    if models.variant(name).proposals:
        found.append(jax.ShapeDtypeStruct((size, 5, 4), jnp.float32))
        found.append(jax.ShapeDtypeStruct((size, 5), jnp.bool_))
    return found


def applied(name, *, ragged=False):
    """(a function, its arguments as shapes): of a detector what it finds, else its logits."""
    network = models.create(name, num_classes=10, **backends.XLA.fields)
    x, *regions = some(name)
    one = [jax.ShapeDtypeStruct((1, *each.shape[1:]), each.dtype) for each in (x, *regions)]
    variables = jax.eval_shape(partial(network.init, train=False), jax.random.key(0), *one)
    how = {"method": "detect"} if name in models.names("detection") else {"train": False}
    others = []
    if name in models.names("detection"):
        others = [jax.ShapeDtypeStruct((x.shape[0], 4), jnp.float32), *regions]

    def call(variables, x, *others):
        return network.apply(variables, x, *others, **how)

    def of_length(variables, x, length):
        return network.apply(variables, x, train=False, length=length)

    if ragged:
        return of_length, (variables, x, jax.ShapeDtypeStruct(x.shape[:1], jnp.int32))
    return call, (variables, x, *others)


@pytest.mark.parametrize("name", models.names("detection"))
def test_every_detector_takes_a_batch_of_any_size(name):
    detect, given = applied(name)
    found = jax.eval_shape(detect, *given)
    assert {leaf.shape[:2] for leaf in found} == {(given[1].shape[0], found.valid.shape[1])}


@pytest.mark.parametrize("name", [*models.names("classification"), *models.names("segmentation")])
def test_every_network_takes_a_batch_of_any_size(name):
    call, (variables, x) = applied(name)
    y = jax.eval_shape(call, variables, x)
    assert y.shape[0] == x.shape[0]
    assert y.shape[-1] == 10


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("name", models.names("sequence"))
def test_every_network_of_series_takes_a_batch_of_any_size(name, ragged):
    call, given = applied(name, ragged=ragged)
    assert jax.eval_shape(call, *given).shape == (given[1].shape[0], 10)


@pytest.mark.parametrize("name", EXPORTED)
def test_a_network_is_exported_for_a_batch_of_any_size(name):
    call, given = applied(name, ragged=name in models.names("sequence"))
    program = export.export(jax.jit(call), platforms=("cpu", "cuda", "tpu"))(*given)
    assert {y.shape[0] for y in program.out_avals} == {given[1].shape[0]}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*models.names()} - {*EXPORTED}))
def test_so_is_every_other(name):
    test_a_network_is_exported_for_a_batch_of_any_size(name)


def test_an_exported_network_computes_a_batch_of_any_size():
    network = models.create("lenet5_1998", num_classes=10, **backends.XLA.fields)
    (x,) = some("lenet5_1998")
    drawn = jax.eval_shape(lambda key, x: network.init(key, x, train=False), jax.random.key(0), x)
    variables = jax.tree.map(lambda a: np.linspace(-0.1, 0.1, a.size).reshape(a.shape), drawn)
    apply = jax.jit(lambda variables, x: network.apply(variables, x, train=False))
    program = export.export(apply)(variables, x)
    for count in (1, 3):
        given = np.linspace(-1, 1, count * 32 * 32 * 3, dtype=np.float32)
        given = given.reshape(count, 32, 32, 3)
        expected = apply(variables, given)
        np.testing.assert_allclose(program.call(variables, given), expected, atol=1e-5)
