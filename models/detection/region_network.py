"""RegionNetwork: a backbone, a pyramid on it or none, and a box head that reads regions.

What Fast and Faster R-CNN have in common: they differ in where regions come from.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from models.classification.classifier import check_num_classes
from models.classification.vgg import VGG
from models.detection import box_head
from models.detection.box_head import Boxes, BoxHead, aligned
from models.detection.detections import Detections
from models.detection.fpn import FPN, levels
from models.layers.image import check_image
from models.layers.norm import BatchNorm
from models.segmentation.segmenter import check_fields

ModuleDef = Callable[..., Any]
Maps = tuple[jax.Array, ...]


class RegionNetwork(nn.Module):
    """What reads regions of images: `features` once, `box_head` for any regions of their maps.

    Logits and deltas are at least float32. Dropout draws from `dropout`.

    Attributes:
        backbone: `(x, *, train)` -> tuple of maps (B, h, w, c), with `strides`.
        num_classes: of the logits; the background counts, and is class 0.
        maps: which of the backbone's are read, finest first.
        neck: what makes a pyramid of these, `models.detection.fpn.FPN` with fields of its own; None
            for none.
        pool: makes regions of one size, `models.detection.box_head.aligned` or `pooled`.
        size: of them.
        convs, widths, dropout: of the box head, see `BoxHead`.
        score_threshold: scores of detections are above it.
        nms_threshold: of two boxes of a class whose IoU is above it the better one stays.
        limit: detections of an image.
        norm, conv_general_dilated, dtype, param_dtype: of all but the backbone, as the backbone's.

    Raises:
        TypeError: `num_classes` is no whole number.
        ValueError: it is below 1; `maps` do not ascend, or are not among the backbone's; a field
            is of no sense; in a call, the image is none.
    """

    backbone: nn.Module
    num_classes: int
    maps: tuple[int, ...]
    neck: ModuleDef | None = None
    pool: Callable[..., jax.Array] = aligned
    size: int = 7
    convs: tuple[int, ...] = ()
    widths: tuple[int, ...] = (1024, 1024)
    dropout: float = 0.0
    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    limit: int = 100
    norm: ModuleDef = BatchNorm
    conv_general_dilated: Callable[..., jax.Array] = lax.conv_general_dilated
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        check_num_classes(self.num_classes)
        count = len(self.backbone.strides)  # type: ignore[attr-defined]
        if not self.maps or list(self.maps) != sorted({*self.maps} & {*range(count)}):
            raise ValueError(
                f"maps={self.maps} must ascend, at least one, of the backbone's 0 to {count - 1}"
            )
        check_fields(dropout=self.dropout, size=self.size, widths=self.widths, limit=self.limit)
        if self.convs:
            check_fields(convs=self.convs)
        check_shares(score_threshold=self.score_threshold, nms_threshold=self.nms_threshold)
        super().__post_init__()

    @property
    def read(self) -> int:
        """How many maps the box head reads: those of the pyramid but for its extra ones."""
        outputs = None if self.neck is None else bound(self.neck, "outputs")
        return len(self.maps) if outputs is None else outputs

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels of the image to one of each map that `features` yields."""
        own = self.backbone.strides  # type: ignore[attr-defined]
        chosen = tuple(own[number] for number in self.maps)[: self.read]
        extra = None if self.neck is None else bound(self.neck, "extra")
        more = 0 if extra is None else levels(extra)
        return (*chosen, *(chosen[-1] * 2**level for level in range(1, more + 1)))

    def input_size(self, size: int) -> int:
        """The least height or width of an image that covers `size` pixels."""
        return max(size, getattr(self.backbone, "smallest", 1))

    def setup(self) -> None:
        if self.neck is not None:
            self.fpn = self.neck(
                conv_general_dilated=self.conv_general_dilated,
                dtype=self.dtype,
                param_dtype=self.param_dtype,
            )
        self.roi_head = BoxHead(
            self.num_classes,
            self.convs,
            self.widths,
            self.dropout,
            conv=self.conv,
            dense=partial(nn.Dense, dtype=self.dtype, param_dtype=self.param_dtype),
            norm=partial(self.norm, dtype=self.dtype, param_dtype=self.param_dtype),
        )

    @property
    def conv(self) -> ModuleDef:
        """What makes convolutions behind the backbone and the pyramid."""
        return partial(
            nn.Conv,
            kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
            conv_general_dilated=self.conv_general_dilated,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )

    def features(self, image: jax.Array, *, train: bool) -> Maps:
        """(B, H, W, C) floats -> maps (B, h, w, c), of `strides`, finest first."""
        check_image(image)
        maps = self.backbone(image, train=train)  # type: ignore[operator]
        chosen = tuple(maps[number] for number in self.maps)
        return chosen if self.neck is None else self.fpn(chosen, train=train)

    def box_head(self, maps: Maps, rois: jax.Array, *, train: bool) -> Boxes:
        """What is in regions (B, R, 4), in pixels of the image. No gradient goes to them.

        Args:
            maps: of `features`.
            rois: x0 y0 x1 y1.
            train: whether dropout drops and BatchNorm takes the regions' statistics.
        """
        regions = self.pool(
            maps[: self.read], rois, strides=self.strides[: self.read], size=self.size
        )
        return self.roi_head(regions, train=train)

    @nn.nowrap
    def found(
        self, boxes: Boxes, rois: jax.Array, valid: jax.Array, extent: jax.Array
    ) -> Detections:
        """`models.detection.box_head.found` by one's own thresholds."""
        return box_head.found(
            boxes,
            rois,
            valid,
            extent,
            score_threshold=self.score_threshold,
            nms_threshold=self.nms_threshold,
            limit=self.limit,
        )


