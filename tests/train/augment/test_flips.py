"""Mirror images: their places, their coin, and the sides that alternate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from train.augment import alternating_flip, chain, flip, vertical_flip

MANY = 16_200
MIRRORS = {
    "flip": (flip, [[-1, 0, 7], [0, 1, 0], [0, 0, 1]]),
    "vertical_flip": (vertical_flip, [[1, 0, 0], [0, -1, 5], [0, 0, 1]]),
}


def drawn(stage, seed=0, size=MANY, **keys):
    batch = {"image": jax.ShapeDtypeStruct((size, 5, 7, 1), jnp.uint8), **keys}
    return np.asarray(jax.jit(lambda key: stage.draw(key, batch))(jax.random.key(seed)))


@pytest.mark.parametrize("name", MIRRORS)
@pytest.mark.parametrize("p", [0.5, 0.2])
def test_flip_is_a_coin(name, p):
    make, mirror = MIRRORS[name]
    matrices = drawn(make(p))
    heads = (matrices[:, 0, 0] == -1) | (matrices[:, 1, 1] == -1)
    assert scipy.stats.binomtest(int(heads.sum()), MANY, p).pvalue > 1e-3
    assert (matrices[heads] == np.array(mirror)).all()
    assert (matrices[~heads] == np.eye(3)).all()
    # Neighbours are independent: what follows heads is heads as often.
    assert abs(heads[1:][heads[:-1]].mean() - p) < 0.02


def test_a_flip_is_fair_unless_said():
    np.testing.assert_array_equal(drawn(flip(), size=64), drawn(flip(0.5), size=64))


@pytest.mark.parametrize(
    ("make", "turned"),
    [(flip, lambda image: image[:, ::-1]), (vertical_flip, lambda image: image[::-1])],
)
def test_pixels_masks_and_boxes_are_mirrored(make, turned):
    """A box's two x change places: [x0, y0, x1, y1] becomes [W - x1, y0, W - x0, y1]."""
    image = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3)).astype(np.uint8)
    batch = {
        "image": jnp.asarray(image),
        "mask": jnp.asarray(image[..., 0]),
        "boxes": jnp.array([[[1, 0, 3, 4]], [[0, 2, 7, 3]]], jnp.float32),
        "box_valid": jnp.ones((2, 1), bool),
    }
    after = jax.jit(chain(make(p=1.0)))(jax.random.key(0), batch)
    for i in range(2):
        np.testing.assert_array_equal(after["image"][i], turned(image[i]))
        np.testing.assert_array_equal(after["mask"][i], turned(image[i, ..., 0]))
    horizontal = make is flip
    assert after["boxes"][:, 0].tolist() == (
        [[4, 0, 6, 4], [0, 2, 7, 3]] if horizontal else [[1, 1, 3, 5], [0, 2, 7, 3]]
    )
    assert after["box_valid"].all()


def sides(index, epoch, seed=0):
    keys = {"index": jnp.asarray(index, jnp.int32), "epoch": jnp.asarray(epoch, jnp.int32)}
    return drawn(alternating_flip(), seed, len(index), **keys)[:, 0, 0] == -1


def test_alternating_flip_shows_the_other_side_every_epoch():
    index = np.arange(4096)
    first = sides(index, np.zeros_like(index))
    np.testing.assert_array_equal(sides(index, np.ones_like(index)), ~first)
    np.testing.assert_array_equal(sides(index, np.full_like(index, 6)), first)
    # The key plays no part; the index alone does, wherever it stands in the batch.
    np.testing.assert_array_equal(sides(index, np.zeros_like(index), seed=1), first)
    np.testing.assert_array_equal(sides(index[::-1], np.arange(4096) % 2)[::2], first[::-1][::2])
    assert scipy.stats.binomtest(int(first.sum()), 4096, 0.5).pvalue > 1e-3
    assert abs(first[1:][first[:-1]].mean() - 0.5) < 0.05
    with jax.enable_x64(True):
        np.testing.assert_array_equal(sides(index, np.zeros_like(index)), first)


@pytest.mark.parametrize("missing", ["index", "epoch"])
def test_alternating_flip_needs_index_and_epoch(missing):
    keys = {"index": jnp.zeros(2, jnp.int32), "epoch": jnp.zeros(2, jnp.int32)}
    del keys[missing]
    with pytest.raises(ValueError, match=f"no '{missing}' in the batch"):
        drawn(alternating_flip(), size=2, **keys)


@pytest.mark.parametrize("make", [flip, vertical_flip])
@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_no_probability_is_refused(make, p):
    with pytest.raises(ValueError, match=f"p={p} is not in 0..1"):
        make(p)
