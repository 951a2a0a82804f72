"""The chain: one product, one warp, the same batch however it is computed."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from train.augment import (
    Geometric,
    Mixing,
    Paired,
    alternating_flip,
    chain,
    flip,
    maybe,
    one_of,
    pad_and_crop,
    perspective,
    random_resized_crop,
    rotation,
)
from train.augment.warp import warp
from train.mesh import make_mesh, replicated, shard_batch

SIZE, HEIGHT, WIDTH = 16, 6, 8
CROP_AND_FLIP = chain(pad_and_crop(3), flip(), fill=(7, 100, 250))
apply = jax.jit(CROP_AND_FLIP)


def make_batch(dtype=np.uint8):
    """Images with a filled rectangle each, and the rectangle's box."""
    rng = np.random.default_rng(0)
    image = np.zeros((SIZE, HEIGHT, WIDTH, 3), dtype)
    x0, y0 = rng.integers(0, WIDTH - 3, SIZE), rng.integers(0, HEIGHT - 3, SIZE)
    x1, y1 = x0 + rng.integers(1, 4, SIZE), y0 + rng.integers(1, 4, SIZE)
    for i in range(SIZE):
        image[i, y0[i] : y1[i], x0[i] : x1[i]] = 200
    return {
        "image": jnp.asarray(image),
        "label": jnp.arange(SIZE, dtype=jnp.int32),
        "boxes": jnp.asarray(np.stack([x0, y0, x1, y1], -1)[:, None], jnp.float32),
        "box_valid": jnp.ones((SIZE, 1), bool),
        "matrix": jnp.broadcast_to(jnp.eye(3, dtype=jnp.float32), (SIZE, 3, 3)),
    }


def constant(matrix, shape=lambda shape: shape):
    matrix = np.asarray(matrix, np.float32)

    def draw(key, batch):
        return jnp.broadcast_to(matrix, (batch["image"].shape[0], 3, 3))

    return Geometric(draw, shape)


def equal(one, other):
    assert one.keys() == other.keys()
    for key in one:
        assert one[key].dtype == other[key].dtype, key
        np.testing.assert_array_equal(one[key], other[key], err_msg=key)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_crop_and_flip_equal_numpy(dtype):
    batch = make_batch(dtype)
    key = jax.random.key(3)
    crop, mirror = pad_and_crop(3), flip()
    after = apply(key, batch)
    shifts = np.asarray(crop.draw(jax.random.fold_in(key, 0), batch))[:, :2, 2].astype(int)
    mirrored = np.asarray(mirror.draw(jax.random.fold_in(key, 1), batch))[:, 0, 0] < 0
    assert 0 < mirrored.sum() < SIZE
    plane = np.full((SIZE, HEIGHT + 6, WIDTH + 6, 3), (7, 100, 250), dtype)
    plane[:, 3:-3, 3:-3] = batch["image"]
    for i, (x, y) in enumerate(shifts):
        expected = plane[i, 3 - y : 3 - y + HEIGHT, 3 - x : 3 - x + WIDTH]
        expected = expected[:, ::-1] if mirrored[i] else expected
        np.testing.assert_array_equal(after["image"][i], expected)
    np.testing.assert_array_equal(after["label"], batch["label"])


def test_boxes_are_the_bounding_boxes_of_their_pixels():
    batch, seen = make_batch(), 0
    transform = jax.jit(chain(pad_and_crop(3), flip()))
    for seed in range(3):
        after = transform(jax.random.key(seed), batch)
        for i in range(SIZE):
            rows, columns = np.nonzero(np.asarray(after["image"])[i, :, :, 0])
            before = np.asarray(batch["image"])[i, :, :, 0] > 0
            share = len(rows) / before.sum()
            visible = share >= 0.25
            assert bool(after["box_valid"][i, 0]) == visible
            if not visible:
                assert not after["boxes"][i, 0].any()
            else:
                box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                assert after["boxes"][i, 0].tolist() == box
                seen += share < 1
    assert seen > 5


