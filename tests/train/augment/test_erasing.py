"""Cutout and random erasing: which pixels, how often, what they become."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from train.augment import cutout, random_erasing
from train.augment.rectangles import around, inside


def batch_of(size, height, width, channels=1, value=200):
    return {"image": jnp.full((size, height, width, channels), value, jnp.uint8)}


def applied(stage, batch):
    """The batch after the stage, compiled, in NumPy."""
    return jax.device_get(jax.jit(stage)(jax.random.key(0), batch))


def sides(hidden):
    """(B, H, W) bool, each a rectangle -> (B, 4): top, left, height, width."""
    found = []
    for one in np.asarray(hidden):
        rows, columns = np.nonzero(one.any(1))[0], np.nonzero(one.any(0))[0]
        found.append([rows[0], columns[0], len(rows), len(columns)] if len(rows) else [0] * 4)
        top, left, height, width = found[-1]
        assert one.sum() == height * width
        assert one[top : top + height, left : left + width].all()
    return np.array(found)


def test_rectangles_are_slices():
    rng = np.random.default_rng(0)
    start, extent = rng.integers(-4, 9, (50, 2)), rng.integers(0, 9, (50, 2))
    expected = np.zeros((50, 5, 7), bool)
    for i, ((y, x), (h, w)) in enumerate(zip(start, extent, strict=True)):
        expected[i, max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)] = True
    start, extent = jnp.asarray(start, jnp.int32), jnp.asarray(extent, jnp.int32)
    np.testing.assert_array_equal(inside((5, 7), start, extent), expected)
    np.testing.assert_array_equal(around((5, 7), start + extent // 2, extent), expected)
    np.testing.assert_array_equal(inside((7,), start[:, 1:], extent[:, 1:]), spans(start, extent))


def spans(start, extent):
    """(50, 7) bool: the columns alone."""
    at = np.arange(7)[None]
    first, count = np.asarray(start)[:, 1:], np.asarray(extent)[:, 1:]
    return (at >= first) & (at < first + count)


def test_cutout_is_a_square_about_any_pixel():
    size, height, width = 3000, 6, 9
    after = applied(cutout(4, fill=7), batch_of(size, height, width))["image"]
    assert after.dtype == jnp.float32
    assert set(np.unique(after)) == {7, 200}
    top, left, tall, wide = sides(after[..., 0] == 7).T
    for first, extent, length in ((top, tall, height), (left, wide, width)):
        # The centre c covers c - 2 .. c + 1, cut off at both ends.
        centres = np.arange(length)
        starts, ends = np.maximum(centres - 2, 0), np.minimum(centres + 2, length)
        expected = np.zeros((length, length + 1))
        np.add.at(expected, (starts, ends), size / length)
        counts = np.zeros_like(expected)
        np.add.at(counts, (first, first + extent), 1)
        possible = expected > 0
        assert not counts[~possible].any()
        assert scipy.stats.chisquare(counts[possible], expected[possible]).pvalue > 1e-3


def test_cutout_beyond_the_image_and_of_nothing():
    batch = batch_of(3, 4, 5, 3)
    assert not applied(cutout(10), batch)["image"].any()
    np.testing.assert_array_equal(applied(cutout(0), batch)["image"], batch["image"])
    filled = applied(cutout(10, fill=(1.5, 2, 255)), batch)["image"]
    np.testing.assert_array_equal(filled[1, 2, 3], [1.5, 2, 255])


def test_values_change_and_annotations_stay():
    boxes = jnp.array([[[1, 1, 4, 4]]], jnp.float32)
    mask = jnp.ones((1, 5, 5), jnp.uint8)
    batch = {**batch_of(1, 5, 5), "boxes": boxes, "mask": mask}
    after = cutout(3)(jax.random.key(0), batch)
    assert after.keys() == batch.keys()
    assert after["boxes"] is boxes
    assert after["mask"] is mask


def test_random_erasing_is_drawn_as_torchvisions():
    """torchvision's loop, in NumPy, gives the same distributions of sides and places."""
    size, shape, area, ratio = 2000, (12, 20), (0.05, 0.6), (0.4, 2.0)
    stage = random_erasing(1.0, area, ratio)
    after = applied(stage, batch_of(size, *shape))["image"]
    found = sides(after[..., 0] == 0)
    rng, expected = np.random.default_rng(0), []
    for _ in range(size):
        for _ in range(10):
            pixels = 240 * rng.uniform(*area)
            aspect = np.exp(rng.uniform(*np.log(ratio)))
            h, w = round(np.sqrt(pixels * aspect)), round(np.sqrt(pixels / aspect))
            if h < 12 and w < 20:
                expected.append([rng.integers(0, 12 - h + 1), rng.integers(0, 20 - w + 1), h, w])
                break
        else:
            expected.append([0] * 4)
    for one, other in zip(found.T, np.array(expected).T, strict=True):
        assert scipy.stats.ks_2samp(one, other).pvalue > 1e-3


