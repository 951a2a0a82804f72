"""Box head: what is in a region, and where exactly (Girshick 2015, arXiv:1504.08083, section 2)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from models.detection.boxes import clip, decode, large_enough
from models.detection.detections import Detections, best
from models.detection.roi import multiscale_roi_align, roi_pool

ModuleDef = Callable[..., Any]
Maps = Sequence[jax.Array]

WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Of the box head's deltas: targets have about a variance of 1, as in the authors' code."""
LEAST = 1e-2
"""Pixels that a detection is wide and high at least, as torchvision's."""


class Boxes(NamedTuple):
    """What the box head says of R regions of each image; class 0 is the background."""

    logits: jax.Array
    """(B, R, num_classes)."""
    deltas: jax.Array
    """(B, R, num_classes, 4): from the region to the box of each class, times `WEIGHTS`."""


class BoxHead(nn.Module):
    """Convolutions and dense layers on regions of one size; logits and deltas a class.

    (B, R, s, s, C) -> `Boxes`. Dropout draws from `dropout`.

    Attributes:
        num_classes: the background, class 0, included.
        convs: channels of 3x3 convolutions, each with `norm` and ReLU.
        widths: of dense layers, each with ReLU.
        dropout: rate after each of these.
        conv, dense, norm: make the layers.
    """

    num_classes: int
    convs: tuple[int, ...]
    widths: tuple[int, ...]
    dropout: float
    conv: ModuleDef
    dense: ModuleDef
    norm: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> Boxes:
        batch, count = x.shape[:2]
        x = x.reshape(-1, *x.shape[2:])
        for number, width in enumerate(self.convs, 1):
            layer = self.conv(width, (3, 3), padding=1, use_bias=False, name=f"conv{number}")
            x = self.norm(name=f"norm{number}")(layer(x), train=train, act=nn.relu)
        x = x.reshape(x.shape[0], -1)
        for number, width in enumerate(self.widths, 1):
            hidden = self.dense(
                width, kernel_init=nn.initializers.he_uniform(), name=f"hidden{number}"
            )
            x = nn.relu(hidden(x))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        wide = np.promote_types(x.dtype, np.float32)
        last = partial(self.dense, dtype=wide, precision="highest")
        # Girshick 2015, section 2.3.
        normal = nn.initializers.normal
        logits = last(self.num_classes, kernel_init=normal(0.01), name="logits")(x)
        deltas = last(self.num_classes * 4, kernel_init=normal(0.001), name="deltas")(x)
        return Boxes(
            logits.reshape(batch, count, self.num_classes),
            deltas.reshape(batch, count, self.num_classes, 4),
        )


def aligned(maps: Maps, rois: jax.Array, *, strides: Sequence[int], size: int) -> jax.Array:
    """RoIAlign on the level that a region's area asks for, 2x2 samples a bin, as torchvision's.

    Args:
        maps: (B, h, w, C) each.
        rois: (B, R, 4) in pixels of the image.
        strides: of the maps.
        size: bins along each axis.

    Returns:
        (B, R, size, size, C).
    """
    return multiscale_roi_align(maps, rois, size=size, scales=[1 / s for s in strides], sampling=2)


def pooled(maps: Maps, rois: jax.Array, *, strides: Sequence[int], size: int) -> jax.Array:
    """RoI pooling on one map, as in the papers; arguments and result as `aligned`'s.

    Raises:
        ValueError: there are several maps.
    """
    if len(maps) != 1:
        raise ValueError(f"RoI pooling reads one map, not {len(maps)}")
    return roi_pool(maps[0], rois, size=size, scale=1 / strides[0])


def found(
    boxes: Boxes,
    rois: jax.Array,
    valid: jax.Array,
    extent: jax.Array,
    *,
    score_threshold: float,
    nms_threshold: float,
    limit: int,
) -> Detections:
    """The detections among all regions and classes: torchvision's `postprocess_detections`.

    Args:
        boxes: what the box head says of the regions.
        rois: (B, R, 4).
        valid: (B, R) bool.
        extent: (B, 4) x0 y0 x1 y1 of the picture in each image.
        score_threshold: scores, the softmax's, are above it.
        nms_threshold: largest IoU of two detections of a class.
        limit: the most detections of an image.
    """
    scores = jax.nn.softmax(boxes.logits.astype(jnp.float32))[..., 1:]
    batch, count, classes = scores.shape
    each = jnp.broadcast_to(rois[:, :, None], (batch, count, classes, 4))
    placed = decode(boxes.deltas[:, :, 1:].astype(jnp.float32), each, WEIGHTS)
    placed = clip(placed.reshape(batch, -1, 4), extent)
    scores = scores.reshape(batch, -1)
    labels = jnp.broadcast_to(jnp.arange(classes, dtype=jnp.int32), (batch, count, classes))
    good = jnp.repeat(valid, classes, axis=1) & (scores > score_threshold)
    good &= large_enough(placed, LEAST)
    return best(
        placed,
        scores,
        labels.reshape(batch, -1),
        good,
        threshold=nms_threshold,
        limit=limit,
    )
