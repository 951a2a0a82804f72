"""Errors by kind and the table of confusions, by hand."""

import numpy as np

from train.metrics.detection_errors import KINDS, above, confusion_table, kinds, missed

A, B, C, FAR = (0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10), (60, 60, 70, 70)
FOUND = [
    (A, 0, 0.9),  # correct
    (A, 0, 0.8),  # repeated
    (B, 0, 0.7),  # the object there is of class 1
    ((40, 0, 50, 3), 1, 0.6),  # IoU 0.3 with C
    (FAR, 1, 0.5),  # background
    ((80, 0, 90, 10), 0, 0.4),  # difficult
]
THERE = [(A, 0), (B, 1), (C, 1), ((80, 0, 90, 10), 0)]


def example():
    boxes, labels, scores = zip(*FOUND, strict=True)
    true, classes = zip(*THERE, strict=True)
    return {
        "boxes": np.float32(boxes), "labels": np.int32(labels), "scores": np.float32(scores),
        "true_boxes": np.float32(true), "true_labels": np.int32(classes),
        "crowd": np.zeros(4, bool), "difficult": np.array([False, False, False, True]),
    }  # fmt: skip


def empty():
    none = np.zeros(0, int)
    return {
        "boxes": np.zeros((0, 4)), "labels": none, "scores": np.zeros(0),
        "true_boxes": np.zeros((0, 4)), "true_labels": none,
        "crowd": none > 0, "difficult": none > 0,
    }  # fmt: skip


def test_every_detection_is_of_a_kind():
    said = [KINDS[kind] for kind in kinds(example())]
    assert said == ["correct", "repeated", "class", "localisation", "background", "ignored"]
    assert missed(example()).tolist() == [False, True, True, False]
    assert (kinds(empty()).shape, missed(empty()).shape) == ((0,), (0,))


def test_the_table_of_confusions():
    table = confusion_table([example(), empty()], 2)
    #                        said 0, 1, missed
    assert table.tolist() == [[1, 0, 0], [1, 0, 1], [1, 2, 0]]
    assert table[:2].sum(1).tolist() == [1, 2]  # the objects of each class
    assert confusion_table([], 3).tolist() == np.zeros((4, 4), int).tolist()


def test_an_object_is_taken_for_one_other_alone():
    twice = example()
    twice["labels"] = np.int32([1, 1, 1, 1, 1, 1])  # A taken for class 1, twice; B found
    assert confusion_table([twice], 2).tolist() == [[0, 1, 0], [0, 1, 1], [0, 4, 0]]


def test_detections_of_a_low_score_are_left_out():
    high = above(example(), 0.65)
    assert high["labels"].tolist() == [0, 0, 0]
    assert confusion_table([high], 2).tolist() == [[1, 0, 0], [1, 0, 1], [1, 0, 0]]
