"""Pictures of the inside of networks: colours by hand, and boxes where the fields are."""

import numpy as np
import pytest
from PIL import Image

from train.report.colours import coloured, heated, mixed, scaled, signed
from train.report.figures import own_settings
from train.report.grad_cam import Seen, draw_heat, drawn_pairs
from train.report.kernels import drawn_kernels
from train.report.maps import draw_series, drawn_maps
from train.report.receptive_field import Field, beyond, draw_boxes, draw_lines

RIGHTLY, WRONGLY = (0x1B, 0x78, 0x37), (0xB2, 0x18, 0x2B)
RNG = np.random.default_rng(0)


def test_weights_of_0_are_white_or_grey_and_gaps_are_told_from_them():
    with own_settings():
        found = signed(np.array([[0.0, 1, -1, np.nan]]))[0].astype(int)
    assert found[0].min() > 240
    assert found[1][0] > found[1][2]
    assert found[2][2] > found[2][0]
    assert found[3].tolist() == [190] * 3
    three = mixed(np.array([[[0.0, 1, -1], [np.nan] * 3]]))
    assert three.tolist() == [[[128, 255, 0], [255] * 3]]


def test_values_are_scaled_from_0_to_the_largest():
    np.testing.assert_allclose(scaled(np.array([1.0, 2, 4])), [0.25, 0.5, 1])
    np.testing.assert_allclose(scaled(np.array([-1.0, 0, 3])), [0, 0.25, 1])
    np.testing.assert_array_equal(scaled(np.zeros(2)), [0, 0])


def test_without_heat_a_picture_stays_in_grey():
    picture = np.full((1, 2, 3), 100, np.uint8)
    found = heated(picture, np.array([[0.0, 1.0]]))
    assert found[0, 0].tolist() == [100] * 3
    (hottest,) = coloured(np.ones(1), "turbo")
    np.testing.assert_allclose(found[0, 1], 0.35 * 100 + 0.65 * hottest, atol=1)


@pytest.mark.parametrize(
    "shape", [(3, 3, 1, 4), (5, 5, 3, 6), (2, 2, 2, 3), (5, 2, 4), (1, 1, 1, 200)]
)
def test_kernels_of_any_form_are_drawn(shape):
    found = drawn_kernels("conv", RNG.normal(size=shape))
    assert found.mode == "RGB"
    assert min(found.size) > 40
    assert max(found.size) < 1200
    assert len(found.getcolors(2**24)) > 4


def test_maps_stand_beside_each_example():
    maps, pixels = RNG.random((2, 8, 8, 40)), np.zeros((2, 16, 16, 1), np.uint8)
    found = np.asarray(drawn_maps("conv", maps, pixels))
    one = np.asarray(drawn_maps("conv", maps[:1], pixels[:1]))
    # 32 channels of each of two, in two rows of 16; 40 of one, in five rows of 8.
    assert found.shape[1] > 16 * 64
    assert one.shape[0] > 5 * 64
    assert found.shape[0] < one.shape[0]


def test_signals_stand_over_their_maps():
    signals = [RNG.normal(size=(n, 1)) for n in (8, 5)]
    with own_settings():
        made = draw_series([RNG.random((4, 3)), RNG.random((3, 3))], signals, None)
        (image,) = made.axes[3].images
        assert [*image.get_extent()] == [-0.5, 4.5, 3, 0]
        assert image.get_array().shape == (3, 3)


def test_words_are_green_where_they_are_right():
    heat = np.zeros((4, 4))
    heat[1, 1] = 1
    seen = [Seen(np.zeros((4, 4, 1), np.uint8), heat, "a.png", "cat 0.9", True)] * 3
    pairs = np.asarray(drawn_pairs(seen)).astype(int)
    green, red = (np.abs(pairs - one).sum(-1).min() for one in (RIGHTLY, WRONGLY))
    assert green < 60 < red
    with own_settings():
        signal = Seen(RNG.normal(size=(6, 1)), np.arange(6.0), "a.wav", "bell 0.9", False)
        axes = draw_heat([signal], 2).axes[0]
        assert axes.title.get_color() == "#B2182B"
        assert [*axes.images[0].get_extent()][:2] == [-0.25, 2.75]


def test_boxes_are_where_the_fields_are():
    weights = {"before training": RNG.random((8, 6)), "step 3": RNG.random((8, 6))}
    with own_settings():
        made = draw_boxes({"stage1": Field((5, 3), ((2, 6), (-1, 1)), weights)})
        assert made.axes[0].get_title() == "stage1: 5x3"
        for axes in made.axes:
            (box,) = axes.patches
            assert (box.get_x(), box.get_y()) == (-1, 2)
            assert (box.get_width(), box.get_height()) == (3, 5)


def test_lines_stand_before_the_field_of_series():
    weights = {"random weights": RNG.random(9)}
    with own_settings():
        axes = draw_lines({"level1": Field((5,), ((2, 6),), weights)}).axes[0]
        (span,) = axes.patches
        assert (span.get_x(), span.get_width()) == (1.5, 5)
        np.testing.assert_allclose(axes.lines[0].get_ydata().max(), 1)


def test_a_picture_of_three_channels_is_in_colour():
    found = drawn_kernels("conv", np.ones((2, 2, 3, 1)))
    assert isinstance(found, Image.Image)
    assert (np.asarray(found) == 255).all(-1).any()


def test_a_field_that_reaches_into_the_padding_is_said_to():
    weights = {"now": np.ones((8, 8))}
    assert not beyond(Field((3, 3), ((0, 2), (5, 7)), weights))
    assert beyond(Field((3, 3), ((-1, 1), (3, 5)), weights))
    assert beyond(Field((3, 3), ((3, 5), (6, 8)), weights))
