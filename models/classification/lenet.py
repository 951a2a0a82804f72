"""LeNet-5: as LeCun et al. 1998 built it, and as it is built today.

"Gradient-based learning applied to document recognition", Proceedings of the IEEE 86(11), section
II.B. Both are backbones whose last convolution sees the whole of a 32x32 image; its maps of larger
images are averaged, so any size from 32 on is taken.
"""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from models.classification.classifier import Classifier, fitting
from models.classification.flatten import flatten_classifier
from models.layers.conv import CHANNELS_LAST
from models.layers.image import check_channels, check_image, smallest_size
from models.layers.norm import along_channels
from models.layers.pooling import average_pool, global_average_pool, max_pool

SMALLEST = smallest_size([(5, 1, 0), (2, 2, 0), (5, 1, 0), (2, 2, 0), (5, 1, 0)])
"""Pixels that three convolutions of 5 and two poolings of 2 need: 32."""


class LeNet5(nn.Module):
    """The modern form, a backbone: (B, H, W, C) float -> maps of 6, 16 and 120 channels.

    The widths are the paper's; ReLU, maxima over 2x2 and full connections, which are what is in
    use today and learn faster, stand for its squashing, subsampling and table. Convolutions start
    as He et al. 2015 (arXiv:1502.01852, eq. 10) say. 32x32 gives 28x28, 10x10 and 1x1.

    Attributes:
        conv_general_dilated: the convolution, with the signature of JAX's.
        dtype: of the arithmetic and the maps; inferred from input and parameters by default.
        param_dtype: of the parameters.

    Raises:
        ValueError: in a call, the image is none or smaller than 32x32.
    """

    strides: ClassVar[tuple[int, ...]] = (1, 2, 4)
    channels: ClassVar[tuple[int, ...]] = (6, 16, 120)
    smallest: ClassVar[int] = SMALLEST
    conv_general_dilated: Callable[..., jax.Array] = lax.conv_general_dilated
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, ...]:
        check_image(x, smallest=SMALLEST)
        check_channels(x, self, "conv1")
        maps: list[jax.Array] = []
        for number, channels in enumerate(self.channels, 1):
            if maps:
                x = max_pool(x, (2, 2), strides=2)
            conv = nn.Conv(
                channels,
                (5, 5),
                padding="VALID",
                kernel_init=nn.initializers.he_normal(),
                conv_general_dilated=self.conv_general_dilated,
                dtype=self.dtype,
                param_dtype=self.param_dtype,
                name=f"conv{number}",
            )
            x = nn.relu(conv(x))
            maps.append(x)
        return tuple(maps)


# 61,706 parameters for grey images of 10 classes.
lenet5 = partial(flatten_classifier, LeNet5, size=1, widths=(84,), dropout=(0.0, 0.0))


# --- as in 1998 -------------------------------------------------------------------------------

TABLE = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5)),
)
"""Maps of S2 that each map of C3 is connected to (table I)."""


def squash(x: jax.Array) -> jax.Array:
    """1.7159 tanh(2/3 x): 1 at 1 and -1 at -1, with the largest curvature there (appendix A)."""
    return 1.7159 * jnp.tanh(x * (2 / 3))


def by_fan_in(fan_in: Any) -> nn.initializers.Initializer:
    """Uniform from -1 to 1 times 2.4 / fan-in (appendix A), one for all weights or one for each."""

    def init(key: jax.Array, shape: Any, dtype: Any = jnp.float32) -> jax.Array:
        bound = jnp.broadcast_to(jnp.asarray(2.4 / np.asarray(fan_in), dtype), shape)
        return jax.random.uniform(key, shape, dtype, -1, 1) * bound

    return init


class Subsample(nn.Module):
    """S2 and S4: the sum over 2x2, times a coefficient, plus a bias, squashed.

    (B, H, W, C) -> (B, H / 2, W / 2, C), rounded down. Parameters `coefficient`, `bias` are (C,).
    """

    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = x.shape[-1:]
        coefficient = self.param("coefficient", by_fan_in(4), shape, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, shape, self.param_dtype)
        x, coefficient, bias = nn.dtypes.promote_dtype(x, coefficient, bias, dtype=self.dtype)
        total = 4 * average_pool(x, (2, 2), strides=2)
        return squash(total * along_channels(coefficient, x) + along_channels(bias, x))


class TableConv(nn.Module):
    """C3: a 5x5 convolution over the connections of `TABLE` alone.

    (B, H, W, 6) -> (B, H - 4, W - 4, 16). Parameters `kernel` (5, 5, 60), a window a connection in
    the order of the table, and `bias` (16,).
    """

    conv_general_dilated: Callable[..., jax.Array]
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        sources = np.concatenate(TABLE)
        fans = np.array([len(row) for row in TABLE])
        targets = np.repeat(np.arange(len(TABLE)), fans)
        init = by_fan_in(25 * fans[targets])
        kernel = self.param("kernel", init, (5, 5, len(sources)), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (len(TABLE),), self.param_dtype)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        dense = (
            jnp.zeros((5, 5, 6, len(TABLE)), kernel.dtype).at[:, :, sources, targets].set(kernel)
        )
        y = self.conv_general_dilated(
            x, dense, (1, 1), [(0, 0), (0, 0)], dimension_numbers=CHANNELS_LAST[2]
        )
        return y + along_channels(bias, y)


