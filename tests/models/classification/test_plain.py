"""The small CNN: against plain NumPy, and what its maps are."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from models.classification.plain import PlainCNN
from models.layers.norm import NoNorm


def halved(x, how):
    """(B, H, W, C) of one half the size, and the stride that is left to the next convolution."""
    blocks = x[:, :6, :6].reshape(len(x), 3, 2, 3, 2, -1)
    return {
        "max": (blocks.max((2, 4)), 1),
        "average": (blocks.mean((2, 4)), 1),
        "subsample": (x[:, ::2, ::2], 1),
        "stride": (x, 2),
    }[how]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "own",
    [
        {},
        {"downsample": "average", "kernel_size": 1},
        {"downsample": "subsample", "dilations": (2, 1)},
        {"downsample": "stride"},
        {"kernel_size": 5, "dilations": (1, 2)},
    ],
)
def test_the_forward_pass(definition, own):
    fields = {"channels": (4, 5), "stages": (3, 1), "param_dtype": "float64"}
    network = models.create("plain_cnn", num_classes=3, **fields, **own)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 7, 6, 2))
    made = jax.eval_shape(partial(network.init, train=False), jax.random.key(0), x)
    variables = jax.tree.map(lambda leaf: rng.uniform(-0.5, 1, leaf.shape), made)
    variables["batch_stats"] = jax.tree.map(np.abs, variables["batch_stats"])
    params, stats = (variables[k]["backbone"] for k in ("params", "batch_stats"))
    size, dilations = own.get("kernel_size", 3), own.get("dilations", (1,)) * 3
    y, stride = x, 1
    for at, dilation in zip(
        ("stage1_{}1", "stage1_{}2", "stage1_{}3", "stage2_{}1"),
        (*dilations[:3], dilations[0]),
        strict=True,
    ):
        if at.startswith("stage2"):
            y, stride = halved(y, own.get("downsample", "max"))
        conv, norm = at.format("conv"), at.format("norm")
        kernel = params[conv]["kernel"]
        assert kernel.shape[:2] == (size, size)
        pads = [(dilation * (size // 2),) * 2] * 2
        y = definition(y, kernel, [stride] * 2, pads, [dilation] * 2, 1)
        y = (y - stats[norm]["mean"]) / np.sqrt(stats[norm]["var"] + 1e-5)
        y = np.maximum(y * params[norm]["scale"] + params[norm]["bias"], 0)
    head = variables["params"]["head"]
    expected = y.mean((1, 2)) @ head["kernel"] + head["bias"]
    found = jax.jit(partial(network.apply, train=False))(variables, x)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-10)


# Designs of one stage that see 7x7, and how many of the 49 positions they read.
SEVEN = {
    "one 7x7": ({"stages": (1,), "kernel_size": 7}, 49),
    "three 3x3": ({"stages": (3,)}, 49),
    "3x3 and 3x3 dilated 2": ({"stages": (2,), "dilations": (1, 2)}, 49),
    "3x3 dilated 3": ({"stages": (1,), "dilations": (3,)}, 9),
}


def support(fields, side):
    """(rows, columns) of the image on which the middle output of the last map depends.

    All weights and pixels are above 0, so that no ReLU is at 0 and no sum cancels.
    """
    network = PlainCNN(norm=NoNorm, **fields)
    x = jnp.ones((1, side, side, 1))
    made = jax.eval_shape(partial(network.init, train=False), jax.random.key(0), x)
    variables = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.1), made)

    def middle(x):
        y = network.apply(variables, x, train=False)[-1]
        return y[0, y.shape[1] // 2, y.shape[2] // 2, 0]

    return np.argwhere(np.asarray(jax.jit(jax.grad(middle))(x))[0, :, :, 0] > 0)


@pytest.mark.parametrize("design", SEVEN)
def test_the_receptive_field_of_a_stage(design):
    fields, read = SEVEN[design]
    found = support(fields | {"channels": (1,)}, side=15)
    assert (np.ptp(found, axis=0) + 1).tolist() == [7, 7]
    assert len(found) == read


# Two 3x3 convolutions and a halving between: 3, 1 more of a window of 2, and 2 more behind it, at
# every second pixel; a strided convolution computes its own 2 more at every pixel.
@pytest.mark.parametrize(
    ("downsample", "sees"),
    [("average", 3 + 1 + 2 * 2), ("subsample", 3 + 2 * 2), ("stride", 3 + 2)],
)
def test_the_receptive_field_behind_each_downsampling(downsample, sees):
    fields = {"stages": (1, 1), "channels": (1, 1), "downsample": downsample}
    found = support(fields, side=24)
    assert (np.ptp(found, axis=0) + 1).tolist() == [sees, sees]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize("downsample", ["max", "average", "subsample", "stride"])
def test_dtypes_and_sizes_of_each_downsampling(downsample, dtype):
    wide = "float64" if dtype == "float64" else "float32"
    fields = {"downsample": downsample, "kernel_size": 5, "dilations": (1, 2)}
    network = PlainCNN(dtype=dtype, param_dtype=wide, **fields)
    x = jax.ShapeDtypeStruct((1, 28, 27, 1), wide)
    init = partial(network.init_with_output, train=True)
    maps, variables = jax.eval_shape(init, jax.random.key(0), x)
    widths = [27, 14, 7] if downsample in ("subsample", "stride") else [27, 13, 6]
    sizes = zip((28, 14, 7), widths, (32, 48, 64), strict=True)
    assert [found.shape for found in maps] == [(1, *size) for size in sizes]
    assert {str(found.dtype) for found in maps} == {dtype}
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(variables)} == {wide}


def test_strides_and_channels_are_those_of_the_maps():
    backbone = models.create("plain_cnn", num_classes=10).backbone
    init = partial(backbone.init_with_output, train=False)
    x = jax.ShapeDtypeStruct((1, 28, 31, 1), jnp.float32)
    maps, variables = jax.eval_shape(init, jax.random.key(0), x)
    shapes = [
        (1, 28 // stride, 31 // stride, channels)
        for stride, channels in zip(backbone.strides, backbone.channels, strict=True)
    ]
    assert [found.shape for found in maps] == shapes
    assert not any("bias" in layer for name, layer in variables["params"].items() if "conv" in name)
