"""The loss of FCOS (Tian et al. 2019, arXiv:1904.01355, section 3; 2020, arXiv:2006.09214)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from models.detection.detections import Images
from models.detection.fcos import FCOSOutput, boxes
from train.tasks.detection.box_losses import giou_loss, safe, sigmoid_focal
from train.tasks.detection.ignored import in_ignored
from train.tasks.detection.outputs import outputs_of, reported, taken
from train.tasks.detection.task import DetectionLoss
from train.tasks.detection.truth import Truth
from train.tasks.task import Aux


def fcos_loss(network: nn.Module, *, radius: float = 1.5, reach: float = 4.0) -> DetectionLoss:
    """Focal loss of classes, 1 - GIoU of boxes, cross-entropy of centreness, by positive points.

    All three sums are divided by the positive points of the whole batch (by 1 where there are
    none), as in torchvision; the paper weighs a point's box by its centreness besides.

    Args:
        network: `models.detection.fcos.FCOS`.
        radius: a point may be of an object whose centre is so near, in strides of its level.
        reach: farthest side of an object from a point on the finest level is at most 2 * reach
            strides; on each other level from reach to 2 * reach; on the last any more.

    Logs `loss`, `class_loss`, `box_loss` and `centreness_loss`.
    """

    def loss(variables: dict, images: Images, truth: Truth, key: jax.Array) -> tuple[Any, Aux]:
        output, collections = outputs_of(network, variables, images.image, key)
        parts, positives = fcos_parts(output, truth, radius=radius, reach=reach)
        return reported(parts, positives, collections)

    return loss


def fcos_parts(
    output: FCOSOutput, truth: Truth, *, radius: float, reach: float
) -> tuple[dict[str, jax.Array], jax.Array]:
    """Sums over the batch, a term each, and how many points are positive."""
    indices, positive = assigned(output, truth, radius=radius, reach=reach)
    background = ~positive & ~in_ignored(output.anchors, truth)
    counted = (positive | background) & truth.counted[:, None]
    labels = jnp.where(positive, taken(truth.labels, indices), -1)  # -1 is none
    dtype = output.logits.dtype
    classes = jax.nn.one_hot(labels, output.logits.shape[-1], dtype=dtype)
    target = taken(truth.boxes, indices)
    centred = centreness(target, output.anchors, positive).astype(dtype)
    logits = safe(output.centreness[..., None], positive)[..., 0]
    entropy = optax.sigmoid_binary_cross_entropy(logits, centred)
    parts = {
        "class_loss": sigmoid_focal(output.logits, classes, counted),
        "box_loss": giou_loss(boxes(output), target, positive),
        "centreness_loss": jnp.sum(jnp.where(positive, entropy, 0)),
    }
    return parts, jnp.sum(positive, dtype=jnp.int32)


def assigned(
    output: FCOSOutput, truth: Truth, *, radius: float, reach: float
) -> tuple[jax.Array, jax.Array]:
    """The object of each point: (B, A) int32, 0 where there is none, and bool, whether there is.

    A point is within the object's box, nearer to its centre than `radius` strides along each side,
    and the farthest side of the box is as far as the level takes. Of several objects the smallest
    is taken, the first of equals. (torchvision compares 1e8 - area in float32, so that areas less
    than 8 pixels apart may count as equal.)
    """
    if not truth.boxes.shape[1]:
        none = jnp.zeros((len(truth.boxes), len(output.anchors)), bool)
        return none.astype(jnp.int32), none
    anchors, given = output.anchors[None, None], truth.boxes[:, :, None]  # (B, N, A, 4)
    point = (anchors[..., :2] + anchors[..., 2:]) / 2
    stride = (anchors[..., 2:] - anchors[..., :2])[..., 0]
    sides = jnp.concatenate([point - given[..., :2], given[..., 2:] - point], axis=-1)
    off = jnp.max(jnp.abs(point - (given[..., :2] + given[..., 2:]) / 2), axis=-1)
    farthest = jnp.max(sides, axis=-1)
    level = np.repeat(np.arange(len(output.counts)), output.counts)[None, None]
    lowest = jnp.where(level == 0, 0, reach * stride)
    highest = jnp.where(level == len(output.counts) - 1, jnp.inf, 2 * reach * stride)
    fits = (off < radius * stride) & (jnp.min(sides, axis=-1) > 0)
    fits &= (farthest > lowest) & (farthest < highest)
    fits &= (truth.valid & truth.counted[:, None])[..., None]
    size = jnp.prod(given[..., 2:] - given[..., :2], axis=-1)
    areas = jnp.where(fits, size, jnp.inf)
    return jnp.argmin(areas, axis=1).astype(jnp.int32), jnp.any(fits, axis=1)


def centreness(boxes: jax.Array, anchors: jax.Array, counted: jax.Array) -> jax.Array:
    """How near points are to the centres of boxes that they lie in (2019, eq. 3).

    (B, A, 4), (A, 4), (B, A) -> (B, A) from 0 to 1; 0 for a point that does not count.
    """
    point = (anchors[:, :2] + anchors[:, 2:])[None] / 2
    low, high = safe(point - boxes[..., :2], counted), safe(boxes[..., 2:] - point, counted)
    most = jnp.where(counted[..., None], jnp.maximum(low, high), 1)
    return jnp.sqrt(jnp.prod(jnp.minimum(low, high) / most, axis=-1))
