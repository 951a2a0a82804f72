"""Pictures with masks and boxes: colours and edges to the pixel."""

import numpy as np

from train.data.source import About
from train.report.overlay import LINES, overlaid

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
