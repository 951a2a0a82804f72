"""Crops: all places alike, areas and ratios as torchvision draws them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from train.augment import chain, pad_and_crop, random_crop, random_resized_crop

MANY = 16_200


def drawn(stage, size=MANY, shape=(5, 7), seed=0):
    batch = {"image": jax.ShapeDtypeStruct((size, *shape, 1), jnp.uint8)}
    return np.asarray(jax.jit(lambda key: stage.draw(key, batch))(jax.random.key(seed)))


def evenly(x, y, columns, rows):
    counts, _ = np.histogramdd(
        (x, y), bins=(np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5)
    )
    assert counts.sum() == len(x)
    assert scipy.stats.chisquare(counts.ravel()).pvalue > 1e-3


def test_padded_crop_covers_all_places_evenly():
    matrices = drawn(pad_and_crop(4))
    evenly(matrices[:, 0, 2] + 4, matrices[:, 1, 2] + 4, 9, 9)
    rest = matrices - np.eye(3)
    assert not rest[:, :, :2].any()
    assert not rest[:, 2].any()


def test_crop_covers_all_places_evenly():
    stage = random_crop(2, 4)
    assert stage.shape((5, 7)) == (2, 4)
    matrices = drawn(stage)
    evenly(-matrices[:, 0, 2], -matrices[:, 1, 2], 4, 4)


def test_a_crop_is_a_part_of_the_image():
    image = np.arange(6 * 5 * 7, dtype=np.uint8).reshape(6, 5, 7, 1)
    batch = {"image": jnp.asarray(image), "matrix": jnp.tile(jnp.eye(3), (6, 1, 1))}
    after = jax.jit(chain(random_crop(5, 3), fill=255))(jax.random.key(1), batch)
    places = -np.asarray(after["matrix"])[:, :2, 2].astype(int)
    assert len({tuple(place) for place in places}) > 1
    for one, part, (x, y) in zip(image, after["image"], places, strict=True):
        assert y == 0
        np.testing.assert_array_equal(part, one[y : y + 5, x : x + 3])


def parts(matrices, height, width):
    """Left, top, width and height of the part that each map brings to `height` x `width`."""
    zoom_x, zoom_y = matrices[:, 0, 0], matrices[:, 1, 1]
    left, top = -matrices[:, 0, 2] / zoom_x, -matrices[:, 1, 2] / zoom_y
    return np.stack([left, top, width / zoom_x, height / zoom_y], -1)


def reference(rng, height, width, scale, ratio):
    """A part as torchvision draws it, one by one."""
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(*map(math.log, ratio)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return rng.integers(0, width - w + 1), rng.integers(0, height - h + 1), w, h
    return None


@pytest.mark.parametrize(("scale", "ratio"), [((0.08, 1), (0.75, 4 / 3)), ((0.3, 0.6), (0.5, 3))])
def test_areas_ratios_and_places_are_those_of_torchvision(scale, ratio):
    height, width, size = 24, 32, 4000
    stage = random_resized_crop(10, 12, scale, ratio)
    assert stage.shape((height, width)) == (10, 12)
    ours = parts(drawn(stage, size, (height, width)), 10, 12)
    np.testing.assert_allclose(ours, np.rint(ours), rtol=0, atol=1e-3)
    left, top, w, h = ours = np.rint(ours).T
    assert (ours >= 0).all()
    assert (left + w <= width).all()
    assert (top + h <= height).all()
    rng = np.random.default_rng(0)
    drawn_parts = [reference(rng, height, width, scale, ratio) for _ in range(size)]
    theirs = np.array([part for part in drawn_parts if part is not None]).T
    middle = (left == 0) & (top == 0) & (w == width) & (h == height)
    for value in ("left", "top", "w", "h", "area", "ratio"):
        one, other = (
            {
                **dict(zip(("left", "top", "w", "h"), part, strict=True)),
                "area": part[2] * part[3],
                "ratio": part[2] / part[3],
            }[value]
            for part in (ours[:, ~middle], theirs)
        )
        assert scipy.stats.ks_2samp(one, other).pvalue > 1e-3, value


@pytest.mark.parametrize(
    ("shape", "scale", "ratio", "part"),
    [
        # Nothing square of the whole area fits: the middle, and as large as the ratio allows.
        ((4, 64), (1, 1), (1, 1), (30, 0, 4, 4)),
        ((64, 4), (1, 1), (1, 1), (0, 30, 4, 4)),
        ((10, 45), (1, 1), (0.5, 2), (12, 0, 20, 10)),
        ((45, 10), (1, 1), (0.5, 2), (0, 12, 10, 20)),
        # The ratio allows the image's own, yet no draw fits.
        ((8, 8), (2, 3), (0.5, 2), (0, 0, 8, 8)),
        # Everything: the only part there is.
        ((8, 8), (1, 1), (1, 1), (0, 0, 8, 8)),
        ((1, 1), (0.08, 1), (0.75, 4 / 3), (0, 0, 1, 1)),
    ],
)
def test_where_no_draw_fits_the_middle_is_taken(shape, scale, ratio, part):
    matrices = drawn(random_resized_crop(8, 8, scale, ratio), 3, shape)
    np.testing.assert_allclose(parts(matrices, 8, 8), [part] * 3, rtol=1e-6)
    if shape == (8, 8):
        np.testing.assert_array_equal(matrices, np.tile(np.eye(3), (3, 1, 1)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pad_and_crop(-1), "pad=-1"),
        (lambda: pad_and_crop(1.5), "pad=1.5 is no whole number from 0 on"),
        (lambda: random_crop(0, 3), "height=0 is no whole number from 1 on"),
        (lambda: random_crop(8.0, 8.0), "height=8.0 is no whole number from 1 on"),
        (lambda: random_resized_crop(3, -1), "width=-1 is no whole number from 1 on"),
        (lambda: random_resized_crop(3, 3, scale=(0, 1)), r"scale=\(0, 1\)"),
        (lambda: random_resized_crop(3, 3, ratio=(2, 1)), r"ratio=\(2, 1\)"),
        (lambda: random_resized_crop(3, 3, ratio=(1, math.inf)), r"ratio=\(1, inf\)"),
        (lambda: drawn(random_crop(6, 2), 2), r"random_crop\(6, 2\) of an image 5x7"),
        (lambda: drawn(random_crop(5, 8), 2), r"random_crop\(5, 8\) of an image 5x7"),
    ],
)
def test_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
