"""GoogLeNet in both forms against a plain NumPy forward pass, and its poolings by definition."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from models.classification import googlenet
from models.classification.googlenet import (
    BLOCKS,
    GoogLeNet,
    Inception,
    halved,
    pooled_as_in_2014,
)

NAMES = ["googlenet", "googlenet_2014"]


def tree(network, shape, *, train=False):
    init = partial(network.init_with_output, train=train)
    return jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))


# --- the poolings -----------------------------------------------------------------------------


@pytest.mark.parametrize("window", [2, 3])
@pytest.mark.parametrize("size", [(1, 4), (2, 7), (5, 6), (8, 9)])
def test_the_last_window_may_hang_over_the_edge(window, size):
    if min(size) < window - 1:
        return
    x = np.random.default_rng(0).normal(size=(1, *size, 2)) - 5
    # PyTorch's ceil_mode: as many windows as begin within, up to the one that reaches the edge.
    height, width = (-(-(length - window) // 2) + 1 for length in size)
    y = halved(jnp.asarray(x, jnp.float32), window)
    assert y.shape == (1, height, width, 2)
    for i, j in np.ndindex(height, width):
        part = x[0, 2 * i : 2 * i + window, 2 * j : 2 * j + window]
        np.testing.assert_array_equal(y[0, i, j], np.float32(part.max((0, 1))))


def test_the_papers_pooling_is_5x5_at_stride_3():
    x = np.random.default_rng(0).normal(size=(1, 14, 7, 2))
    y = pooled_as_in_2014(jnp.asarray(x, jnp.float32))
    assert y.shape == (1, 4, 4, 2)
    for i, j in np.ndindex(4, 4):
        expected = x[0, 3 * i : 3 * i + 5, j : j + 4].mean((0, 1))
        np.testing.assert_allclose(y[0, i, j], expected, rtol=1e-5)


def test_the_papers_pooling_of_few_positions():
    x = np.random.default_rng(0).normal(size=(1, 3, 1, 2))
    y = pooled_as_in_2014(jnp.asarray(x, jnp.bfloat16))
    assert y.dtype == jnp.bfloat16
    expected = np.broadcast_to(x.mean((1, 2), keepdims=True), (1, 4, 4, 2))
    np.testing.assert_allclose(np.float32(y), expected, rtol=0.02)


# --- the forward pass, once more, in NumPy ----------------------------------------------------


def windows(x, size, stride, pad, value):
    """(B, H, W, C) -> (B, h, w, C, size, size); pad: before and after."""
    x = np.pad(x, [(0, 0), pad, pad, (0, 0)], constant_values=value)
    found = np.lib.stride_tricks.sliding_window_view(x, (size, size), (1, 2))
    return found[:, ::stride, ::stride]


class Reference:
    """Evaluation in float64; maps by name. `paper`: 5x5, biases, response, last window of 3."""

    def __init__(self, variables, *, paper):
        variables = jax.device_get(variables)
        self.params, self.stats = variables["params"], variables.get("batch_stats")
        self.paper = paper

    def layer(self, x, *path, stride=1):
        params, stats = self.params, self.stats
        for name in path:
            params, stats = params[name], stats and stats[name]
        kernel = params["conv"]["kernel"]
        size = kernel.shape[0]
        y = windows(x, size, stride, (size // 2,) * 2, 0)
        y = np.einsum("bhwcij,ijcf->bhwf", y, kernel, optimize=True)
        if self.paper:
            return np.maximum(y + params["conv"]["bias"], 0)
        norm, stats = params["norm"], stats["norm"]
        y = (y - stats["mean"]) / np.sqrt(stats["var"] + 1e-3) * norm["scale"] + norm["bias"]
        return np.maximum(y, 0)

    def respond(self, x):
        if not self.paper:
            return x
        square = np.pad(x**2, [(0, 0)] * 3 + [(2, 2)])
        total = sum(square[..., i : i + x.shape[-1]] for i in range(5))
        return x / (2 + 1e-4 * total) ** 0.75

    def halve(self, x, size):
        # More of nothing than any last window needs; windows that begin beyond the edge are cut.
        counts = [-(-(length - size) // 2) + 1 for length in x.shape[1:3]]
        y = windows(x, size, 2, (0, 2), -np.inf).max((-1, -2))
        return y[:, : counts[0], : counts[1]]

    def block(self, x, name):
        layer = partial(self.layer)
        around = windows(x, 3, 1, (1, 1), -np.inf).max((-1, -2))
        rows = []
        for start, names in (
            (x, ["branch1"]),
            (x, ["branch2_1", "branch2_2"]),
            (x, ["branch3_1", "branch3_2"]),
            (around, ["branch4"]),
        ):
            for own in names:
                start = layer(start, "backbone", name, own)
            rows.append(start)
        return np.concatenate(rows, -1)

    def __call__(self, x):
        maps = {}
        maps["conv1"] = x = self.layer(x, "backbone", "conv1", stride=2)
        maps["conv2"] = x = self.layer(self.respond(self.halve(x, 3)), "backbone", "conv2")
        maps["conv3"] = x = self.layer(x, "backbone", "conv3")
        x = self.halve(self.respond(x), 3)
        for name in BLOCKS:
            if name == "inception4a":
                x = self.halve(x, 3)
            if name == "inception5a":
                x = self.halve(x, 3 if self.paper else 2)
            maps[name] = x = self.block(x, name)
        return maps

    def dense(self, x, *path):
        params = self.params
        for name in path:
            params = params[name]
        return x @ params["kernel"] + params["bias"]

    def auxiliary(self, x, name):
        """The paper's, of a map of 4 positions or 5 along each axis."""
        y = windows(x, 1, 1, (0, 0), 0)[..., 0, 0]
        rows = [slice(i, i + x.shape[1] - 3) for i in range(4)]
        columns = [slice(i, i + x.shape[2] - 3) for i in range(4)]
        y = np.stack([np.stack([y[:, r, c].mean((1, 2)) for c in columns], 1) for r in rows], 1)
        y = self.layer(y, name, "conv").reshape(len(x), -1)
        return self.dense(np.maximum(self.dense(y, name, "fc1"), 0), name, "fc2")


