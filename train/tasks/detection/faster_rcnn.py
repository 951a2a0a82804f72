"""Faster R-CNN's loss: the region proposal network's and the box head's, jointly.

Ren et al. 2015 (arXiv:1506.01497), sections 3.1.2 and 3.2, "approximate joint training"; numbers
are torchvision's by default.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from models.detection.boxes import encode, iou
from models.detection.detections import Images
from models.detection.faster_rcnn import FasterRCNN
from models.detection.rpn import Regions
from train.tasks.detection.box_losses import smooth_l1
from train.tasks.detection.ignored import in_ignored
from train.tasks.detection.matching import match
from train.tasks.detection.outputs import reported, taken
from train.tasks.detection.regions import (
    BOX_HEAD,
    Sampling,
    box_head_losses,
    sampled_regions,
)
from train.tasks.detection.sampling import sample
from train.tasks.detection.task import DetectionLoss
from train.tasks.detection.truth import Truth
from train.tasks.task import Aux

# The paper's, section 3.1.2, and torchvision's; beta is that of the authors' code.
RPN = Sampling(high=0.7, low=0.3, number=256, fraction=0.5, beta=1 / 9)


def faster_rcnn_loss(
    network: FasterRCNN,
    *,
    rpn: Sampling = RPN,
    box_head: Sampling = BOX_HEAD,
) -> DetectionLoss:
    """A loss of `train.tasks.detection.task.detection`: the sum of four.

    Proposals are constants for the box head, and the objects' own boxes are appended to them.
    Anchors that reach out of the picture are learnt from too, as in torchvision; the paper leaves
    them out (section 3.3), which in small pictures would leave few or none.

    Args:
        network: its anchors, proposals and box head are trained.
        rpn: how anchors are sampled; the best ones of each object are positive too.
        box_head: how proposals are; the paper's is `train.tasks.detection.regions.FASTER_RCNN`.

    It logs `loss`, `rpn_objectness`, `rpn_boxes`, `classes` and `boxes`.
    """

    def loss(variables: dict, images: Images, truth: Truth, key: jax.Array) -> tuple[Any, Aux]:
        of_anchors, of_regions, dropout = jax.random.split(key, 3)

        def steps(network: FasterRCNN) -> dict[str, jax.Array]:
            maps = network.features(images.image, train=True)
            regions = network.rpn(maps, (images.image.shape[1], images.image.shape[2]))
            objectness, rpn_boxes = rpn_losses(of_anchors, regions, truth, rpn)
            proposals = network.proposals(regions, images.extent, train=True)
            wanted = sampled_regions(of_regions, proposals.boxes, proposals.valid, truth, box_head)
            boxes = network.box_head(maps, wanted.rois, train=True)
            classes, deltas = box_head_losses(boxes, wanted, box_head)
            return {
                "rpn_objectness": objectness,
                "rpn_boxes": rpn_boxes,
                "classes": classes,
                "boxes": deltas,
            }

        collections = [name for name in variables if name != "params"]
        parts, updated = network.apply(
            variables, mutable=collections, rngs={"dropout": dropout}, method=steps
        )
        return reported(parts, jnp.ones(()), updated)

    return loss


def rpn_losses(
    key: jax.Array,
    regions: Regions,
    truth: Truth,
    how: Sampling,
) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy of objectness, and smooth L1 of the deltas of anchors that have an object.

    Eq. 1, both divided by how many anchors of the batch were sampled.

    Args:
        key: of the step.
        regions: what the network says of the anchors.
        truth: of the same images.
        how: see `RPN`.
    """
    anchors = regions.anchors[None]
    matches = match(
        iou(truth.boxes, anchors), truth.valid, high=how.high, low=how.low, best_for_each=True
    )
    there = truth.counted[:, None]
    negative = matches.negative & there & ~in_ignored(regions.anchors, truth)
    chosen = sample(
        key, matches.positive & there, negative, count=how.number, fraction=how.fraction
    )
    number = jnp.maximum(jnp.sum(chosen.valid), 1)

    logits = jnp.where(chosen.valid, taken(regions.objectness, chosen.indices), 0)
    losses = optax.sigmoid_binary_cross_entropy(logits, chosen.positive.astype(logits.dtype))
    objectness = jnp.sum(jnp.where(chosen.valid, losses, 0)) / number

    objects = jnp.take_along_axis(matches.indices, chosen.indices, 1)
    wanted = encode(taken(truth.boxes, objects), regions.anchors[chosen.indices])
    deltas = taken(regions.deltas, chosen.indices)
    return objectness, smooth_l1(deltas, wanted, chosen.positive, beta=how.beta) / number
