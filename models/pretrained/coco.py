"""COCO's classes, and a detector's weights for some of them.

    params = chosen("yolov3", variables["params"], ("cat", "dog"))

torchvision's published detectors have an output for each of COCO's category ids, 0 to 90, not all
of which are in use; Darknet's have one for each of the 80 classes, in the same order.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

import models

LISTED = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant,
-, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra,
giraffe, -, backpack, umbrella, -, -, handbag, tie, suitcase, frisbee, skis, snowboard, sports
ball, kite, baseball bat, baseball glove, skateboard, surfboard, tennis racket, bottle, -, wine
glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog,
pizza, donut, cake, chair, couch, potted plant, bed, -, dining table, -, -, toilet, -, tv, laptop,
mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, -, book, clock,
vase, scissors, teddy bear, hair drier, toothbrush
"""
CATEGORIES = ("-", *LISTED.replace("\n", " ").strip().split(", "))
"""By COCO's id; "-" where none is in use. Where a detector counts the background, it is 0."""
CLASSES = tuple(name for name in CATEGORIES if name != "-")
OTHERWISE = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}
"""What Pascal VOC and Darknet call some of them."""


class Head(NamedTuple):
    """How the outputs of a layer lie: `groups` times (`before`, then `each` for every class)."""

    groups: int = 1
    each: int = 1
    before: int = 0


class Published(NamedTuple):
    """What the outputs are of which a detector's published weights have some for each class."""

    names: tuple[str, ...]
    """In order; the first is the background's where the detector counts it."""
    heads: Mapping[str, Head]
    """Layer -> how its outputs lie."""


REGIONS = Published(CATEGORIES, {"roi_head/logits": Head(), "roi_head/deltas": Head(each=4)})
ANCHORS = Published(CATEGORIES, {"head/class_logits": Head(groups=9)})
YOLO = {f"head{level}_output": Head(groups=3, before=5) for level in (1, 2, 3)}
PUBLISHED: dict[str, Published] = {
    "fasterrcnn_resnet50_fpn": REGIONS,
    "fasterrcnn_resnet50_fpn_v2": REGIONS,
    "retinanet_resnet50_fpn": ANCHORS,
    "retinanet_resnet50_fpn_v2": ANCHORS,
    "fcos_resnet50_fpn": Published(CATEGORIES, {"head/class_logits": Head()}),
    "yolov3": Published(CLASSES, YOLO),
    "yolov3_tiny": Published(CLASSES, {f"head{n}_output": YOLO["head1_output"] for n in (1, 2)}),
}
"""By the detector."""


def names(name: str, params: Mapping[str, Any]) -> tuple[str, ...]:
    """What the outputs of published weights are called, without the background's; () of others.

    Args:
        name: of the network.
        params: its parameters; that they have as many outputs as published ones is all that tells.
    """
    if name not in PUBLISHED:
        return ()
    published = PUBLISHED[name]
    for path, head in published.heads.items():
        layer = at(params, path)
        wanted = head.groups * (head.before + head.each * len(published.names))
        if layer is None or layer["bias"].size != wanted:
            return ()
    return published.names[models.variant(name).background :]


def chosen(name: str, params: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any] | None:
    """A detector's parameters with outputs for these classes alone, in their order.

    Args:
        name: of the network.
        params: with outputs as published ones; they are left as they are.
        classes: by COCO's or VOC's names.

    Returns:
        None where one of them is none of COCO's, or these are no such parameters.
    """
    there = names(name, params)
    wanted = [OTHERWISE.get(each, each) for each in classes]
    if not there or not wanted or not {*wanted} <= {*CLASSES}:
        return None
    rows = [there.index(each) for each in wanted]
    if models.variant(name).background:
        rows = [0, *(row + 1 for row in rows)]
    found = dict(params)
    for path, head in PUBLISHED[name].heads.items():
        *above, last = path.split("/")
        inner = found
        for part in above:
            inner[part] = dict(inner[part])
            inner = inner[part]
        inner[last] = {leaf: taken(value, head, rows) for leaf, value in inner[last].items()}
    return found


def at(params: Mapping[str, Any], path: str) -> Any:
    """The layer at a path; None where there is none."""
    found: Any = params
    for part in path.split("/"):
        found = found.get(part) if found is not None else None
    return found


def taken(value: Any, head: Head, rows: Sequence[int]) -> Any:
    """Of a kernel (…, outputs) or a bias the outputs of some classes."""
    *lead, outputs = value.shape
    grouped = np.asarray(value).reshape(*lead, head.groups, outputs // head.groups)
    before, each = grouped[..., : head.before], grouped[..., head.before :]
    each = each.reshape(*lead, head.groups, -1, head.each)[..., np.asarray(rows), :]
    each = each.reshape(*lead, head.groups, -1)
    return jnp.asarray(np.concatenate([before, each], axis=-1).reshape(*lead, -1))