def drawn(network, shape, seed=0):
    """Variables such that activations keep their size, and no scale is 1, no bias or mean 0."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        name = path[-1].key
        if name in ("scale", "var"):
            value = rng.uniform(0.5, 1.5, leaf.shape)
        elif name == "kernel":
            value = rng.normal(size=leaf.shape) * np.sqrt(2 / np.prod(leaf.shape[:-1]))
        else:
            value = rng.normal(size=leaf.shape) * 0.1
        return value.astype(leaf.dtype)

    _, variables = tree(network, shape)
    return jax.tree_util.tree_map_with_path(draw, variables)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", NAMES)
def test_the_forward_pass(name):
    paper = name == "googlenet_2014"
    shape = (1, 71, 80, 3)
    network = models.create(name, num_classes=3, param_dtype="float64")
    # No layer of the paper's form knows of training but dropout, so its heads can be heard.
    quiet = tuple(partial(head, dropout=0.0) for head in network.heads)
    maps = ("conv1", "conv2", "conv3", *BLOCKS)
    backbone = network.backbone.clone(maps=maps, parent=None)
    network = network.clone(dropout=0.0, heads=quiet)
    variables = drawn(network, shape)
    x = np.random.default_rng(5).normal(size=shape)

    constants = variables["input_transform"]["backbone"]["input"]
    reference = Reference(variables, paper=paper)
    expected = reference(x * constants["scale"] + constants["shift"])
    own = {name: collection["backbone"] for name, collection in variables.items()}
    found = jax.jit(partial(backbone.apply, train=False))(own, x)
    for block, value in zip(maps, found, strict=True):
        np.testing.assert_allclose(value, expected[block], atol=1e-9 * np.abs(value).max())

    logits = reference.dense(expected["inception5b"].mean((1, 2)), "head")
    out = jax.jit(partial(network.apply, train=paper))(variables, x)
    np.testing.assert_allclose(out.logits if paper else out, logits, atol=1e-9)
    if paper:
        for number, block in enumerate(("inception4a", "inception4d"), 1):
            aux = reference.auxiliary(expected[block], f"aux{number}")
            np.testing.assert_allclose(out.aux[number - 1], aux, atol=1e-9)


# --- training ---------------------------------------------------------------------------------


def learns(module, variables, x, **rngs):
    """That a gradient reaches every parameter, and is finite. Compiled fast, not to be fast."""

    @partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def run(params):
        def loss(params):
            given = variables | {"params": params}
            out, _ = module.apply(given, x, train=True, mutable=["batch_stats"], rngs=rngs)
            waves = [
                jnp.sum(y * jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))
                for y in jax.tree.leaves(out)
            ]
            return sum(waves)

        return jax.grad(loss)(params)

    for path, leaf in jax.tree_util.tree_leaves_with_path(run(variables["params"])):
        assert bool(jnp.isfinite(leaf).all()), path
        assert float(jnp.abs(leaf).max()) > 1e-7, path


def test_training_reaches_every_parameter(monkeypatch):
    few = ("inception4a", "inception4d", "inception5a", "inception5b")
    monkeypatch.setattr(googlenet, "BLOCKS", {name: BLOCKS[name] for name in few})
    network = models.create("googlenet_2014", num_classes=3)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 48, 48, 3)), jnp.float32)
    learns(network, drawn(network, x.shape), x, dropout=jax.random.key(1))


def test_a_block_and_a_head_with_batch_norm_learn():
    network = models.create("googlenet", num_classes=3)
    layer = network.backbone.layer
    block = Inception((3, 2, 5, 2, 4, 3), five=3, layer=layer)
    head = network.heads[0](3, layer=layer, dense=nn.Dense)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5, 6, 4)), jnp.float32)
    for module in (block, head):
        learns(module, drawn(module, x.shape), x, dropout=jax.random.key(1))


# --- fields -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "pixels", "sides"),
    [
        ("googlenet", 224, (56, 28, 14, 7)),
        ("googlenet_2014", 224, (56, 28, 14, 7)),
        ("googlenet", 63, (16, 8, 4, 2)),
        ("googlenet_2014", 95, (24, 12, 6, 3)),
        ("googlenet", 97, (24, 12, 6, 3)),
        ("googlenet", 15, (4, 2, 1, 1)),
        ("googlenet_2014", 31, (8, 4, 2, 1)),
    ],
)
def test_sizes_of_the_maps(name, pixels, sides):
    backbone = models.create(name, num_classes=1).backbone.clone(maps=GoogLeNet.maps, parent=None)
    maps, _ = tree(backbone, (1, pixels, pixels, 3))
    assert tuple(m.shape[1] for m in maps) == sides
    assert backbone.channels == (192, 480, 832, 1024)
    assert backbone.strides == (4, 8, 16, 32)


@pytest.mark.parametrize("fields", [{"five": 4}, {"five": 0}, {"last_window": 4}])
def test_bad_windows_are_refused(fields):
    ((name, value),) = fields.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        models.create("googlenet", num_classes=10, **fields)
