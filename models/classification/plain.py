"""PlainCNN: a small network of our own for small images, in VGG's manner."""

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
from models.layers.pooling import average_pool, max_pool

ModuleDef = Callable[..., Any]


Halved = Callable[[jax.Array], tuple[jax.Array, int]]
DOWNSAMPLE: dict[str, Halved] = {
    "max": lambda x: (max_pool(x, (2, 2), strides=2), 1),
    "average": lambda x: (average_pool(x, (2, 2), strides=2), 1),
    "subsample": lambda x: (x[:, ::2, ::2], 1),
    "stride": lambda x: (x, 2),
}
"""x -> what the next stage's first convolution is given, and its stride."""


class PlainCNN(nn.Module):
    """A backbone: (B, H, W, C) float -> a map (B, H // stride, W // stride, c) a stage.

    3x3 convolutions (Simonyan & Zisserman 2014), each with BatchNorm (Ioffe & Szegedy 2015) and
    ReLU; between stages the maximum over 2x2. Under `Classifier`'s average over all positions, the
    defaults have 109,802 parameters for grey images of 10 classes.

    At its own resolution a stage sees 1 + sum of (kernel_size - 1) * dilation positions, over its
    convolutions: 7 by one 7x7, by three 3x3, or by two 3x3 of the dilations 1 and 2.

    Attributes:
        stages: convolutions of each stage.
        channels: of each stage's map; multiples of 16 fill a CPU's vectors.
        kernel_size: of every convolution, odd.
        dilations: of a stage's convolutions in turn, and again from the first of these where it has
            more (Yu & Koltun 2015; the sawtooth of Wang et al. 2017, arXiv:1702.08502).
        downsample: how each side is halved between stages. "max" and "average" pool over 2x2 and
            leave out the last of an odd number; "subsample" takes every second value,
            x[:, ::2, ::2]; "stride" computes the next convolution at every second place alone
            (Springenberg et al. 2014). Of an odd number these two keep one more.
        norm: `BatchNorm`, or what has its call: `NoNorm` normalises nothing.
        conv_general_dilated: the convolution, with the signature of JAX's.
        dtype: of the arithmetic and the maps; inferred from input and parameters by default.
        param_dtype: of the parameters.

    Raises:
        ValueError: `stages` and `channels` are empty, not as many or not above 0; `kernel_size` is
            even or below 1; `dilations` are none or not above 0; `downsample` is none of the four;
            in a call, the image is none or smaller than `smallest`.
    """

    stages: tuple[int, ...] = (2, 2, 2)
    channels: tuple[int, ...] = (32, 48, 64)
    kernel_size: int = 3
    dilations: tuple[int, ...] = (1,)
    downsample: str = "max"
    norm: ModuleDef = BatchNorm
    conv_general_dilated: Callable[..., jax.Array] = lax.conv_general_dilated
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        check_stages(self.stages, channels=self.channels)
        if self.kernel_size < 1 or not self.kernel_size % 2:
            raise ValueError(f"kernel_size={self.kernel_size} must be odd and at least 1")
        if not self.dilations or min(self.dilations) < 1:
            raise ValueError(f"dilations={self.dilations} must be at least one, each above 0")
        if self.downsample not in DOWNSAMPLE:
            names = ", ".join(map(repr, DOWNSAMPLE))
            raise ValueError(f"downsample={self.downsample!r} is none of {names}")
        super().__post_init__()

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels of the image to one of each map."""
        return tuple(2**stage for stage in range(len(self.stages)))

    @property
    def smallest(self) -> int:
        """Height and width of the smallest image: 4 with three stages."""
        return self.strides[-1]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, ...]:
        check_image(x, smallest=self.smallest)
        check_channels(x, self, "stage1_conv1")
        conv = partial(
            nn.Conv,
            kernel_size=(self.kernel_size, self.kernel_size),
            use_bias=False,
            kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
            conv_general_dilated=self.conv_general_dilated,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )
        norm = partial(self.norm, dtype=self.dtype, param_dtype=self.param_dtype)
        maps: list[jax.Array] = []
        for stage, (depth, channels) in enumerate(zip(self.stages, self.channels, strict=True), 1):
            strides = 1
            if maps:
                x, strides = DOWNSAMPLE[self.downsample](x)
            for number in range(1, depth + 1):
                dilation = self.dilations[(number - 1) % len(self.dilations)]
                x = conv(
                    channels,
                    strides=strides,
                    kernel_dilation=dilation,
                    padding=dilation * (self.kernel_size // 2),
                    name=f"stage{stage}_conv{number}",
                )(x)
                x = norm(name=f"stage{stage}_norm{number}")(x, train=train, act=nn.relu)
                strides = 1
            maps.append(x)
        return tuple(maps)
