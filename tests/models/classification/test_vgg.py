"""VGG against plain NumPy, with and without BatchNorm; its maps, its start, its remat."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models

DEPTHS = {"vgg11": 11, "vgg13": 13, "vgg16": 16, "vgg19": 19}
NAMES = [*DEPTHS, *(f"{name}_bn" for name in DEPTHS)]
TINY = {"features": (2, 2, 2, 4, 4), "widths": (6, 5)}


def tree(network, shape, dtype="float32"):
    init = partial(network.init_with_output, train=False)
    return jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct(shape, dtype))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["vgg11", "vgg13_bn"])
def test_the_forward_pass(definition, name):
    network = models.create(name, num_classes=3, param_dtype="float64", **TINY)
    shape = (1, 32, 35, 1)
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape)
    _, made = tree(network, shape, "float64")
    variables = jax.tree.map(lambda leaf: rng.uniform(-0.6, 1, leaf.shape), made)
    if name == "vgg13_bn":
        variables["batch_stats"] = jax.tree.map(np.abs, variables["batch_stats"])
    params = variables["params"]
    y = x
    for stage, depth in enumerate((1, 1, 2, 2, 2) if name == "vgg11" else (2,) * 5, 1):
        for number in range(1, depth + 1):
            layer = params["backbone"][f"stage{stage}_conv{number}"]
            y = definition(y, layer["kernel"], [1, 1], [(1, 1)] * 2, [1, 1], 1) + layer["bias"]
            if name == "vgg13_bn":
                norm = f"stage{stage}_norm{number}"
                p, s = params["backbone"][norm], variables["batch_stats"]["backbone"][norm]
                y = (y - s["mean"]) / np.sqrt(s["var"] + 1e-5) * p["scale"] + p["bias"]
            y = np.maximum(y, 0)
        height, width = y.shape[1] // 2, y.shape[2] // 2
        cut = y[:, : 2 * height, : 2 * width]
        y = cut.reshape(1, height, 2, width, 2, -1).max((2, 4))
    assert y.shape == (1, 1, 1, 4)
    y = np.tile(y, (1, 7, 7, 1)).reshape(1, -1)
    for layer in ("hidden1", "hidden2", "head"):
        y = y @ params[layer]["kernel"] + params[layer]["bias"]
        y = y if layer == "head" else np.maximum(y, 0)
    found = jax.jit(partial(network.apply, train=False))(variables, x)
    assert np.abs(y).max() > 0.1
    np.testing.assert_allclose(found, y, rtol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_strides_and_channels_are_those_of_the_maps(name):
    network = models.create(name, num_classes=10)
    maps, variables = tree(network.backbone, (1, 71, 64, 3))
    assert len(maps) == 6
    for found, stride, channels in zip(
        maps, network.backbone.strides, network.backbone.channels, strict=True
    ):
        assert found.shape == (1, 71 // stride, 64 // stride, channels)
    convolutions = [layer for layer in variables["params"] if "conv" in layer]
    assert len(convolutions) + 3 == DEPTHS[name.removesuffix("_bn")]
    norms = [layer for layer in variables["params"] if "norm" in layer]
    assert len(norms) == (len(convolutions) if name.endswith("_bn") else 0)


def test_weights_start_as_torchvisions():
    network = models.create("vgg11", num_classes=3, features=(64, 8, 8, 8, 8), widths=(64, 64))
    init = jax.jit(lambda key: network.init(key, jnp.zeros((1, 32, 32, 3)), train=False))
    params = init(jax.random.key(0))["params"]
    kernel = params["backbone"]["stage1_conv1"]["kernel"]
    assert float(kernel.std()) == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.05)
    for name in ("hidden1", "hidden2"):
        assert float(params[name]["kernel"].std()) == pytest.approx(0.01, rel=0.05)
        assert not bool(params[name]["bias"].any())


def test_remat_changes_neither_parameters_nor_gradients():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 32, 32, 3)), jnp.float32)
    fields = TINY | {"dropout": (0.0, 0.0, 0.0), "num_classes": 3}
    plain, again = (models.create("vgg11_bn", remat=remat, **fields) for remat in (False, True))
    variables = jax.jit(partial(plain.init, train=False))(jax.random.key(0), x)
    assert jax.tree.structure(variables) == jax.tree.structure(tree(again, x.shape)[1])

    def gradient(network):
        def loss(params):
            made = variables | {"params": params}
            logits, updated = network.apply(made, x, train=True, mutable=["batch_stats"])
            return jnp.square(logits).sum(), updated

        return jax.jit(jax.grad(loss, has_aux=True))(variables["params"])

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7),
        gradient(again),
        gradient(plain),
    )
    stages = [
        equation
        for equation in jax.make_jaxpr(partial(again.apply, train=False))(variables, x).eqns
        if equation.primitive.name in ("remat", "remat2", "checkpoint")
    ]
    assert len(stages) == 5