def test_the_product_is_read_once():
    """Two stages equal the one map that is their product, left factor last."""
    turn = np.array([[0.8, -0.5, 3.1], [0.4, 0.9, -1.2], [0.01, 0, 1]])
    zoom = np.array([[1.5, 0, 0.3], [0, 0.7, 1.1], [0, 0, 1]])
    larger = constant(zoom, lambda shape: (shape[0] + 1, shape[1] + 2))
    batch = make_batch()
    after = jax.jit(chain(constant(turn), larger, fill=9))(jax.random.key(0), batch)
    matrix = np.float32(zoom) @ np.float32(turn)
    np.testing.assert_allclose(after["matrix"][0], matrix, rtol=1e-6)
    read = jax.jit(functools.partial(warp, shape=(HEIGHT + 1, WIDTH + 2), fill=np.float32(9)))
    expected = read(batch["image"], after["matrix"])
    np.testing.assert_array_equal(after["image"], expected)
    # What a first shift moves out, a second brings back.
    there, back = ([[1, 0, x], [0, 1, 0], [0, 0, 1]] for x in (5, -5))
    equal(jax.jit(chain(constant(there), constant(back)))(jax.random.key(0), batch), batch)


def test_a_stage_sees_the_current_image_and_coordinates():
    batch, wider = make_batch(), lambda shape: (shape[0], shape[1] + 2)

    @jax.jit
    def seen(batch):
        views = []

        def draw(key, batch):
            views.append(batch)
            return batch["matrix"]

        shift = constant([[1, 0, 2], [0, 1, 0], [0, 0, 1]], wider)
        chain(shift, Geometric(draw))(jax.random.key(0), batch)
        image = views[0].pop("image")
        assert image.shape == (SIZE, HEIGHT, WIDTH + 2, 3)
        assert not isinstance(image, jax.Array)
        return views[0]

    boxes = batch["boxes"] + jnp.array([2, 0, 2, 0], jnp.float32)[None, None]
    np.testing.assert_array_equal(seen(batch)["boxes"], boxes)


def test_old_matrix_is_multiplied_from_the_left():
    batch = make_batch()
    batch["matrix"] = 2 * batch["matrix"].at[:, 2, 2].set(0.5)
    after = jax.jit(chain(constant([[1, 0, 3], [0, 1, 1], [0, 0, 1]])))(jax.random.key(0), batch)
    assert after["matrix"][0].tolist() == [[2, 0, 3], [0, 2, 1], [0, 0, 1]]


def test_same_key_same_batch_and_examples_differ():
    batch = make_batch()
    one, same, other = (apply(jax.random.key(seed), batch) for seed in (0, 0, 1))
    equal(one, same)
    assert (one["matrix"] != other["matrix"]).any()
    assert len({row.tobytes() for row in np.asarray(one["matrix"])}) > SIZE // 2
    # Two of a stage draw on their own.
    twice = jax.jit(chain(flip(), flip()))(jax.random.key(0), batch)
    assert (twice["matrix"][:, 0, 0] == -1).any()


def test_pixel_stages_come_last_with_keys_of_their_own():
    def noise(key, batch):
        return {**batch, "image": batch["image"] + jax.random.bits(key, (SIZE, 1, 1, 1), jnp.uint8)}

    @jax.jit
    def both(key, batch):
        expected = chain(flip())(key, batch)
        for k in (1, 2):
            expected = noise(jax.random.fold_in(key, k), expected)
        return chain(flip(), noise, noise)(key, batch), expected

    equal(*both(jax.random.key(5), make_batch()))
    image = {"image": make_batch()["image"]}
    assert (chain(noise)(jax.random.key(5), image)["image"] != image["image"]).any()
    assert chain()(jax.random.key(5), image) is image


def test_float64_run_has_the_same_batch():
    one = apply(jax.random.key(2), masked())
    with jax.enable_x64(True):
        equal(apply(jax.random.key(2), masked()), one)


def test_seeds_by_vmap():
    batch = masked()
    keys = jax.random.split(jax.random.key(0), 2)
    both = jax.jit(jax.vmap(CROP_AND_FLIP, (0, None)))(keys, batch)
    for i in range(2):
        equal(jax.tree.map(lambda leaf, i=i: leaf[i], both), apply(keys[i], batch))


