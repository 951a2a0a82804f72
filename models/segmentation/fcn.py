"""FCN (Long et al. 2015, arXiv:1411.4038): a classifier whose dense layers are convolutions.

`FCN` is the paper's, on VGG-16; `FCNHead` is torchvision's head for a dilated ResNet.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from models.classification.classifier import check_num_classes, fitting
from models.classification.resnet import ResNet50, ResNet101
from models.classification.vgg import VGG
from models.layers.image import check_image
from models.layers.transposed import ConvTranspose
from models.segmentation.segmenter import check_fields, conv_and_logits, segmenter

ModuleDef = Callable[..., Any]


class FCN(nn.Module):
    """Images to logits a pixel: (B, H, W, C) -> (B, H, W, num_classes); H, W multiples of 32.

    The backbone's last map, at stride 32, goes through the classifier's dense layers as
    convolutions, the first of 7x7; scores of poolings at strides 16 and 8 are added to what it
    yields, and transposed convolutions, which begin as bilinear interpolation and are trained,
    bring it to the image's size (section 3.3, fig. 3). The authors pad the image by 100 pixels and
    crop the result, so that the 7x7 fits everywhere; here that convolution is padded by 3, which
    leaves each score where its own window is and computes no more than the image. In their code
    scores fade over the outermost dozen pixels; here maps are upsampled with their edges repeated,
    and none fades. At 224x224 the score in the middle of the 7x7 scores is the classifier's
    (`as_convolutions` takes its weights).

    Logits are at least float32. Dropout draws from `dropout`.

    Attributes:
        backbone: `VGG` of five stages, not dilated.
        num_classes: at least 1.
        stride: 32, 16 or 8: of the finest scores, FCN-32s, FCN-16s or FCN-8s.
        widths: of the two hidden layers.
        dropout: rate after each of them.
        conv_general_dilated, dtype, param_dtype: of the layers behind the backbone, as its own.

    Raises:
        TypeError: `num_classes` is no whole number.
        ValueError: it or one of `widths` is below 1; `stride` is none of the three; `dropout` is
            not from 0 to below 1; the backbone's strides are others; in a call, the image's height
            or width is no multiple of 32.
    """

    backbone: nn.Module
    num_classes: int
    stride: int = 8
    widths: tuple[int, int] = (4096, 4096)
    dropout: float = 0.5
    conv_general_dilated: Callable[..., jax.Array] = lax.conv_general_dilated
    dtype: Any = None
    param_dtype: Any = jnp.float32

    margin = 0
    """Pixels at each side of the image that have no logits."""

    def __post_init__(self) -> None:
        check_num_classes(self.num_classes)
        if self.stride not in (32, 16, 8):
            raise ValueError(f"stride={self.stride} is none of 32, 16, 8")
        check_fields(widths=self.widths, dropout=self.dropout)
        if len(self.widths) != 2:
            raise ValueError(f"widths={self.widths} must be two")
        strides = self.backbone.strides  # type: ignore[attr-defined]
        if strides != (1, 2, 4, 8, 16, 32):
            raise ValueError(f"a backbone with strides={strides}: expected five stages, to 32")
        super().__post_init__()

    def input_size(self, size: int) -> int:
        """The least height or width of an image whose logits cover `size` pixels."""
        return max(-(-size // 32), 1) * 32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        check_image(x)
        if x.shape[1] % 32 or x.shape[2] % 32:
            raise ValueError(
                f"image of shape {x.shape}: height and width must be multiples of 32, such as "
                f"{self.input_size(x.shape[1])}x{self.input_size(x.shape[2])}"
            )
        maps = self.backbone(x, train=train)  # type: ignore[operator]
        conv, logits = conv_and_logits(self, maps[-1])
        y = maps[-1]
        for number, (width, kernel) in enumerate(zip(self.widths, (7, 1), strict=True), 1):
            layer = conv(
                width,
                (kernel, kernel),
                padding=kernel // 2,
                use_bias=True,
                name=f"hidden{number}",
            )
            y = nn.Dropout(self.dropout, deterministic=not train)(nn.relu(layer(y)))
        y = logits(self.num_classes, (1, 1), name="head")(y)
        for stride, stage in ((16, 4), (8, 3)):
            if self.stride <= stride:
                score = logits(
                    self.num_classes,
                    (1, 1),
                    kernel_init=nn.initializers.zeros,
                    name=f"score{stride}",
                )
                y = self.upsampled(y, 2, f"up{stride}")
                pooled = self.backbone.pool(maps[stage - 1], stage)  # type: ignore[attr-defined]
                y = y + score(pooled)
        return self.upsampled(y, self.stride, "up")

    def upsampled(self, y: jax.Array, factor: int, name: str) -> jax.Array:
        """(B, h, w, num_classes) -> (B, factor h, factor w, num_classes), the edge repeated."""
        # Beyond the map a transposed convolution sees zeros, and scores would fade to them.
        y = jnp.pad(y, [(0, 0), (1, 1), (1, 1), (0, 0)], mode="edge")
        layer = ConvTranspose(
            self.num_classes,
            (2 * factor, 2 * factor),
            strides=factor,
            padding=factor // 2 + factor,
            use_bias=False,
            kernel_init=bilinear_kernel,
            conv_general_dilated=self.conv_general_dilated,
            dtype=y.dtype,
            param_dtype=self.param_dtype,
            precision="highest",
            name=name,
        )
        return layer(y)


def bilinear_kernel(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """An initialiser: bilinear interpolation of each channel by half a kernel's size.

    Args:
        key: not needed.
        shape: (k, k, channels, channels) with an even k.
        dtype: of the kernel.
    """
    del key
    size, _, inputs, outputs = shape
    factor = size // 2
    tent = 1 - np.abs(np.arange(size) - (factor - 0.5)) / factor
    # In JAX, so that a trace makes no array: between a thousand classes it has gigabytes.
    window = jnp.asarray(np.outer(tent, tent), dtype)[:, :, None, None]
    return window * jnp.eye(inputs, outputs, dtype=dtype)[None, None]


def as_convolutions(params: Mapping[str, Any]) -> dict[str, Any]:
    """A VGG classifier's parameters as those of an FCN's layers of the same name.

    What only the FCN has (`up…`, `score…`) is not among them. The head can be taken where the
    classes are the classifier's.

    Args:
        params: `backbone`, `hidden1` on a flattened map of 7x7, `hidden2`, `head`.

    Returns:
        The same, with kernels (7, 7, c, width), (1, 1, width, width), (1, 1, width, classes).

    Raises:
        ValueError: one of the layers is missing, or its kernel is of no such map.
    """
    converted = dict(params)
    for name, size in (("hidden1", 7), ("hidden2", 1), ("head", 1)):
        if name not in params:
            raise ValueError(f"params of {', '.join(params)}: {name} is missing")
        kernel = params[name]["kernel"]
        if kernel.ndim != 2 or kernel.shape[0] % size**2:
            raise ValueError(
                f"{name}/kernel of shape {kernel.shape}: expected a dense layer's on a map of "
                f"{size}x{size}"
            )
        shape = (size, size, kernel.shape[0] // size**2, kernel.shape[1])
        converted[name] = {**params[name], "kernel": kernel.reshape(shape)}
    return converted


class FCNHead(nn.Module):
    """A 3x3 convolution to a quarter of the channels, dropout, logits: torchvision's.

    (…, (B, h, w, c)) -> (B, h, w, num_classes)

    Attributes:
        dropout: rate before the logits.

    Raises:
        ValueError: it is not from 0 to below 1; the map has less than 4 channels.
    """

    num_classes: int
    strides: tuple[int, ...]
    conv: ModuleDef
    norm: ModuleDef
    logits: ModuleDef
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_fields(dropout=self.dropout)
        super().__post_init__()

    @nn.compact
    def __call__(self, maps: tuple[jax.Array, ...], *, train: bool) -> jax.Array:
        x = maps[-1]
        if x.shape[-1] < 4:
            raise ValueError(f"map of shape {x.shape}: a quarter of its channels is none")
        y = self.conv(x.shape[-1] // 4, (3, 3), padding=1, name="conv")(x)
        y = self.norm(name="norm")(y, train=train, act=nn.relu)
        y = nn.Dropout(self.dropout, deterministic=not train)(y)
        return self.logits(self.num_classes, (1, 1), name="logits")(y)


def fcn(
    *,
    num_classes: int,
    stride: int,
    widths: tuple[int, int] = (4096, 4096),
    dropout: float = 0.5,
    conv_general_dilated: Callable[..., jax.Array] = lax.conv_general_dilated,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    **fields: Any,
) -> FCN:
    """The paper's, on a new VGG-16 (`fields` are its own)."""
    shared: dict[str, Any] = {
        "conv_general_dilated": conv_general_dilated,
        "dtype": dtype,
        "param_dtype": param_dtype,
    }
    backbone = VGG(**{"stages": (2, 2, 3, 3, 3)} | fitting(VGG, shared | fields))
    return FCN(backbone, num_classes, stride, widths, dropout, **shared)


def narrowed(channels: tuple[int, ...]) -> dict[str, Any]:
    """Fields of the paper's on a VGG-16 of other widths, with BatchNorm.

    Its hidden layers are twice as wide as the last stage.

    Args:
        channels: of each of the five stages.

    Raises:
        ValueError: they are not five.
    """
    if len(channels) != 5:
        raise ValueError(f"VGG-16 has 5 stages, not {len(channels)}")
    return {"features": channels, "widths": (2 * channels[-1],) * 2, "batch_norm": True}


fcn32s = partial(fcn, stride=32)
fcn16s = partial(fcn, stride=16)
fcn8s = partial(fcn, stride=8)


def on_resnet(backbone: ModuleDef) -> partial:
    """torchvision's: dilated to an output stride of 8, with an auxiliary head."""
    return partial(segmenter, partial(backbone, output_stride=8), head=FCNHead, aux_head=FCNHead)


fcn_resnet50 = on_resnet(ResNet50)
fcn_resnet101 = on_resnet(ResNet101)
