"""On what a network's step is measured: images or signals, and what is to be learnt from them."""

import random
from typing import Any, NamedTuple

import models
from experiments.benchmark.layer_speed import measured_at

OBJECTS = 4
"""In each image of a detector."""


class Case(NamedTuple):
    """A network and what it is measured on."""

    task: str
    """Of `models.TASKS`."""
    size: int
    """Height and width of the images, in pixels; of signals, their steps."""
    batch_size: int
    classes: int
    """Logits of an image, a pixel, a box or a signal."""
    fields: dict[str, Any]
    """Of the network."""

    @property
    def shape(self) -> str:
        """Of an example, in words."""
        return f"{self.size} steps" if self.task == "sequence" else f"{self.size}x{self.size}"


U_NET = {"features": (32, 64, 128, 256, 512)}
SEGMENTERS = {"unet": (Case("segmentation", 96, 8, 11, U_NET),)}
# Ten classes, and of Faster R-CNN the background.
DETECTORS = {
    "yolov3_tiny": (
        Case("detection", 96, 16, 10, {}),
        Case("detection", 320, 4, 10, {}),
    ),
    "fasterrcnn_resnet18_fpn": (
        Case("detection", 96, 4, 11, {}),
        Case("detection", 320, 2, 11, {}),
    ),
}
# Sequential MNIST; a usual length of the UCR archive; MNIST-1D.
SIGNALS = {
    "tcn": (Case("sequence", 784, 32, 10, {}),),
    "resnet1d": (Case("sequence", 256, 32, 10, {}),),
    "resnet1d_small": (Case("sequence", 40, 128, 10, {}),),
}
OTHERS = SEGMENTERS | DETECTORS | SIGNALS
"""Networks that are no classifiers of images."""


def cases(model: str, batch_size: int | None) -> tuple[Case, ...]:
    """What a network is measured on, one after the other; `batch_size` in place of their own."""
    if model in OTHERS:
        found = OTHERS[model]
        return tuple(case._replace(batch_size=batch_size or case.batch_size) for case in found)
    size, batch = measured_at(model, batch_size)
    return (Case("classification", size, batch, 10 if size == 32 else 1000, {}),)


def objects(case: Case) -> list[list[list[float]]]:
    """Of each image of a detector's batch x0 y0 x1 y1 and a class from 0, the same for all sides.

    Sides are an eighth to a third of the image's.
    """
    draw = random.Random(0)

    def one() -> list[float]:
        width, height = (draw.uniform(case.size / 8, case.size / 3) for _ in range(2))
        x, y = draw.uniform(0, case.size - width), draw.uniform(0, case.size - height)
        return [x, y, x + width, y + height, draw.randrange(10)]

    return [[one() for _ in range(OBJECTS)] for _ in range(case.batch_size)]


def known(what: str) -> tuple[str, ...]:
    """Names of networks that can be measured: for steps, `OTHERS` too."""
    return (*models.names("classification"), *(OTHERS if what == "step" else ()))
