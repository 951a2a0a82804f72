"""The small CNN: against plain NumPy, and what its maps are."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models


@pytest.mark.usefixtures("x64")
def test_the_forward_pass(definition):
    fields = {"channels": (4, 5), "stages": (2, 1), "param_dtype": "float64"}
    network = models.create("plain_cnn", num_classes=3, **fields)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 7, 6, 2))
    made = jax.eval_shape(partial(network.init, train=False), jax.random.key(0), x)
    variables = jax.tree.map(lambda leaf: rng.uniform(-0.5, 1, leaf.shape), made)
    variables["batch_stats"] = jax.tree.map(np.abs, variables["batch_stats"])
    params, stats = (variables[k]["backbone"] for k in ("params", "batch_stats"))
    y = x
    for at in ("stage1_{}1", "stage1_{}2", "stage2_{}1"):
        if at.startswith("stage2"):
            y = y[:, :6].reshape(2, 3, 2, 3, 2, 4).max((2, 4))
        conv, norm = at.format("conv"), at.format("norm")
        y = definition(y, params[conv]["kernel"], [1, 1], [(1, 1)] * 2, [1, 1], 1)
        y = (y - stats[norm]["mean"]) / np.sqrt(stats[norm]["var"] + 1e-5)
        y = np.maximum(y * params[norm]["scale"] + params[norm]["bias"], 0)
    head = variables["params"]["head"]
    expected = y.mean((1, 2)) @ head["kernel"] + head["bias"]
    found = jax.jit(partial(network.apply, train=False))(variables, x)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-10)


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
