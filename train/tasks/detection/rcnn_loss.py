"""R-CNN's fine-tuning: regions sampled from a batch's proposals, each classified by itself."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from models.detection.detections import Images
from models.detection.rcnn import RCNN
from train.tasks.detection.outputs import taken
from train.tasks.detection.regions import RCNN_BATCH, Sampling, in_picture, matched_regions
from train.tasks.detection.sampling import Sample, sample
from train.tasks.detection.task import DetectionLoss
from train.tasks.detection.truth import Truth
from train.tasks.task import Aux, Ratio


def rcnn_loss(network: RCNN, *, box_head: Sampling = RCNN_BATCH) -> DetectionLoss:
    """A loss of `train.tasks.detection.task.detection` with `reads=PROPOSALS`.

    Cross-entropy over the classes and the background (Girshick et al. 2014, section 2.3), the mean
    over the regions that were sampled. The objects' own boxes are appended to the proposals. It
    logs `loss`, `region_accuracy` and `positive_regions`, how many of a batch are of an object.

    Args:
        network: its class 0 is the background.
        box_head: how regions are sampled, from the whole batch; the paper's by default. With fewer
            positive ones there are more of background.
    """

    def loss(
        variables: dict,
        images: Images,
        truth: Truth,
        key: jax.Array,
        proposals: jax.Array,
        proposal_valid: jax.Array,
    ) -> tuple[jax.Array, Aux]:
        of_regions, dropout = jax.random.split(key)
        inside, valid = in_picture(proposals, proposal_valid, images.extent)
        boxes, labels, drawn = batch_sample(of_regions, inside, valid, truth, box_head)
        owner = drawn.indices // boxes.shape[1]
        x = network.warped(images.image, boxes.reshape(-1, 4)[drawn.indices], owner)
        collections = [name for name in variables if name != "params"]
        found: Any
        found, updated = network.apply(
            variables,
            x,
            train=True,
            method="classify",
            mutable=collections,
            rngs={"dropout": dropout},
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


def batch_sample(
    key: jax.Array,
    proposals: jax.Array,
    proposal_valid: jax.Array,
    truth: Truth,
    how: Sampling,
) -> tuple[jax.Array, jax.Array, Sample]:
    """Regions sampled from all images of a batch at once.

    Args:
        key: of the step.
        proposals: (B, P, 4).
        proposal_valid: (B, P) bool.
        truth: of the same images.
        how: see `train.tasks.detection.regions.RCNN_BATCH`.

    Returns:
        All regions (B, R, 4), the objects' own boxes behind the proposals; the classes of those
        that were sampled (S,), 0 the background; and which they are, indices into the B * R.
    """
    found = matched_regions(proposals, proposal_valid, truth, how)
    drawn = sample(
        key,
        found.positive.reshape(-1),
        found.negative.reshape(-1),
        count=how.number,
        fraction=how.fraction,
    )
    labels = 1 + taken(truth.labels, found.objects).reshape(-1)
    return found.boxes, jnp.where(drawn.positive, labels[drawn.indices], 0), drawn
