"""Anchors: torchvision's, and centres by hand."""

import pathlib

import numpy as np
import pytest

from models.detection.anchors import base_anchors, centres, grid_anchors

GOLDEN = np.load(pathlib.Path(__file__).parents[2] / "golden" / "torchvision_boxes.npz")
RATIOS = (0.5, 1.0, 2.0)
LEVELS = {
    "fpn": ((48, 70), ((12, 18), (6, 9), (2, 3)), ((32,), (64,), (128,)), (RATIOS,) * 3),
    "retina": ((40, 56), ((5, 7), (2, 3)), ((32, 40, 50), (64, 80, 101)), (RATIOS,) * 2),
    "uneven": ((33, 47), ((4, 5), (1, 1)), ((11,), (15.5, 27)), ((0.3, 1.7), (1.0,))),
}


@pytest.mark.parametrize("name", LEVELS)
def test_anchors_equal_torchvision(name):
    levels = grid_anchors(*LEVELS[name])
    assert [len(level) for level in levels] == [
        h * w * len(s) * len(r) for (h, w), s, r in zip(*LEVELS[name][1:], strict=True)
    ]
    assert all(level.dtype == np.float32 for level in levels)
    np.testing.assert_array_equal(np.concatenate(levels), GOLDEN[f"anchors/{name}"])


def test_base_anchors_of_faster_rcnn():
    expected = [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]]
    np.testing.assert_array_equal(base_anchors((32,), RATIOS), expected)


def test_centres_by_hand():
    points = centres((2, 3), (8, 4))
    np.testing.assert_array_equal(points, [[2, 4], [6, 4], [10, 4], [2, 12], [6, 12], [10, 12]])
    np.testing.assert_array_equal(centres((1, 2), (8, 8), offset=0), [[0, 0], [8, 0]])
    assert points.dtype == np.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": ((8,),)}, "2 maps, 1 levels of sizes"),
        ({"maps": ((4, 4), (0, 4))}, r"map of \(0, 4\)"),
        ({"maps": ((40, 4), (2, 2))}, r"map of \(40, 4\) for an image of \(32, 32\)"),
        ({"sizes": ((8,), ())}, r"sizes=\(\)"),
        ({"ratios": ((1.0,), (0.0,))}, r"ratios=\(0.0,\)"),
    ],
)
def test_refusals(change, message):
    given = {"maps": ((4, 4), (2, 2)), "sizes": ((8,), (16,)), "ratios": ((1.0,), (1.0,))}
    with pytest.raises(ValueError, match=message):
        grid_anchors((32, 32), **given | change)
