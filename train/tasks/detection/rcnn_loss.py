"""R-CNN's fine-tuning: regions drawn from a batch's proposals, each classified by itself."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from models.detection.boxes import iou
from models.detection.rcnn import RCNN, warp
from train.tasks.detection.matching import match
from train.tasks.detection.sampling import Sample, sample
from train.tasks.task import Aux, Ratio


def rcnn_loss(
    network: RCNN, *, positives: int = 32, negatives: int = 96, threshold: float = 0.5
) -> Callable[..., tuple[jax.Array, Aux]]:
    """(variables, images, truth, key, proposals, proposal_valid) -> (loss, Aux).

    Cross-entropy over the classes and the background (Girshick et al. 2014, section 2.3), the mean
    over the regions that were drawn. The objects themselves are regions too.

    Args:
        network: its class 0 is the background.
        positives: most regions of an object in a batch; with fewer there are more of background.
        negatives: those of background beside them.
        threshold: a region is of the object that it overlaps most, from this IoU on.
    """
    count = positives + negatives

    def loss(
        variables: dict[str, Any],
        images: Any,
        truth: Any,
        key: jax.Array,
        proposals: jax.Array,
        proposal_valid: jax.Array,
    ) -> tuple[jax.Array, Aux]:
        for_sample, for_dropout = jax.random.split(key)
        boxes, valid = candidates(truth, proposals, proposal_valid)
        labels, drawn = region_sample(
            for_sample, truth, boxes, valid, count=count, positives=positives, threshold=threshold
        )
        owner = drawn.indices // boxes.shape[1]
        x = warp(
            images.image,
            boxes.reshape(-1, 4)[drawn.indices],
            owner,
            size=network.size,
            context=network.context,
        )
        collections = [name for name in variables if name != "params"]
        found, updated = network.apply(
            variables, x, train=True, mutable=collections, rngs={"dropout": for_dropout}
        )
        each = optax.softmax_cross_entropy_with_integer_labels(found.logits, labels)
        weight = drawn.valid.astype(each.dtype)
        total, number = jnp.sum(each * weight), jnp.sum(weight)
        right = (jnp.argmax(found.logits, -1) == labels) & drawn.valid
        objects = jnp.sum(drawn.positive, dtype=each.dtype)
        sums = {
            "loss": Ratio(total, number),
            "region_accuracy": Ratio(jnp.sum(right, dtype=each.dtype), number),
            "positive_regions": Ratio(objects, jnp.ones_like(total)),
        }
        return total / jnp.maximum(number, 1), Aux(dict(updated), sums)

    return loss


def first_variables(network: RCNN, key: jax.Array, inputs: Any) -> dict[str, Any]:
    """The first variables, for a task's inputs (Images, proposals, proposal_valid): `Parts.init`.

    The network itself takes warped regions.
    """
    image = inputs[0].image
    regions = jnp.zeros((1, network.size, network.size, image.shape[-1]), image.dtype)
    return dict(network.init(key, regions, train=False))


def candidates(
    truth: Any, proposals: jax.Array, proposal_valid: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Proposals, and the objects after them: (B, P + N, 4), and which are there (B, P + N)."""
    boxes = jnp.concatenate([proposals, truth.boxes], axis=1)
    return boxes, jnp.concatenate([proposal_valid, truth.valid], axis=1)


def region_sample(
    key: jax.Array,
    truth: Any,
    boxes: jax.Array,
    valid: jax.Array,
    *,
    count: int,
    positives: int,
    threshold: float,
) -> tuple[jax.Array, Sample]:
    """Classes (count,) of regions drawn from the whole batch, 0 background, and which they are.

    Those that overlap a crowd or a difficult object so far are of neither kind.

    Args:
        key: of the step.
        truth: `train.tasks.detection.truth.Truth`.
        boxes: (B, R, 4).
        valid: (B, R) bool.
        count: regions.
        positives: most of objects.
        threshold: of the IoU.

    Returns:
        Indices are into the B * R regions.
    """
    overlaps = iou(truth.boxes, boxes)
    found = match(overlaps, truth.valid, high=threshold, low=threshold, best_for_each=False)
    aside = jnp.any((overlaps >= threshold) & truth.ignored[..., None], axis=1)
    there = valid & truth.counted[:, None]
    drawn = sample(
        key,
        (found.positive & there).reshape(-1),
        (found.negative & ~aside & there).reshape(-1),
        count=count,
        fraction=positives / count,
    )
    labels = 1 + jnp.take_along_axis(truth.labels, found.indices, axis=1).reshape(-1)
    return jnp.where(drawn.positive, labels[drawn.indices], 0), drawn
