"""Receptive fields: by hand, as published, and against where the gradient of an output reaches."""

import itertools
from fractions import Fraction
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import models
from models.classification.resnet import BasicBlock, CIFARStem, ResNet
from models.detection.darknet_neck import doubled
from models.inspect.errors import UnknownPrimitive
from models.inspect.receptive_field import Field, Span, receptive_field
from models.layers.norm import BatchNorm
from models.layers.pooling import average_pool, max_pool
from models.layers.resize import bilinear
from models.layers.transposed import ConvTranspose
from models.segmentation.deeplab import Atrous, Sum
from models.segmentation.unet import UNet
from models.sequence.tcn import TCN


class Net(nn.Module):
    """A function that makes layers, as a module."""

    layers: object

    @nn.compact
    def __call__(self, x, **how):
        return self.layers(x, **how)


def conv(x, kernel=3, **fields):
    return nn.Conv(2, (kernel,) * (x.ndim - 2), **fields)(x)


def up(x, kernel, strides, padding=0):
    return ConvTranspose(2, (kernel,) * (x.ndim - 2), strides, padding)(x)


def of(layers, size=24, **how):
    """The field of a series' steps."""
    return receptive_field(Net(layers), (1, size, 2), **how).outputs


def sides(field):
    return field.size, field.stride, field.offset


# --- by hand ----------------------------------------------------------------------------------


def twice(x):
    return conv(conv(x))


def maxima(x):
    return jnp.stack([x[:, start : start + 9].max(1) for start in (1, 4, 7)], 1)


def mixed(x):
    return conv(max_pool(conv(x, 5, strides=2), (3,), strides=2, padding=1), 3, kernel_dilation=2)


