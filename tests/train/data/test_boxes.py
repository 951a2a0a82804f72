import numpy as np
import pytest

from train.data.boxes import boxes


def test_boxes_are_clipped_by_a_pixel_at_most():
    given = [[0, 0, 20, 10], [-1, -0.5, 21, 11], [19.5, 9.5, 20.25, 10.5]]
    wanted = [[0, 0, 20, 10], [0, 0, 20, 10], [19.5, 9.5, 20, 10]]
    np.testing.assert_array_equal(boxes(given, 10, 20), np.float32(wanted), strict=True)
    np.testing.assert_array_equal(boxes([], 10, 20), np.zeros((0, 4), np.float32), strict=True)


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
        ([3, 3, 3, 5], r"has no area \(image 20x10"),
        ([3, 5, 6, 3], "no area"),
        ([20, 0, 20.5, 3], "no area"),
    ],
)
def test_others_are_refused(box, message):
    with pytest.raises(ValueError, match=message):
        boxes([[0, 0, 1, 1], box], 10, 20)
