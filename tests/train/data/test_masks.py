"""Masks as people have them: each form of a file gives the classes that were drawn."""

import numpy as np
import pytest
from image_files import encoded, palette, save
from PIL import Image

from train.data import masks
from train.data.decode import Unreadable
from train.data.legend import legend_of, plain
from train.data.mask_values import derived, settled
from train.data.masks import classed, mask_of
from train.refusal import Refused

CLASSES = np.array([[0, 1, 2], [2, 255, 0]], np.uint8)
NAMES = ("background", "road", "car")
TABLE = np.array([(0, 0, 0), (128, 64, 128), (0, 0, 142)], np.uint8)
PAINTED = legend_of(
    ["background:0,0,0::", "road:128,64,128::", "car:0,0,142::", "ignored:1,2,3::"], "x"
)
WHOLE = CLASSES % 3 * (CLASSES < 3)
"""The same with nothing ignored."""


def png(array, kind="PNG"):
    return encoded(Image.fromarray(array), kind)


def with_palette(values, colours):
    image = Image.fromarray(values).convert("P")
    image.putdata(values.ravel().tolist())
    image.putpalette(np.asarray(colours, np.uint8).ravel().tolist())
    return encoded(image, "PNG")


def vocs(classes):
    table = np.zeros((256, 3), np.uint8)
    table[:3] = [(0, 0, 0), (128, 0, 0), (0, 128, 0)]
    table[255] = (224, 224, 192)
    return table[classes]


def opaque(array, alpha=255):
    return np.concatenate([array, np.full((*array.shape[:2], 1), alpha, np.uint8)], -1)


@pytest.mark.parametrize(
    "data",
    [
        encoded(palette(CLASSES), "PNG"),
        png(CLASSES),
        png(CLASSES, "BMP"),
        png(CLASSES, "TIFF"),
        png(CLASSES.astype(np.uint16)),
        png(CLASSES.astype(np.int32), "TIFF"),
        png(np.repeat(CLASSES[..., None], 3, -1)),
        png(opaque(np.repeat(CLASSES[..., None], 3, -1))),
        png(opaque(CLASSES[..., None])),
        png(vocs(CLASSES)),
        png(opaque(vocs(CLASSES))),
        png(vocs(CLASSES), "PPM"),
    ],
    ids=["P", "L", "BMP", "TIFF", "I;16", "I", "RGB", "RGBA", "LA", "VOC", "VOC+A", "PPM"],
)
def test_values_in_any_form(data):
    found = classed(data, plain(NAMES), (2, 3))
    np.testing.assert_array_equal(found, CLASSES, strict=True)


SHOWN = np.where((CLASSES == 255)[..., None], np.uint8([1, 2, 3]), TABLE[WHOLE])


@pytest.mark.parametrize(
    "data",
    [
        png(SHOWN),
        png(opaque(SHOWN)),
        encoded(Image.fromarray(SHOWN).quantize(8), "PNG"),
        with_palette(np.array([[3, 2, 1], [1, 0, 3]], np.uint8), [(1, 2, 3), *TABLE[::-1]]),
        png(CLASSES),  # as another exporter leaves them: values
        with_palette(CLASSES, np.full((256, 3), 77)),
    ],
    ids=["RGB", "RGBA", "quantized", "reversed", "L", "P"],
)
def test_a_colour_table_of_the_set(data):
    np.testing.assert_array_equal(classed(data, PAINTED, (2, 3)), CLASSES, strict=True)


def test_grey_shades_of_a_table_are_its_colours():
    legend = legend_of(["background:0,0,0::", "road:255,255,255::"], "x")
    shades = np.array([[0, 255]], np.uint8)
    for data in (png(shades), png(np.repeat(shades[..., None], 3, -1))):
        np.testing.assert_array_equal(classed(data, legend, (1, 2)), [[0, 1]])


def test_values_that_were_said():
    legend = legend_of(["background", "road=255", "car=100"], "x")
    np.testing.assert_array_equal(
        classed(png(np.array([[255, 100, 0]], np.uint8)), legend, (1, 3)), [[1, 2, 0]]
    )
    with pytest.raises(ValueError, match=r"of class 1, none of 0 \(background\), 255 \(road\)"):
        classed(png(np.array([[1]], np.uint8)), legend, (1, 1))


def strange(value, dtype=np.uint8, shape=(2, 3)):
    found = np.zeros(shape, dtype)
    found[1, 2] = value
    return found


