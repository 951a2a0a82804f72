"""What torchvision's published weights ask of a network beside its name.

name = "fasterrcnn_resnet50_fpn"
variables = load(name, "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth")
network = models.create(name, num_classes=91, **fields(name, "COCO_V1"))
"""

from functools import partial
from typing import Any

from models.layers.norm import FrozenBatchNorm
from models.pretrained.naming import family_of

WITHOUT_EPSILON = (
    ("fasterrcnn_resnet50_fpn", "COCO_V1"),
    ("retinanet_resnet50_fpn", "COCO_V1"),
)
"""Trained before torchvision's frozen BatchNorm had an epsilon; it sets it to 0 for these alone
(`overwrite_eps`)."""


def fields(name: str, weights: str = "COCO_V1") -> dict[str, Any]:
    """Of `models.create`, so that published weights yield what they do at torchvision's.

    Args:
        name: of the network.
        weights: torchvision's name for them.

    Returns:
        `norm`, frozen with an epsilon of 0, for the weights in `WITHOUT_EPSILON`; else none. A
        channel whose variance is small comes out wrong with the usual 1e-5, and nothing tells.

    Raises:
        ValueError: torchvision has no such network.
    """
    family_of(name)
    if (name, weights) not in WITHOUT_EPSILON:
        return {}
    return {"norm": partial(FrozenBatchNorm, epsilon=0.0)}
