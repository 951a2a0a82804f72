"""Sliding windows: what is put together is what one large window would have said."""

import numpy as np
import pytest

from train.tasks.windows import sliding, starts


def pixelwise(x):
    """Two values a pixel that depend on it alone."""
    return np.concatenate([x, 1 - x], -1)


@pytest.mark.parametrize("shape", [(40, 50), (16, 16), (17, 16), (9, 30), (5, 6)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
def test_a_function_of_pixels_is_the_same_whole(shape, overlap):
    image = np.random.default_rng(0).random((*shape, 1)).astype(np.float32)
    found = sliding(pixelwise, image, window=(16, 16), overlap=overlap, batch_size=3)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, pixelwise(image), atol=1e-5)


def test_all_calls_have_one_shape():
    shapes = set()

    def predict(x):
        shapes.add(x.shape)
        return x

    sliding(predict, np.zeros((50, 33, 3), np.float32), window=(16, 20), batch_size=4)
    assert shapes == {(4, 16, 20, 3)}


def test_windows_weigh_less_towards_their_border():
    calls = []

    def predict(x):
        calls.append(x)
        return np.full_like(x, len(calls) - 1)

    # Two windows of 4, at 0 and 2: their tents are 1 2 2 1.
    found = sliding(predict, np.zeros((1, 6, 1), np.float32), window=(1, 4), overlap=0.5)
    assert len(calls) == 2
    # A window of height 1 weighs 1 wherever it is: the lesser of both ramps.
    np.testing.assert_allclose(found[0, :, 0], [0, 0, 0.5, 0.5, 1, 1])
    calls.clear()
    found = sliding(predict, np.zeros((4, 6, 1), np.float32), window=(4, 4), overlap=0.5)
    np.testing.assert_allclose(found[1, :, 0], [0, 0, 1 / 3, 2 / 3, 1, 1], rtol=1e-6)


@pytest.mark.parametrize(("size", "window", "overlap"), [(100, 16, 0.5), (16, 16, 0.5), (17, 4, 0)])
def test_starts_cover_the_axis(size, window, overlap):
    places = starts(size, window, overlap)
    assert places[0] == 0
    assert places[-1] == size - window
    steps = np.diff(places)
    assert (steps > 0).all()
    assert (steps <= window * (1 - overlap)).all()


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"window": (0, 4)}, "window"),
        ({"window": (4, 4), "overlap": 1.0}, "overlap"),
        ({"window": (4, 4), "batch_size": 0}, "batch_size"),
    ],
)
def test_bad_values_are_named(fields, match):
    with pytest.raises(ValueError, match=match):
        sliding(pixelwise, np.zeros((8, 8, 1), np.float32), **fields)


def test_another_size_is_refused():
    with pytest.raises(ValueError, match="predict yields"):
        sliding(lambda x: x[:, 1:], np.zeros((8, 8, 1), np.float32), window=(4, 4))
