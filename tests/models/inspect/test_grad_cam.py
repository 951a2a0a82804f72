"""Grad-CAM against class activation maps, numbers by hand and finite differences."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from models.classification.classifier import classifier
from models.classification.resnet import BasicBlock, CIFARStem, ResNet
from models.inspect.feature_maps import feature_maps, program
from models.inspect.grad_cam import grad_cam, last_map


class Same(nn.Module):
    """A map: what comes in."""

    @nn.compact
    def __call__(self, x):
        return x * 1


class Flat(nn.Module):
    """A map, tanh, and a dense layer on all its values."""

    @nn.compact
    def __call__(self, x):
        y = jnp.tanh(Same(name="map")(x))
        return nn.Dense(2, use_bias=False, name="head")(y.reshape(len(y), -1))


class Side(nn.Module):
    """A map that nothing reads."""

    @nn.compact
    def __call__(self, x):
        Same(name="unread")(x * 2)
        return Same(name="map")(x).mean((1, 2))


def small(**fields):
    return models.create("plain_cnn", num_classes=3, stages=(1, 1), channels=(4, 5), **fields)


def drawn(network, shape, dtype="float32", **how):
    """Variables of NumPy's numbers, so that no initialisation is compiled, and inputs."""
    rng = np.random.default_rng(0)
    x = jax.ShapeDtypeStruct(shape, dtype)
    init = lambda x: network.init(jax.random.key(0), x, train=False, **how)  # noqa: E731
    found = dict(jax.eval_shape(init, x))
    draws = {"params": lambda leaf: rng.normal(size=leaf.shape)}
    made = {
        name: jax.tree.map(
            lambda leaf, name=name: jnp.asarray(
                draws.get(name, lambda leaf: rng.uniform(0.5, 1, leaf.shape))(leaf), leaf.dtype
            ),
            tree,
        )
        for name, tree in found.items()
    }
    return made, jnp.asarray(rng.normal(size=shape), dtype)


def test_with_a_linear_head_on_the_mean_it_is_cam_over_the_number_of_positions():
    network = small()
    variables, x = drawn(network, (3, 8, 12, 1))
    last = network.backbone.apply(
        {name: each["backbone"] for name, each in variables.items()}, x, train=False
    )[-1]
    kernel = variables["params"]["head"]["kernel"]
    found = grad_cam(network, variables, x, [2, 0, 1])
    np.testing.assert_array_equal(found.labels, [2, 0, 1])
    np.testing.assert_allclose(found.weights, kernel.T[jnp.array([2, 0, 1])] / 24, rtol=1e-5)
    cam = np.einsum("bhwc,bc->bhw", last, kernel.T[np.array([2, 0, 1])])
    assert found.layer == "backbone[1]"
    assert (cam > 0).any()
    assert (cam < 0).any()
    np.testing.assert_allclose(24 * found.coarse, np.maximum(cam, 0), rtol=1e-4, atol=1e-5)
    assert found.heat.shape == (3, 8, 12)
    np.testing.assert_allclose(found.logits, network.apply(variables, x, train=False), rtol=1e-5)


def test_series_with_a_mean_over_their_valid_steps():
    network = models.create("fcn1d", num_classes=2, channels=(3, 4), kernels=(3, 3))
    length = jnp.array([4, 6])
    variables, x = drawn(network, (2, 6, 1), length=length)
    found = grad_cam(network, variables, x, [1, 0], length=length)
    last = feature_maps(network, variables, x, names=["backbone"], length=length)["backbone"]
    kernel = variables["params"]["head"]["kernel"].T[jnp.array([1, 0])]
    np.testing.assert_allclose(found.weights, kernel / 6, rtol=1e-5)
    cam = np.maximum(np.einsum("blc,bc->bl", last, kernel), 0)
    np.testing.assert_allclose(6 * found.heat, cam, rtol=1e-4, atol=1e-6)


def test_numbers_by_hand():
    network = Side()
    x = jnp.array([[[[1.0, 2.0]], [[3.0, -4.0]]]])
    found = grad_cam(network, {}, x, [1])
    # The logit is the mean of channel 1 over two positions: its weight is 1/2, the other's 0.
    np.testing.assert_array_equal(found.weights, [[0, 0.5]])
    np.testing.assert_array_equal(found.coarse, [[[1.0], [0.0]]])
    np.testing.assert_array_equal(found.heat, found.coarse)
    assert found.layer == "map"


