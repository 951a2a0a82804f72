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
from models.layers.pooling import max_pool

ModuleDef = Callable[..., Any]


class PlainCNN(nn.Module):
    """A backbone: (B, H, W, C) float -> a map (B, H // stride, W // stride, c) a stage.

    3x3 convolutions (Simonyan & Zisserman 2014), each with BatchNorm (Ioffe & Szegedy 2015) and
    ReLU; between stages the maximum over 2x2. Under `Classifier`'s average over all positions, the
    defaults have 109,802 parameters for grey images of 10 classes.

    Attributes:
        stages: convolutions of each stage.
        channels: of each stage's map; multiples of 16 fill a CPU's vectors.
        norm: `BatchNorm`, or what has its call and its parameters.
        conv_general_dilated: the convolution, with the signature of JAX's.
        dtype: of the arithmetic and the maps; inferred from input and parameters by default.
        param_dtype: of the parameters.

    Raises:
        ValueError: `stages` and `channels` are empty, not as many or not above 0; in a call, the
            image is none or smaller than `smallest`.
    """

    stages: tuple[int, ...] = (2, 2, 2)
    channels: tuple[int, ...] = (32, 48, 64)
    norm: ModuleDef = BatchNorm
    conv_general_dilated: Callable[..., jax.Array] = lax.conv_general_dilated
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        check_stages(self.stages, channels=self.channels)
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
            kernel_size=(3, 3),
            padding=1,
            use_bias=False,
            kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
            conv_general_dilated=self.conv_general_dilated,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )
        norm = partial(self.norm, dtype=self.dtype, param_dtype=self.param_dtype)
        maps: list[jax.Array] = []
        for stage, (depth, channels) in enumerate(zip(self.stages, self.channels, strict=True), 1):
            if maps:
                x = max_pool(x, (2, 2), strides=2)
            for number in range(1, depth + 1):
                x = conv(channels, name=f"stage{stage}_conv{number}")(x)
                x = norm(name=f"stage{stage}_norm{number}")(x, train=train, act=nn.relu)
            maps.append(x)
        return tuple(maps)
