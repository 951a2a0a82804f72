"""YOLOv3 and YOLOv3-tiny (Redmon & Farhadi 2018, arXiv:1804.02767), and a small one of our own.

`YOLOv3` is the network; `boxes_of` and `scores_of` say what its outputs mean.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from models.classification.classifier import check_num_classes
from models.detection.darknet import (
    EPSILON,
    Darknet53,
    DarknetSmall,
    DarknetTiny,
    layers_of,
    leaky,
)
from models.detection.darknet_neck import DarknetNeck, check_levels, check_neck
from models.detection.detections import Detections
from models.detection.detector import detector
from models.detection.grid import check_multiple, corners, least_multiple
from models.detection.selection import select
from models.layers.image import check_image
from models.layers.norm import BatchNorm
from models.segmentation.segmenter import conv_and_logits

ModuleDef = Callable[..., Any]
Anchors = tuple[tuple[float, float], ...]
"""Of one level: width and height of each, in pixels."""

LARGEST = 10.0
"""Of the logarithm of a box's size by its anchor's: exp of more is no box, but a diverged run."""


class YOLOv3(nn.Module):
    """Images to boxes a cell: (B, H, W, C) float -> a map of each level, the finest first.

    A level's output is (B, H / stride, W / stride, anchors, 5 + num_classes), at least float32: for
    each cell and anchor tx, ty, tw, th, the logit of an object and that of each class. `boxes_of`
    and `scores_of` read it. H and W are multiples of the coarsest stride.

    Attributes:
        backbone: `(x, *, train)` -> tuple of maps, with `strides` and `channels`.
        num_classes: at least 1; no background.
        anchors: of each level, the finest first: width and height of each in pixels.
        widths, depths: of each level of the neck, see `DarknetNeck`.
        score_threshold: of detections: P(object) P(class | object) is above it.
        nms_threshold: intersection over union from which the lower of two boxes of a class goes.
        candidates: most pairs of a box and a class of an image that non-maximum suppression sees.
        limit: most detections of an image.
        act, epsilon, norm, conv_general_dilated, dtype, param_dtype: of neck and head, as the
            backbone's.

    Raises:
        TypeError: `num_classes` is no whole number.
        ValueError: it is below 1; `anchors` are not as many as levels, a level has none, or a size
            is not above 0; `widths` or `depths` are none for a neck; the backbone's last maps do
            not halve; in a call, the image is none, or its height or width no multiple of the
            coarsest stride.
    """

    backbone: nn.Module
    num_classes: int
    anchors: tuple[Anchors, ...]
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    score_threshold: float = 0.005
    nms_threshold: float = 0.45
    candidates: int = 1000
    limit: int = 100
    act: Callable[[jax.Array], jax.Array] = leaky
    epsilon: float = EPSILON
    norm: ModuleDef = BatchNorm
    conv_general_dilated: Callable[..., jax.Array] = lax.conv_general_dilated
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        check_num_classes(self.num_classes)
        check_neck(self.widths, self.depths)
        check_levels(self)
        if len(self.anchors) != len(self.widths) or not all(
            np.shape(level)[1:] == (2,) and 0 < np.min(level) <= np.max(level) < np.inf
            for level in self.anchors
        ):
            raise ValueError(
                f"anchors={self.anchors} must be pairs of sizes above 0, for each of the levels of "
                f"widths={self.widths}"
            )
        super().__post_init__()

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels of the image to a cell of each level, the finest first."""
        return tuple(self.backbone.strides[-len(self.widths) :])  # type: ignore[attr-defined]

    def input_size(self, size: int) -> int:
        """The least height or width of an image that covers `size` pixels."""
        return least_multiple(size, self.strides[-1])

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> tuple[jax.Array, ...]:
        check_image(image)
        check_multiple(image, self.strides[-1])
        maps = self.backbone(image, train=train)[-len(self.widths) :]  # type: ignore[operator]
        layer = layers_of(self)
        _, logits = conv_and_logits(self, maps[-1])
        neck = DarknetNeck(self.widths, self.depths, layer, name="neck")
        outputs = []
        for level, x in enumerate(neck(maps, train=train), 1):
            anchors = len(self.anchors[level - 1])
            width = 2 * self.widths[level - 1]
            x = layer(width, 3, name=f"head{level}_hidden")(x, train=train)
            last = logits(anchors * (5 + self.num_classes), (1, 1), name=f"head{level}_output")
            outputs.append(last(x).reshape(*x.shape[:3], anchors, 5 + self.num_classes))
        return tuple(outputs)

    def detect(self, image: jax.Array, extent: jax.Array) -> Detections:
        """The best boxes of images (B, H, W, C), clipped to `extent` (B, 4) x0 y0 x1 y1."""
        outputs = self(image, train=False)
        boxes, scores = decode(outputs, self.strides, self.anchors)
        return select(
            boxes,
            scores,
            extent,
            score_threshold=self.score_threshold,
            nms_threshold=self.nms_threshold,
            candidates=self.candidates,
            limit=self.limit,
        )


