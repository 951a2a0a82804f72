"""Programs of networks for any size of a batch: `jax.export`, with the backend that is for it."""

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
)


def applied(name):
    """A network as a function of its key and images, without a parameter drawn."""
    fields = {} if name == "mlp" else backends.XLA.fields
    network = models.create(name, num_classes=10, **fields)
    regions = [jnp.ones((1, 1, 4))] if models.variant(name).proposals else []

    def call(key, x):
        # Regions of every image.
        others = [jnp.broadcast_to(each, (x.shape[0], 1, 4)) for each in regions]
        return network.init_with_output(key, x, *others, train=False)[0]

    return call


def images(name):
    """For it, as many as a symbol says."""
    (batch,) = export.symbolic_shape("batch")
    side = SIDES.get(name, 32)
    return jax.ShapeDtypeStruct((batch, side, side, 3), jnp.float32)


@pytest.mark.parametrize("name", models.names("detection"))
def test_every_detector_takes_a_batch_of_any_size(name):
    x = images(name)
    found = jax.eval_shape(applied(name), jax.random.key(0), x)
    leaves = jax.tree.leaves(found)
    # Beside arrays of images there may be anchors, (A, 4); R-CNN's are of regions, here one each.
    batches = {leaf.shape[0] for leaf in [x for x in leaves if x.ndim > 2] or leaves}
    assert batches == {x.shape[0]}


@pytest.mark.parametrize("name", [*models.names("classification"), *models.names("segmentation")])
def test_every_network_takes_a_batch_of_any_size(name):
    x = images(name)
    y = jax.eval_shape(applied(name), jax.random.key(0), x)
    assert y.shape[0] == x.shape[0]
    assert y.shape[-1] == 10


@pytest.mark.parametrize("name", EXPORTED)
def test_a_network_is_exported_for_a_batch_of_any_size(name):
    x = images(name)
    (y,) = export.export(jax.jit(applied(name)))(jax.random.key(0), x).out_avals
    assert y.shape[0] == x.shape[0]


def test_an_exported_network_computes_a_batch_of_any_size():
    network = models.create("lenet5_1998", num_classes=10, **backends.XLA.fields)
    x = images("lenet5_1998")
    drawn = jax.eval_shape(lambda key, x: network.init(key, x, train=False), jax.random.key(0), x)
    variables = jax.tree.map(lambda a: np.linspace(-0.1, 0.1, a.size).reshape(a.shape), drawn)
    apply = jax.jit(lambda variables, x: network.apply(variables, x, train=False))
    program = export.export(apply)(variables, x)
    for count in (1, 3):
        given = np.linspace(-1, 1, count * 32 * 32 * 3, dtype=np.float32)
        given = given.reshape(count, 32, 32, 3)
        expected = apply(variables, given)
        np.testing.assert_allclose(program.call(variables, given), expected, atol=1e-5)
