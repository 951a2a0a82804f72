"""FCN: dense layers as convolutions, bilinear upsampling, and the sums of its three forms."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from models.classification.vgg import VGG
from models.segmentation.fcn import FCN, FCNHead, as_convolutions, bilinear_kernel

VGG_FIELDS = {"stages": (1, 1, 1, 1, 1), "features": (2, 3, 4, 4, 5), "param_dtype": "float64"}
FIELDS = VGG_FIELDS | {"widths": (6, 7), "num_classes": 3}
KEEP = {"capture_intermediates": True}


def tree(network, shape, dtype="float32"):
    init = partial(network.init_with_output, train=False)
    return jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct(shape, dtype))


def drawn(network, shape, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape) * (2 / np.prod(leaf.shape[:-1])) ** 0.5,
        tree(network, shape, "float32")[1]["params"],
    )


def modules(network, params, x):
    """Logits, and what each module yields."""
    run = jax.jit(partial(network.apply, train=False, **KEEP))
    logits, kept = run({"params": params}, x)
    return logits, {
        name: value["__call__"][0]
        for name, value in kept["intermediates"].items()
        if name[0] != "_"
    }


# --- a classifier that slides -------------------------------------------------------------------


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["fcn32s", "fcn8s"])
def test_dense_layers_are_convolutions(name):
    classifier = models.create("vgg16", **FIELDS)
    x = np.random.default_rng(0).normal(size=(2, 224, 224, 3))
    dense = drawn(classifier, x.shape)
    expected = jax.jit(partial(classifier.apply, train=False))({"params": dense}, x)

    network = models.create(name, **FIELDS)
    params = drawn(network, x.shape, seed=1) | as_convolutions(dense)
    logits, kept = modules(network, params, x)
    assert logits.shape == (2, 224, 224, 3)
    assert kept["head"].shape == (2, 7, 7, 3)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(kept["head"][:, 3, 3], expected, rtol=1e-9)
    # Beside the middle the window reaches over the edge.
    assert np.abs(kept["head"][:, 3, 2] - expected).max() > 1e-3

    # On a larger image, the dense layers on each window of 7x7 of its map.
    x = np.random.default_rng(1).normal(size=(1, 256, 320, 3))
    _, kept = modules(network, params, x)
    last = np.asarray(kept["backbone"][-1])
    assert kept["head"].shape == (1, 8, 10, 3)
    for row, column in ((3, 3), (4, 3), (3, 6), (4, 5)):
        y = last[:, row - 3 : row + 4, column - 3 : column + 4].reshape(1, -1)
        for layer in ("hidden1", "hidden2", "head"):
            y = y @ dense[layer]["kernel"] + dense[layer]["bias"]
            y = y if layer == "head" else np.maximum(y, 0)
        np.testing.assert_allclose(kept["head"][:, row, column], y, rtol=1e-9)


@pytest.mark.usefixtures("x64")
def test_what_is_no_classifier_is_refused():
    params = drawn(models.create("vgg16", **FIELDS), (1, 32, 32, 3))
    without = {name: layer for name, layer in params.items() if name != "hidden2"}
    with pytest.raises(ValueError, match="hidden2 is missing"):
        as_convolutions(without)
    small = models.create("vgg16", **FIELDS, size=3)
    with pytest.raises(ValueError, match=r"hidden1/kernel of shape \(45, 6\): .* 7x7"):
        as_convolutions(drawn(small, (1, 32, 32, 3)))
    with pytest.raises(ValueError, match=r"hidden1/kernel of shape \(7, 7, 5, 6\)"):
        as_convolutions(as_convolutions(params))
    assert set(as_convolutions(params)) == set(params)


# --- upsampling ---------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1, 2, 8, 32])
def test_the_kernel_is_the_papers(factor):
    """As the authors' code fills it: 1 - |i / f - c|, with c = (2 f - 1 - f % 2) / (2 f)."""
    kernel = bilinear_kernel(jax.random.key(0), (2 * factor, 2 * factor, 3, 3))
    assert kernel.dtype == jnp.float32
    i = np.arange(2 * factor)
    # Of an even size 2f, f = ceil(size / 2).
    tent = 1 - np.abs(i / factor - (2 * factor - 1) / (2 * factor))
    for a in range(3):
        for b in range(3):
            expected = np.outer(tent, tent) if a == b else np.zeros((2 * factor,) * 2)
            np.testing.assert_allclose(kernel[:, :, a, b], expected, atol=1e-7)


@pytest.mark.usefixtures("x64")
def test_as_initialised_it_interpolates():
    network = models.create("fcn32s", **FIELDS)
    x = np.random.default_rng(0).normal(size=(1, 96, 128, 3))
    params = drawn(network, x.shape)
    params["up"] = {"kernel": bilinear_kernel(jax.random.key(0), (64, 64, 3, 3), jnp.float64)}
    logits, kept = modules(network, params, x)
    scores = np.asarray(kept["head"])
    assert scores.shape == (1, 3, 4, 3)

    def between(values, axis):
        """At pixel centres, the edge repeated."""
        size = values.shape[axis]
        at = np.clip((np.arange(32 * size) + 0.5) / 32 - 0.5, 0, size - 1)
        low = np.minimum(np.floor(at).astype(int), size - 2)
        share = (at - low).reshape([-1 if a == axis else 1 for a in range(4)])
        return np.take(values, low, axis) * (1 - share) + np.take(values, low + 1, axis) * share

    expected = between(between(scores, 1), 2)
    np.testing.assert_allclose(logits, expected, atol=1e-6)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("name", "stride"), [("fcn32s", 32), ("fcn16s", 16), ("fcn8s", 8)])
