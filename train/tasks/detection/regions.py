"""Regions to learn from: which are sampled, what they are to say, and the box head's losses."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from models.detection.box_head import WEIGHTS, Boxes
from models.detection.boxes import clip, encode, iou, large_enough
from train.tasks.detection.box_losses import smooth_l1
from train.tasks.detection.ignored import in_ignored
from train.tasks.detection.matching import match
from train.tasks.detection.outputs import taken
from train.tasks.detection.sampling import sample
from train.tasks.detection.truth import Truth


class Sampling(NamedTuple):
    """How regions, or anchors, are matched and sampled, and their boxes compared."""

    high: float
    """A region is positive from this IoU with an object on."""
    low: float
    """And negative below this."""
    number: int
    """Sampled in an image; of R-CNN, in a batch."""
    fraction: float
    """The largest share of positive ones."""
    beta: float
    """Where smooth L1 becomes a line."""
    least: float = 0.0
    """Negative ones have at least this IoU with an object, in an image that has any."""


# torchvision's.
BOX_HEAD = Sampling(high=0.5, low=0.5, number=512, fraction=0.25, beta=1 / 9)
# Girshick 2015, section 2.3; and as Faster R-CNN's authors train it, 128 of one image.
FAST_RCNN = Sampling(high=0.5, low=0.5, number=64, fraction=0.25, beta=1.0, least=0.1)
FASTER_RCNN = FAST_RCNN._replace(number=128)
# Girshick et al. 2014, section 2.3: 32 and 96 regions of a batch.
RCNN_BATCH = Sampling(high=0.5, low=0.5, number=128, fraction=0.25, beta=1.0)


class Sampled(NamedTuple):
    """S regions of each image, and what the box head is to say of them."""

    indices: jax.Array
    """(B, S) int32: which of the proposals, behind which the objects' own boxes follow."""
    rois: jax.Array
    """(B, S, 4), x0 y0 x1 y1."""
    labels: jax.Array
    """(B, S) int32: 0 is the background, k + 1 an object of class k."""
    deltas: jax.Array
    """(B, S, 4): from the region to its object's box; of what is no background."""
    valid: jax.Array
    """(B, S) bool."""


class Matched(NamedTuple):
    """All regions of a batch, R of each image, and which could be sampled as what."""

    boxes: jax.Array
    """(B, R, 4): the proposals, behind which the objects' own boxes follow."""
    valid: jax.Array
    """(B, R) bool."""
    positive: jax.Array
    """(B, R) bool."""
    negative: jax.Array
    """(B, R) bool."""
    objects: jax.Array
    """(B, R) int32: the object that a positive one is of, a row of the truth."""


def with_objects(
    proposals: jax.Array, proposal_valid: jax.Array, truth: Truth
) -> tuple[jax.Array, jax.Array]:
    """Proposals and, behind them, the objects' own boxes; (B, R, 4), and which are there, (B, R).

    Args:
        proposals: (B, P, 4).
        proposal_valid: (B, P) bool.
        truth: of the same images.
    """
    boxes = lax.stop_gradient(jnp.concatenate([proposals, truth.boxes], axis=1))
    valid = jnp.concatenate([proposal_valid, truth.valid], axis=1)
    return boxes, valid & truth.counted[:, None]


def matched_regions(
    proposals: jax.Array, proposal_valid: jax.Array, truth: Truth, how: Sampling
) -> Matched:
    """Which regions are of an object, and which of none; arguments as `sampled_regions`."""
    boxes, there = with_objects(proposals, proposal_valid, truth)
    overlaps = iou(truth.boxes, boxes)
    matches = match(overlaps, truth.valid, high=how.high, low=how.low, best_for_each=False)
    negative = matches.negative & there & ~in_ignored(boxes, truth)
    if how.least:
        known = jnp.where(truth.valid[..., None], overlaps, 0)
        near = jnp.max(known, axis=1, initial=0) >= how.least
        negative &= near | ~jnp.any(truth.valid, axis=1, keepdims=True)
    return Matched(boxes, there, matches.positive & there, negative, matches.indices)


def sampled_regions(
    key: jax.Array,
    proposals: jax.Array,
    proposal_valid: jax.Array,
    truth: Truth,
    how: Sampling,
) -> Sampled:
    """Regions to learn from: proposals, and the objects' own boxes, which are appended to them.

    Args:
        key: of the step.
        proposals: (B, P, 4).
        proposal_valid: (B, P) bool.
        truth: of the same images.
        how: see `BOX_HEAD`, `FAST_RCNN`, `FASTER_RCNN`.
    """
    found = matched_regions(proposals, proposal_valid, truth, how)
    chosen = sample(key, found.positive, found.negative, count=how.number, fraction=how.fraction)
    rois = taken(found.boxes, chosen.indices)
    objects = jnp.take_along_axis(found.objects, chosen.indices, 1)
    return Sampled(
        chosen.indices,
        rois,
        jnp.where(chosen.positive, 1 + taken(truth.labels, objects), 0),
        encode(taken(truth.boxes, objects), rois, WEIGHTS),
        chosen.valid,
    )


def box_head_losses(boxes: Boxes, wanted: Sampled, how: Sampling) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy of the classes, and smooth L1 of the true class's deltas where there is one.

    Girshick 2015, eq. 1; both are divided by how many regions of the batch were sampled.
    """
    number = jnp.maximum(jnp.sum(wanted.valid), 1)
    logits = jnp.where(wanted.valid[..., None], boxes.logits, 0)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, wanted.labels)
    classes = jnp.sum(jnp.where(wanted.valid, losses, 0)) / number
    deltas = jnp.take_along_axis(boxes.deltas, wanted.labels[..., None, None], 2)[:, :, 0]
    positive = wanted.valid & (wanted.labels > 0)
    return classes, smooth_l1(deltas, wanted.deltas, positive, beta=how.beta) / number


def in_picture(
    boxes: jax.Array, valid: jax.Array, extent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Regions from elsewhere, cut to the picture, and which are a pixel wide and high there.

    Args:
        boxes: (B, P, 4).
        valid: (B, P) bool.
        extent: (B, 4) x0 y0 x1 y1 of the picture.
    """
    boxes = clip(boxes, extent)
    return boxes, valid & large_enough(boxes, 1.0)
