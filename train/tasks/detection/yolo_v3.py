"""The loss of YOLOv3 (Redmon & Farhadi 2018, arXiv:1804.02767, section 2)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from models.detection.boxes import area, iou, to_centre
from models.detection.yolo_v3 import boxes_of
from train.tasks.detection import box_losses
from train.tasks.detection.box_losses import safe
from train.tasks.detection.ignored import in_ignored
from train.tasks.detection.outputs import first_owner, outputs_of, reported, taken

IGNORE = 0.5
"""A prediction that overlaps a truth by more, and is not its own, is no negative (section 2.1)."""


class Found(NamedTuple):
    """Predictions of all levels, by (level, y, x, anchor), and what they are relative to."""

    raw: jax.Array
    """(B, A, 5 + C)."""
    boxes: jax.Array
    """(B, A, 4) x0 y0 x1 y1 in pixels."""
    anchors: np.ndarray
    """(1, A, 2) width and height in pixels."""
    corners: np.ndarray
    """(1, A, 2) x y of the cell's upper left corner in pixels."""
    strides: np.ndarray
    """(1, A, 1) pixels."""
    size: tuple[int, int]
    """Height and width of the image."""


BoxLoss = Callable[[Found, jax.Array, jax.Array], jax.Array]
"""(found, truth's boxes (B, A, 4), positive (B, A)) -> () summed over the positives."""


def yolo_v3_loss(network: nn.Module, *, box_loss: BoxLoss | None = None) -> Callable[..., Any]:
    """`DetectionLoss` of a `YOLOv3`: box_loss, object_loss and class_loss, by the images.

    A truth belongs to the prediction of its cell whose anchor, of all levels, is most like it in
    shape; of several of one prediction, to the first. Binary cross-entropies of object and classes.
    A prediction of which half lies in a crowd or a difficult object is no negative. All are summed
    and divided by the images that count, as Darknet's are.

    Args:
        network: a `YOLOv3`.
        box_loss: by default `squared_error`; `giou` is another.
    """
    of_boxes = squared_error if box_loss is None else box_loss

    def loss(variables: dict, images: Any, truth: Any, key: jax.Array):
        outputs, collections = outputs_of(network, variables, images.image, key)
        fields: Any = network
        size = images.image.shape[1:3]
        found = found_in(outputs, fields.strides, fields.anchors, size)
        parts = yolo_v3_parts(found, outputs, fields.strides, fields.anchors, truth, of_boxes)
        return reported(parts, jnp.sum(truth.counted, dtype=jnp.int32), collections)

    return loss


def yolo_v3_parts(
    found: Found, outputs: Any, strides: Any, anchors: Any, truth: Any, box_loss: BoxLoss
) -> dict[str, jax.Array]:
    """The three sums."""
    valid = truth.valid & truth.counted[:, None]
    place = places_of(truth.boxes, valid, outputs, strides, anchors)
    raw = found.raw
    owner, positive = first_owner(place, valid, raw.shape[1])
    predicted = lax.stop_gradient(found.boxes)
    overlap = jnp.where(truth.valid[..., None], iou(truth.boxes, predicted), 0)
    near = (jnp.max(overlap, axis=1, initial=0) > IGNORE) | in_ignored(predicted, truth)
    counted = (positive | ~near) & truth.counted[:, None]
    some = optax.sigmoid_binary_cross_entropy(raw[..., 4], positive.astype(raw.dtype))
    labels = taken(jnp.where(valid, truth.labels, 0), owner)
    classes = jax.nn.one_hot(labels, raw.shape[-1] - 5, dtype=raw.dtype)
    each = optax.sigmoid_binary_cross_entropy(safe(raw[..., 5:], positive), classes)
    return {
        "box_loss": box_loss(found, taken(truth.boxes, owner), positive),
        "object_loss": jnp.sum(jnp.where(counted, some, 0)),
        "class_loss": jnp.sum(jnp.where(positive[..., None], each, 0)),
    }


