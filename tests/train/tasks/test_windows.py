"""Sliding windows: what is put together is what one large window would have said."""

import jax
import numpy as np
import pytest

from models.segmentation.unet import UNet
from train.tasks.segmentation import segmentation
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


def middle(x):
    """The mean of each pixel's 5x5; zeros beyond what it is given, as a padded convolution has."""
    padded = np.pad(x, [(0, 0), (2, 2), (2, 2), (0, 0)])
    views = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(1, 2))
    return views.mean((-2, -1))


@pytest.mark.parametrize("shape", [(40, 50), (17, 16), (9, 30)])
def test_with_context_a_window_sees_what_the_whole_image_would(shape):
    image = np.random.default_rng(0).random((*shape, 2)).astype(np.float32)
    whole = middle(np.pad(image, [(2, 2), (2, 2), (0, 0)], mode="reflect")[None])[0, 2:-2, 2:-2]
    fields = {"window": (16, 16), "overlap": 0.3, "batch_size": 2}
    found = sliding(middle, image, context=2, **fields)
    np.testing.assert_allclose(found, whole, atol=1e-6)
    assert np.abs(sliding(middle, image, **fields) - whole).max() > 0.05


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_around_a_tasks_predict(padding):
    network = UNet(3, features=(2, 4), padding=padding, batch_norm=False)
    task = segmentation(network, num_classes=3, mean=[128.0], std=[64.0])
    image = np.random.default_rng(0).integers(0, 256, (24, 19, 1), np.uint8)
    size = network.input_size(8)
    variables = network.init(jax.random.key(0), np.zeros((1, size, size, 1)), train=False)

    @jax.jit
    def predict(x):
        return task.predict(variables, task.inputs({"image": x}))["probabilities"]

    fields = {"window": (8, 8), "overlap": 0.5, "context": network.margin}
    even = image[:, :16]
    found = sliding(predict, even, **fields)
    assert found.shape == (24, 16, 3)
    if padding == "VALID":
        # Windows stand 4 apart and the context is 8: pooling meets the same pixels everywhere.
        np.testing.assert_allclose(found, predict(even[None])[0], atol=1e-5)
    odd = sliding(predict, image, **fields)
    around = network.margin
    padded = np.pad(image, [(around, around), (around, around), (0, 0)], mode="reflect")
    total, weight = np.zeros((24, 19, 3)), np.zeros((24, 19, 1))
    tent = np.minimum.outer([1, 2, 3, 4, 4, 3, 2, 1], [1, 2, 3, 4, 4, 3, 2, 1])[..., None]
    for top in (0, 4, 8, 12, 16):
        for left in (0, 4, 7, 11):
            view = padded[top : top + 8 + 2 * around, left : left + 8 + 2 * around]
            seen = np.asarray(predict(view[None])[0])[around : around + 8, around : around + 8]
            total[top : top + 8, left : left + 8] += tent * seen
            weight[top : top + 8, left : left + 8] += tent
    np.testing.assert_allclose(odd, total / weight, atol=1e-5)
    assert np.std(odd) > 1e-3


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


@pytest.mark.parametrize(
    ("size", "window", "overlap"), [(100, 16, 0.5), (16, 16, 0.5), (17, 4, 0), (500, 100, 0.9)]
)
def test_starts_cover_the_axis(size, window, overlap):
    places = starts(size, window, overlap)
    assert places[0] == 0
    assert places[-1] == size - window
    steps = np.diff(places)
    assert (steps > 0).all()
    assert (steps <= round(window * (1 - overlap))).all()
    assert len(places) == -(-(size - window) // round(window * (1 - overlap))) + 1


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"window": (0, 4)}, "window"),
        ({"window": (4, 4), "overlap": 1.0}, "overlap"),
        ({"window": (4, 4), "batch_size": 0}, "batch_size"),
        ({"window": (4, 4), "context": -1}, "context"),
    ],
)
def test_bad_values_are_named(fields, match):
    with pytest.raises(ValueError, match=match):
        sliding(pixelwise, np.zeros((8, 8, 1), np.float32), **fields)


@pytest.mark.parametrize("predict", [lambda x: x[:, 1:], lambda x: x[..., 0]])
def test_another_shape_is_refused(predict):
    with pytest.raises(ValueError, match="predict yields"):
        sliding(predict, np.zeros((8, 8, 1), np.float32), window=(4, 4))