def bound(module: ModuleDef, name: str) -> Any:
    """A field of a module that is yet to be made: as a `partial` binds it, or its default."""
    while isinstance(module, partial):
        if name in module.keywords:
            return module.keywords[name]
        module = module.func
    return getattr(module, name, None)


def check_shares(**shares: float) -> None:
    """Refuses what is no share.

    Raises:
        ValueError: one is not from 0 to 1.
    """
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name}={value} must be from 0 to 1")


# VGG-16 up to its fifth stage's convolutions, at stride 16, and its dense layers as the box head.
VGG16 = partial(VGG, stages=(2, 2, 3, 3, 3))
ON_VGG16: dict[str, Any] = {"maps": (4,), "widths": (4096, 4096), "dropout": 0.5}


def head_of_vgg(params: Mapping[str, Any]) -> dict[str, Any]:
    """A VGG classifier's parameters as those of a network on it: its dense layers read regions.

    Its head, of other classes, is left out.

    Args:
        params: `backbone`, `hidden1` on a flattened map of 7x7, `hidden2`.

    Raises:
        ValueError: one of them is missing.
    """
    for name in ("backbone", "hidden1", "hidden2"):
        if name not in params:
            raise ValueError(f"params of {', '.join(params)}: {name} is missing")
    dense = {name: params[name] for name in ("hidden1", "hidden2")}
    return {"backbone": params["backbone"], "roi_head": dense}


def on_one_level(channels: tuple[int, ...]) -> dict[str, Any]:
    """Fields of a network on a narrow ResNet-18 that reads one map, at stride 8.

    Args:
        channels: of each of the four stages; the stem is as wide as the first, the pyramid as the
            second, the box head as the last.

    Raises:
        ValueError: they are not four.
    """
    if len(channels) != 4:
        raise ValueError(f"ResNet-18 has 4 stages, not {len(channels)}")
    return {
        "stem_features": channels[0],
        "channels": channels,
        "maps": (1, 2, 3),
        "neck": partial(FPN, width=channels[1], outputs=1),
        "widths": (channels[-1],) * 2,
    }
