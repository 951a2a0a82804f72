"""Faster R-CNN (Ren et al. 2015, arXiv:1506.01497): regions from a network that shares the maps.

`fasterrcnn_vgg16` is the paper's; on a pyramid (Lin et al. 2017, arXiv:1612.03144)
`fasterrcnn_resnet50_fpn` and `fasterrcnn_resnet50_fpn_v2` (Li et al. 2021, arXiv:2111.11429) are
torchvision's, whose published weights they take (`models.pretrained`).

    network = models.create("fasterrcnn_resnet50_fpn", num_classes=91, norm=FrozenBatchNorm)
    detections = network.apply(variables, image, extent, method="detect")

Published weights of `fasterrcnn_resnet50_fpn`, COCO_V1, want an epsilon of 0 in BatchNorm: they
were trained before torchvision added one. With the usual 1e-5 all is a little off, and most so
where a channel's variance is small. `models.pretrained.published.fields` says so to `create`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from models.classification.resnet import ResNet18, ResNet50
from models.detection.anchors import anchors_of
from models.detection.box_head import Boxes, pooled
from models.detection.detections import Detections, whole
from models.detection.detector import detector
from models.detection.fpn import FPN, MaxPool
from models.detection.region_network import (
    ON_VGG16,
    VGG16,
    Maps,
    RegionNetwork,
    check_shares,
    on_one_level,
)
from models.detection.rpn import Proposals, Regions, RPNHead, propose
from models.layers.norm import BatchNorm
from models.segmentation.segmenter import check_fields

ModuleDef = Callable[..., Any]


class FasterRCNNOutput(NamedTuple):
    """All that the network says of a batch."""

    regions: Regions
    """Of every anchor."""
    proposals: Proposals
    """The best of them."""
    boxes: Boxes
    """What the box head says of these."""


class FasterRCNN(RegionNetwork):
    """Images to what is in their best regions: (B, H, W, C) -> `FasterRCNNOutput`.

    Its four steps are methods: `features`, `rpn`, `proposals`, `box_head`; training samples between
    them. Anchors of each level are as many as all others'.

    Attributes:
        anchor_sizes: of each map that `features` yields: square roots of the areas, in pixels.
        anchor_ratios: height by width, of each size.
        rpn_width: channels of the region proposal network; None for the maps' own.
        rpn_depth: its 3x3 convolutions.
        before_nms: in training and in prediction: best anchors of each level that suppression sees.
        after_nms: in training and in prediction: proposals of an image.
        rpn_score_threshold: scores of proposals are at least that.
        rpn_nms_threshold: of two proposals of a level whose IoU is above it the better one stays.

    Raises:
        ValueError: also where `anchor_sizes` are not one tuple for each map, all as long.
    """

    anchor_sizes: tuple[tuple[float, ...], ...] = ((32,), (64,), (128,), (256,), (512,))
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    rpn_width: int | None = None
    rpn_depth: int = 1
    before_nms: tuple[int, int] = (2000, 1000)
    after_nms: tuple[int, int] = (2000, 1000)
    rpn_score_threshold: float = 0.0
    rpn_nms_threshold: float = 0.7

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(
            rpn_width=self.rpn_width or 1,
            rpn_depth=self.rpn_depth,
            before_nms=self.before_nms,
            after_nms=self.after_nms,
        )
        for name in ("before_nms", "after_nms"):
            if len(getattr(self, name)) != 2:
                raise ValueError(f"{name}={getattr(self, name)}: in training and in prediction")
        check_shares(
            rpn_score_threshold=self.rpn_score_threshold, rpn_nms_threshold=self.rpn_nms_threshold
        )
        sizes, maps = self.anchor_sizes, len(self.strides)
        if len(sizes) != maps or len({len(each) for each in sizes}) != 1:
            raise ValueError(f"anchor_sizes={sizes} must be for {maps} map(s), as many for each")

    def setup(self) -> None:
        super().setup()
        self.rpn_head = RPNHead(
            len(self.anchor_sizes[0]) * len(self.anchor_ratios),
            self.rpn_width,
            self.rpn_depth,
            conv=partial(self.conv, kernel_init=nn.initializers.normal(0.01)),
        )

    def rpn(self, maps: Maps, image: tuple[int, int]) -> Regions:
        """What the region proposal network says of every anchor.

        Args:
            maps: of `features`.
            image: its height and width, padding included; anchors depend on it.
        """
        objectness, deltas = self.rpn_head(maps)
        places = [(x.shape[1], x.shape[2]) for x in maps]
        levels = anchors_of(image, places, self.strides, self.anchor_sizes, self.anchor_ratios)
        anchors = jnp.asarray(np.concatenate(levels))
        return Regions(objectness, deltas, anchors, tuple(len(each) for each in levels))

    @nn.nowrap
    def proposals(self, regions: Regions, extent: jax.Array, *, train: bool) -> Proposals:
        """The best regions, as many as in training or in prediction (`rpn.propose`)."""
        which = 0 if train else 1
        return propose(
            regions,
            extent,
            before=self.before_nms[which],
            after=self.after_nms[which],
            score_threshold=self.rpn_score_threshold,
            nms_threshold=self.rpn_nms_threshold,
        )

    def __call__(self, image: jax.Array, *, train: bool) -> FasterRCNNOutput:
        """All steps, on images that are all picture."""
        return self.composed(image, whole(image), train=train)

    @nn.nowrap
    def composed(self, image: jax.Array, extent: jax.Array, *, train: bool) -> FasterRCNNOutput:
        """All steps; the extents (B, 4) are where the images' pictures lie."""
        maps = self.features(image, train=train)
        regions = self.rpn(maps, (image.shape[1], image.shape[2]))
        proposals = self.proposals(regions, extent, train=train)
        return FasterRCNNOutput(
            regions, proposals, self.box_head(maps, proposals.boxes, train=train)
        )

    def detect(self, image: jax.Array, extent: jax.Array) -> Detections:
        """The objects in images, in the manner of torchvision's.

        Args:
            image: (B, H, W, C) floats, normalised.
            extent: (B, 4) x0 y0 x1 y1 of the picture in each, in pixels.
        """
        _, proposals, boxes = self.composed(image, extent, train=False)
        return self.found(boxes, proposals.boxes, proposals.valid, extent)


