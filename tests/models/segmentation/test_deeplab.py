"""DeepLab's heads in plain NumPy, their rates, and a pooled branch with one image."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import models
from models.layers.norm import BatchNorm, FrozenBatchNorm
from models.layers.resize import bilinear
from models.segmentation.deeplab import (
    ASPP,
    Atrous,
    DeepLabV3Head,
    DeepLabV3PlusHead,
    LargeFOV,
    Sum,
)

WIDE = {"param_dtype": "float64"}
LAYERS = {
    "conv": partial(nn.Conv, use_bias=False, **WIDE),
    "norm": partial(BatchNorm, **WIDE),
    "logits": partial(nn.Conv, use_bias=True, **WIDE),
}
NET = {"stages": (1, 1, 1), "channels": (8, 8, 8), "stem_features": 4}


def drawn(module, *inputs):
    """Variables in float64, no scale 1, no bias and no mean 0."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key in ("scale", "var"):
            return rng.uniform(0.5, 1.5, leaf.shape)
        return rng.normal(size=leaf.shape) * 0.4

    made = jax.eval_shape(partial(module.init, train=False), jax.random.key(0), *inputs)
    return jax.tree_util.tree_map_with_path(draw, made)


# --- the sums -----------------------------------------------------------------------------------


class Reference:
    """A head's layers by their names, in float64."""

    def __init__(self, variables, definition):
        self.params, self.stats = variables["params"], variables.get("batch_stats")
        self.definition = definition

    def conv(self, x, *path, rate=1):
        layer = self.params
        for name in path:
            layer = layer[name]
        pad = rate * (layer["kernel"].shape[0] // 2)
        y = self.definition(x, layer["kernel"], [1, 1], [(pad, pad)] * 2, [rate] * 2, 1)
        return y + layer["bias"] if "bias" in layer else y

    def normed(self, x, *path):
        p, s = self.params, self.stats
        for name in path:
            p, s = p[name], s[name]
        y = (x - s["mean"]) / np.sqrt(s["var"] + 1e-5) * p["scale"] + p["bias"]
        return np.maximum(y, 0)

    def aspp(self, x, rates):
        def branch(x, name, rate=1):
            y = self.conv(x, "aspp", f"{name}_conv", rate=rate)
            return self.normed(y, "aspp", f"{name}_norm")

        parts = [branch(x, "branch1")]
        parts += [branch(x, f"branch{n}", rate) for n, rate in enumerate(rates, 2)]
        pooled = branch(x.mean((1, 2), keepdims=True), "pooled")
        parts.append(np.broadcast_to(pooled, parts[0].shape))
        return branch(np.concatenate(parts, -1), "project")


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("stride", "rates"), [(16, (1, 2)), (8, (2, 4)), (32, (1, 1))])
def test_v3_and_its_rates_by_output_stride(definition, stride, rates):
    x = np.random.default_rng(1).normal(size=(2, 7, 6, 5))
    head = DeepLabV3Head(3, strides=(4, stride), **LAYERS, rates=(1, 2), width=4)
    variables = drawn(head, (x,))
    reference = Reference(variables, definition)
    y = reference.aspp(x, rates)
    y = reference.normed(reference.conv(y, "conv"), "norm")
    y = reference.conv(y, "logits")
    found = jax.jit(partial(head.apply, train=False))(variables, (x,))
    assert y.std() > 0.1
    np.testing.assert_allclose(found, y, rtol=1e-9, atol=1e-10)


