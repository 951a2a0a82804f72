"""Pascal VOC's averages by hand: matching in the order of scores, difficult objects and crowds."""

import math

import numpy as np
import pytest

from train.metrics.detection import (
    Curve,
    area,
    covered,
    curves,
    eleven_points,
    iou,
    outcomes,
    over_classes,
)


def example(found=(), there=(), *, crowd=(), difficult=()):
    """Found (box, label, score); there (box, label); rows of crowds and difficult objects."""
    boxes, labels, scores = zip(*found, strict=True) if found else ((), (), ())
    true, classes = zip(*there, strict=True) if there else ((), ())
    rows = np.arange(len(true))
    return {
        "boxes": np.float32(boxes).reshape(-1, 4),
        "labels": np.int32(labels),
        "scores": np.float32(scores),
        "true_boxes": np.float32(true).reshape(-1, 4),
        "true_labels": np.int32(classes),
        "crowd": np.isin(rows, crowd),
        "difficult": np.isin(rows, difficult),
    }


A, B, FAR = (0, 0, 10, 10), (20, 0, 30, 10), (50, 50, 60, 60)
HALF = (0, 0, 10, 5)  # IoU of exactly a half with A


def test_iou_by_hand():
    boxes = np.array([A, (5, 0, 15, 10), (3, 3, 3, 9)])
    np.testing.assert_allclose(iou(boxes, boxes), [[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 0]])
    np.testing.assert_allclose(covered(boxes, boxes[:1])[:, 0], [1, 0.5, 0])
    assert iou(np.zeros((0, 4)), boxes).shape == (0, 3)


def test_a_second_detection_of_an_object_is_false():
    one = example([(A, 0, 0.9), (A, 0, 0.8), (B, 0, 0.7), (FAR, 0, 0.6)], [(A, 0), (B, 0)])
    result, whose = outcomes(one)
    assert result.tolist() == [1, 0, 1, 0]
    assert whose.tolist() == [0, -1, 1, -1]


def test_the_threshold_itself_is_enough():
    assert outcomes(example([(HALF, 0, 0.9)], [(A, 0)]))[0].tolist() == [1]
    assert outcomes(example([(HALF, 0, 0.9)], [(A, 0)]), 0.51)[0].tolist() == [0]


def test_a_detection_looks_at_the_object_that_it_overlaps_most_taken_or_not():
    near = (0, 0, 10, 9)
    one = example([(A, 0, 0.9), (near, 0, 0.8)], [(A, 0), ((0, 0, 10, 7), 0)])
    # The second has 0.78 with the other object, but 0.9 with the one that is taken.
    assert outcomes(one)[0].tolist() == [1, 0]


def test_difficult_objects_and_crowds_count_for_nothing():
    found = [(A, 0, 0.9), (A, 0, 0.8), (FAR, 0, 0.7), (FAR, 1, 0.6)]
    one = example(found, [(A, 0), ((40, 40, 90, 90), 0)], crowd=[1], difficult=[0])
    assert outcomes(one)[0].tolist() == [-1, -1, -1, 0]
    (none, other) = curves([one], 2)
    assert (none.positives, len(none.found)) == (0, 0)
    assert (other.positives, other.precision.tolist()) == (0, [0])
    assert math.isnan(area(none))
    assert math.isnan(eleven_points(other))


def test_a_class_of_its_own():
    assert outcomes(example([(A, 1, 0.9)], [(A, 0)]))[0].tolist() == [0]


def test_averages_by_hand():
    # Right, wrong, right, wrong, right of four objects: precision 1, 1/2, 2/3, 1/2, 3/5.
    curve = Curve(np.array([1, 1, 2, 2, 3]), np.array([1, 1 / 2, 2 / 3, 1 / 2, 3 / 5]), None, 4)
    np.testing.assert_allclose(curve.recall, [0.25, 0.25, 0.5, 0.5, 0.75])
    # The envelope: the fourth place has 3/5, of the one behind it.
    assert area(curve) == pytest.approx((1 + 2 / 3 + 3 / 5) / 4)
    # Recalls 0, 0.1, 0.2 | 0.3, 0.4, 0.5 | 0.6, 0.7 | none.
    assert eleven_points(curve) == pytest.approx((3 * 1 + 3 * 2 / 3 + 2 * 3 / 5) / 11)


def test_the_envelope_falls_where_precision_rises_later():
    curve = Curve(np.array([0, 1, 2]), np.array([0, 1 / 2, 2 / 3]), None, 2)
    assert area(curve) == pytest.approx(2 / 3)
    assert eleven_points(curve) == pytest.approx(2 / 3)


def test_three_of_ten_are_a_recall_of_three_tenths():
    curve = Curve(np.array([1, 2, 3]), np.ones(3), None, 10)
    assert eleven_points(curve) == pytest.approx(4 / 11)


def test_all_found_is_one_and_nothing_found_is_zero():
    (curve,) = curves([example([(A, 0, 0.9)], [(A, 0)])], 1)
    assert area(curve) == eleven_points(curve) == 1
    (curve,) = curves([example([], [(A, 0)])], 1)
    assert area(curve) == eleven_points(curve) == 0


def test_scores_order_detections_across_images_and_ties_stay():
    first = example([(FAR, 0, 0.5)], [(A, 0)])
    second = example([(A, 0, 0.9), (B, 0, 0.5)], [(A, 0), (B, 0)])
    empty = example([(FAR, 0, 0.1)])
    (curve,) = curves([first, second, empty], 1)
    assert curve.found.tolist() == [1, 1, 2, 2]
    assert curve.positives == 3
    (other,) = curves([empty, second, first], 1)
    assert other.found.tolist() == [1, 2, 2, 2]  # of equal scores the earlier image comes first


def test_no_examples_and_no_objects():
    assert [one.positives for one in curves([], 2)] == [0, 0]
    assert math.isnan(over_classes([area(one) for one in curves([], 2)]))
    assert over_classes([1.0, math.nan, 0.5]) == 0.75