pyramid = partial(FPN, extra=MaxPool)
on_pyramid = partial(FasterRCNN, maps=(0, 1, 2, 3), neck=pyramid)
fasterrcnn_resnet50_fpn = partial(detector, on_pyramid, ResNet50)
fasterrcnn_resnet18_fpn = partial(detector, on_pyramid, ResNet18)


def fasterrcnn_resnet50_fpn_v2(*, norm: ModuleDef = BatchNorm, **fields: Any) -> FasterRCNN:
    """torchvision's second: BatchNorm in pyramid and box head too, more convolutions in both heads.

    Args:
        norm: of all.
        **fields: as of `fasterrcnn_resnet50_fpn`.
    """
    second = partial(
        on_pyramid,
        neck=partial(pyramid, norm=norm),
        convs=(256, 256, 256, 256),
        widths=(1024,),
        rpn_depth=2,
    )
    return detector(second, ResNet50, norm=norm, **fields)


# Anchors: section 3.3; numbers and thresholds: section 3.3 and the authors' code.
papers = partial(
    FasterRCNN,
    **ON_VGG16,
    pool=pooled,
    anchor_sizes=((128, 256, 512),),
    rpn_width=512,
    before_nms=(12_000, 6_000),
    after_nms=(2_000, 300),
    nms_threshold=0.3,
)
fasterrcnn_vgg16 = partial(detector, papers, VGG16)


def narrowed(channels: tuple[int, ...]) -> dict[str, Any]:
    """Fields of a form on ResNet-18 for small images: one level, at stride 4.

    A pyramid of the four stages, of which the finest map alone is read; nine anchors a place.

    Args:
        channels: of each of the four stages; the stem is as wide as the first. The pyramid is as
            wide as the second, the box head as the last.

    Raises:
        ValueError: they are not four.
    """
    return on_one_level(channels) | {
        "anchor_sizes": ((10, 16, 24),),
        "before_nms": (512, 256),
        "after_nms": (256, 64),
    }
