"""The loss of YOLO (Redmon et al. 2016, arXiv:1506.02640, section 2.2, eq. 3)."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from models.detection.boxes import cells, paired_iou, to_yolo
from models.detection.yolo_v1 import Predicted, boxes_of
from train.tasks.detection.box_losses import safe
from train.tasks.detection.ignored import in_ignored
from train.tasks.detection.outputs import first_owner, outputs_of, reported, taken

COORDINATES = 5.0
"""Weight of the boxes: the paper's lambda_coord."""
NO_OBJECT = 0.5
"""Weight of the confidence of boxes that are of no object: lambda_noobj."""


def yolo_v1_loss(network: nn.Module) -> Callable[..., Any]:
    """`DetectionLoss` of a `YOLOv1`: box_loss, object_loss and class_loss, by the images.

    Squared errors, summed and divided by the images that count. A cell has one object, the first
    whose centre is in it; of its boxes that of the largest IoU is responsible, the first of equals,
    and its confidence is to be that IoU. A box of which half lies in a crowd or a difficult object
    is no negative.
    """

    def loss(variables: dict, images: Any, truth: Any, key: jax.Array):
        cell, collections = outputs_of(network, variables, images.image, key)
        stride = network.strides[-1]  # type: ignore[attr-defined]
        parts = yolo_v1_parts(cell, stride, truth)
        return reported(parts, jnp.sum(truth.counted, dtype=jnp.int32), collections)

    return loss


def yolo_v1_parts(cell: Predicted, stride: int, truth: Any) -> dict[str, jax.Array]:
    """The three sums."""
    batch, rows, columns, count, _ = cell.boxes.shape
    size = (rows * stride, columns * stride)
    valid = truth.valid & truth.counted[:, None]
    truths = safe(truth.boxes, valid)
    place = cells(truths, size, (rows, columns))
    owner, there = first_owner(place.row * columns + place.column, valid, rows * columns)

    boxes = boxes_of(cell, stride).reshape(batch, -1, count, 4)
    target = taken(truths, owner)
    overlap = lax.stop_gradient(paired_iou(boxes, target[:, :, None]))
    best = jnp.argmax(overlap, axis=-1)
    responsible = (jnp.arange(count)[None, None] == best[..., None]) & there[..., None]

    raw = cell.boxes.reshape(batch, -1, count, 5)
    roots = jnp.sqrt(taken(to_yolo(truths, size)[..., 2:], owner))
    wanted = jnp.concatenate([taken(place.place, owner), roots], axis=-1)
    off = jnp.square(raw[..., :4] - wanted[:, :, None])
    sure, unsure = jnp.square(raw[..., 4] - overlap), jnp.square(raw[..., 4])
    crowded = in_ignored(boxes.reshape(batch, -1, 4), truth).reshape(responsible.shape)
    idle = ~responsible & ~crowded & truth.counted[:, None, None]
    scores = cell.classes.reshape(batch, rows * columns, -1)
    labels = taken(jnp.where(valid, truth.labels, 0), owner)
    classes = jax.nn.one_hot(labels, scores.shape[-1], dtype=scores.dtype)
    return {
        "box_loss": COORDINATES * jnp.sum(jnp.where(responsible[..., None], off, 0)),
        "object_loss": jnp.sum(jnp.where(responsible, sure, 0))
        + NO_OBJECT * jnp.sum(jnp.where(idle, unsure, 0)),
        "class_loss": jnp.sum(jnp.where(there[..., None], jnp.square(scores - classes), 0)),
    }
