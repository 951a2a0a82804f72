"""One of several, one or none: for each example, of each kind of stage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from train.augment import (
    Geometric,
    Mixing,
    Paired,
    chain,
    flip,
    maybe,
    one_of,
    random_crop,
)

SIZE, HEIGHT, WIDTH = 12, 3, 4


def batch(size=SIZE):
    pixels = np.random.default_rng(0).integers(0, 200, (size, HEIGHT, WIDTH, 2))
    return {
        "image": jnp.asarray(pixels, jnp.uint8),
        "label": jnp.arange(size, dtype=jnp.int32),
    }


def place(n):
    """Moves by n pixels, whatever the key."""

    def draw(key, batch):
        matrix = np.array([[1, 0, n], [0, 1, 0], [0, 0, 1]], np.float32)
        return jnp.broadcast_to(matrix, (batch["image"].shape[0], 3, 3))

    return Geometric(draw)


def brighter(n, dtype=jnp.uint8):
    def change(key, batch):
        return {**batch, "image": batch["image"].astype(dtype) + jnp.asarray(n, dtype)}

    return change


def noise(key, batch):
    size = batch["image"].shape[0]
    return {**batch, "image": batch["image"] + jax.random.bits(key, (size, 1, 1, 1), jnp.uint8)}


def own(share, num_classes=5):
    return Mixing(
        lambda key, batch: jnp.full(batch["image"].shape[:3], share, jnp.float32), num_classes
    )


def evenly(values, count):
    found = np.bincount(values, minlength=count)
    assert len(found) == count
    assert scipy.stats.chisquare(found).pvalue > 1e-3
    # Neighbours are independent.
    assert abs((values[1:] == values[:-1]).mean() - 1 / count) < 0.03


def test_one_of_takes_each_alike():
    size = 6000
    moved = one_of(place(0), place(1), place(2))
    view = {"image": jax.ShapeDtypeStruct((size, HEIGHT, WIDTH, 2), jnp.uint8)}
    draws = np.asarray(moved.draw(jax.random.key(0), view))
    assert draws.dtype == np.float32
    evenly(draws[:, 0, 2].astype(int), 3)
    given = batch(size)
    after = one_of(brighter(0), brighter(1), brighter(2))(jax.random.key(1), given)
    more = np.asarray(after["image"] - given["image"]).reshape(size, -1)
    assert (more == more[:, :1]).all()
    evenly(more[:, 0], 3)
    assert after["label"] is given["label"]
    shares = one_of(own(0.0), own(1.0)).share(jax.random.key(2), given)
    assert shares.shape == (size, HEIGHT, WIDTH)
    evenly(np.asarray(shares)[:, 0, 0].astype(int), 2)


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_maybe_is_a_coin_an_example(p, strict_dtypes):
    size = 4000
    given = batch(size)
    heads = np.asarray(maybe(p, place(1)).draw(jax.random.key(0), given))[:, 0, 2] == 1
    after = maybe(p, brighter(1))(jax.random.key(1), given)
    bright = (np.asarray(after["image"]) != np.asarray(given["image"])).all((1, 2, 3))
    shares = np.asarray(maybe(p, own(0.0)).share(jax.random.key(2), given))[:, 0, 0] == 0
    for seen in (heads, bright, shares):
        if p in (0, 1):
            assert (seen == bool(p)).all()
        else:
            assert scipy.stats.binomtest(int(seen.sum()), size, p).pvalue > 1e-3
    plain = np.asarray(after["image"])[~bright]
    np.testing.assert_array_equal(plain, np.asarray(given["image"])[~bright])


def test_never_is_the_identity_types_too():
    given = batch()
    assert maybe(0, brighter(1, jnp.float32))(jax.random.key(0), given) is given
    pair = maybe(0, Paired(place(1), brighter(1, jnp.float32)))
    after = jax.jit(chain(pair))(jax.random.key(0), given)
    assert after["image"].dtype == jnp.uint8
    np.testing.assert_array_equal(after["image"], given["image"])


def test_the_wider_type_holds_both():
    given = batch()
    for stage in (
        one_of(brighter(3), brighter(0.5, jnp.float32)),
        maybe(0.5, brighter(0.5, jnp.float32)),
    ):
        after = jax.jit(stage)(jax.random.key(0), given)
        assert after["image"].dtype == jnp.float32
        more = np.asarray(after["image"]) - np.asarray(given["image"], np.float32)
        assert len(np.unique(more)) == 2
        assert 0.5 in more


def test_a_pair_is_chosen_whole():
    """Where the image moved by n it also became brighter by 10 n."""
    pairs = [Paired(place(n), brighter(10 * n)) for n in range(3)]
    given = {**batch(64), "matrix": jnp.tile(jnp.eye(3), (64, 1, 1))}
    for stage, choices in ((one_of(*pairs), {0, 1, 2}), (maybe(0.5, pairs[2]), {0, 2})):
        after = jax.jit(chain(stage, fill=0, border="edge"))(jax.random.key(3), given)
        moves = np.asarray(after["matrix"])[:, 0, 2].astype(int)
        assert set(moves.tolist()) == choices
        columns = np.arange(WIDTH)[None] - moves[:, None]
        rows = np.take_along_axis(
            np.asarray(given["image"]), columns.clip(0)[:, None, :, None], axis=2
        )
        np.testing.assert_array_equal(after["image"], rows + 10 * moves[:, None, None, None])


def test_stages_draw_from_keys_of_their_own():
    given = batch(256)
    twice = one_of(noise, noise)(jax.random.key(0), given)["image"] - given["image"]
    once = noise(jax.random.fold_in(jax.random.key(0), 1), given)["image"] - given["image"]
    same = np.asarray(twice == once).reshape(256, -1)[:, 0]
    assert 0.3 < same.mean() < 0.7


def test_choices_nest_and_hold_a_chain():
    """A whole chain is a stage of pixels: boxes and matrix follow the same coin as the image."""
    given = {
        **batch(32),
        "boxes": jnp.tile(jnp.array([[[0, 0, 1, 2]]], jnp.float32), (32, 1, 1)),
        "box_valid": jnp.ones((32, 1), bool),
    }
    stage = maybe(0.5, one_of(chain(flip(1.0)), brighter(50)))
    after = jax.jit(stage)(jax.random.key(0), given)
    same, more = given["image"], given["image"] + 50
    mirrored = given["image"][:, :, ::-1]
    kinds = [
        np.asarray((after["image"] == other).all((1, 2, 3))) for other in (same, more, mirrored)
    ]
    assert all(kind.any() for kind in kinds)
    assert np.sum(kinds, axis=0).tolist() == [1] * 32
    boxes = np.where(kinds[2][:, None], [WIDTH - 1, 0, WIDTH, 2], [0, 0, 1, 2])
    np.testing.assert_array_equal(after["boxes"][:, 0], boxes)


def smaller(key, batch):
    return {**batch, "image": batch["image"][:, 1:]}


def unlabelled(key, batch):
    return {"image": batch["image"]}


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: one_of(), ValueError, r"stages=\(\)"),
        (lambda: one_of(flip(), noise), ValueError, r"stages\[1\]=.*noise.* another kind"),
        (lambda: one_of(flip(), Paired(flip(), noise)), ValueError, r"stages\[1\]=Paired"),
        (lambda: one_of(flip), TypeError, r"stages\[0\]=.*does not take \(key, batch\)"),
        (lambda: one_of(own(1, 3), own(1, 4)), ValueError, r"num_classes=\[3, 4\]"),
        (lambda: maybe(0.5, 3), TypeError, "stage=3"),
        (lambda: maybe(1.5, flip()), ValueError, "p=1.5"),
        (lambda: maybe(float("nan"), flip()), ValueError, "p=nan"),
    ],
)
def test_refused_at_construction(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (maybe(0.5, random_crop(2, 2)), r"shapes \[\(2, 2\), \(3, 4\)\]"),
        (one_of(random_crop(2, 2), random_crop(2, 3)), r"shapes \[\(2, 2\), \(2, 3\)\]"),
        (maybe(0.5, smaller), r"shapes \(12, 2, 4, 2\) and \(12, 3, 4, 2\)"),
        (maybe(0.5, unlabelled), r"keys \['image'\] and \['image', 'label'\]"),
    ],
)
def test_refused_where_the_batch_is_seen(stage, message):
    with pytest.raises(ValueError, match=message):
        chain(stage)(jax.random.key(0), batch())


def test_stages_of_one_new_shape_are_chosen_from():
    stage = one_of(random_crop(2, 3), random_crop(2, 3))
    after = jax.eval_shape(chain(stage), jax.random.key(0), batch())
    assert after["image"].shape == (SIZE, 2, 3, 2)
