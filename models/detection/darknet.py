"""Darknet-53 and the backbone of YOLOv3-tiny (Redmon & Farhadi 2018, arXiv:1804.02767).

`Darknet` and `DarknetTiny` are the backbones; `Darknet53` is the paper's (table 1), `DarknetSmall`
one of our own for small images. Beside the dense head of its classifier, Darknet-53 is all here.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from models.classification.stages import check_stages
from models.layers.image import check_channels, check_image
from models.layers.norm import BatchNorm
from models.layers.pooling import max_pool

ModuleDef = Callable[..., Any]

leaky = partial(nn.leaky_relu, negative_slope=0.1)
"""Darknet's activation."""
EPSILON = 1e-6
"""Of Darknet's BatchNorm, as in OpenCV's reading of it."""


class ConvNorm(nn.Module):
    """A convolution without bias, BatchNorm, activation.

    (B, H, W, C) -> (B, ceil(H / strides), ceil(W / strides), features)

    Attributes:
        features: channels that come out.
        kernel: its height and width, odd; the same padding on both sides.
        conv, norm, act: bound to dtypes and a backend.
        strides: of the convolution.
    """

    features: int
    kernel: int
    conv: ModuleDef
    norm: ModuleDef
    act: Callable[[jax.Array], jax.Array]
    strides: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        conv = self.conv(
            self.features,
            (self.kernel, self.kernel),
            strides=self.strides,
            padding=self.kernel // 2,
            name="conv",
        )
        return self.norm(name="norm")(conv(x), train=train, act=self.act)


class Residual(nn.Module):
    """1x1 to half the channels, 3x3 back to all of them, and the input added behind the activation.

    (B, H, W, C) -> (B, H, W, C); C is even.
    """

    layer: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        y = self.layer(x.shape[-1] // 2, 1, name="reduce")(x, train=train)
        return x + self.layer(x.shape[-1], 3, name="expand")(y, train=train)


def layers_of(network: Any) -> ModuleDef:
    """`ConvNorm` bound to the fields that all networks of this family have.

    Args:
        network: with `norm`, `act`, `epsilon`, `conv_general_dilated`, `dtype`, `param_dtype`.
    """
    types = {"dtype": network.dtype, "param_dtype": network.param_dtype}
    conv = partial(
        nn.Conv,
        use_bias=False,
        kernel_init=nn.initializers.he_normal(),
        conv_general_dilated=network.conv_general_dilated,
        **types,
    )
    norm = partial(network.norm, epsilon=network.epsilon, **types)
    return partial(ConvNorm, conv=conv, norm=norm, act=network.act)


class Darknet(nn.Module):
    """A backbone: (B, H, W, C) float -> a map (B, ceil(H / stride), ceil(W / stride), c) a stage.

    A 3x3 convolution at the image's resolution; each stage halves it by a 3x3 convolution, and
    residual blocks follow.

    Attributes:
        stages: residual blocks of each stage.
        channels: of each stage's map, even.
        stem_features: channels of the first convolution.
        act: activation of every convolution.
        epsilon: of `norm`.
        norm: `BatchNorm`, or what has its call and its parameters.
        conv_general_dilated: the convolution, with the signature of JAX's.
        dtype: of the arithmetic and the maps; inferred from input and parameters by default.
        param_dtype: of the parameters.
        remat: whether a block's activations are computed again in the backward pass.

    Raises:
        ValueError: `stages` and `channels` are empty, not as many or not above 0; a number of
            channels is odd; `stem_features` is below 1; in a call, the image is none.
    """

    stages: tuple[int, ...]
    channels: tuple[int, ...]
    stem_features: int = 32
    act: Callable[[jax.Array], jax.Array] = leaky
    epsilon: float = EPSILON
    norm: ModuleDef = BatchNorm
    conv_general_dilated: Callable[..., jax.Array] = lax.conv_general_dilated
    dtype: Any = None
    param_dtype: Any = jnp.float32
    remat: bool = False

    def __post_init__(self) -> None:
        check_stages(self.stages, channels=self.channels)
        if any(channels % 2 for channels in self.channels):
            raise ValueError(f"channels={self.channels} must be even: a block halves them")
        if self.stem_features < 1:
            raise ValueError(f"stem_features={self.stem_features} must be at least 1")
        super().__post_init__()

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels of the image to one of each stage's map."""
        return tuple(2**stage for stage in range(1, len(self.stages) + 1))

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, ...]:
        check_image(x)
        check_channels(x, self, "stem", "conv")
        layer = layers_of(self)
        x = layer(self.stem_features, 3, name="stem")(x, train=train)
        maps = []
        for stage, (blocks, channels) in enumerate(zip(self.stages, self.channels, strict=True), 1):
            x = layer(channels, 3, strides=2, name=f"stage{stage}_down")(x, train=train)
            for number in range(1, blocks + 1):
                block = Residual(layer, name=f"stage{stage}_block{number}")
                run = lambda block, x: block(x, train=train)  # noqa: E731
                x = nn.remat(run)(block, x) if self.remat else run(block, x)
            maps.append(x)
        return tuple(maps)


class DarknetTiny(nn.Module):
    """A backbone: (B, H, W, C) float -> a map (B, ceil(H / stride), ceil(W / stride), c) a stage.

    3x3 convolutions, and before each but the first the maximum over 2x2. The last of these moves by
    one pixel, and so keeps the resolution: its window reaches beyond the right and the bottom edge.
    The two convolutions around it are one stage.

    Attributes:
        features: channels of each convolution, at least two.
        act, epsilon, norm, conv_general_dilated, dtype, param_dtype: as `Darknet`'s.

    Raises:
        ValueError: `features` are less than two, or not above 0; in a call, the image is none.
    """

    features: tuple[int, ...] = (16, 32, 64, 128, 256, 512, 1024)
    act: Callable[[jax.Array], jax.Array] = leaky
    epsilon: float = EPSILON
    norm: ModuleDef = BatchNorm
    conv_general_dilated: Callable[..., jax.Array] = lax.conv_general_dilated
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        if len(self.features) < 2 or min(self.features) < 1:
            raise ValueError(f"features={self.features} must be at least two, each above 0")
        super().__post_init__()

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels of the image to one of each map."""
        return tuple(2**stage for stage in range(len(self.features) - 1))

    @property
    def channels(self) -> tuple[int, ...]:
        """Of each map."""
        return (*self.features[:-2], self.features[-1])

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, ...]:
        check_image(x)
        check_channels(x, self, "conv1", "conv")
        layer = layers_of(self)
        maps = []
        for number, features in enumerate(self.features, 1):
            if number == len(self.features):
                x = max_pool(x, (2, 2), strides=1, padding="SAME")
            elif number > 1:
                x = max_pool(x, (2, 2), strides=2, padding="SAME")
            x = layer(features, 3, name=f"conv{number}")(x, train=train)
            maps.append(x)
        return (*maps[:-2], maps[-1])


Darknet53 = partial(Darknet, stages=(1, 2, 8, 8, 4), channels=(64, 128, 256, 512, 1024))
# Our own: maps at strides 2, 4 and 8, about 0.1 G multiplications for an image of 96x96.
DarknetSmall = partial(Darknet, stages=(1, 1, 2), channels=(32, 64, 128), stem_features=16)