@pytest.mark.parametrize(
    ("layers", "size", "stride", "offset"),
    [
        (conv, 3, 1, -1),
        (twice, 5, 1, -2),  # two of 3 are one of 5, three one of 7
        (lambda x: conv(twice(x)), 7, 1, -3),
        (partial(conv, kernel_dilation=4), 9, 1, -4),
        (partial(conv, kernel=7, strides=2, padding=3), 7, 2, -3),
        (partial(conv, padding="VALID"), 3, 1, 0),
        (partial(conv, padding="CAUSAL"), 3, 1, -2),
        # Around the ends, as between zeros.
        (lambda x: conv(x, padding="CIRCULAR"), 3, 1, -1),
        (lambda x: conv(x, padding="REFLECT"), 3, 1, -1),
        # 5 at stride 2; two more windows of distance 2; dilated by 2, two more of distance 4 each.
        (mixed, 5 + 2 * 2 + 4 * 4, 4, -1 - 2 - 8),
        (partial(max_pool, window=(20,), strides=4), 20, 4, 0),
        (partial(average_pool, window=(2,), strides=2, padding="SAME"), 2, 2, 0),
        (lambda x: x[:, 3::2], 1, 2, 3),
        (lambda x: x[:, ::-1], 1, -1, 23),
        (lambda x: jnp.roll(x, 2, axis=1), 1, 1, -2),
        (lambda x: conv(jnp.pad(x, [(0, 0), (4, 1), (0, 0)], mode="edge")), 3, 1, -5),
        (lambda x: x + conv(x, 5), 5, 1, -2),
        (lambda x: jnp.concatenate([x, conv(x), conv(x, 7)], -1), 7, 1, -3),
        (lambda x: jnp.concatenate([conv(x, 9), conv(x)], -1)[..., 2:], 3, 1, -1),
        (lambda x: nn.LayerNorm()(conv(x)), 3, 1, -1),
        (lambda x: x.reshape(1, 12, 2, 2).mean(2), 2, 2, 0),
        (lambda x: conv(x).reshape(1, 12, 4), 4, 2, -1),
        (lambda x: conv(x).reshape(1, 12, 4).reshape(1, 24, 2), 3, 1, -1),
        (lambda x: conv(x)[:, jnp.arange(1, 20, 3)], 3, 3, 0),
        (lambda x: lax.dynamic_slice_in_dim(conv(x), 4, 8, axis=1), 3, 1, 3),
        (lambda x: jnp.split(conv(x), 2, axis=1)[1], 3, 1, 11),
        (lambda x: jnp.unstack(conv(x).reshape(1, 12, 2, 2), axis=2)[1], 3, 2, 0),
        (lambda x: jax.checkpoint(lambda x: jax.jit(nn.swish)(x))(conv(x)), 3, 1, -1),
        (lambda x: lax.fori_loop(0, 3, lambda _, x: x * 2, conv(x)), 3, 1, -1),
        (lambda x: lax.scan(lambda x, _: (x + 1, None), conv(x), length=3)[0], 3, 1, -1),
        (lambda x: jnp.tile(conv(x), (1, 1, 3)), 3, 1, -1),
        (lambda x: jnp.tile(conv(x), (1, 2, 1)), 3, None, None),
        # The second turn yields nothing of x any more.
        (lambda x: lax.scan(lambda a, _: (jnp.zeros(a.shape), a), x, length=3)[1][0], 1, 1, 0),
        (lambda x: jnp.ones((1, 24, 2)).at[:, jnp.arange(24)].subtract(conv(x)), 3, 1, -1),
        (lambda x: conv(x, 5, feature_group_count=2), 5, 1, -2),
        (lambda x: lax.fori_loop(0, 3, lambda _, x: x[:, ::-1], conv(x)), 3, -1, 22),
        (lambda x: jnp.zeros((1, 24, 2)).at[:, ::2].set(conv(x)[:, :12]), 3, None, None),
        (lambda x: lax.dynamic_update_slice_in_dim(x, conv(x)[:, :20], 2, 1), 4, 1, -3),
        (lambda x: conv(maxima(x)), 9 + 2 * 3, 3, 1 - 3),
        (lambda x: conv(maxima(x).transpose(0, 2, 1)), 15, None, None),
        # 4 taps at stride 2: two positions for each output.
        (lambda x: up(x, 4, 2, 1), 2, Fraction(1, 2), -1),
        (lambda x: up(x, 2, 2), 1, Fraction(1, 2), 0),
        (lambda x: doubled(x[:, :, None])[:, :, 0], 1, Fraction(1, 2), 0),
    ],
)
def test_a_field_by_hand(layers, size, stride, offset):
    found = of(layers)
    if stride is None:
        assert (found.size, found.stride) == ((size,), (None,))
        return
    assert sides(found) == ((size,), (stride,), (offset,))
    (span,) = found.spans
    assert span.axis == 1
    assert not span.whole


def test_each_phase_of_a_transposed_convolution():
    (span,) = of(lambda x: up(x, 3, 2)).spans
    assert (span.size, span.stride, span.offset) == (2, Fraction(1, 2), -1)
    assert [span.at(i) for i in range(4)] == [(-1, 0), (0, 0), (0, 1), (1, 1)]
    assert span.at(0, clip=True) == (0, 0)
    # Taps that are further apart than the kernel is long leave nothing between.
    (span,) = of(lambda x: up(x, 1, 3)).spans
    assert (span.size, span.stride, span.offset) == (1, Fraction(1, 3), 0)
    assert [last >= first for first, last in map(span.at, range(4))] == [True, False, False, True]


def test_clipped():
    (span,) = of(partial(conv, kernel=7, strides=2, padding=3), size=9).spans
    assert [span.at(i) for i in range(5)] == [(2 * i - 3, 2 * i + 3) for i in range(5)]
    clipped = [span.at(i, clip=True) for i in range(5)]
    assert clipped == [(0, 3), (0, 5), (1, 7), (3, 8), (5, 8)]