def test_its_sums(name, stride):
    network = models.create(name, **FIELDS)
    x = np.random.default_rng(0).normal(size=(1, 64, 32, 3))
    params = drawn(network, x.shape)
    logits, kept = modules(network, params, x)

    def upsampled(y, kernel):
        """Every value, an edge's twice, adds its kernel; what lies beyond the map is cut off."""
        factor = len(kernel) // 2
        y = np.pad(y, [(0, 0), (1, 1), (1, 1), (0, 0)], mode="edge")
        _, h, w, _ = y.shape
        out = np.zeros((1, factor * (h + 1), factor * (w + 1), 3))
        for i in range(h):
            for j in range(w):
                patch = np.einsum("c,klcf->klf", y[0, i, j], kernel)
                rows = slice(factor * i, factor * (i + 2))
                out[0, rows, factor * j : factor * (j + 2)] += patch
        cut = factor // 2 + factor
        return out[:, cut : cut + factor * (h - 2), cut : cut + factor * (w - 2)]

    y = np.asarray(kept["head"])
    assert y.shape == (1, 2, 1, 3)
    for at, stage in ((16, 4), (8, 3)):
        if stride <= at:
            before = np.asarray(kept["backbone"][stage - 1])
            _, h, w, c = before.shape
            pooled = before.reshape(1, h // 2, 2, w // 2, 2, c).max((2, 4))
            score = params[f"score{at}"]
            y = upsampled(y, params[f"up{at}"]["kernel"])
            y = y + pooled @ score["kernel"][0, 0] + score["bias"]
    y = upsampled(y, params["up"]["kernel"])
    assert y.shape == (1, 64, 32, 3)
    np.testing.assert_allclose(logits, y, rtol=1e-9, atol=1e-9)
    assert {key for key in params if key.startswith("up")} == (
        {"up"} | {f"up{at}" for at in (16, 8) if stride <= at}
    )


def test_what_layers_begin_as():
    began = {}

    def note(method, args, kwargs, context):
        module = context.module
        if module.scope is not None and hasattr(module, "kernel_init"):
            began[module.name] = module.kernel_init
        return method(*args, **kwargs)

    with nn.intercept_methods(note):
        tree(models.create("fcn8s", **(FIELDS | {"param_dtype": "float32"})), (1, 32, 32, 3))
    for name in ("up16", "up8", "up"):
        assert began[name] is bilinear_kernel
    for name in ("score16", "score8"):
        assert began[name] is nn.initializers.zeros
    assert began["head"] not in (bilinear_kernel, nn.initializers.zeros)


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "next_one"), [((1, 224, 230, 3), "224x256"), ((1, 1, 32, 3), "32x32")]
)
def test_sizes_that_do_not_divide_are_refused_with_the_next(shape, next_one):
    network = models.create("fcn8s", **FIELDS)
    with pytest.raises(ValueError, match=f"multiples of 32, such as {next_one}"):
        tree(network, shape)
    assert [network.input_size(n) for n in (1, 32, 33, 64)] == [32, 32, 64, 64]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stride": 4}, "stride=4 is none of 32, 16, 8"),
        ({"widths": (6, 0)}, r"widths=\(6, 0\) must be whole, and at least 1"),
        ({"widths": (6,)}, r"widths=\(6,\) must be two"),
        ({"dropout": 1.5}, "dropout=1.5 must be"),
        ({"output_stride": 8}, r"strides=\(1, 2, 4, 8, 8, 8\): expected five stages, to 32"),
        ({"stages": (1, 1), "features": (2, 2)}, r"strides=\(1, 2, 4\)"),
    ],
)
def test_bad_fields_are_refused_at_construction(fields, message):
    with pytest.raises(ValueError, match=message):
        models.create("fcn8s", **(FIELDS | fields))


def test_a_head_of_few_channels_is_refused():
    with pytest.raises(ValueError, match=r"dropout=-0\.1"):
        FCNHead(3, (1,), None, None, None, dropout=-0.1)
    head = FCNHead(3, (1,), None, None, None)
    with pytest.raises(ValueError, match=r"map of shape \(1, 2, 2, 3\): a quarter"):
        head.init(jax.random.key(0), (jnp.zeros((1, 2, 2, 3)),), train=False)


def test_the_backbones_own_poolings_are_scored():
    backbone = VGG(window=3, **(VGG_FIELDS | {"param_dtype": "float32"}))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 32, 32, 3)), jnp.float32)
    network = FCN(backbone, 3, 16, (6, 7))
    params = jax.tree.map(jnp.float32, drawn(network, x.shape))
    _, kept = modules(network, params, x)
    pooled = nn.max_pool(kept["backbone"][3], (3, 3), (2, 2), [(1, 1), (1, 1)])
    score = params["score16"]
    expected = np.asarray(pooled) @ np.asarray(score["kernel"][0, 0]) + np.asarray(score["bias"])
    np.testing.assert_allclose(kept["score16"], expected, rtol=1e-4, atol=1e-5)
