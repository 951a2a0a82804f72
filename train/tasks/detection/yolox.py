"""The loss of YOLOX (Ge et al. 2021, arXiv:2107.08430): SimOTA, IoU, cross-entropies."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from models.detection.boxes import paired_iou
from models.detection.yolox import boxes_of
from train.tasks.detection.box_losses import safe
from train.tasks.detection.ignored import in_ignored
from train.tasks.detection.outputs import outputs_of, reported, taken
from train.tasks.detection.simota import simota

BOX_WEIGHT = 5.0
"""Of the loss of boxes, as in the authors' code."""


def yolox_loss(network: nn.Module) -> Callable[..., Any]:
    """`DetectionLoss` of a `YOLOX`: box_loss, object_loss and class_loss, by the positives.

    5 (1 - IoU^2) of the positives, the binary cross-entropy of every object's logit, and of the
    positives' classes, whose target is the IoU at the truth's class and 0 elsewhere. All are summed
    over the batch and divided by its positives (by 1 where there are none). A prediction of which
    half lies in a crowd or a difficult object is no negative. The L1 term that the authors add for
    the last epochs is left out.
    """

    def loss(variables: dict, images: Any, truth: Any, key: jax.Array):
        outputs, collections = outputs_of(network, variables, images.image, key)
        parts, positives = yolox_parts(outputs, network.strides, truth)  # type: ignore[attr-defined]
        return reported(parts, positives, collections)

    return loss


def yolox_parts(
    outputs: Any, strides: tuple[int, ...], truth: Any
) -> tuple[dict[str, jax.Array], jax.Array]:
    """The three sums, and how many positives there are.

    Args:
        outputs: of each level (B, h, w, 5 + C), see `YOLOX`.
        strides: of each level.
        truth: `Truth`; labels of rows that are not valid may be anything.
    """
    batch, channels = len(outputs[0]), outputs[0].shape[-1]
    raw = jnp.concatenate([y.reshape(batch, -1, channels) for y in outputs], axis=1)
    levels = zip(outputs, strides, strict=True)
    boxes = jnp.concatenate([boxes_of(y, s).reshape(batch, -1, 4) for y, s in levels], axis=1)
    labels = jnp.where(truth.valid, truth.labels, 0)
    centres, stride = places(outputs, strides)
    found = simota(
        boxes, raw[..., 4], raw[..., 5:], centres, stride, truth.boxes, labels, truth.valid
    )
    positive = found.positive & truth.counted[:, None]
    target = safe(taken(truth.boxes, found.truth), positive)
    overlap = paired_iou(safe(boxes, positive), target)
    box = jnp.where(positive, 1 - jnp.square(overlap), 0)
    some = optax.sigmoid_binary_cross_entropy(raw[..., 4], positive.astype(raw.dtype))
    counted = (positive | ~in_ignored(boxes, truth)) & truth.counted[:, None]
    classes = jax.nn.one_hot(taken(labels, found.truth), channels - 5, dtype=raw.dtype)
    each = optax.sigmoid_binary_cross_entropy(
        safe(raw[..., 5:], positive), classes * found.iou[..., None]
    )
    parts = {
        "box_loss": BOX_WEIGHT * jnp.sum(box),
        "object_loss": jnp.sum(jnp.where(counted, some, 0)),
        "class_loss": jnp.sum(jnp.where(positive[..., None], each, 0)),
    }
    return parts, jnp.sum(positive, dtype=jnp.int32)


def places(outputs: Any, strides: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Centres (A, 2) x y of all levels' cells and their strides (A,), in pixels, static."""
    centres, sizes = [], []
    for y, stride in zip(outputs, strides, strict=True):
        row, column = np.indices(y.shape[1:3])
        at = (np.stack([column, row], axis=-1).reshape(-1, 2) + 0.5) * stride
        centres.append(at)
        sizes.append(np.full(len(at), stride))
    return jnp.asarray(np.concatenate(centres), jnp.float32), jnp.asarray(
        np.concatenate(sizes), jnp.float32
    )