def test_four_devices_give_the_same_batch_without_gathering_it():
    mesh = make_mesh(jax.devices()[:4])
    data, index = make_batch(), jnp.arange(SIZE, dtype=jnp.int32)[::-1]

    def step(data, index, key):
        batch = jax.tree.map(lambda leaf: leaf[index], data)
        return CROP_AND_FLIP(key, batch)

    def sharded(data, index, key):
        return shard_batch(mesh, step(data, index, key))

    key = jax.random.key(7)
    expected = jax.jit(step)(data, index, key)
    whole = replicated(mesh)
    parts = NamedSharding(mesh, PartitionSpec("data"))
    # The resident loader computes its index on every device; the streaming one shards it.
    for place in (whole, parts):
        compiled = (
            jax.jit(sharded, in_shardings=(whole, place, whole)).lower(data, index, key).compile()
        )
        text = compiled.as_text()
        assert not re.findall(r"(?:all-\w+|collective-permute|reduce-scatter)\(", text)
        assert f"[{SIZE // 4},{HEIGHT},{WIDTH},3]" in text
        arguments = jax.device_put((data, index, key), (whole, place, whole))
        after = compiled(*arguments)
        assert all(leaf.sharding.spec == PartitionSpec("data") for leaf in after.values())
        equal(after, expected)


