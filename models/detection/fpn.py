"""Feature pyramid networks (Lin et al. 2017, arXiv:1612.03144): every map with the deepest's view.

    backbone = Pyramid(ResNet50(norm=FrozenBatchNorm), maps=(0, 1, 2, 3), extra=MaxPool)
    maps = backbone(image, train=train)   # strides 4, 8, 16, 32, 64, 256 channels each

`Pyramid` is a backbone itself. Maps beyond the backbone's own are an `extra`: `MaxPool` (Faster
R-CNN) or `Convolutions` (RetinaNet, FCOS).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from models.layers.conv import at_least_one
from models.layers.pooling import max_pool

ModuleDef = Callable[..., Any]
Maps = tuple[jax.Array, ...]


class MaxPool(nn.Module):
    """One more level: every other pixel of the last, as Faster R-CNN on a pyramid has it.

    (C maps, P maps) -> ((B, ceil(h / 2), ceil(w / 2), c),) of the last of the P maps
    (Lin et al. 2017, footnote 2).
    """

    levels: ClassVar[int] = 1
    width: int
    conv: ModuleDef

    @nn.compact
    def __call__(self, backbone: Maps, pyramid: Maps) -> Maps:
        del backbone
        return (max_pool(pyramid[-1], (1, 1), strides=2),)


class Convolutions(nn.Module):
    """P6 and P7: 3x3 convolutions at stride 2, with ReLU between (Lin et al. 2017b, footnote 2).

    (C maps, P maps) -> two maps, each (B, ceil(h / 2), ceil(w / 2), width) of the one before. From
    the backbone's last map as in RetinaNet's paper (arXiv:1708.02002), or from the pyramid's as in
    FCOS' (arXiv:1904.01355, section 3.2).

    Attributes:
        source: "backbone" or "pyramid".

    Raises:
        ValueError: `source` is neither.
    """

    levels: ClassVar[int] = 2
    width: int
    conv: ModuleDef
    source: str = "backbone"

    def __post_init__(self) -> None:
        if self.source not in ("backbone", "pyramid"):
            raise ValueError(f"source={self.source!r} is none of 'backbone', 'pyramid'")
        super().__post_init__()

    @nn.compact
    def __call__(self, backbone: Maps, pyramid: Maps) -> Maps:
        layer = partial(self.conv, self.width, (3, 3), strides=2, padding=1, use_bias=True)
        x = backbone[-1] if self.source == "backbone" else pyramid[-1]
        first = layer(name="conv6")(x)
        return first, layer(name="conv7")(nn.relu(first))


class FPN(nn.Module):
    """A pyramid on a backbone's maps: a map of `width` channels for each, and those of `extra`.

    ((B, H, W, c), …, finest first) -> ((B, H, W, width), …)

    Each map is brought to `width` channels by a 1x1 convolution, and from the deepest on the sum so
    far, enlarged to the next one's own size by repeating pixels, is added to it; a 3x3 convolution
    makes the result of each sum. Pixel i of n takes the one at floor(i * m / n) of m, as PyTorch
    does, where a size is odd too.

    Attributes:
        width: channels of all maps.
        outputs: how many maps are made of the sums, the finest first; None for all of them.
        extra: `(width=, conv=, name=)` -> module, (the backbone's maps, the pyramid's) -> maps; its
            static `levels` says how many. None for none.
        norm: after each convolution, which then has no bias; None for none. torchvision's second
            versions of detectors have BatchNorm.
        conv_general_dilated, dtype, param_dtype: as in the backbones.

    Raises:
        ValueError: `width` or `outputs` is no whole number above 0; in a call, there are no maps,
            or fewer than `outputs`.
    """

    width: int = 256
    outputs: int | None = None
    extra: ModuleDef | None = None
    norm: ModuleDef | None = None
    conv_general_dilated: Callable[..., jax.Array] = lax.conv_general_dilated
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        at_least_one("width", self.width)
        if self.outputs is not None:
            at_least_one("outputs", self.outputs)
        super().__post_init__()

    @nn.compact
    def __call__(self, maps: Maps, *, train: bool) -> Maps:
        if not maps:
            raise ValueError("maps=() are none: a pyramid needs at least one")
        count = len(maps) if self.outputs is None else self.outputs
        if count > len(maps):
            raise ValueError(f"outputs={count} of {len(maps)} map(s)")
        conv = partial(
            nn.Conv,
            # Uniform within sqrt(3 / inputs), as torchvision and Detectron begin.
            kernel_init=nn.initializers.variance_scaling(1.0, "fan_in", "uniform"),
            conv_general_dilated=self.conv_general_dilated,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )

        def layer(x: jax.Array, kernel: int, name: str) -> jax.Array:
            made = conv(
                self.width,
                (kernel, kernel),
                padding=kernel // 2,
                use_bias=self.norm is None,
                name=f"{name}_conv",
            )
            y = made(x)
            if self.norm is None:
                return y
            norm = self.norm(dtype=self.dtype, param_dtype=self.param_dtype, name=f"{name}_norm")
            return norm(y, train=train)

        sums = [layer(x, 1, f"lateral{number}") for number, x in enumerate(maps, 1)]
        for number in reversed(range(len(maps) - 1)):
            height, width = sums[number].shape[1:3]
            sums[number] += nearest(sums[number + 1], height, width)
        pyramid = tuple(layer(x, 3, f"output{number}") for number, x in enumerate(sums[:count], 1))
        if self.extra is None:
            return pyramid
        return (*pyramid, *self.extra(width=self.width, conv=conv, name="extra")(maps, pyramid))


class Pyramid(nn.Module):
    """A backbone with an FPN on some of its maps: (B, H, W, C) -> maps, finest first.

    Attributes:
        backbone: `(x, *, train)` -> tuple of maps, with `strides`.
        maps: which of these the pyramid stands on, finest first.
        width, extra: see `FPN`.
        fpn_norm: `FPN`'s `norm`.
        conv_general_dilated, dtype, param_dtype: of the pyramid, as the backbone's.

    Raises:
        ValueError: `maps` are none, not in ascending order or not all among the backbone's; what
            `FPN` refuses.
    """

    backbone: nn.Module
    maps: tuple[int, ...]
    width: int = 256
    extra: ModuleDef | None = None
    fpn_norm: ModuleDef | None = None
    conv_general_dilated: Callable[..., jax.Array] = lax.conv_general_dilated
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        count = len(self.backbone.strides)  # type: ignore[attr-defined]
        if not self.maps or list(self.maps) != sorted({*self.maps} & {*range(count)}):
            raise ValueError(
                f"maps={self.maps} must ascend, at least one, of the backbone's 0 to {count - 1}"
            )
        at_least_one("width", self.width)
        super().__post_init__()

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels of the image to one of each map, those of `extra` included."""
        own = self.backbone.strides  # type: ignore[attr-defined]
        chosen = tuple(own[number] for number in self.maps)
        more = 0 if self.extra is None else levels(self.extra)
        return (*chosen, *(chosen[-1] * 2**level for level in range(1, more + 1)))

    @property
    def channels(self) -> tuple[int, ...]:
        """Of each map."""
        return (self.width,) * len(self.strides)

    @property
    def smallest(self) -> int:
        """The least height and width of an image."""
        return getattr(self.backbone, "smallest", 1)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> Maps:
        found = self.backbone(x, train=train)  # type: ignore[operator]
        fpn = FPN(
            self.width,
            extra=self.extra,
            norm=self.fpn_norm,
            conv_general_dilated=self.conv_general_dilated,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name="fpn",
        )
        return fpn(tuple(found[number] for number in self.maps), train=train)


def levels(extra: ModuleDef) -> int:
    """How many maps an `extra`, or a `partial` of one, adds."""
    made: Any = getattr(extra, "func", extra)
    return made.levels


def nearest(x: jax.Array, height: int, width: int) -> jax.Array:
    """(B, h, w, C) -> (B, height, width, C): pixel i of n is the one at floor(i * m / n) of m.

    The factor m / n is rounded to float32, as in PyTorch: at a few sizes another pixel is nearest.
    """
    if (height, width) == (2 * x.shape[1], 2 * x.shape[2]):
        wide = jnp.broadcast_to(
            x[:, :, None, :, None], (*x.shape[:2], 2, x.shape[2], 2, x.shape[3])
        )
        return wide.reshape(x.shape[0], height, width, x.shape[3])
    for axis, size in ((1, height), (2, width)):
        factor = np.float32(x.shape[axis]) / np.float32(size)
        x = jnp.take(x, np.int32(np.arange(size, dtype=np.float32) * factor), axis, mode="clip")
    return x