def boxes_of(output: jax.Array, stride: int, anchors: Anchors) -> jax.Array:
    """(B, h, w, anchors, 5 + C) of one level -> (B, h, w, anchors, 4) x0 y0 x1 y1 in pixels.

    The centre is a sigmoid within the cell, the size an exponential of the anchor's (section 2.1).
    """
    centre = corners(output, stride)[..., None, :] + nn.sigmoid(output[..., :2]) * stride
    size = jnp.asarray(anchors, output.dtype).reshape(1, 1, 1, -1, 2)
    half = jnp.exp(jnp.minimum(output[..., 2:4], LARGEST)) * size / 2
    return jnp.concatenate([centre - half, centre + half], axis=-1)


def scores_of(output: jax.Array) -> jax.Array:
    """(…, 5 + C) -> (…, C): P(object) P(class | object), each class for itself (section 2.2)."""
    return nn.sigmoid(output[..., 4:5]) * nn.sigmoid(output[..., 5:])


def decode(
    outputs: Sequence[jax.Array], strides: Sequence[int], anchors: Sequence[Anchors]
) -> tuple[jax.Array, jax.Array]:
    """Boxes (B, N, 4) in pixels and scores (B, N, C) of all levels, by (level, y, x, anchor)."""
    boxes, scores = [], []
    for output, stride, sizes in zip(outputs, strides, anchors, strict=True):
        batch, classes = output.shape[0], output.shape[-1] - 5
        boxes.append(boxes_of(output, stride, sizes).reshape(batch, -1, 4))
        scores.append(scores_of(output).reshape(batch, -1, classes))
    return jnp.concatenate(boxes, axis=1), jnp.concatenate(scores, axis=1)


# The authors' anchors, clusters of COCO's boxes at 416x416.
ANCHORS: tuple[Anchors, ...] = (
    ((10, 13), (16, 30), (33, 23)),
    ((30, 61), (62, 45), (59, 119)),
    ((116, 90), (156, 198), (373, 326)),
)
TINY_ANCHORS: tuple[Anchors, ...] = (
    ((10, 14), (23, 27), (37, 58)),
    ((81, 82), (135, 169), (344, 319)),
)
TINY_ANCHORS_OF_WEIGHTS: tuple[Anchors, ...] = (
    ((23, 27), (37, 58), (81, 82)),
    ((81, 82), (135, 169), (344, 319)),
)
"""What the published yolov3-tiny.weights were trained with: the masks of the cfg beside them are
0,1,2 on the finer level, of their training 1,2,3."""

yolov3 = partial(
    detector,
    YOLOv3,
    Darknet53,
    anchors=ANCHORS,
    widths=(128, 256, 512),
    depths=(5, 5, 5),
)
yolov3_tiny = partial(
    detector,
    YOLOv3,
    DarknetTiny,
    anchors=TINY_ANCHORS,
    widths=(128, 256),
    depths=(0, 1),
)
SMALL_ANCHORS: tuple[Anchors, ...] = (((8, 13), (13, 20), (18, 28)),)
"""Clusters of the boxes of digit_scenes' training scenes, by k-means with IoU in place of distance
(Redmon & Farhadi 2017, arXiv:1612.08242, section 2), rounded."""
# Our own, for objects of 8 to 32 pixels in small images.
yolov3_small = partial(
    detector,
    YOLOv3,
    DarknetSmall,
    anchors=SMALL_ANCHORS,
    widths=(64,),
    depths=(1,),
)