def half(key, batch):
    """A stage that only changes pixels."""
    return {**batch, "image": batch["image"] // 2}


PAIR = Paired(flip(), half)
MIX = Mixing(lambda key, batch: jnp.ones(batch["image"].shape[:3], jnp.float32), 5)


@pytest.mark.parametrize(
    ("stages", "fill", "error", "message"),
    [
        ((lambda key, batch: batch, flip()), 0, ValueError, r"stages\[1\] is geometric"),
        ((flip(), 3), 0, TypeError, r"stages\[1\]=3"),
        ((flip,), 0, TypeError, r"stages\[0\]=<function flip .* does not take \(key, batch\)"),
        ((pad_and_crop, flip()), 0, TypeError, r"stages\[0\]=<function pad_and_crop "),
        ((flip(), lambda *, key, batch: batch), 0, TypeError, r"stages\[1\]=.*<lambda>"),
        ((flip(),), -1, ValueError, "fill=-1"),
        ((flip(),), (0, 256, 0), ValueError, "fill=.*256"),
        ((flip(),), float("nan"), ValueError, "fill=nan"),
        ((flip(),), ((0,),), ValueError, "fill="),
        ((half, PAIR), 0, ValueError, r"stages\[1\] is geometric"),
        ((MIX, half), 0, ValueError, r"stages\[1\] comes after stages\[0\], which mixes"),
        ((flip(), MIX, MIX), 0, ValueError, r"stages\[2\] comes after stages\[1\]"),
        ((flip(), MIX, PAIR), 0, ValueError, r"stages\[2\] comes after stages\[1\]"),
    ],
)
def test_refused_at_construction(stages, fill, error, message):
    with pytest.raises(error, match=message):
        chain(*stages, fill=fill)


@pytest.mark.parametrize(
    ("shape", "fill", "message"),
    [((2, 4, 4), 0, r"\(2, 4, 4\)"), ((2, 4, 4, 1), (1, 2, 3), "1 channels")],
)
def test_refused_where_the_image_is_seen(shape, fill, message):
    with pytest.raises(ValueError, match=message):
        chain(flip(), fill=fill)(jax.random.key(0), {"image": jnp.zeros(shape, jnp.uint8)})


def test_the_nearest_pixel_is_that_of_the_mask():
    image = np.random.default_rng(0).integers(1, 256, (SIZE, HEIGHT, WIDTH, 1), dtype=np.uint8)
    batch = {"image": jnp.asarray(image), "mask": jnp.asarray(image[..., 0])}
    moved = chain(rotation((20, 40)), mask_fill=0, interpolation="nearest")
    found = jax.jit(moved)(jax.random.key(0), batch)
    np.testing.assert_array_equal(found["image"][..., 0], found["mask"])
    assert 0 < np.mean(np.asarray(found["mask"]) == 0) < 0.5
    smooth = jax.jit(chain(rotation((20, 40)), mask_fill=0))(jax.random.key(0), batch)
    np.testing.assert_array_equal(smooth["mask"], found["mask"])
    assert np.mean(smooth["image"] == found["image"]) < 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"border": "wrap"}, "border='wrap' is not one of constant, reflect, edge"),
        ({"interpolation": "cubic"}, "interpolation='cubic' is not one of bilinear, nearest"),
        ({"mask_fill": 256}, "mask_fill=256"),
        ({"mask_fill": 0.5}, "mask_fill=0.5"),
        ({"visible": 1.5}, "visible=1.5"),
        ({"visible": float("nan")}, "visible=nan"),
    ],
)
def test_refused_options(options, message):
    with pytest.raises(ValueError, match=message):
        chain(flip(), **options)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"image": None}, r"no 'image' in the batch for a geometric stage"),
        ({"mask": np.zeros((SIZE, 2, WIDTH), np.uint8)}, r"mask is uint8\(16, 2, 8\)"),
        ({"mask": np.zeros((SIZE, HEIGHT, WIDTH), np.float32)}, "mask is float32"),
        ({"box_valid": None}, "'boxes' in the batch without 'box_valid'"),
    ],
)
def test_refused_for_the_batch(keys, message):
    batch = {**make_batch(), "signal": jnp.zeros((SIZE, 9, 1))}
    batch = {name: value for name, value in {**batch, **keys}.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        chain(flip())(jax.random.key(0), batch)


def masked(size=SIZE):
    """Every kind of label that pixels have."""
    batch = make_batch()
    mask = (np.asarray(batch["image"])[..., 0] > 0).astype(np.uint8)
    rows = {
        "boxes": jnp.concatenate([batch["boxes"], batch["boxes"]], 1),
        "box_valid": jnp.tile(jnp.array([[True, False]]), (SIZE, 1)),
        "box_label": jnp.full((SIZE, 2), 4, jnp.int32),
        "box_crowd": jnp.ones((SIZE, 2), bool),
        "proposals": batch["boxes"],
        "proposal_valid": batch["box_valid"],
        "index": jnp.arange(SIZE, dtype=jnp.int32),
        "epoch": jnp.arange(SIZE, dtype=jnp.int32),
    }
    return {name: leaf[:size] for name, leaf in {**batch, "mask": mask, **rows}.items()}


def test_a_mask_moves_with_its_pixels():
    batch = masked()
    after = apply(jax.random.key(3), batch)
    inside = np.asarray(after["image"])
    expected = np.where((inside == 200).all(-1), 1, 0)
    expected[(inside == [7, 100, 250]).all(-1)] = 255
    assert set(np.unique(expected).tolist()) == {0, 1, 255}
    np.testing.assert_array_equal(after["mask"], expected)
    assert after["mask"].dtype == np.uint8
    # Without geometry it is left alone.
    assert chain(half)(jax.random.key(3), batch)["mask"] is batch["mask"]


def test_a_removed_box_takes_its_label_along_and_no_pixel_of_the_mask():
    batch = masked()
    out = chain(constant([[1, 0, WIDTH - 1], [0, 1, 0], [0, 0, 1]]), mask_fill=2, visible=1)
    after = jax.jit(out)(jax.random.key(0), batch)
    kept = np.asarray(after["box_valid"])[:, 0]
    assert 0 < kept.sum() < SIZE
    assert not np.asarray(after["box_valid"])[:, 1].any()
    for name, value in {"box_label": 4, "box_crowd": True}.items():
        np.testing.assert_array_equal(after[name][:, 0], np.where(kept, value, 0))
        assert not np.asarray(after[name])[:, 1].any()
    assert not np.asarray(after["boxes"])[~np.asarray(after["box_valid"])].any()
    np.testing.assert_array_equal(after["proposal_valid"][:, 0], kept)
    np.testing.assert_array_equal(after["mask"][:, :, -1], batch["mask"][:, :, 0])
    assert (np.asarray(after["mask"])[:, :, :-1] == 2).all()
    # A box that is not seen whole leaves its pixels behind.
    assert (np.asarray(after["mask"])[~kept, :, -1] == 1).any()


def test_both_halves_of_a_pair_draw_from_one_key():
    """The geometric half stands among the geometry, the other at its place among the pixels."""
    seen = []

    def draw(key, batch):
        seen.append(("draw", jax.random.key_data(key).tolist()))
        return constant([[1, 0, 1], [0, 1, 0], [0, 0, 1]]).draw(key, batch)

    def record(name):
        def change(key, batch):
            seen.append((name, jax.random.key_data(key).tolist()))
            return {**batch, "image": batch["image"] + 1}

        return change

    batch, key = make_batch(), jax.random.key(4)
    pairs = [Paired(Geometric(draw), record("first")), Paired(Geometric(draw), record("second"))]
    after = chain(flip(1.0), *pairs, record("third"), fill=9)(key, batch)
    numbers = [jax.random.key_data(jax.random.fold_in(key, k)).tolist() for k in range(4)]
    assert seen == list(
        zip(
            ("draw", "draw", "first", "second", "third"),
            (numbers[1], numbers[2], numbers[1], numbers[2], numbers[3]),
            strict=True,
        )
    )
    # Mirrored, moved by two, read once; then three brighter, what was outside too.
    expected = np.full(batch["image"].shape, 9, np.uint8)
    expected[:, :, 2:] = np.asarray(batch["image"])[:, :, ::-1][:, :, :-2]
    np.testing.assert_array_equal(after["image"], expected + 3)


def test_mixing_comes_last():
    """It sees what the other stages left, and labels become distributions."""
    batch = {name: make_batch()[name] for name in ("image", "label")}
    whole = Mixing(lambda key, batch: jnp.ones(batch["image"].shape[:3], jnp.float32), SIZE)
    after = jax.jit(chain(flip(1.0), half, whole))(jax.random.key(0), batch)
    np.testing.assert_array_equal(after["image"], np.asarray(batch["image"])[:, :, ::-1] // 2)
    np.testing.assert_array_equal(after["label"], np.eye(SIZE, dtype=np.float32))
    assert after["label"].dtype == np.float32


@pytest.mark.parametrize("name", ["boxes", "proposals", "mask"])
def test_mixing_refuses_labels_that_have_a_place(name):
    labels = masked()
    batch = {key: labels[key] for key in ("image", "label", "box_valid", "proposal_valid", name)}
    with pytest.raises(ValueError, match=name):
        jax.eval_shape(chain(flip(), MIX), jax.random.key(0), batch)


def test_signals_take_stages_of_pixels():
    batch = {"signal": jnp.ones((3, 9, 2)), "label": jnp.arange(3, dtype=jnp.int32)}

    def louder(key, batch):
        gain = jax.random.uniform(key, (3, 1, 1), jnp.float32, 1, 2)
        return {**batch, "signal": batch["signal"] * gain}

    after = chain(maybe(0.5, louder), one_of(louder, louder))(jax.random.key(0), batch)
    assert (np.asarray(after["signal"]) >= 1).all()
    with pytest.raises(ValueError, match="no 'image' in the batch"):
        chain(flip(), louder)(jax.random.key(0), batch)


EVERYTHING = chain(
    alternating_flip(),
    maybe(0.5, one_of(rotation(30), perspective(0.3))),
    random_resized_crop(5, 5),
    maybe(0.5, PAIR),
    fill=(7, 100, 250),
    border="reflect",
)


def test_everything_on_four_devices():
    """Bit for bit, without a batch of another device."""
    mesh = make_mesh(jax.devices()[:4])
    batch, key = masked(), jax.random.key(11)
    expected = jax.jit(EVERYTHING)(key, batch)
    parts = NamedSharding(mesh, PartitionSpec("data"))
    whole = replicated(mesh)
    compiled = (
        jax.jit(EVERYTHING, in_shardings=(whole, parts), out_shardings=parts)
        .lower(key, batch)
        .compile()
    )
    assert not re.findall(r"(?:all-\w+|collective-permute|reduce-scatter)\(", compiled.as_text())
    equal(compiled(*jax.device_put((key, batch), (whole, parts))), expected)
    assert len({row.tobytes() for row in np.asarray(expected["matrix"])}) == SIZE


def test_a_batch_of_one():
    """The same as the first of many."""
    one, many = (apply(jax.random.key(3), masked(size)) for size in (1, SIZE))
    equal(one, jax.tree.map(lambda leaf: leaf[:1], many))


def test_any_function_of_key_and_batch_is_a_stage():
    def bright(key, batch, *, amount=3):
        return {**batch, "image": batch["image"] + jnp.uint8(amount)}

    batch = make_batch()
    for stage in (bright, jax.jit(bright), functools.partial(bright, amount=3), chain(bright)):
        after = chain(stage)(jax.random.key(0), batch)
        np.testing.assert_array_equal(after["image"], batch["image"] + 3)