def squared_error(found: Found, target: jax.Array, positive: jax.Array) -> jax.Array:
    """Half the squares of sigmoid(t_x), sigmoid(t_y), t_w, t_h less the truth's, times 2 - w h.

    w and h by the image's: Darknet's weight, by which small boxes count up to twice. Their sizes
    are compared as logarithms by the anchor's. Its gradient has a factor s (1 - s) of
    each sigmoid s, which Darknet leaves out.
    """
    centred = to_centre(target)
    place = (centred[..., :2] - found.corners) / found.strides
    size = jnp.where(positive[..., None], centred[..., 2:], found.anchors)
    height, width = found.size
    weight = 2 - size[..., 0] * size[..., 1] / (height * width)
    raw = safe(found.raw[..., :4], positive)
    off = jax.nn.sigmoid(raw[..., :2]) - safe(place, positive)
    grown = raw[..., 2:] - jnp.log(size / found.anchors)
    squares = jnp.sum(jnp.square(off) + jnp.square(grown), axis=-1) / 2
    return jnp.sum(jnp.where(positive, weight * squares, 0))


def giou(found: Found, target: jax.Array, positive: jax.Array) -> jax.Array:
    """1 - GIoU (Rezatofighi et al. 2019, arXiv:1902.09630)."""
    return box_losses.giou_loss(found.boxes, target, positive)


def found_in(outputs: Any, strides: Any, anchors: Any, size: tuple[int, int]) -> Found:
    """All levels' predictions: outputs (B, h, w, anchors, 5 + C) each."""
    raw, boxes, shapes, corners, steps = [], [], [], [], []
    for y, stride, level in zip(outputs, strides, anchors, strict=True):
        batch, rows, columns, count, channels = y.shape
        raw.append(y.reshape(batch, -1, channels))
        boxes.append(boxes_of(y, stride, level).reshape(batch, -1, 4))
        row, column = np.indices((rows, columns))
        at = np.stack([column, row], axis=-1).reshape(-1, 2) * stride
        corners.append(np.repeat(at, count, axis=0))
        shapes.append(np.tile(np.asarray(level), (rows * columns, 1)))
        steps.append(np.full((rows * columns * count, 1), stride))

    def joined(parts: list[np.ndarray]) -> np.ndarray:
        return np.concatenate(parts).astype(np.float32)[None]

    return Found(
        raw=jnp.concatenate(raw, axis=1),
        boxes=jnp.concatenate(boxes, axis=1),
        anchors=joined(shapes),
        corners=joined(corners),
        strides=joined(steps),
        size=size,
    )


def places_of(
    boxes: jax.Array, valid: jax.Array, outputs: Any, strides: Any, anchors: Any
) -> jax.Array:
    """(B, N, 4) -> (B, N) int32: the prediction, by (level, y, x, anchor), that each belongs to.

    A centre on the right or lower edge is of the last cell.
    """
    shapes = np.concatenate([np.asarray(level, np.float32) for level in anchors])
    counts = [len(level) for level in anchors]
    grids = [y.shape[1:3] for y in outputs]
    starts = np.cumsum([0, *(r * c * n for (r, c), n in zip(grids, counts, strict=True))])[:-1]
    number = np.concatenate([np.arange(n) for n in counts])
    rows, columns = (np.repeat([grid[i] for grid in grids], counts) for i in (0, 1))
    centred = to_centre(jnp.where(valid[..., None], boxes, jnp.asarray([[[0, 0, 1.0, 1.0]]])))
    width, height = centred[..., 2, None], centred[..., 3, None]
    inner = jnp.minimum(width, shapes[None, None, :, 0]) * jnp.minimum(
        height, shapes[None, None, :, 1]
    )
    union = area(boxes)[..., None] + np.prod(shapes, axis=1)[None, None] - inner
    best = jnp.argmax(inner / jnp.maximum(union, 1e-9), axis=-1)

    def of(table: Any) -> jax.Array:
        return jnp.asarray(np.asarray(table, np.int32))[best]

    stride = of(np.repeat(strides, counts))
    column = jnp.clip(jnp.floor(centred[..., 0] / stride).astype(jnp.int32), 0, of(columns) - 1)
    row = jnp.clip(jnp.floor(centred[..., 1] / stride).astype(jnp.int32), 0, of(rows) - 1)
    start, count = of(np.repeat(starts, counts)), of(np.repeat(counts, counts))
    return start + (row * of(columns) + column) * count + of(number)