class LeNet5Of1998(LeNet5):
    """The paper's form, a backbone: (B, H, W, C) float -> C1, C3 and C5 (section II.B).

    All units are squashed, those of the convolutions and of the subsampling. Weights start as
    appendix A says, biases at 0. 32x32 gives 28x28, 10x10 and 1x1. Attributes and errors are those
    of `LeNet5`.
    """

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, ...]:
        check_image(x, smallest=SMALLEST)
        check_channels(x, self, "c1")
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        convolution = self.conv_general_dilated
        conv = partial(
            nn.Conv,
            kernel_size=(5, 5),
            padding="VALID",
            conv_general_dilated=convolution,
            **types,
        )
        c1 = squash(conv(features=6, kernel_init=by_fan_in(25 * x.shape[-1]), name="c1")(x))
        s2 = Subsample(**types, name="s2")(c1)
        c3 = squash(TableConv(convolution, **types, name="c3")(s2))
        s4 = Subsample(**types, name="s4")(c3)
        c5 = squash(conv(features=120, kernel_init=by_fan_in(25 * 16), name="c5")(s4))
        return c1, c3, c5


DIGITS = """
....... ....... ....... ....... ....... ....... ....... ....... ....... .......
..###.. ...##.. .#####. .#####. ....##. ####### ..####. ####### .#####. .#####.
.##.##. ..###.. ##...## ##...## ...###. ##..... .##.... ##...## ##...## ##...##
##...## .####.. .....## .....## ..####. ##..... ##..... .....## ##...## ##...##
##...## ...##.. .....## .....## .##.##. ######. ##..... ....##. ##...## ##...##
##...## ...##.. ....##. ..####. ##..##. ##...## ######. ....##. .#####. ##...##
##...## ...##.. ...##.. .....## ####### .....## ##...## ...##.. ##...## .######
##...## ...##.. ..##... .....## ....##. .....## ##...## ...##.. ##...## .....##
##...## ...##.. .##.... .....## ....##. .....## ##...## ..##... ##...## .....##
.##.##. ...##.. ##..... ##...## ....##. ##...## ##...## ..##... ##...## ....##.
..###.. .###### ####### .#####. ....##. .#####. .#####. ..##... .#####. .####..
....... ....... ....... ....... ....... ....... ....... ....... ....... .......
"""
"""Pictures of 7x12 in the manner of the paper's figure 3."""


def codes(num_classes: int) -> np.ndarray:
    """What F6 should say for each class: (num_classes, 84) of -1 and +1.

    The ten digits' are their pictures, row by row, ink being +1. The paper draws other characters
    for other classes; here a class from 10 on has the first 84 bits of the SHA-256 of its number,
    the same ones everywhere.
    """
    lines = [line.split() for line in DIGITS.split("\n") if line]
    digits = [[mark == "#" for line in lines for mark in line[digit]] for digit in range(10)]
    more = [
        np.unpackbits(np.frombuffer(hashlib.sha256(b"%d" % label).digest(), np.uint8))[:84]
        for label in range(10, num_classes)
    ]
    return np.array([*digits, *more][:num_classes], np.int8) * 2 - 1


class CodeClassifier(Classifier):
    """Images to logits: (B, H, W, C) -> (B, num_classes), by distances to fixed codes.

    The last map's mean goes through F6 of 84 units; a logit is minus the squared distance from them
    to the class's code (equation 7), in at least float32. The codes are no parameters, as at first
    in the paper.

    Attributes:
        backbone: `(x, *, train)` -> tuple of maps (B, h, w, c).
        num_classes: at least 1; see `codes`.
        param_dtype: of F6.

    Raises:
        TypeError: `num_classes` is no whole number.
        ValueError: it is below 1.
    """

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        last = self.backbone(x, train=train)[-1]  # type: ignore[operator]
        f6 = nn.Dense(
            84,
            kernel_init=by_fan_in(last.shape[-1]),
            dtype=last.dtype,
            param_dtype=self.param_dtype,
            name="f6",
        )
        units = squash(f6(global_average_pool(last)))
        units = units.astype(np.promote_types(units.dtype, np.float32))
        away = units[:, None] - jnp.asarray(codes(self.num_classes), units.dtype)[None]
        return -jnp.square(away).sum(-1)


def lenet5_1998(
    *, num_classes: int, param_dtype: Any = jnp.float32, **fields: Any
) -> CodeClassifier:
    """60,000 trainable parameters for grey images of any number of classes."""
    made = LeNet5Of1998(param_dtype=param_dtype, **fitting(LeNet5Of1998, fields))
    return CodeClassifier(made, num_classes, param_dtype)