def test_axes_have_fields_of_their_own():
    def layers(x):
        x = nn.Conv(2, (5, 1), strides=(1, 2))(x)
        return nn.Conv(2, (1, 3), kernel_dilation=(1, 3))(x).transpose(0, 2, 1, 3)

    found = receptive_field(Net(layers), (1, 20, 30, 1)).outputs
    assert sides(found) == ((5, 13), (1, 2), (-2, -6))
    assert [span.axis for span in found.spans] == [2, 1]
    assert str(found) == "5x13/1x2"


@pytest.mark.parametrize(
    "layers",
    [
        lambda x: x.mean(1),
        lambda x: conv(x) * nn.sigmoid(nn.Dense(2)(conv(x).mean(1, keepdims=True))),
        lambda x: nn.Dense(3)(x.reshape(1, -1)),
        lambda x: nn.Dense(24)(x.transpose(0, 2, 1)),
        lambda x: nn.softmax(x @ x.transpose(0, 2, 1)) @ x,
        lambda x: BatchNorm()(x, train=True),
        lambda x: jnp.sort(x, axis=1),
        lambda x: conv(x)[:, jnp.argmax(x[0, :, 0])],
        lambda x: jnp.fft.ifft(jnp.eye(24)).real @ x,
        lambda x: jnp.stack([x.max(1), x.min(1)], 1),
        # What is put before the positions is no border of theirs.
        lambda x: jnp.concatenate([x.mean(1, keepdims=True), x], 1)[:, :1],
        lambda x: jax.lax.cond(x.sum() > 0, conv_free, jnp.sin, x),
    ],
)
def test_what_sees_everything(layers):
    found = of(layers)
    assert found.size == (24,)
    assert found.spans[0].whole
    assert str(found) == "all"


def conv_free(x):
    return x * 2


def test_what_does_not_move():
    # The last step of a causal network, of which no more is read.
    found = of(lambda x: conv(x, 5, padding="CAUSAL")[:, -1])
    assert sides(found) == ((5,), (None,), (19,))
    assert not found.spans[0].whole
    assert found.spans[0].at(7) == (19, 23)
    assert str(found) == "5"
    # Fields of two sizes one after the other: the largest of them.
    long = of(lambda x: jnp.concatenate([conv(x), conv(x, 7)[:, ::-1]], 1))
    assert sides(long)[:2] == ((7,), (None,))
    assert of(lambda x: jnp.cumsum(x, 1)).size == (24,)
    # A pyramid's levels in a row.
    both = of(
        lambda x: jnp.concatenate([conv(x).reshape(1, -1), conv(x, 5, strides=2).reshape(1, -1)], 1)
    )
    assert both.stride == (None,)


def test_nothing_is_read():
    found = of(lambda x: (x * 2, jnp.arange(5.0)))[1]
    assert found == Field((Span(24, (), ()),))
    assert (found.size, found.offset, str(found)) == ((0,), (None,), "")
    assert found.spans[0].at(3) == (0, -1)
    assert receptive_field(nn.Dense(3), (2, 5)).outputs == Field(())


def test_what_is_not_known_is_named():
    with pytest.raises(UnknownPrimitive, match="primitive 'fft'") as found:
        of(lambda x: jnp.fft.fft(x, axis=1).real)
    # A program within an equation is not what the equation does with its operands.
    assert found.value.primitive == "fft"
    with pytest.raises(UnknownPrimitive, match="primitive 'reduce'"):
        of(lambda x: lax.reduce(x, np.float32(0), lambda a, b: a * b + a, (1,)))
    # Unless it reads nothing of the input.
    assert of(lambda x: x * jnp.fft.fft(jnp.ones(24)).real.reshape(1, 24, 1)).size == (1,)


def test_layers_by_their_paths():
    def layers(x):
        shared = nn.Conv(2, (3,), name="shared")
        x = shared(x)
        return {"fine": x, "coarse": shared(x[:, ::2])}

    found = receptive_field(Net(layers), (1, 24, 2))
    assert [sides(field) for field in found.layers["shared"]] == [
        ((3,), (1,), (-1,)),
        ((7,), (2,), (-3,)),
    ]
    assert found.outputs == {"fine": found.layers["shared"][0], "coarse": found.layers["shared"][1]}
    assert len(found.layers[""]) == 2


