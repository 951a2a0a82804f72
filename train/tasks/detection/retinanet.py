"""The loss of RetinaNet (Lin et al. 2017, arXiv:1708.02002, section 4.1)."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from models.detection.boxes import decode, encode, iou
from models.detection.detections import Images
from models.detection.retinanet import RetinaNetOutput
from train.tasks.detection.box_losses import giou_loss, sigmoid_focal, smooth_l1
from train.tasks.detection.ignored import in_ignored
from train.tasks.detection.matching import match
from train.tasks.detection.outputs import outputs_of, reported, taken
from train.tasks.detection.task import DetectionLoss
from train.tasks.detection.truth import Truth
from train.tasks.task import Aux

BoxLoss = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]
"""(deltas (B, A, 4), anchors (1, A, 4), boxes (B, A, 4), counted (B, A)) -> their sum."""


def retinanet_loss(
    network: nn.Module, *, high: float = 0.5, low: float = 0.4, box_loss: BoxLoss | None = None
) -> DetectionLoss:
    """Focal loss of classes (alpha 0.25, gamma 2) and a loss of boxes, by the positive anchors.

    Both sums are divided by the positive anchors of the whole batch, by 1 where there are none, as
    in the paper; torchvision divides each image's by its own, and takes the mean, which weighs an
    anchor of an image with few objects more. With one image both are the same.

    Args:
        network: `models.detection.retinanet.RetinaNet`.
        high: an anchor is to find an object from this IoU on; and the best ones of each object are.
        low: below it an anchor is background; between the two it counts for nothing.
        box_loss: `by_deltas()`, as torchvision's `retinanet_resnet50_fpn`, where it is None;
            `by_giou` is its `retinanet_resnet50_fpn_v2`'s.

    Logs `loss`, `class_loss` and `box_loss`.
    """
    of_boxes = by_deltas() if box_loss is None else box_loss

    def loss(variables: dict, images: Images, truth: Truth, key: jax.Array) -> tuple[Any, Aux]:
        output, collections = outputs_of(network, variables, images.image, key)
        parts, positives = retinanet_parts(output, truth, high=high, low=low, box_loss=of_boxes)
        return reported(parts, positives, collections)

    return loss


def retinanet_parts(
    output: RetinaNetOutput, truth: Truth, *, high: float, low: float, box_loss: BoxLoss
) -> tuple[dict[str, jax.Array], jax.Array]:
    """Sums over the batch, `class_loss` and `box_loss`, and how many anchors are positive."""
    anchors = output.anchors[None]
    valid = truth.valid & truth.counted[:, None]
    found = match(iou(truth.boxes, anchors), valid, high=high, low=low, best_for_each=True)
    background = found.negative & ~in_ignored(output.anchors, truth)
    counted = (found.positive | background) & truth.counted[:, None]
    labels = taken(truth.labels, found.indices)
    # No class where nothing is to be found: -1 is none.
    classes = jax.nn.one_hot(
        jnp.where(found.positive, labels, -1), output.logits.shape[-1], dtype=output.logits.dtype
    )
    boxes = taken(truth.boxes, found.indices)
    parts = {
        "class_loss": sigmoid_focal(output.logits, classes, counted),
        "box_loss": box_loss(output.deltas, anchors, boxes, found.positive),
    }
    return parts, jnp.sum(found.positive, dtype=jnp.int32)


def by_deltas(beta: float = 0.0) -> BoxLoss:
    """Smooth L1 of the deltas to those of the box; the absolute difference for `beta` 0."""

    def box_loss(
        deltas: jax.Array, anchors: jax.Array, boxes: jax.Array, counted: jax.Array
    ) -> jax.Array:
        return smooth_l1(deltas, encode(boxes, anchors), counted, beta=beta)

    return box_loss


def by_giou(
    deltas: jax.Array, anchors: jax.Array, boxes: jax.Array, counted: jax.Array
) -> jax.Array:
    """1 - GIoU of the boxes (Rezatofighi et al. 2019)."""
    return giou_loss(decode(deltas, anchors), boxes, counted)
