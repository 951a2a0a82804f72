"""What torchvision's published weights ask of a network beside its name.

name = "fasterrcnn_resnet50_fpn"
variables = load(name, "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth")
network = models.create(name, num_classes=91, **fields(name, "COCO_V1"))
"""

import hashlib
import pathlib
from functools import partial
from typing import Any

from models.layers.norm import FrozenBatchNorm
from models.pretrained.naming import family_of

WITHOUT_EPSILON = {
    "258fb6c6": ("fasterrcnn_resnet50_fpn", "COCO_V1"),
    "eeacb38b": ("retinanet_resnet50_fpn", "COCO_V1"),
}
"""Trained before torchvision's frozen BatchNorm had an epsilon; it sets it to 0 for these alone
(`overwrite_eps`). By how the SHA-256 of the file begins, which ends its published name."""
DIGITS = 8
"""Of them."""


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
    value = epsilon(name, weights)
    return {} if value is None else {"norm": partial(FrozenBatchNorm, epsilon=value)}


def epsilon(name: str, weights: str) -> float | None:
    """Of the BatchNorms, which stay frozen; None for the usual one. As `fields`."""
    family_of(name)
    return 0.0 if (name, weights) in WITHOUT_EPSILON.values() else None


def of_file(path: str | pathlib.Path) -> tuple[str, str] | None:
    """Which of the weights in `WITHOUT_EPSILON` a file is: the network's name, and theirs.

    By its name, which a converted file keeps; of a torch file with another name by its contents.
    """
    path = pathlib.Path(path)
    for digest, which in WITHOUT_EPSILON.items():
        if path.stem.endswith(f"-{digest}"):
            return which
    if path.suffix.lower() not in (".pth", ".pt") or not path.is_file():
        return None
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    return WITHOUT_EPSILON.get(found[:DIGITS])