@pytest.mark.usefixtures("x64")
def test_v3plus_refines_with_the_first_map(definition):
    rng = np.random.default_rng(1)
    early, between, last = (rng.normal(size=s) for s in ((1, 9, 8, 6), (1, 5, 4, 3), (1, 3, 2, 5)))
    head = DeepLabV3PlusHead(3, strides=(4, 8, 16), **LAYERS, rates=(1, 2), width=4, early=2)
    maps = (early, between, last)
    variables = drawn(head, maps)
    reference = Reference(variables, definition)
    y = np.asarray(bilinear(jnp.asarray(reference.aspp(last, (1, 2))), 9, 8))
    side = reference.normed(reference.conv(early, "early_conv"), "early_norm")
    assert side.shape == (1, 9, 8, 2)
    y = np.concatenate([y, side], -1)
    for number in (1, 2):
        y = reference.normed(reference.conv(y, f"conv{number}"), f"norm{number}")
    y = reference.conv(y, "logits")
    assert y.shape == (1, 9, 8, 3)
    found = jax.jit(partial(head.apply, train=False))(variables, maps)
    np.testing.assert_allclose(found, y, rtol=1e-9, atol=1e-10)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("stride", "scale"), [(8, 1.0), (16, 0.5), (4, 2.0)])
@pytest.mark.parametrize("branch", [partial(LargeFOV, width=4), Atrous])
def test_v2_is_a_sum_over_rates(definition, branch, stride, scale):
    x = np.random.default_rng(1).normal(size=(1, 9, 8, 3))
    head = Sum(2, strides=(stride,), **LAYERS, branch=branch, rates=(2, 4))
    variables = drawn(head, (x,))
    reference = Reference(variables, definition)
    total = 0
    for number, rate in ((1, 2), (2, 4)):
        name, rate = f"branch{number}", int(scale * rate)
        if branch is Atrous:
            total = total + reference.conv(x, name, "logits", rate=rate)
            continue
        y = np.maximum(reference.conv(x, name, "hidden1", rate=rate), 0)
        y = np.maximum(reference.conv(y, name, "hidden2"), 0)
        total = total + reference.conv(y, name, "logits")
    found = jax.jit(partial(head.apply, train=False))(variables, (x,))
    np.testing.assert_allclose(found, total, rtol=1e-9, atol=1e-10)


# --- rates --------------------------------------------------------------------------------------


def test_a_point_shows_the_rates():
    x = jnp.zeros((1, 41, 41, 1)).at[0, 20, 20].set(1)
    conv = partial(nn.Conv, use_bias=False, kernel_init=nn.initializers.ones)
    module = ASPP(conv, BatchNorm, rates=(6, 12, 18), width=1)
    variables = module.init(jax.random.key(0), x, train=False)
    keep = {"capture_intermediates": lambda module, _: "branch" in str(module.name)}
    _, kept = module.apply(variables, x, train=False, **keep)
    for number, rate in enumerate((0, 6, 12, 18), 1):
        (y,) = kept["intermediates"][f"branch{number}_conv"]["__call__"]
        rows, columns = np.nonzero(np.asarray(y[0, :, :, 0]))
        steps = {20 - rate, 20, 20 + rate}
        assert {(r, c) for r in steps for c in steps} == set(zip(rows, columns, strict=True))


def dilations(name, output_stride):
    """Of the convolutions in a network's heads, from the input on."""
    seen = []

    def conv(lhs, rhs, *args, rhs_dilation, **kwargs):
        seen.append(rhs_dilation[0])
        return lax.conv_general_dilated(lhs, rhs, *args, rhs_dilation=rhs_dilation, **kwargs)

    fields = {"output_stride": output_stride, "conv_general_dilated": conv}
    network = models.create(name, num_classes=3, **fields)
    x = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    init = partial(network.init, train=False)
    jax.eval_shape(init, jax.random.key(0), x)
    count = len(seen)
    backbone = network.backbone.clone(parent=None)
    jax.eval_shape(partial(backbone.init, train=False), jax.random.key(0), x)
    return [rate for rate in seen[len(seen) - count : count] if rate > 1]


