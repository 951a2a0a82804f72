"""Files that a run starts from: torchvision's weights, and Darknet's."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import models
from models.detection.yolo_v3 import TINY_ANCHORS_OF_WEIGHTS
from models.pretrained import coco, darknet, published, torchvision
from models.pretrained.files import read
from models.pretrained.naming import detector_of, family_of, for_boxes, for_pixels, names
from models.pretrained.preprocess import MEAN, STD
from train.finetune import BACKBONE, Weights, backbone_of
from train.refusal import Refused

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel, 0..255."""
IMAGENET: Statistics = (tuple(255 * each for each in MEAN), tuple(255 * each for each in STD))
DARKNET: Statistics = ((0.0,) * 3, (255.0,) * 3)
"""Its pixels are divided by 255."""
DARKNETS = re.compile(r"\.(weights|conv\.\d+)$", re.IGNORECASE)
"""How names of Darknet's files end: yolov3.weights; darknet53.conv.74, a backbone's."""
TINY = "yolov3-tiny"
"""Darknet's published weights that want other anchors than their cfg has."""


def statistics_of_file(path: str) -> Statistics:
    """By which images are normalised for the weights in a file, told by its name alone."""
    return DARKNET if DARKNETS.search(path) else IMAGENET


def asked_by_file(model: str, path: str) -> dict[str, Any]:
    """What published weights ask of the network: fields of a detector's `Config`.

    torchvision's are known by the digest in their name, or by that of the file; Darknet's by name.

    Args:
        model: what starts from them.
        path: of the file.
    """
    if DARKNETS.search(path):
        tiny = model == "yolov3_tiny" and Path(path).stem == TINY
        return {"anchors": in_a_row(TINY_ANCHORS_OF_WEIGHTS)} if tiny else {}
    known = published.of_file(path)
    epsilon = None if known is None else published.epsilon(*known)
    return {} if epsilon is None else {"norm_epsilon": epsilon, "frozen_norm": True}


def in_a_row(anchors: Any) -> tuple[float, ...]:
    """Width and height of each anchor, as a cfg of Darknet's lists them."""
    return tuple(np.asarray(anchors, float).ravel().tolist())


def of_file(model: str, path: str, classes: Sequence[str] = ()) -> Weights:
    """Weights in a file of torchvision's, with or without a head, or in one of Darknet's.

    Args:
        model: what starts from them.
        path: of the file.
        classes: of a detector's data: where COCO has them all, a head for COCO is taken over.

    Raises:
        Refused: there are none for such a network; the file is none, or of another network.
    """
    check_known(model, path)
    if DARKNETS.search(path):
        return of_darknet(model, path, classes)
    variant, classifier = models.variant(model), backbone_of(model)
    try:
        tensors = read(path)
        boxes = for_boxes(tensors)
        own = model in names() and (model == classifier or for_pixels(tensors) or boxes)
        theirs = model if own else classifier
        if own and boxes and (found := detector_of(tensors)) not in ("", model):
            raise ValueError(f"the weights are of {found}, not of {model}")
        variables = torchvision.from_torchvision(theirs, tensors, whole=False)
    except (OSError, ValueError, ImportError) as error:
        raise Refused(f"init_from={path!r}: {said(error, path)}") from error
    lines = [f"Starts from the weights in {path}."]
    if not family_of(theirs).boxes and "head" not in variables["params"]:
        lines = [f"Starts from the weights in {path}, which have no head."]
    used = sum(len(jax.tree.leaves(variables.get(name, {}))) for name in ("params", "batch_stats"))
    if over := sum(not key.endswith(torchvision.COUNTER) for key in tensors) - used:
        lines.append(f"Passed over: {over} tensors there that no layer of {theirs} has.")
    if asked := asked_by_file(model, path):
        lines.append(f"As these published weights want it: {shown(asked)}.")
    if variant.converted is not None:
        variables |= {"params": converted(variant, variables["params"])}
    weights = Weights(variables, {"file": os.path.abspath(path)}, said=lines)
    return for_classes(model, weights, classes) if own else weights


def of_darknet(model: str, path: str, classes: Sequence[str]) -> Weights:
    """Weights in a file of Darknet's, which may end behind the backbone."""
    try:
        count = darknet.classes_in(model, path)
        variables = darknet.from_darknet(model, path, whole=False, num_classes=count)
    except (OSError, ValueError) as error:
        raise Refused(f"init_from={path!r}: {said(error, path)}") from error
    lines = [f"Starts from Darknet's weights in {path}."]
    if asked := asked_by_file(model, path):
        lines.append(f"As these published weights want it: {shown(asked)}.")
    weights = Weights(variables, {"file": os.path.abspath(path)}, said=lines)
    return for_classes(model, weights, classes)


def for_classes(model: str, weights: Weights, classes: Sequence[str]) -> Weights:
    """The weights of a detector of COCO's classes, for some of these where all are among them."""
    params = coco.chosen(model, weights.variables["params"], classes)
    if params is None:
        return weights._replace(classes=coco.names(model, weights.variables["params"]))
    said = f"COCO has all {len(classes)} classes: the head's outputs for them are taken over."
    return weights._replace(
        variables={**weights.variables, "params": params},
        classes=tuple(classes),
        said=[*weights.said, said],
    )


def shown(fields: dict[str, Any]) -> str:
    """Fields as the command line has them."""

    def words(value: Any) -> str:
        return ",".join(f"{each:g}" for each in value) if isinstance(value, tuple) else str(value)

    return ", ".join(f"{name}={words(value)}" for name, value in fields.items())


def converted(variant: Any, params: dict[str, Any]) -> dict[str, Any]:
    """A classifier's parameters as another network's; without dense layers the backbone alone."""
    try:
        return variant.converted(params)
    except ValueError:  # a layer is missing
        return {BACKBONE: params[BACKBONE]}


def said(error: Exception, path: str) -> str:
    """What a reader of files says, without the path that it begins with."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.removeprefix(f"{Path(path)}: ")


def check_known(model: str, path: str) -> None:
    """Refuse a file for a network that there are no such weights of.

    Raises:
        Refused: it is one.
    """
    if DARKNETS.search(path):
        if model not in darknet.NAMES:
            raise Refused(
                f"init_from={path!r}: Darknet's weights are read for "
                f"{' and '.join(darknet.NAMES)}, not for {model}"
            )
    elif backbone_of(model) not in names():
        also = f", but Darknet's, *.weights, are read for {model}"
        raise Refused(
            f"init_from={path!r}: torchvision has no weights of {model}"
            f"{also if model in darknet.NAMES else ''}"
        )