# --- against the gradient ---------------------------------------------------------------------


def reached(module, shape, axis, draws):
    """First and last input position along an axis to which each output's gradient comes, for
    outputs along it in the middle of the other. All weights and inputs are positive, so that no sum
    cancels and no ReLU is shut; many inputs, so that each position is once the largest of a window.
    """
    rng = np.random.default_rng(0)
    shape = (draws, *shape)
    how = {"train": False} if hasattr(module, "norm") or isinstance(module, TCN) else {}
    variables = jax.eval_shape(partial(module.init, **how), jax.random.key(0), jnp.ones(shape))
    variables = jax.tree.map(
        lambda a: jnp.asarray(rng.uniform(0.5, 1, a.shape), a.dtype), variables
    )
    x = jnp.asarray(rng.uniform(0.5, 1, shape), jnp.float32)

    def last(x):
        return jax.tree.leaves(module.apply(variables, x, **how))[-1]

    def gradients(x):
        y, back = jax.vjp(last, x)
        size = y.shape[axis]
        middle = [n // 2 for n in y.shape[1:-1]]
        each = []
        for i in range(size):
            middle[axis - 1] = i
            each.append(jnp.zeros(y.shape).at[(slice(None), *middle)].set(1))
        return jax.vmap(lambda one: back(one)[0])(jnp.stack(each))

    seen = np.asarray(jax.jit(gradients)(x)) != 0
    seen = seen.any(tuple(i for i in range(1, seen.ndim) if i != axis + 1))
    places = [np.flatnonzero(row) for row in seen]
    return [(int(row[0]), int(row[-1])) if len(row) else None for row in places]


def resnet(**fields):
    block = partial(BasicBlock)
    return ResNet((1, 1), (2, 3), block, stem=CIFARStem, stem_features=2, **fields)


class Head(nn.Module):
    """A head of DeepLab on a convolution at stride 2."""

    make: object
    norm: object = BatchNorm

    @nn.compact
    def __call__(self, x, *, train):
        layer = partial(nn.Conv, use_bias=False)
        maps = (nn.Conv(2, (3, 3), strides=2)(x),)
        return bilinear(self.make(layer)(maps, train=train), *x.shape[1:3])


def atrous(layer):
    branch = partial(Atrous)
    return Sum(2, (8,), layer, BatchNorm, partial(nn.Conv), branch, rates=(1, 3))


SUPPORTS = {
    "convolutions": (Net(lambda x: conv(conv(x), strides=2)), (13, 2), 1),
    "dilated": (Net(lambda x: conv(conv(x, kernel_dilation=3), 2, strides=3)), (17, 1), 1),
    "transposed": (Net(lambda x: conv(up(conv(x, strides=2), 3, 2, 1))), (13, 1), 1),
    "transposed, a gap": (Net(lambda x: up(up(x, 2, 3), 4, 2, 1)), (7, 1), 1),
    "flax's transposed": (Net(lambda x: nn.ConvTranspose(2, (4,), (2,))(conv(x))), (9, 1), 1),
    "max pooling": (
        Net(lambda x: conv(max_pool(conv(x), (3,), strides=2, padding=1), 2)),
        *((15, 1), 40),
    ),
    "max pooling, rounded up": (
        Net(lambda x: max_pool(max_pool(x, (2,), strides=2, padding="SAME"), (3,), strides=2)),
        *((15, 1), 40),
    ),
    "average pooling": (
        Net(lambda x: average_pool(conv(x), (3,), strides=2, padding=1, count_include_pad=False)),
        *((14, 1), 1),
    ),
    "resized": (Net(lambda x: conv(bilinear(conv(x, strides=2), 16, 12))), (8, 6, 1), 1),
    "resized unevenly": (Net(lambda x: bilinear(conv(x), 17, 5)), (9, 11, 1), 1),
    "repeated": (Net(lambda x: conv(doubled(conv(x, strides=2)))), (9, 6, 1), 1),
    "space to depth": (
        Net(lambda x: conv(x.reshape(-1, 6, 2, 2).reshape(-1, 6, 4))),
        *((12, 2), 1),
    ),
    "resnet": (resnet(), (14, 10, 1), 1),
    "resnet, shortcut A": (resnet(shortcut="A"), (14, 10, 1), 1),
    "tcn": (TCN((2, 2, 2), kernel=3), (24, 1), 1),
    "unet": (UNet(2, (2, 2, 2), norm=BatchNorm), (24, 16, 1), 24),
    "unet, resized": (UNet(2, (2, 2), upsampling="resize"), (16, 10, 1), 24),
    "unet, valid": (UNet(2, (2, 2), padding="VALID", batch_norm=False), (24, 24, 1), 24),
    "atrous": (Head(atrous), (20, 14, 1), 1),
}


@pytest.mark.parametrize("case", SUPPORTS)
def test_the_gradient_comes_as_far(case):
    module, shape, draws = SUPPORTS[case]
    module = module.clone()
    how = {"train": False} if hasattr(module, "norm") else {}
    found = jax.tree.leaves(
        receptive_field(module, (1, *shape), **how).outputs, is_leaf=lambda x: isinstance(x, Field)
    )[-1]
    # One axis of two is enough, where both are treated alike.
    for axis, span in enumerate(found.spans[: None if case == "resized unevenly" else 1], 1):
        expected = reached(module, shape, axis, draws)
        claimed = [span.at(i, clip=True) for i in range(len(expected))]
        assert [None if last < first else (first, last) for first, last in claimed] == expected


@pytest.mark.parametrize(("kernel", "levels"), [(2, 4), (3, 3), (7, 2)])
def test_a_causal_network(kernel, levels):
    """Bai et al. 2018: two convolutions a level, the dilation doubles."""
    found = receptive_field(TCN((2,) * levels, kernel=kernel), (1, 40, 1)).outputs[0]
    size = 1 + 2 * (kernel - 1) * (2**levels - 1)
    assert sides(found) == ((size,), (1,), (1 - size,))


def test_padded_series_have_the_same_field():
    length = jax.ShapeDtypeStruct((1,), jnp.int32)
    for name in ("tcn_small", "fcn1d", "m5"):
        backbone = models.create(name, num_classes=3).backbone
        found = receptive_field(backbone, (1, 1024, 1), length=length)
        assert found.outputs[0] == receptive_field(backbone, (1, 1024, 1)).outputs[0]


# --- as published -----------------------------------------------------------------------------

# Araujo et al. 2019 (Distill), table of networks; VGG-16's are those of Simonyan & Zisserman's too.
# Their ResNet-50 has 483: TF-slim's strides stand in the last block of a stage, torchvision's and
# ours in the first of the next, so that fewer windows of 3 are at the longer distance.
PUBLISHED = {
    "alexnet": (224, -1, 195, 32),
    "vgg16": (224, -2, 196, 16),
    "inception_v3": (299, -1, 1311, 32),
    "resnet50": (224, -1, 427, 32),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published(name):
    edge, which, size, stride = PUBLISHED[name]
    backbone = models.create(name, num_classes=2).backbone
    found = receptive_field(backbone, (1, edge, edge, 3)).outputs[which]
    assert (found.size, found.stride) == ((size, size), (stride, stride))


def test_resnet50_by_its_strides():
    """Windows of 3 that are left, each at the distance of where it stands: the sum says 427."""
    first, others = (7, 2), (3, 4)
    stages = [[4, 4, 4], [4, 8, 8, 8], [8, *[16] * 5], [16, 32, 32]]
    stem = first[0] + (others[0] - 1) * first[1]
    assert stem + sum(2 * jump for jump in itertools.chain(*stages)) == 427
    slims = [[4, 4, 4], [8, 8, 8, 8], [16] * 6, [32] * 3]
    assert stem + sum(2 * jump for jump in itertools.chain(*slims)) == 483