@pytest.mark.parametrize(
    ("name", "output_stride", "rates"),
    [
        ("deeplab_largefov", 8, [12]),
        ("deeplab_largefov", 16, [6]),
        ("deeplabv2_vgg16", 8, [6, 12, 18, 24]),
        ("deeplabv2_resnet101", 8, [6, 12, 18, 24]),
        ("deeplabv2_resnet101", 16, [3, 6, 9, 12]),
        ("deeplabv3_resnet50", 8, [12, 24, 36]),
        ("deeplabv3_resnet50", 16, [6, 12, 18]),
        ("deeplabv3_resnet18", 32, [3, 6, 9]),
        ("deeplabv3plus_resnet50", 16, [6, 12, 18]),
        ("deeplabv3plus_resnet50", 8, [12, 24, 36]),
    ],
)
def test_rates_follow_the_output_stride(name, output_stride, rates):
    assert dilations(name, output_stride) == rates


# --- a batch of one -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["deeplabv3_resnet50", "deeplabv3plus_resnet50"])
def test_one_image_in_training_is_refused_at_the_pooled_branch(name):
    network = models.create(name, num_classes=3, **NET)
    x = jax.ShapeDtypeStruct((1, 33, 40, 3), jnp.float32)
    variables = jax.eval_shape(partial(network.init, train=False), jax.random.key(0), x)
    apply = partial(network.apply, mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)})
    message = r"head/aspp/pooled_norm: x of shape \(1, 1, 1, 256\) has 1 value\(s\) a channel"
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(partial(apply, train=True), variables, x)
    jax.eval_shape(partial(apply, train=False), variables, x)
    both = jax.ShapeDtypeStruct((2, 33, 40, 3), jnp.float32)
    jax.eval_shape(partial(apply, train=True), variables, both)


def test_one_image_trains_by_running_statistics():
    head = partial(DeepLabV3Head, width=4, dropout=0.0)
    fields = NET | {"head": head, "aux": False, "norm": FrozenBatchNorm}
    network = models.create("deeplabv3_resnet50", num_classes=3, **fields)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 33, 40, 3)), jnp.float32)
    assert jax.eval_shape(partial(network.init, train=True), jax.random.key(0), x)
    variables = jax.tree.map(jnp.float32, drawn(network, x))

    @jax.jit
    def both(variables):
        trained = network.apply(variables, x, train=True, mutable=["batch_stats"])
        return trained, network.apply(variables, x, train=False)

    (logits, after), expected = both(variables)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
    assert float(jnp.abs(logits).max()) > 0
    jax.tree.map(np.testing.assert_array_equal, after["batch_stats"], variables["batch_stats"])


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "head", "message"),
    [
        ("deeplab_largefov", partial(LargeFOV, rate=0), "rate=0 must be whole, and at least 1"),
        ("deeplab_largefov", partial(LargeFOV, width=-1), "width=-1 must be"),
        ("deeplab_largefov", partial(LargeFOV, dropout=1.0), "dropout=1.0 must be from 0"),
        ("deeplab_largefov", partial(Sum, branch=Atrous, rates=()), r"rates=\(\) must be"),
        ("deeplab_largefov", partial(Sum, branch=Atrous, rates=(6, 0)), r"rates=\(6, 0\)"),
        ("deeplab_largefov", partial(Atrous, rate=1.5), r"rate=1\.5"),
        ("deeplabv3_resnet18", partial(DeepLabV3Head, rates=(6, -1)), r"rates=\(6, -1\)"),
        ("deeplabv3_resnet18", partial(DeepLabV3Head, rates=()), r"rates=\(\)"),
        ("deeplabv3_resnet18", partial(DeepLabV3Head, width=0), "width=0"),
        ("deeplabv3_resnet18", partial(DeepLabV3Head, dropout=-0.1), r"dropout=-0\.1"),
        ("deeplabv3_resnet18", partial(DeepLabV3PlusHead, early=0), "early=0"),
    ],
)
def test_bad_fields_of_a_head_are_refused_in_init(name, head, message):
    network = models.create(name, num_classes=3, head=head)
    x = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(partial(network.init, train=False), jax.random.key(0), x)
