"""Which loss a detector is trained by."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn

from models.detection.fast_rcnn import FastRCNN
from models.detection.faster_rcnn import FasterRCNN
from models.detection.fcos import FCOS
from models.detection.rcnn import RCNN
from models.detection.retinanet import RetinaNet
from models.detection.yolo_v1 import YOLOv1
from models.detection.yolo_v3 import YOLOv3
from models.detection.yolox import YOLOX
from train.tasks.detection.fast_rcnn import fast_rcnn_loss
from train.tasks.detection.faster_rcnn import faster_rcnn_loss
from train.tasks.detection.fcos import fcos_loss
from train.tasks.detection.rcnn_loss import rcnn_loss
from train.tasks.detection.regions import (
    BOX_HEAD,
    FAST_RCNN,
    FASTER_RCNN,
    RCNN_BATCH,
    Sampling,
)
from train.tasks.detection.retinanet import retinanet_loss
from train.tasks.detection.task import DetectionLoss
from train.tasks.detection.yolo_v1 import yolo_v1_loss
from train.tasks.detection.yolo_v3 import yolo_v3_loss
from train.tasks.detection.yolox import yolox_loss

SAMPLED: dict[type[nn.Module], tuple[Callable[..., DetectionLoss], Sampling]] = {
    FasterRCNN: (faster_rcnn_loss, BOX_HEAD),
    FastRCNN: (fast_rcnn_loss, FAST_RCNN),
    RCNN: (rcnn_loss, RCNN_BATCH),
}
"""Kind of network that learns from sampled regions -> its loss, and how they are."""

LOSSES: dict[type[nn.Module], Callable[[Any], DetectionLoss]] = {
    RetinaNet: retinanet_loss,
    FCOS: fcos_loss,
    YOLOv1: yolo_v1_loss,
    YOLOv3: yolo_v3_loss,
    YOLOX: yolox_loss,
}
"""Kind of any other network -> (network) -> its paper's loss."""


def loss_of(network: nn.Module, regions: int = 0) -> DetectionLoss:
    """The loss of a detector's paper.

    Args:
        network: of a kind in `SAMPLED` or `LOSSES`.
        regions: of an image, that a network in `SAMPLED` learns from, or for R-CNN of a batch; 0
            takes as many as torchvision (512), or the papers of Fast R-CNN (64), R-CNN and, without
            a pyramid, Faster R-CNN (128).
    """
    kind = type(network)
    if kind in SAMPLED:
        loss, how = SAMPLED[kind]
        if isinstance(network, FasterRCNN) and network.neck is None:  # the paper's
            how = FASTER_RCNN
        return loss(network, box_head=how._replace(number=regions or how.number))
    return LOSSES[kind](network)