def test_erasing_is_a_coin():
    batch = batch_of(400, 8, 8)
    after = applied(random_erasing(0.3), batch)["image"]
    hit = np.asarray((after == 0).any((1, 2, 3)))
    assert hit.mean() == pytest.approx(0.3, abs=0.08)
    never = applied(random_erasing(0.0), batch)["image"]
    np.testing.assert_array_equal(never, batch["image"])
    # Whatever is drawn is as large as the image: none of it is smaller.
    whole = applied(random_erasing(1.0, (1, 1), (1, 1)), batch)["image"]
    np.testing.assert_array_equal(whole, batch["image"])


def test_noise_fills_each_value():
    stage = random_erasing(1.0, (0.5, 0.5), (1, 1), fill="noise")
    after = np.asarray(applied(stage, batch_of(20, 20, 20, 3))["image"])
    values = after[after != 200]
    assert len(values) == 20 * 14 * 14 * 3
    assert scipy.stats.kstest(values, scipy.stats.uniform(0, 255).cdf).pvalue > 1e-3


def test_a_signal_loses_a_span():
    signal = {"signal": jnp.ones((50, 30, 2), jnp.float32)}
    for stage, lengths in ((cutout(6, fill=-2), {3, 4, 5, 6}), (erased_signal(), {6})):
        after = np.asarray(applied(stage, signal)["signal"])
        hidden = after[..., 0] == -2
        np.testing.assert_array_equal(hidden, after[..., 1] == -2)
        assert set(hidden.sum(1)) <= lengths
        assert (np.abs(np.diff(np.pad(hidden, ((0, 0), (1, 1))).astype(int))).sum(1) == 2).all()
        assert len({tuple(row) for row in hidden}) > 10


def test_a_span_lies_in_the_signal_and_not_in_its_padding():
    length = jnp.array([4, 10, 40], jnp.int32)
    signal = jnp.ones((3, 40, 1), jnp.float32)
    stages = (
        (cutout(1, fill=-2), [1, 1, 1]),
        (random_erasing(1.0, area=(0.5, 0.5), fill=-2), [2, 5, 20]),
    )
    for stage, wanted in stages:
        found = []
        for padding in (0, 9):
            batch = {"signal": jnp.pad(signal, ((0, 0), (0, padding), (0, 0))), "length": length}
            found.append(np.asarray(stage(jax.random.key(3), batch)["signal"])[:, :40, 0])
            assert (found[-1] == -2).sum(1).tolist() == wanted
        np.testing.assert_array_equal(*found)  # more padding changes nothing


def erased_signal():
    return random_erasing(1.0, (0.2, 0.2), fill=-2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cutout(-1), "size=-1"),
        (lambda: cutout(2.5), "size=2.5"),
        (lambda: cutout(2, fill=float("nan")), "fill=nan"),
        (lambda: cutout(2, fill=((1, 2),)), "fill="),
        (lambda: random_erasing(2), "p=2"),
        (lambda: random_erasing(area=(0.5, 0.2)), r"area=\(0.5, 0.2\)"),
        (lambda: random_erasing(area=(0, 1.2)), "area="),
        (lambda: random_erasing(ratio=(0, 1)), "ratio="),
        (lambda: random_erasing(fill="random"), "fill='random'"),
    ],
)
def test_refused_at_construction(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("stage", "batch", "message"),
    [
        (cutout(2, fill=(1, 2)), batch_of(1, 3, 3, 3), r"fill=\[1.0, 2.0\] for 3 channels"),
        (cutout(2, fill=256), batch_of(1, 3, 3), "fill=256.0 is not in 0..255"),
        (cutout(2), {"image": jnp.zeros((3, 3, 1))}, r"image has shape \(3, 3, 1\)"),
        (cutout(2), {"label": jnp.zeros(3)}, r"only \['label'\]"),
        (random_erasing(fill="noise"), {"signal": jnp.zeros((1, 3, 1))}, "fill='noise'"),
    ],
)
def test_refused_where_the_batch_is_seen(stage, batch, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(stage, jax.random.key(0), batch)
