"""Pictures with masks and boxes: colours and edges to the pixel."""

import numpy as np
import pytest

from train.data.source import About
from train.report.overlay import LINES, overlaid, place
from train.report.text import SIZE, extent

ABOUT = About(
    "pets",
    "test",
    ("cat", "dog"),
    mirror=True,
    mask_classes=("ground", "cat"),
    colours=((0, 0, 0), (200, 100, 0)),
)
GREY = np.full((12, 16, 1), 100, np.uint8)


def test_an_image_is_enlarged_by_whole_pixels_and_grey_is_grey():
    image = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
    drawn = np.asarray(overlaid({"image": image}, ABOUT, scale=2))
    np.testing.assert_array_equal(drawn, image.repeat(2, 0).repeat(2, 1).repeat(3, 2))


def test_floats_are_rounded_and_clipped():
    image = np.array([[[-5.0], [99.6], [300.0], [np.nan]]], np.float32)
    assert np.asarray(overlaid({"image": image}, ABOUT))[0, :, 0].tolist() == [0, 100, 255, 0]


def test_a_mask_is_half_its_colour_and_the_background_stays():
    mask = np.zeros((12, 16), np.uint8)
    mask[3, 4], mask[0, :4] = 1, 255
    drawn = np.asarray(overlaid({"image": GREY, "mask": mask}, ABOUT))
    assert drawn[3, 4].tolist() == [150, 100, 50]
    assert drawn[5, 5].tolist() == [100, 100, 100]
    # What is ignored is striped with white.
    assert drawn[0, :4, 0].tolist() == [162, 162, 100, 100]


def test_a_box_is_drawn_on_its_outermost_pixels():
    about = About("pets", "test", (), mirror=True)
    example = {
        "image": GREY,
        "boxes": np.array([[2, 3, 10, 9], [0, 0, 16, 12]], np.float32),
        "box_label": np.array([1, 0]),
        "box_valid": np.array([True, False]),
    }
    drawn = np.asarray(overlaid(example, about))
    inked = (drawn == LINES[1]).all(-1)
    rows, columns = np.flatnonzero(inked.any(1)), np.flatnonzero(inked.any(0))
    assert (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) == (2, 3, 10, 9)
    assert not inked[5:7, 4:8].any()


def test_a_box_at_the_border_keeps_its_name_inside():
    example = {"image": GREY.repeat(4, 0).repeat(4, 1), "boxes": np.array([[60.0, 0, 64, 4]])}
    drawn = np.asarray(overlaid(example, ABOUT))
    assert drawn.shape == (48, 64, 3)
    assert (drawn == LINES[0]).all(-1)[:, :58].any()  # the name's ground, moved to the left


@pytest.mark.parametrize(
    ("boxes", "taken", "corner"),
    [
        ([[20, 30, 50, 60]], [], (20, 20)),  # above
        ([[20, 5, 50, 60]], [], (20, 60)),  # no room there: below
        ([[20, 30, 50, 60]], [[10, 15, 30, 25]], (30, 20)),  # beside another name
        ([[20, 30, 50, 60], [0, 10, 60, 30]], [], (20, 60)),  # not over another object
        ([[70, 30, 90, 60]], [], (70, 20)),
        ([[85, 30, 99, 60]], [], (80, 20)),  # moved into the picture
        ([[0, 0, 100, 100]], [], (0, 0)),  # nowhere but in itself
    ],
)
def test_a_name_stands_where_it_covers_least(boxes, taken, corner):
    taken = np.array(taken, np.float64).reshape(-1, 4)
    found = place(np.array(boxes, np.float64), 0, (20, 10), (100, 100), taken)
    assert found.tolist() == [*corner, corner[0] + 20, corner[1] + 10]


def test_names_of_boxes_side_by_side_do_not_cover_one_another():
    boxes = np.array([[8, 30, 20, 44], [22, 31, 34, 45], [36, 30, 48, 44]], np.float64)
    labels, names = np.array([0, 1, 0]), ("cat 0.90", "dog 0.90")
    image = np.full((96, 96, 3), 100, np.uint8)
    example = {"image": image, "boxes": boxes, "box_label": labels, "scores": np.full(3, 0.9)}
    drawn = np.asarray(overlaid(example, ABOUT))
    for label, count in ((0, 2), (1, 1)):
        width, height = extent(names[label])
        ground = (drawn == LINES[label]).all(-1).sum()
        assert ground > count * 0.6 * width * height  # the rest are the letters


def test_on_a_large_picture_names_grow_with_it():
    example = {"image": np.zeros((900, 1920, 1), np.uint8), "boxes": np.array([[90.0, 90, 99, 99]])}
    ground = (np.asarray(overlaid(example, ABOUT)) == LINES[0]).all(-1)
    size = 1920 // 64
    assert size > 2 * SIZE
    assert np.flatnonzero(ground[:, 100:].any(1)).size == extent("cat", size=size)[1]
