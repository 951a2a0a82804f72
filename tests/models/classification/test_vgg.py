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


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("window", "size"), [(2, (64, 96)), (3, (65, 50))])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_a_dilated_map_holds_the_strided_one(window, size, output_stride):
    """Every n-th value is the same, behind the poolings too, but for the second undilated one."""
    fields = {"features": (2, 2, 3, 3, 4), "param_dtype": "float64", "window": window}
    network = models.create("vgg11", num_classes=3, **fields).backbone
    dilated = network.clone(output_stride=output_stride)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, *size, 3))
    _, made = tree(network, x.shape, "float64")
    variables = jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape) * (2 / np.prod(leaf.shape[:-1])) ** 0.5, made
    )
    assert jax.tree.structure(tree(dilated, x.shape)[1]) == jax.tree.structure(variables)
    expected, found = (
        jax.jit(partial(one.apply, train=False))(variables, x) for one in (network, dilated)
    )
    assert dilated.strides == tuple(min(stride, output_stride) for stride in network.strides)
    maps = zip(found, expected, dilated.strides, network.strides, dilated.channels, strict=True)
    for number, (wide, narrow, stride, undilated, channels) in enumerate(maps):
        height, width = (-(-n // stride) if window == 3 else n // stride for n in size)
        assert wide.shape == (1, height, width, channels)
        every = undilated // stride
        same = np.allclose(wide[:, ::every, ::every], narrow, rtol=1e-10, atol=1e-12)
        assert same == (number < 5 or output_stride == 16), number
        assert np.abs(narrow).max() > 1e-3


def test_poolings_of_three_take_any_image():
    backbone = models.create("vgg11", num_classes=3, window=3, output_stride=8).backbone
    assert backbone.smallest == 1
    assert tree(backbone, (1, 1, 9, 3))[0][-1].shape == (1, 1, 2, 512)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"window": 4}, "window=4 is neither 2 nor 3"),
        ({"output_stride": 12}, r"output_stride=12 is none of the strides \(1, 2, 4, 8, 16, 32\)"),
    ],
)
def test_what_does_not_dilate_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        models.create("vgg16", num_classes=3, **fields)


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
