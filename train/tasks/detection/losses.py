"""Which loss a detector is trained by."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn

from models.detection.faster_rcnn import FasterRCNN
from models.detection.fcos import FCOS
from models.detection.retinanet import RetinaNet
from models.detection.yolo_v1 import YOLOv1
from models.detection.yolo_v3 import YOLOv3
from models.detection.yolox import YOLOX
from train.tasks.detection.faster_rcnn import faster_rcnn_loss
from train.tasks.detection.fcos import fcos_loss
from train.tasks.detection.retinanet import retinanet_loss
from train.tasks.detection.task import DetectionLoss
from train.tasks.detection.yolo_v1 import yolo_v1_loss
from train.tasks.detection.yolo_v3 import yolo_v3_loss
from train.tasks.detection.yolox import yolox_loss

LOSSES: dict[type[nn.Module], Callable[[Any], DetectionLoss]] = {
    FasterRCNN: faster_rcnn_loss,
    RetinaNet: retinanet_loss,
    FCOS: fcos_loss,
    YOLOv1: yolo_v1_loss,
    YOLOv3: yolo_v3_loss,
    YOLOX: yolox_loss,
}
"""Kind of network -> (network) -> its paper's loss."""


def loss_of(network: nn.Module) -> DetectionLoss:
    """The loss of a detector's paper.

    Raises:
        ValueError: there is none for networks of its kind.
    """
    if type(network) not in LOSSES:
        raise ValueError(f"there is no loss for a {type(network).__name__} yet")
    return LOSSES[type(network)](network)
