from types import SimpleNamespace

import numpy as np
import pytest

from train.data.boxes import boxes, clipped_said, empty_said, leaving, solid


def test_boxes_are_clipped_by_a_pixel_at_most():
    given = [[0, 0, 20, 10], [-1, -0.5, 21, 11], [19.5, 9.5, 20.25, 10.5]]
    wanted = [[0, 0, 20, 10], [0, 0, 20, 10], [19.5, 9.5, 20, 10]]
    np.testing.assert_array_equal(boxes(given, 10, 20), np.float32(wanted), strict=True)
    np.testing.assert_array_equal(boxes([], 10, 20), np.zeros((0, 4), np.float32), strict=True)


def test_boxes_are_clipped_by_a_hundredth_of_a_side_where_that_is_more():
    given = [[-4, -3, 404, 303], [-4, 0, 5, 5], [0, 0, 9, 303]]  # of 400x300
    wanted = [[0, 0, 400, 300], [0, 0, 5, 5], [0, 0, 9, 300]]
    np.testing.assert_array_equal(boxes(given, 300, 400), np.float32(wanted), strict=True)
    for beyond in ([-4.1, 0, 5, 5], [0, -3.1, 5, 5], [0, 0, 404.1, 5], [0, 0, 5, 303.1]):
        with pytest.raises(ValueError, match="outside"):
            boxes([beyond], 300, 400)
    nothing = boxes([[-4, 0, 0, 9]], 300, 400)  # nothing of it is left
    np.testing.assert_array_equal(nothing, np.float32([[0, 0, 0, 9]]), strict=True)


def test_boxes_without_an_area_are_none():
    given = [[3, 3, 3, 5], [3, 3, 4, 5], [3, 5, 6, 5], [2, 2, 2, 2], [20, 0, 20.5, 3]]
    assert solid(boxes(given, 10, 20)).tolist() == [False, True, False, False, False]
    assert solid(boxes([], 10, 20)).tolist() == []


def test_boxes_that_were_clipped_are_counted():
    assert leaving([[0, 0, 20, 10], [-0.25, 0, 20, 10], [1, 1, 20.5, 10.5]], 10, 20) == 2
    assert leaving([], 10, 20) == 0


def test_what_is_said_of_them():
    source = SimpleNamespace(clipped={5: 2, 3: 1})
    assert clipped_said(source) == (
        "Clipped: 3 boxes in 2 of the examples read, beyond the image by at most 1 pixel or 1 % "
        "of its side; the first is in example 3."
    )
    source.name = "{}.jpg".format
    assert clipped_said(source).endswith("in example 3 (3.jpg).")
    source.empty = {7: 1}
    assert empty_said(source) == (
        "Empty: 1 box in 1 of the examples read, which have no area and are dropped; the first is "
        "in example 7 (7.jpg)."
    )
    assert empty_said(SimpleNamespace()) == ""
    assert clipped_said(SimpleNamespace()) == clipped_said(SimpleNamespace(clipped={})) == ""


@pytest.mark.parametrize(
    ("box", "message"),
    [
        (
            [0, 0, 21.5, 10],
            r"box 1, x0 y0 x1 y1 = 0, 0, 21.5, 10, lies outside its image \(image 20x10",
        ),
        ([-1.5, 0, 3, 3], "outside"),
        ([0, 0, 10, 20], "outside"),
        ([float("nan"), 0, 3, 3], "outside"),
        ([0, 0, float("inf"), 3], "outside"),
        ([3, 3, 2, 5], r"has no area \(image 20x10"),
        ([3, 5, 6, 3], "no area"),
    ],
)
def test_others_are_refused(box, message):
    with pytest.raises(ValueError, match=message):
        boxes([[0, 0, 1, 1], box], 10, 20)
