"""COCO's classes out of a detector's weights."""

import numpy as np
import pytest

from models.pretrained.coco import CATEGORIES, CLASSES, PUBLISHED, chosen, names


def numbered(shape):
    """A layer whose outputs are numbered: the bias by themselves, the kernel above 1000."""
    *_, outputs = shape
    kernel = np.broadcast_to(1000.0 + np.arange(outputs, dtype=np.float32), shape)
    return {"kernel": kernel, "bias": np.arange(outputs, dtype=np.float32)}


def regions(outputs=91):
    last = {"logits": numbered((2, outputs)), "deltas": numbered((2, 4 * outputs))}
    return {"backbone": {"bias": 1}, "roi_head": {"hidden1": {"bias": 2}, **last}}


def test_the_classes_are_cocos():
    assert len(CATEGORIES) == 91
    assert len(CLASSES) == len({*CLASSES}) == 80
    # Ids as instances_val2017.json has them.
    for number, name in {1: "person", 13: "stop sign", 44: "bottle", 62: "chair"}.items():
        assert CATEGORIES[number] == name
    for number, name in {72: "tv", 84: "book", 90: "toothbrush", 37: "sports ball"}.items():
        assert CATEGORIES[number] == name
    assert [i for i, name in enumerate(CATEGORIES) if name == "-"] == [
        *(0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
    ]
    # Darknet's count, from 0: coco.names has them in the order of the ids.
    assert (CLASSES[16], CLASSES[56], CLASSES[79]) == ("dog", "chair", "toothbrush")


@pytest.mark.parametrize("name", ["fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2"])
def test_of_regions_the_background_is_kept(name):
    params = regions()
    head = chosen(name, params, ("dog", "person"))["roi_head"]
    np.testing.assert_array_equal(head["logits"]["bias"], [0, 18, 1])
    np.testing.assert_array_equal(head["logits"]["kernel"][1], [1000, 1018, 1001])
    four = [0, 1, 2, 3, 72, 73, 74, 75, 4, 5, 6, 7]
    np.testing.assert_array_equal(head["deltas"]["bias"], four)
    np.testing.assert_array_equal(head["deltas"]["kernel"][0], np.add(four, 1000))
    assert head["hidden1"] == {"bias": 2}
    assert params["roi_head"]["logits"]["bias"].size == 91  # as it was
    assert names(name, params) == CATEGORIES[1:]


@pytest.mark.parametrize(
    ("name", "anchors"),
    [("retinanet_resnet50_fpn", 9), ("retinanet_resnet50_fpn_v2", 9), ("fcos_resnet50_fpn", 1)],
)
def test_of_anchors_each_has_the_classes(name, anchors):
    params = {"head": {"class_logits": numbered((3, 3, 2, anchors * 91))}}
    layer = chosen(name, params, ("tvmonitor", "cat"))["head"]["class_logits"]
    expected = (91 * np.arange(anchors)[:, None] + [72, 17]).ravel()
    np.testing.assert_array_equal(layer["bias"], expected)
    np.testing.assert_array_equal(layer["kernel"][2, 1, 0], 1000 + expected)
    assert names(name, params) == CATEGORIES


@pytest.mark.parametrize(("name", "levels"), [("yolov3", 3), ("yolov3_tiny", 2)])
def test_of_yolo_each_anchor_keeps_its_box(name, levels):
    layers = {f"head{n}_output": numbered((1, 1, 2, 255)) for n in range(1, levels + 1)}
    found = chosen(name, layers, ("toothbrush", "aeroplane", "person"))
    expected = (85 * np.arange(3)[:, None] + [0, 1, 2, 3, 4, 84, 9, 5]).ravel()
    assert found.keys() == layers.keys()
    for layer in found.values():
        np.testing.assert_array_equal(layer["bias"], expected)
    assert names(name, layers) == CLASSES


@pytest.mark.parametrize(
    ("name", "params", "classes"),
    [
        ("fasterrcnn_resnet50_fpn", regions(), ("dog", "unicorn")),
        ("fasterrcnn_resnet50_fpn", regions(), ()),
        ("fasterrcnn_resnet50_fpn", regions(), ("-",)),
        ("fasterrcnn_resnet50_fpn", regions(80), ("dog",)),
        ("fasterrcnn_resnet50_fpn", {"backbone": {}}, ("dog",)),
        ("fasterrcnn_resnet18_fpn", regions(), ("dog",)),
        ("yolov3", {f"head{n}_output": numbered((1, 1, 2, 30)) for n in (1, 2, 3)}, ("dog",)),
    ],
)
def test_of_other_classes_or_weights_nothing_is_chosen(name, params, classes):
    assert chosen(name, params, classes) is None


def test_all_detectors_with_published_weights_are_there():
    assert len(PUBLISHED) == 7
