import math

import numpy as np
import pytest

from train.data import statistics
from train.data.arrays import Arrays
from train.data.masks import missing
from train.data.source import About
from train.data.statistics import measure, measured
from train.data.subset import subset
from train.refusal import Refused

ABOUT = About(name="toy", split="train", classes=("a",), mirror=True)


def toy(images):
    return Arrays({"image": images}, ABOUT)


def test_by_hand():
    images = np.zeros((2, 1, 2, 3), np.uint8)
    images[..., 0] = [[[0, 255]], [[0, 255]]]
    images[..., 1] = [[[1, 2]], [[3, 6]]]
    images[..., 2] = 7
    mean, std = measure(toy(images))
    assert mean == (127.5, 3.0, 7.0)
    assert std == (127.5, math.sqrt(3.5), 1.0)  # a constant channel: 1, to divide by


def test_against_numpy_over_several_reads():
    images = np.random.default_rng(0).integers(0, 256, (600, 5, 4, 3), np.uint8)
    about = measured(toy(images))
    pixels = images.reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(about.mean, pixels.mean(0), rtol=1e-12)
    np.testing.assert_allclose(about.std, pixels.std(0), rtol=1e-12)
    assert (about.name, about.split, about.classes) == ("toy", "train", ("a",))


def test_of_images_of_varying_size_every_pixel_counts_once():
    images = [np.full((1, 1, 1), 10, np.uint8), np.full((1, 3, 1), 50, np.uint8)]
    assert measure(toy(images)) == ((40.0,), (math.sqrt(300.0),))


def lines(signals, **more):
    return Arrays({"signal": signals, **more}, About("lines", "train", (), mirror=False))


def test_of_signals_by_hand():
    """Channel 0: 1 2 3 of one, 6 of the other; channel 1 is constant, and its deviation is 1."""
    signals = [np.array([[1, 0.1], [2, 0.1], [3, 0.1]]), np.array([[6, 0.1]])]
    mean, std = measure(lines(signals))
    assert mean == (3.0, float(np.float32(0.1)))
    assert std == (math.sqrt(14 / 4), 1.0)


def test_of_padded_signals_real_steps_alone_count():
    signals = np.array([[1, 2, 3, 99], [6, 99, 99, np.nan]])[..., None]
    mean, std = measure(lines(signals, length=[3, 1]))
    assert (mean, std) == ((3.0,), (math.sqrt(14 / 4),))


def test_of_signals_far_from_zero_nothing_cancels():
    rng = np.random.default_rng(0)
    signals = (1e4 + rng.normal(size=(300, 7, 2))).astype(np.float32)
    mean, std = measure(lines(signals))
    steps = signals.reshape(-1, 2).astype(np.float64)
    np.testing.assert_allclose(mean, steps.mean(0), rtol=1e-13)
    np.testing.assert_allclose(std, steps.std(0), rtol=1e-10)


def test_of_neither_image_nor_signal_is_refused():
    labels = Arrays({"label": [0, 0]}, ABOUT)
    with pytest.raises(Refused, match=r"'toy' has neither image nor signal; its keys: \['label'\]"):
        measure(labels)


@pytest.mark.parametrize("key", ["image", "signal"])
def test_of_varying_channels_is_refused(key):
    values = [np.zeros((2, 2, 1), np.uint8), np.zeros((2, 2, 3), np.uint8)]
    if key == "signal":
        values = [value[0].astype(np.float32) for value in values]
    source = Arrays({key: values}, About("toy", "train", (), mirror=False))
    message = "example 1 of toy/train has 3 channels, the first read 1"
    with pytest.raises(Refused, match=message):
        measure(source)


def test_order_does_not_matter():
    images = np.random.default_rng(0).integers(0, 256, (50, 5, 4, 1), np.uint8)
    source = toy(images)
    assert measure(source) == measure(subset(source, np.random.default_rng(1).permutation(50)))


def test_a_sample_is_spread_evenly():
    images = np.arange(100, dtype=np.uint8)[:, None, None, None]
    assert measure(toy(images), examples=4)[0] == (np.mean([0, 25, 50, 75]),)
    assert measure(toy(images), examples=1000) == measure(toy(images))
    with pytest.raises(Refused, match="examples=0 is less than 1"):
        measure(toy(images), examples=0)


@pytest.mark.parametrize(
    ("shape", "pixels", "at_least", "read"),
    [
        ((2, 2, 1), 2**26, 2000, 40),  # small: whole
        ((2, 2, 1), 40, 1, 10),  # as many as hold 40 pixels
        ((2, 2, 1), 40, 20, 20),
        (None, 2**26, 20, 20),  # sizes vary
        ((4, 1), 40, 1, 10),  # signals: 4 steps each
    ],
)
def test_how_many_are_read_by_default(monkeypatch, shape, pixels, at_least, read):
    monkeypatch.setattr(statistics, "PIXELS", pixels)
    monkeypatch.setattr(statistics, "EXAMPLES", at_least)
    taken = []

    class Counted(Arrays):
        def __getitem__(self, i):
            taken.append(i)
            return super().__getitem__(i)

    about = About(name="toy", split="train", classes=("a",), mirror=True, shape=shape)
    if shape and len(shape) == 2:
        measure(Counted({"signal": np.zeros((40, *shape))}, about))
    else:
        measure(Counted({"image": np.zeros((40, 2, 2, 1), np.uint8)}, about))
    assert len(taken) == read


def masked(masks, names=("ground", "cat")):
    """A set with masks of one row."""
    about = About("pets", "train", (), mirror=True, shape=(1, 4, 1), mask_classes=names)
    mask = np.asarray(masks, np.uint8)[:, None]
    return Arrays({"image": np.zeros((*mask.shape, 1), np.uint8), "mask": mask}, about)


def test_what_masks_hold_is_counted():
    about = measured(masked([[0, 0, 1, 255], [1, 1, 1, 255]]))
    assert about.mask_pixels == (2, 4, 2)
    assert missing(about) == ""
    assert measured(toy(np.zeros((2, 1, 1, 1), np.uint8))).mask_pixels == ()


def test_a_class_that_no_mask_holds_is_said():
    said = missing(measured(masked([[0, 0, 255, 255], [0, 0, 0, 0]])))
    assert "Of 2 classes, 1 occur in none" in said
    assert "'cat'" in said
    assert "25.0 % of the pixels are 255" in said
    names = tuple(f"c{i}" for i in range(20))
    assert "'c1', 'c2'," in missing(measured(masked([[0] * 4], names)))
    assert missing(measured(masked([[0] * 4], names))).count("'c") == 8
    with pytest.raises(Refused, match=r"'pets': every pixel .* is 255"):
        missing(measured(masked([[255] * 4])))
