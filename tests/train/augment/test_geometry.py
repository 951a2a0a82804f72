"""The geometric stages: their distribution, and that a number belongs to an example."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from train.augment import flip, pad_and_crop

MANY = 16_200


def drawn(stage, seed=0, size=MANY):
    batch = {"image": jax.ShapeDtypeStruct((size, 5, 7, 1), jnp.uint8)}
    return np.asarray(jax.jit(lambda key: stage.draw(key, batch))(jax.random.key(seed)))


def test_crop_covers_all_places_evenly():
    matrices = drawn(pad_and_crop(4))
    assert matrices.dtype == np.float32
    x, y = matrices[:, 0, 2], matrices[:, 1, 2]
    counts, _ = np.histogramdd((x, y), bins=(np.arange(-4, 6) - 0.5,) * 2)
    assert counts.shape == (9, 9)
    assert counts.sum() == MANY
    assert scipy.stats.chisquare(counts.ravel()).pvalue > 1e-3
    rest = matrices - np.eye(3)
    assert not rest[:, :, :2].any()
    assert not rest[:, 2].any()


def test_flip_is_a_fair_coin():
    matrices = drawn(flip())
    heads = matrices[:, 0, 0] == -1
    assert scipy.stats.binomtest(int(heads.sum()), MANY, 0.5).pvalue > 1e-3
    np.testing.assert_array_equal(matrices[heads][0], [[-1, 0, 7], [0, 1, 0], [0, 0, 1]])
    np.testing.assert_array_equal(matrices[~heads][0], np.eye(3))
    # Neighbours are independent: what follows heads is heads half the time.
    assert abs(heads[1:][heads[:-1]].mean() - 0.5) < 0.02


@pytest.mark.parametrize("stage", [pad_and_crop(4), flip()], ids=["crop", "flip"])
def test_a_draw_depends_on_key_and_place_alone(stage):
    few, more = drawn(stage, size=8), drawn(stage, size=32)
    np.testing.assert_array_equal(few, more[:8])
    assert (drawn(stage, seed=1, size=32) != more).any()
    with jax.enable_x64(True):
        wide = drawn(stage, size=32)
    assert wide.dtype == np.float32
    np.testing.assert_array_equal(wide, more)


def test_no_padding_is_the_identity():
    np.testing.assert_array_equal(
        drawn(pad_and_crop(0), size=4), np.tile(np.eye(3, dtype=np.float32), (4, 1, 1))
    )


def test_negative_padding_is_refused():
    with pytest.raises(ValueError, match="pad=-1"):
        pad_and_crop(-1)
