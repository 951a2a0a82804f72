"""YOLOX (Ge et al. 2021, arXiv:2107.08430): a decoupled head without anchors.

`YOLOX` is the network; `boxes_of` and `scores_of` say what its outputs mean.
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
from models.detection.darknet import Darknet53, DarknetSmall, layers_of, leaky
from models.detection.darknet_neck import DarknetNeck, check_levels, check_neck
from models.detection.detections import Detections
from models.detection.detector import detector
from models.detection.grid import check_multiple, corners, least_multiple
from models.detection.selection import select
from models.layers.image import check_image
from models.layers.norm import BatchNorm
from models.segmentation.segmenter import conv_and_logits

ModuleDef = Callable[..., Any]

PRIOR = 0.01
"""Probability of an object, and of each class, that the head starts with, as in the authors' code
(Lin et al. 2017, arXiv:1708.02002, section 3.3)."""
LARGEST = 10.0
"""Of the logarithm of a box's size by its stride: exp of more is no box, but a diverged run."""


class DecoupledHead(nn.Module):
    """A map (B, h, w, c) -> (B, h, w, 5 + num_classes), at least float32 (section 2.1, fig. 2).

    A 1x1 convolution, then two 3x3 convolutions for the classes, and two for box and object.
    """

    num_classes: int
    width: int
    layer: ModuleDef
    logits: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = self.layer(self.width, 1, name="stem")(x, train=train)
        branches = {}
        for branch in ("class", "box"):
            y = x
            for number in (1, 2):
                y = self.layer(self.width, 3, name=f"{branch}{number}")(y, train=train)
            branches[branch] = y
        rare = nn.initializers.constant(float(np.log(PRIOR / (1 - PRIOR))))
        classes = self.logits(self.num_classes, (1, 1), bias_init=rare, name="class_output")
        box = self.logits(4, (1, 1), name="box_output")
        some = self.logits(1, (1, 1), bias_init=rare, name="object_output")
        y = branches["box"]
        return jnp.concatenate([box(y), some(y), classes(branches["class"])], axis=-1)


class YOLOX(nn.Module):
    """Images to a box a cell: (B, H, W, C) float -> a map of each level, the finest first.

    A level's output is (B, H / stride, W / stride, 5 + num_classes), at least float32: for each
    cell dx, dy, log w, log h in strides, the logit of an object and that of each class. `boxes_of`
    and `scores_of` read it. H and W are multiples of the coarsest stride.

    Attributes:
        backbone: `(x, *, train)` -> tuple of maps, with `strides` and `channels`.
        num_classes: at least 1; no background.
        widths, depths, pools: of each level of the neck, see `DarknetNeck`.
        head_width: channels of the head.
        score_threshold: of detections: P(object) P(class | object) is above it.
        nms_threshold: intersection over union from which the lower of two boxes of a class goes.
        candidates: most boxes of an image that non-maximum suppression sees.
        limit: most detections of an image.
        act, epsilon, norm, conv_general_dilated, dtype, param_dtype: of neck and head, as the
            backbone's.

    Raises:
        TypeError: `num_classes` is no whole number.
        ValueError: it or `head_width` is below 1; `widths`, `depths` or `pools` are none for a
            neck; the backbone's last maps do not halve; in a call, the image is none, or its height
            or width no multiple of the coarsest stride.
    """

    backbone: nn.Module
    num_classes: int
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    pools: tuple[int, ...] = ()
    head_width: int = 256
    score_threshold: float = 0.01
    nms_threshold: float = 0.65
    candidates: int = 1000
    limit: int = 100
    act: Callable[[jax.Array], jax.Array] = leaky
    epsilon: float = 1e-3
    norm: ModuleDef = BatchNorm
    conv_general_dilated: Callable[..., jax.Array] = lax.conv_general_dilated
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        check_num_classes(self.num_classes)
        check_neck(self.widths, self.depths, self.pools)
        check_levels(self)
        if self.head_width < 1:
            raise ValueError(f"head_width={self.head_width} must be at least 1")
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
        neck = DarknetNeck(self.widths, self.depths, layer, self.pools, name="neck")
        head = partial(DecoupledHead, self.num_classes, self.head_width, layer, logits)
        return tuple(
            head(name=f"head{level}")(x, train=train)
            for level, x in enumerate(neck(maps, train=train), 1)
        )

    def detect(self, image: jax.Array, extent: jax.Array) -> Detections:
        """The best boxes of images (B, H, W, C), clipped to `extent` (B, 4) x0 y0 x1 y1.

        A box counts for its best class alone, as in the authors' code.
        """
        boxes, scores = decode(self(image, train=False), self.strides)
        classes = lax.broadcasted_iota(jnp.int32, scores.shape, scores.ndim - 1)
        best = classes == jnp.argmax(scores, axis=-1, keepdims=True).astype(jnp.int32)
        return select(
            boxes,
            jnp.where(best, scores, 0),
            extent,
            score_threshold=self.score_threshold,
            nms_threshold=self.nms_threshold,
            candidates=self.candidates,
            limit=self.limit,
        )


def boxes_of(output: jax.Array, stride: int) -> jax.Array:
    """(B, h, w, 5 + C) of one level -> (B, h, w, 4) x0 y0 x1 y1 in pixels.

    The centre is dx, dy strides from the cell's upper left corner, the size exp of the logarithm.
    """
    centre = corners(output, stride) + output[..., :2] * stride
    half = jnp.exp(jnp.minimum(output[..., 2:4], LARGEST)) * stride / 2
    return jnp.concatenate([centre - half, centre + half], axis=-1)


def scores_of(output: jax.Array) -> jax.Array:
    """(…, 5 + C) -> (…, C): P(object) P(class | object)."""
    return nn.sigmoid(output[..., 4:5]) * nn.sigmoid(output[..., 5:])


def decode(outputs: Sequence[jax.Array], strides: Sequence[int]) -> tuple[jax.Array, jax.Array]:
    """Boxes (B, N, 4) in pixels and scores (B, N, C) of all levels, by (level, y, x)."""
    boxes, scores = [], []
    for output, stride in zip(outputs, strides, strict=True):
        batch, classes = output.shape[0], output.shape[-1] - 5
        boxes.append(boxes_of(output, stride).reshape(batch, -1, 4))
        scores.append(scores_of(output).reshape(batch, -1, classes))
    return jnp.concatenate(boxes, axis=1), jnp.concatenate(scores, axis=1)


# Table 2's YOLOX-DarkNet53: spatial pyramid pooling, LeakyReLU and BatchNorm's epsilon as in the
# authors' code.
yolox_darknet53 = partial(
    detector,
    YOLOX,
    Darknet53,
    widths=(128, 256, 512),
    depths=(5, 5, 5),
    pools=(5, 9, 13),
    epsilon=1e-3,
)
# Our own, for objects of 8 to 32 pixels in small images; SiLU as in the authors' other sizes.
yolox_small = partial(
    detector,
    YOLOX,
    DarknetSmall,
    widths=(64,),
    depths=(1,),
    head_width=64,
    act=nn.silu,
    epsilon=1e-3,
)
