"""Untrained: a network by its name, as a run that has not begun, for those who look into it."""

from types import ModuleType
from typing import Any

import numpy as np
from sklearn.datasets import load_sample_image

import models
from experiments import classify, detect, segment, sequence
from models.backends import XLA
from train.data.source import About
from train.opened import Opened
from train.refusal import choose
from train.sized import PICTURES, fitting
from train.weight_files import IMAGENET

EXPERIMENTS: dict[str, ModuleType] = {
    "classification": classify,
    "segmentation": segment,
    "detection": detect,
    "sequence": sequence,
}
CLASSES = {"classification": 1000, "segmentation": 21, "detection": 80, "sequence": 10}
"""As many as the sets have that published weights are of; of series none are."""
STEPS = 1024
"""Of a series, where no size is asked."""


def untrained(model: str, init_from: str, size: int) -> Opened:
    """A run of a network of `models.names()` on pictures or series of one channel, at step 0.

    Its variables are yet to be made, see `train.first`.

    Args:
        model: its name.
        init_from: trained weights, as the network's experiment takes them; "" for none.
        size: height and width of its images, or steps; 0 takes 224 or the next that it takes, or
            `STEPS`.

    Raises:
        Refused: the model is unknown, there are no such weights for it, or it takes no such size.
    """
    choose("model", model, models.names())
    task = next(task for task in models.TASKS if model in models.names(task))
    module = EXPERIMENTS[task]
    names = tuple(f"class {number}" for number in range(CLASSES[task]))
    fields: dict[str, Any] = {"data": "pictures", "model": model}
    if task == "sequence":
        about = About("series", "", names, False, (size or STEPS, 1), (0.0,), (1.0,))
    else:
        network = models.create(model, num_classes=len(names))
        fields |= {"size": size or fitting(network, PICTURES)}
        masks = names if task == "segmentation" else ()
        about = About("pictures", "", names, True, None, *IMAGENET, mask_classes=masks)
    if init_from:
        fields |= {"init_from": init_from}
    config = module.Config(**fields)
    parts = module.build(config, about, conv=XLA.conv_general_dilated, norm=XLA.norm)
    return Opened(module, config, about, parts, {}, 0)


def usual(run: Opened) -> tuple[list[np.ndarray], list[str]]:
    """What is looked at where nothing is named: two pictures of scikit-learn's, or noise."""
    if run.module is sequence:
        return [np.random.default_rng(0).normal(size=run.about.shape or ()).astype("f4")], ["noise"]
    names = ["china.jpg", "flower.jpg"]
    return [load_sample_image(name) for name in names], names
