"""Fast R-CNN's loss over the batch's own proposals (Girshick 2015, arXiv:1504.08083)."""

from typing import Any

import jax
import jax.numpy as jnp

from models.detection.detections import Images
from models.detection.fast_rcnn import FastRCNN
from train.tasks.detection.outputs import reported
from train.tasks.detection.regions import (
    FAST_RCNN,
    Sampling,
    box_head_losses,
    in_picture,
    sampled_regions,
)
from train.tasks.detection.task import DetectionLoss
from train.tasks.detection.truth import Truth
from train.tasks.task import Aux


def fast_rcnn_loss(network: FastRCNN, *, box_head: Sampling = FAST_RCNN) -> DetectionLoss:
    """A loss of `train.tasks.detection.task.detection` with `reads=PROPOSALS`: the sum of two.

    The objects' own boxes are appended to the proposals. It logs `loss`, `classes` and `boxes`.

    Args:
        network: whose box head is trained.
        box_head: how proposals are sampled; the paper's by default. In an image without objects
            any of them are background.
    """

    def loss(
        variables: dict,
        images: Images,
        truth: Truth,
        key: jax.Array,
        proposals: jax.Array,
        proposal_valid: jax.Array,
    ) -> tuple[Any, Aux]:
        of_regions, dropout = jax.random.split(key)
        regions, valid = in_picture(proposals, proposal_valid, images.extent)
        wanted = sampled_regions(of_regions, regions, valid, truth, box_head)
        collections = [name for name in variables if name != "params"]
        boxes, updated = network.apply(
            variables,
            images.image,
            wanted.rois,
            train=True,
            mutable=collections,
            rngs={"dropout": dropout},
        )
        classes, deltas = box_head_losses(boxes, wanted, box_head)
        return reported({"classes": classes, "boxes": deltas}, jnp.ones(()), updated)

    return loss
