"""U-Net (Ronneberger et al. 2015, arXiv:1505.04597): down to context and up again to place.

`unet_2015` is the paper's, whose convolutions are not padded: 572x572 pixels give 388x388 logits.
`unet` keeps the size.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from models.classification.auxiliary import WithAuxiliary
from models.classification.classifier import check_num_classes
from models.layers.image import check_channels, check_image
from models.layers.norm import BatchNorm
from models.layers.pooling import max_pool
from models.layers.resize import bilinear
from models.layers.transposed import ConvTranspose
from models.segmentation.segmenter import check_fields

ModuleDef = Callable[..., Any]


class UNet(nn.Module):
    """Images to logits a pixel: (B, H, W, C) -> (B, H - 2 margin, W - 2 margin, num_classes).

    On each level two 3x3 convolutions with ReLU. From one level down to the next the maximum over
    2x2; from one up to the next twice the size by half the channels, next to the map of that level
    on the way down, cropped to its size where nothing is padded. Logits are at least float32.
    Parameters are the same whether `init` is called with `train` or without. Dropout draws from
    `dropout`.

    Attributes:
        num_classes: at least 1.
        features: channels of each level, from the image's size down.
        padding: "SAME" keeps the size: height and width must be multiples of 2^(levels - 1).
            "VALID" pads no convolution of a level, and with "transposed" every pixel of logits has
            seen all its context: sizes that divide on every level are `input_size`'s.
        upsampling: "transposed", a convolution of 2x2 at stride 2; "resize", bilinear and a 3x3
            convolution, padded whatever `padding` is: what a tile's border yields is not the
            whole image's.
        aux: whether each level on the way up but the last has logits of its own (1x1 convolutions),
            brought to the image's size, so that the low ones need not wait for what the high ones
            pass down (deep supervision: Lee et al. 2015, arXiv:1409.5185). In training the call
            then yields `WithAuxiliary`.
        batch_norm: whether `norm` stands between each 3x3 convolution and its ReLU, which then has
            no bias.
        dropout: rate at the end of the two lowest levels on the way down (the paper's section 3.1
            says "at the end of the contracting path", its code 0.5 there).
        norm: `BatchNorm`, or what has its call and its parameters.
        conv_general_dilated: the convolution, with the signature of JAX's.
        dtype: of the arithmetic; inferred from input and parameters by default.
        param_dtype: of the parameters.
        remat: whether a level's activations are computed again in the backward pass.

    Raises:
        TypeError: `num_classes` is no whole number.
        ValueError: it or one of `features` is below 1; there are no two levels; an odd number of
            channels to halve; an unknown `padding` or `upsampling`; `aux` without padding, where
            levels do not cover the same pixels; `dropout` is not from 0 to below 1; in a call, a
            size that does not divide, naming the next that does.
    """

    num_classes: int
    features: tuple[int, ...] = (64, 128, 256, 512, 1024)
    padding: Literal["SAME", "VALID"] = "SAME"
    upsampling: Literal["transposed", "resize"] = "transposed"
    batch_norm: bool = True
    aux: bool = False
    dropout: float = 0.0
    norm: ModuleDef = BatchNorm
    conv_general_dilated: Callable[..., jax.Array] = lax.conv_general_dilated
    dtype: Any = None
    param_dtype: Any = jnp.float32
    remat: bool = False

    def __post_init__(self) -> None:
        check_num_classes(self.num_classes)
        check_fields(features=self.features, dropout=self.dropout)
        if len(self.features) < 2:
            raise ValueError(f"features={self.features} must be at least two")
        if any(f % 2 for f in self.features[1:]):
            raise ValueError(f"features={self.features}: all but the first are halved, and odd")
        if self.padding not in ("SAME", "VALID"):
            raise ValueError(f"padding={self.padding!r} is neither 'SAME' nor 'VALID'")
        if self.aux and self.padding == "VALID":
            raise ValueError("aux=True with padding='VALID': levels do not cover the same pixels")
        if self.upsampling not in ("transposed", "resize"):
            raise ValueError(f"upsampling={self.upsampling!r} is neither 'transposed' nor 'resize'")
        super().__post_init__()

    @property
    def margin(self) -> int:
        """Pixels at each side of the image that have no logits: 92 in the paper."""
        if self.padding == "SAME":
            return 0
        depth = len(self.features) - 1
        # Two pixels a side on every level, at its stride: down, below, and up again.
        return 2 * (2 * (2**depth - 1) + 2**depth)

    def input_size(self, size: int) -> int:
        """The least height or width of an image whose logits cover `size` pixels.

        In the paper's form 572 for 388.
        """
        scale = 2 ** (len(self.features) - 1)
        # What the lowest map adds to the image when it is a pixel larger is `scale`: all sizes are
        # that many apart. Its two convolutions, and those above it, take what is left.
        taken = 0 if self.padding == "SAME" else 4 * (2 * scale - 1)
        lowest = max(-(-(size + 2 * self.margin - taken) // scale), 1)
        return lowest * scale + taken

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array | WithAuxiliary:
        check_image(x)
        height, width = x.shape[1:3]
        check_channels(x, self, "down1_conv1")
        for size in (height, width):
            wanted = self.input_size(max(size - 2 * self.margin, 1))
            if wanted != size:
                raise ValueError(
                    f"image of shape {x.shape}: {size} pixels do not divide on every level; the "
                    f"next size that does is {wanted}"
                )
        levels = len(self.features)
        skips: list[jax.Array] = []
        aux: list[jax.Array] = []
        for level, features in enumerate(self.features, 1):
            x = self.level(x, features, f"down{level}", train=train)
            if level >= levels - 1:
                x = nn.Dropout(self.dropout, deterministic=not train)(x)
            if level < levels:
                skips.append(x)
                x = max_pool(x, (2, 2), strides=2)
        for level in range(levels - 1, 0, -1):
            features = self.features[level - 1]
            x = self.upsample(x, self.features[level] // 2, f"up{level}_up")
            x = jnp.concatenate([cropped(skips[level - 1], x), x], -1)
            x = self.level(x, features, f"up{level}", train=train)
            if self.aux and level > 1 and (train or self.is_initializing()):
                aux.append(bilinear(self.logits(x, f"aux{level}"), height, width))
        main = self.logits(x, "head")
        return WithAuxiliary(main, tuple(aux)) if self.aux and train else main

    def logits(self, x: jax.Array, name: str) -> jax.Array:
        """(B, h, w, c) -> (B, h, w, num_classes), at least float32."""
        layer = nn.Conv(
            self.num_classes,
            (1, 1),
            conv_general_dilated=self.conv_general_dilated,
            dtype=np.promote_types(x.dtype, np.float32),
            param_dtype=self.param_dtype,
            precision="highest",
            name=name,
        )
        return layer(x)

    def conv(self, features: int, kernel: int, **fields: Any) -> nn.Conv:
        """A convolution with this network's arithmetic."""
        return nn.Conv(
            features,
            (kernel, kernel),
            kernel_init=nn.initializers.he_normal(),
            conv_general_dilated=self.conv_general_dilated,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            **fields,
        )

    def level(self, x: jax.Array, features: int, name: str, *, train: bool) -> jax.Array:
        """`convolve`, again in the backward pass where that is asked for."""
        run = lambda self, x: self.convolve(x, features, name, train=train)  # noqa: E731
        return nn.remat(run)(self, x) if self.remat else run(self, x)

    def convolve(self, x: jax.Array, features: int, name: str, *, train: bool) -> jax.Array:
        """Two 3x3 convolutions with ReLU: (B, h, w, c) -> (B, h', w', features)."""
        padding = 1 if self.padding == "SAME" else 0
        for number in (1, 2):
            layer = self.conv(
                features,
                3,
                padding=padding,
                use_bias=not self.batch_norm,
                name=f"{name}_conv{number}",
            )
            x = layer(x)
            if self.batch_norm:
                norm = self.norm(
                    dtype=self.dtype, param_dtype=self.param_dtype, name=f"{name}_norm{number}"
                )
                x = norm(x, train=train, act=nn.relu)
            else:
                x = nn.relu(x)
        return x

    def upsample(self, x: jax.Array, features: int, name: str) -> jax.Array:
        """(B, h, w, c) -> (B, 2 h, 2 w, features)."""
        if self.upsampling == "resize":
            x = bilinear(x, 2 * x.shape[1], 2 * x.shape[2])
            return self.conv(features, 3, padding=1, name=name)(x)
        layer = ConvTranspose(
            features,
            (2, 2),
            strides=2,
            # sqrt(2 / N), section 3: one of four taps reaches an output, N is a quarter of fan-in.
            kernel_init=nn.initializers.variance_scaling(8.0, "fan_in", "truncated_normal"),
            conv_general_dilated=self.conv_general_dilated,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=name,
        )
        return layer(x)


def cropped(x: jax.Array, like: jax.Array) -> jax.Array:
    """The middle of x, of the height and width of `like`."""
    (height, width), (h, w) = x.shape[1:3], like.shape[1:3]
    top, left = (height - h) // 2, (width - w) // 2
    return x[:, top : top + h, left : left + w]


def narrowed(channels: tuple[int, ...]) -> dict[str, Any]:
    """Fields of a U-Net of these channels a level, of any two levels or more."""
    return {"features": channels}


unet = UNet
unet_2015 = partial(UNet, padding="VALID", batch_norm=False, dropout=0.5)