def test_the_weights_are_mean_finite_differences(x64):
    network = Flat()
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 2, 3, 2)))
    variables = network.init(jax.random.key(0), x)
    kernel = np.asarray(variables["params"]["head"]["kernel"])

    def logit(values):
        return (np.tanh(values).reshape(1, -1) @ kernel)[0, 1]

    step, slopes = 1e-6, np.zeros((2, 3, 2))
    for at in np.ndindex(2, 3, 2):
        moved = np.zeros((1, 2, 3, 2))
        moved[(0, *at)] = step
        slopes[at] = (logit(x + moved) - logit(x - moved)) / (2 * step)
    found = grad_cam(network, variables, x, [1], layer="map")
    np.testing.assert_allclose(found.weights[0], slopes.mean((0, 1)), rtol=1e-6)
    assert found.heat.dtype == np.float64


def test_a_map_inside_the_backbone_and_one_that_is_computed_again():
    made = partial(ResNet, (1, 1), (4, 6), BasicBlock, CIFARStem, 4)
    network, again = (classifier(made, num_classes=3, remat=remat) for remat in (False, True))
    variables, x = drawn(network, (1, 8, 8, 3))
    plain, remat = (grad_cam(one, variables, x, layer="backbone[0]") for one in (network, again))
    assert float(plain.heat.max()) > 0
    np.testing.assert_allclose(plain.heat, remat.heat, rtol=1e-4, atol=1e-7)


# One of each family, at its least size; those with heads of their own.
LAST = {
    "plain_cnn": ((1, 16, 16, 1), "backbone[2]"),
    "lenet5": ((1, 32, 32, 1), "backbone[1]"),
    "lenet5_1998": ((1, 32, 32, 1), "backbone[1]"),
    "alexnet": ((1, 96, 96, 3), "backbone[3]"),
    "vgg11": ((1, 64, 64, 3), "backbone[5]"),
    "resnet18": ((1, 64, 64, 3), "backbone[3]"),
    "googlenet": ((1, 64, 64, 3), "backbone[2]"),
    "cnn1d": ((1, 40, 1), "conv3"),
    "m5": ((1, 4096, 1), "backbone"),
    "tcn_small": ((1, 16, 1), "backbone"),
    "resnet1d_small": ((1, 32, 1), "backbone"),
}


@pytest.mark.parametrize("name", LAST)
def test_the_last_map_with_positions_is_taken(name):
    shape, layer = LAST[name]
    network, x = models.create(name, num_classes=4), jax.ShapeDtypeStruct(shape, jnp.float32)
    variables = jax.eval_shape(lambda x: network.init(jax.random.key(0), x, train=False), x)
    found = program(network, variables, x)
    assert last_map(network, found, found.results) == layer


@pytest.mark.parametrize("name", ["mlp", "linear1d", "mlp1d"])
def test_a_network_without_maps_is_refused_by_its_name(name):
    shape = (1, 8, 8, 1) if name == "mlp" else (1, 8, 1)
    network = models.create(name, num_classes=3)
    variables, x = drawn(network, shape)
    with pytest.raises(ValueError, match=f"^{type(network).__name__} has no map of more than one"):
        grad_cam(network, variables, x)


def test_what_is_no_classifier_is_refused():
    network = models.create("unet", num_classes=3, features=(2, 4))
    x = jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32)
    variables = jax.eval_shape(lambda x: network.init(jax.random.key(0), x, train=False), x)
    with pytest.raises(ValueError, match=r"yields no logits \(B, classes\)"):
        grad_cam(network, variables, x)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"layer": "mapp"}, r"layer='mapp' is no map of Side; there are unread, map"),
        ({"layer": "unread"}, "layer='unread' leads to no logit of Side"),
        ({"labels": [2]}, r"labels=\[2\] must lie in 0..1"),
        ({"labels": [-1]}, r"labels=\[-1\] must lie in 0..1"),
        ({"labels": [0, 1]}, r"labels of shape \(2,\)"),
        ({"labels": [0.5]}, "dtype float64"),
    ],
)
def test_what_cannot_be_is_refused(fields, match):
    with pytest.raises(ValueError, match=match):
        grad_cam(Side(), {}, jnp.ones((1, 2, 2, 2)), **fields)


@pytest.mark.parametrize(
    ("dtype", "wide"), [("float32", "float32"), ("bfloat16", "float32"), ("float64", "float64")]
)
def test_heat_is_at_least_float32(dtype, wide, x64):
    given = dtype if dtype == "float64" else "float32"
    network = small(dtype=dtype, param_dtype=given)
    variables, x = drawn(network, (1, 8, 8, 1), given)
    found = jax.eval_shape(lambda v, x: grad_cam(network, v, x)[:5], variables, x)
    heat, coarse, weights, logits, labels = (each.dtype for each in found)
    assert {heat, coarse, weights, logits} == {jnp.dtype(wide)}
    assert labels == jnp.int32
