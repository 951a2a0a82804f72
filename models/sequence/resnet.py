"""ResNet1D: residual networks for time series (Wang et al. 2017), and a small one of our own."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from models.classification.stages import check_stages
from models.layers.norm import BatchNorm
from models.sequence.classifier import check_series, sequence_classifier
from models.sequence.fcn import around
from models.sequence.lengths import convolved, mask, wrapped, zeroed

ModuleDef = Callable[..., Any]
Steps = tuple[jax.Array, jax.Array | None]
"""(B, l, c), and how many of each series are valid (B,); None where all are."""


class Slide(nn.Module):
    """A convolution and BatchNorm: (B, L, C) -> (B, ceil(L / strides), features).

    Attributes:
        kernel: steps.
        circular: whether a series is padded by its own other end, else by zeros.
    """

    features: int
    kernel: int
    conv: ModuleDef
    norm: ModuleDef
    strides: int = 1
    circular: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, length: jax.Array | None, *, train: bool, **how: Any) -> Steps:
        pads = around(self.kernel)
        if self.circular:
            x, length = wrapped(x, length, *pads[0])
            pads = [(0, 0)]
        layer = self.conv(
            self.features, (self.kernel,), strides=self.strides, padding=pads, name="conv"
        )
        y, length = convolved(layer, x, length)
        valid = mask(length, y.shape[1])
        return self.norm(name="norm")(y, train=train, valid=valid, **how), length


class ResidualBlock(nn.Module):
    """Convolutions with BatchNorm and ReLU between them, and a shortcut (Wang et al. 2017, eq. 5).

    (B, L, C) -> (B, ceil(L / strides), features)

    The shortcut projects by a convolution of one step, with BatchNorm, where the shape changes.

    Attributes:
        kernels: steps of each convolution; the first has the stride.
        normalise_shortcut: whether the shortcut has a BatchNorm where it does not project, too, as
            in the authors' code.
        slide: `Slide`, of what all its convolutions share.
    """

    features: int
    strides: int
    kernels: tuple[int, ...]
    normalise_shortcut: bool
    slide: ModuleDef
    norm: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array, length: jax.Array | None, *, train: bool) -> Steps:
        shortcut = x
        if self.strides != 1 or self.features != x.shape[-1]:
            project = self.slide(self.features, 1, strides=self.strides, name="shortcut")
            shortcut, _ = project(x, length, train=train)
        elif self.normalise_shortcut:
            valid = mask(length, x.shape[1])
            shortcut = self.norm(name="shortcut_norm")(x, train=train, valid=valid)
        y, strides = x, self.strides
        for number, kernel in enumerate(self.kernels, 1):
            layer = self.slide(self.features, kernel, strides=strides, name=f"layer{number}")
            add = {"add": shortcut} if number == len(self.kernels) else {}
            y, length = layer(y, length, train=train, act=nn.relu, **add)
            strides = 1
        return y, length


class ResNet1D(nn.Module):
    """A backbone: (B, L, C) float -> (B, ceil(L / strides), channels[-1]).

    Attributes:
        stages: blocks of each stage.
        channels: of each stage's steps.
        kernels: steps of the convolutions of a block.
        stride: by how much the first block of each stage but the first divides the length.
        stem: steps of a convolution before the stages, of as many channels as the first; 0 for
            none.
        normalise_shortcut: see `ResidualBlock`.
        circular: whether series are padded by their own other end, else by zeros. A series then
            has no ends: what the network says of it changes with no shift by the stride of all
            stages together, if its length is a multiple of that.
        norm: `BatchNorm`, or what has its call and its parameters.
        conv_general_dilated: the convolution, with the signature of JAX's.
        dtype: of the arithmetic and the steps; inferred from input and parameters by default.
        param_dtype: of the parameters.

    Raises:
        ValueError: `stages` and `channels` are empty, not as many or not above 0; there are no
            `kernels`, or one is below 1; `stride` is below 1 or `stem` below 0.
    """

    stages: tuple[int, ...] = (1, 1, 1)
    channels: tuple[int, ...] = (64, 128, 128)
    kernels: tuple[int, ...] = (8, 5, 3)
    stride: int = 1
    stem: int = 0
    normalise_shortcut: bool = True
    circular: bool = False
    norm: ModuleDef = BatchNorm
    conv_general_dilated: Callable[..., jax.Array] = lax.conv_general_dilated
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        check_stages(self.stages, channels=self.channels)
        if min(self.kernels, default=0) < 1:
            raise ValueError(f"kernels={self.kernels} must be at least one, each above 0")
        if self.stride < 1 or self.stem < 0:
            raise ValueError(
                f"stride={self.stride} must be at least 1 and stem={self.stem} at least 0"
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, length: jax.Array | None = None) -> Steps:
        first = ("stem",) if self.stem else ("stage1_block1", "layer1")
        check_series(x, length, self, *first, "conv")
        x = zeroed(x, length)  # a shortcut that does not project sees it too
        conv = partial(
            nn.Conv,
            use_bias=False,
            kernel_init=nn.initializers.he_normal(),
            conv_general_dilated=self.conv_general_dilated,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )
        norm = partial(self.norm, dtype=self.dtype, param_dtype=self.param_dtype)
        slide = partial(Slide, conv=conv, norm=norm, circular=self.circular)
        if self.stem:
            layer = slide(self.channels[0], self.stem, name="stem")
            x, length = layer(x, length, train=train, act=nn.relu)
        for stage, (blocks, features) in enumerate(zip(self.stages, self.channels, strict=True), 1):
            for number in range(1, blocks + 1):
                block = ResidualBlock(
                    features,
                    self.stride if number == 1 < stage else 1,
                    self.kernels,
                    self.normalise_shortcut,
                    slide=slide,
                    norm=norm,
                    name=f"stage{stage}_block{number}",
                )
                x, length = block(x, length, train=train)
        return x, length


resnet1d = partial(sequence_classifier, ResNet1D)
SmallResNet1D = partial(
    ResNet1D,
    stages=(2, 2, 2),
    channels=(32, 64, 128),
    kernels=(3, 3),
    stride=2,
    stem=5,
    normalise_shortcut=False,
    circular=True,
)
resnet1d_small = partial(sequence_classifier, SmallResNet1D)