@pytest.mark.parametrize(
    ("data", "legend", "message"),
    [
        (
            png(strange(3)),
            plain(NAMES),
            r"pixel \(1, 2\) is of class 3, outside the 3 classes 0..2",
        ),
        (png(strange(300, np.uint16)), plain(NAMES), r"\(1, 2\) is of class 300, outside"),
        (png(strange(-1, np.int32), "TIFF"), plain(NAMES), r"\(1, 2\) is of class -1, outside"),
        (
            png(strange((9, 8, 7), shape=(2, 3, 3))),
            plain(NAMES),
            r"\(1, 2\) has the colour \(9, 8, 7\), which is none of the 3 .* NAME=#090807",
        ),
        (png(strange((9, 8, 7), shape=(2, 3, 3))), PAINTED, r"the colour \(9, 8, 7\), which is no"),
        (
            png(opaque(vocs(WHOLE), 254)),
            plain(NAMES),
            r"\(0, 0\) has opacity 254 of 255; wanted: a mask that is opaque",
        ),
        (png(CLASSES, "JPEG"), plain(NAMES), "it is a JPEG, which changes classes"),
        (png(CLASSES.astype(np.float32), "TIFF"), plain(NAMES), "mode F; wanted: one channel"),
        (png(np.zeros((3, 2), np.uint8)), plain(NAMES), "the mask is 2x3, its image 3x2"),
        (b"no picture", plain(NAMES), "no picture of a format that is read"),
    ],
)
def test_what_is_no_class_is_named(tmp_path, data, legend, message):
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(Unreadable, match=rf"a\.png, example 7: .*{message}"):
        mask_of(tmp_path / "a.png", 7, (2, 3, 3), legend)


def files(folder, *held):
    """Masks of one row, with these values."""
    return [
        save(folder / f"{i}.png", np.array([values], np.uint8)[..., None])
        for i, values in enumerate(held)
    ]


TWO = plain(("background", "road"))


def test_white_is_the_second_of_two_classes(tmp_path):
    legend, note = settled(TWO, files(tmp_path, [0, 0], [0, 255], [255, 255]))
    assert (legend.values, legend.said) == ((0, 255), True)
    assert note.startswith("The masks hold 0 and 255 alone: 255 is 'road'")
    found = mask_of(tmp_path / "1.png", 0, (1, 2, 3), legend)
    np.testing.assert_array_equal(found, [[0, 1]])
    # One that says otherwise is refused when it is read.
    (other,) = files(tmp_path / "other", [1, 255])
    with pytest.raises(Unreadable, match="of class 1, none of 0"):
        mask_of(other, 0, (1, 2, 3), legend)


@pytest.mark.parametrize(
    ("legend", "held"),
    [
        (TWO, [[0, 255]] * 15 + [[0, 1]]),
        (TWO, [[0, 0], [0, 0]]),
        (TWO, [[0, 255], [0, 7]]),
        (plain(NAMES), [[0, 255]]),
        (legend_of(["background", "road=1"], "x"), [[0, 255]]),
        (legend_of(["background:0,0,0::", "road:255,255,255::"], "x"), [[0, 255]]),
    ],
)
def test_else_nothing_is_assumed(tmp_path, legend, held):
    assert settled(legend, files(tmp_path, *held)) == (legend, "")


def test_masks_in_colour_are_left_to_the_table(tmp_path):
    path = save(tmp_path / "a.png", vocs(CLASSES))
    assert settled(TWO, [path]) == (TWO, "")
    with pytest.raises(Refused, match=r"x: .*a\.png is in colour.*labelmap\.txt.*--classes"):
        derived("x", [path])


@pytest.mark.parametrize(
    ("held", "values"),
    [
        ([[0, 1], [2, 255]], (0, 1, 2)),
        ([[0, 255], [0, 0]], (0, 255)),
        ([[0, 100], [200, 0]], (0, 100, 200)),
        ([[1, 2], [3, 3]], (1, 2, 3)),
    ],
)
def test_classes_are_the_values_where_no_list_names_them(tmp_path, held, values):
    paths = files(tmp_path, *held)
    (tmp_path / "broken.png").write_bytes(b"")
    legend, note = derived("x", [*paths, tmp_path / "broken.png"])
    assert (legend.names, legend.values) == (tuple(map(str, values)), values)
    ignored = "; 255 is ignored" if values == (0, 1, 2) else ""
    assert f"that all 3 training masks hold, {', '.join(map(str, values))}{ignored}." in note
    assert mask_of(paths[0], 0, (1, 2, 3), legend).max() in (1, len(values) - 1)


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ([[0, 100], [200, 255]], "x: its masks hold 0, 100, 200, 255, .* whether 255 is a class"),
        ([[0, 0]], "its masks hold 0: classes are two at least"),
        ([range(80)], "more than 64 values, up to 79"),
    ],
)
def test_values_that_leave_it_open_are_refused(tmp_path, held, message):
    with pytest.raises(Refused, match=message):
        derived("x", files(tmp_path, *held))


def test_masks_of_which_none_can_be_read_are_refused_by_the_first(tmp_path):
    save(tmp_path / "a.jpg", CLASSES[..., None])
    with pytest.raises(Refused, match=r"x: none .* can be read; the first: .*a\.jpg: it is a JPEG"):
        derived("x", [tmp_path / "a.jpg"])


def test_a_mask_is_decoded_once(monkeypatch):
    count = []
    whole = masks.opened
    monkeypatch.setattr(masks, "opened", lambda data: (count.append(1), whole(data))[1])
    classed(png(CLASSES), plain(NAMES), (2, 3))
    assert len(count) == 1
