"""VGG (Simonyan & Zisserman 2014), with BatchNorm too.

`VGG` is the backbone; the partials at the end name its variants and their head.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from models.classification.flatten import flatten_classifier
from models.classification.stages import check_output_stride, check_stages
from models.layers.image import check_channels, check_image
from models.layers.norm import BatchNorm
from models.layers.pooling import max_pool

ModuleDef = Callable[..., Any]


class VGG(nn.Module):
    """A backbone: (B, H, W, C) float -> the maps before each pooling, and what the last one yields.

    3x3 convolutions with ReLU, in stages; each stage ends in the maximum over 2x2. Convolutions
    have biases, before BatchNorm too, as in torchvision; they start as there, by He et al. 2015
    (arXiv:1502.01852, eq. 14).

    Attributes:
        stages: convolutions of each stage.
        features: channels in each stage.
        batch_norm: whether `norm` stands between each convolution and its ReLU.
        window: of the poolings: 2, or 3, padded by 1, as in DeepLab's VGG.
        output_stride: of the last map, where it is to be less than the stages make it: a pooling
            that would exceed it keeps the resolution, and later convolutions are dilated instead
            (Chen et al. 2014, arXiv:1412.7062, section 3.1), so that in each stage's map every n-th
            value stays what it was. Poolings are not dilated, as the authors': behind the second of
            those that keep the resolution that no longer holds.
        norm: `BatchNorm`, or what has its call and its parameters.
        conv_general_dilated: the convolution, with the signature of JAX's.
        dtype: of the arithmetic and the maps; inferred from input and parameters by default.
        param_dtype: of the parameters.
        remat: whether a stage's activations are computed again in the backward pass.

    Raises:
        ValueError: `stages` and `features` are empty, not as many or not above 0; `window` is
            neither 2 nor 3; `output_stride` is that of no map; in a call, the image is none or
            smaller than `smallest`.
    """

    stages: tuple[int, ...]
    features: tuple[int, ...] = (64, 128, 256, 512, 512)
    batch_norm: bool = False
    window: int = 2
    output_stride: int | None = None
    norm: ModuleDef = BatchNorm
    conv_general_dilated: Callable[..., jax.Array] = lax.conv_general_dilated
    dtype: Any = None
    param_dtype: Any = jnp.float32
    remat: bool = False

    def __post_init__(self) -> None:
        check_stages(self.stages, features=self.features)
        if self.window not in (2, 3):
            raise ValueError(f"window={self.window} is neither 2 nor 3")
        check_output_stride(self.output_stride, self.undilated)
        super().__post_init__()

    @property
    def undilated(self) -> tuple[int, ...]:
        """`strides`, were there no `output_stride`."""
        return tuple(2**stage for stage in range(len(self.stages) + 1))

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels of the image to one of each map."""
        most = self.output_stride or self.undilated[-1]
        return tuple(min(stride, most) for stride in self.undilated)

    @property
    def channels(self) -> tuple[int, ...]:
        """Of each map."""
        return (*self.features, self.features[-1])

    @property
    def smallest(self) -> int:
        """Height and width of the smallest image: 32 with five stages; any where poolings pad."""
        return 1 if self.window == 3 else self.strides[-1]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, ...]:
        check_image(x, smallest=self.smallest)
        check_channels(x, self, "stage1_conv1")
        maps = []
        for stage in range(1, len(self.stages) + 1):
            run = lambda self, x, stage=stage: self.convolve(x, stage, train=train)  # noqa: E731
            x = nn.remat(run)(self, x) if self.remat else run(self, x)
            maps.append(x)
            x = self.pool(x, stage)
        return (*maps, x)

    @nn.nowrap
    def pool(self, x: jax.Array, stage: int) -> jax.Array:
        """What the pooling at the end of a stage, counted from 1, makes of its map."""
        strides = self.strides[stage] // self.strides[stage - 1]
        padding = 1 if self.window == 3 else "VALID" if strides == 2 else "SAME"
        return max_pool(x, (self.window,) * 2, strides=strides, padding=padding)

    def convolve(self, x: jax.Array, stage: int, *, train: bool) -> jax.Array:
        """The convolutions of one stage: (B, h, w, c) -> (B, h, w, features)."""
        dilation = self.undilated[stage - 1] // self.strides[stage - 1]
        for number in range(1, self.stages[stage - 1] + 1):
            conv = nn.Conv(
                self.features[stage - 1],
                (3, 3),
                kernel_dilation=dilation,
                padding=dilation,
                kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
                conv_general_dilated=self.conv_general_dilated,
                dtype=self.dtype,
                param_dtype=self.param_dtype,
                name=f"stage{stage}_conv{number}",
            )
            x = conv(x)
            if self.batch_norm:
                norm = self.norm(
                    dtype=self.dtype,
                    param_dtype=self.param_dtype,
                    name=f"stage{stage}_norm{number}",
                )
                x = norm(x, train=train, act=nn.relu)
            else:
                x = nn.relu(x)
        return x


def vgg(*stages: int, batch_norm: bool = False) -> partial:
    """A network of the given stages, with torchvision's head, its start and its dropout."""
    return partial(
        flatten_classifier,
        partial(VGG, stages=stages, batch_norm=batch_norm),
        size=7,
        widths=(4096, 4096),
        dropout=(0.0, 0.5, 0.5),
        dense_init=nn.initializers.normal(0.01),
    )


# Simonyan & Zisserman 2014, table 1: A, B, D, E.
vgg11 = vgg(1, 1, 2, 2, 2)
vgg13 = vgg(2, 2, 2, 2, 2)
vgg16 = vgg(2, 2, 3, 3, 3)
vgg19 = vgg(2, 2, 4, 4, 4)
vgg11_bn = vgg(1, 1, 2, 2, 2, batch_norm=True)
vgg13_bn = vgg(2, 2, 2, 2, 2, batch_norm=True)
vgg16_bn = vgg(2, 2, 3, 3, 3, batch_norm=True)
vgg19_bn = vgg(2, 2, 4, 4, 4, batch_norm=True)
