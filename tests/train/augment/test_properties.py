"""What holds for every map: labels follow pixels, a chain is its product, the inverse undoes."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np

from train.augment import (
    Geometric,
    chain,
    flip,
    maybe,
    pad_and_crop,
    perspective,
    rotation,
    scale,
    shear,
    shift,
    vertical_flip,
)
from train.augment.homography import inverse, product
from train.augment.warp import warp, warp_mask

HEIGHT, WIDTH, SIZE = 48, 64, 4
examples = functools.partial(
    hypothesis.settings, deadline=None, derandomize=True, database=None, max_examples=30
)
keys = st.integers(0, 2**32 - 1)

MOVE = chain(
    shift(0.1),
    rotation(30),
    shear(10),
    scale(0.8, 1.2),
    perspective(0.2),
    pad_and_crop(4),
    flip(),
    vertical_flip(),
    mask_fill=0,
    visible=0,
)
move = jax.jit(MOVE)


@st.composite
def rectangles(draw):
    x0, y0 = draw(st.integers(0, WIDTH - 16)), draw(st.integers(0, HEIGHT - 16))
    x1, y1 = draw(st.integers(x0 + 12, WIDTH)), draw(st.integers(y0 + 12, HEIGHT))
    return x0, y0, x1, y1


@examples()
@hypothesis.given(keys, st.lists(rectangles(), min_size=SIZE, max_size=SIZE))
def test_the_box_of_a_moved_rectangle_is_its_moved_box(seed, boxes):
    """To 1.5 px, in the mask and in the image, where all of it is inside the new image."""
    mask = np.zeros((SIZE, HEIGHT, WIDTH), np.uint8)
    for one, (x0, y0, x1, y1) in zip(mask, boxes, strict=True):
        one[y0:y1, x0:x1] = 3
    batch = {
        "image": jnp.asarray(mask[..., None] * np.uint8(85)),
        "mask": jnp.asarray(mask),
        "boxes": jnp.asarray(boxes, jnp.float32)[:, None],
        "box_valid": jnp.ones((SIZE, 1), bool),
        "box_label": jnp.ones((SIZE, 1), jnp.int32),
    }
    after = move(jax.random.key(seed), batch)
    for i in range(SIZE):
        x0, y0, x1, y1 = box = np.asarray(after["boxes"])[i, 0]
        if not after["box_valid"][i, 0]:
            assert box.tolist() == [0, 0, 0, 0]
            assert after["box_label"][i, 0] == 0
            continue
        assert after["box_label"][i, 0] == 1
        whole = x0 > 0 and y0 > 0 and x1 < WIDTH and y1 < HEIGHT
        for inside in (
            np.asarray(after["mask"])[i] == 3,
            np.asarray(after["image"])[i, ..., 0] >= 128,
        ):
            rows, columns = np.nonzero(inside)
            found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            # Clipped, a tilted rectangle's box is no smaller than what is left of it.
            assert (found[:2] >= box[:2] - 1.5).all()
            assert (found[2:] <= box[2:] + 1.5).all()
            if whole:
                np.testing.assert_allclose(found, box, rtol=0, atol=1.5)


small = st.integers(-20, 20).map(lambda percent: percent / 100)


@st.composite
def maps(draw):
    matrix = np.eye(3, dtype=np.float32)
    matrix[:2, :2] += np.array([[draw(small), draw(small)], [draw(small), draw(small)]], np.float32)
    matrix[:2, 2] = 20 * draw(small), 20 * draw(small)
    matrix[2, :2] = 0.01 * draw(small), 0.01 * draw(small)
    return matrix


given_maps = jax.jit(
    lambda key, batch, first, second: chain(
        Geometric(lambda key, batch: first), Geometric(lambda key, batch: second), border="reflect"
    )(key, batch)
)
read = jax.jit(functools.partial(warp, shape=(6, 7), fill=np.float32(0), border="reflect"))
read_mask = jax.jit(functools.partial(warp_mask, shape=(6, 7), fill=0, border="reflect"))
times = jax.jit(product)
back = jax.jit(lambda matrix: product(inverse(matrix), matrix))


@examples()
@hypothesis.given(maps(), maps())
def test_a_chain_is_the_product_of_its_maps(first, second):
    pixels = np.random.default_rng(0).integers(0, 256, (1, 6, 7, 2)).astype(np.uint8)
    batch = {
        "image": jnp.asarray(pixels),
        "mask": jnp.asarray(pixels[..., 0]),
        "matrix": jnp.eye(3, dtype=jnp.float32)[None],
    }
    after = given_maps(jax.random.key(0), batch, first[None], second[None])
    np.testing.assert_allclose(after["matrix"][0], second @ first, rtol=0, atol=1e-5)
    matrix = times(second[None], first[None])
    np.testing.assert_array_equal(after["matrix"], matrix)
    np.testing.assert_array_equal(after["image"], read(pixels, matrix))
    np.testing.assert_array_equal(after["mask"], read_mask(pixels[..., 0], matrix))


@examples()
@hypothesis.given(maps())
def test_the_inverse_undoes(matrix):
    undone = np.asarray(back(matrix[None]))[0]
    np.testing.assert_allclose(undone / undone[2, 2], np.eye(3), rtol=0, atol=1e-4)
    # In a chain to the pixel: what the two maps leave is less than rounding shows.
    pixels = np.random.default_rng(0).integers(0, 256, (1, 6, 7, 2)).astype(np.float32)
    batch = {
        "image": jnp.asarray(pixels),
        "mask": jnp.asarray(pixels[..., 0], jnp.uint8),
        "boxes": jnp.array([[[1, 2, 5, 6]]], jnp.float32),
        "box_valid": jnp.ones((1, 1), bool),
        "matrix": jnp.eye(3, dtype=jnp.float32)[None],
    }
    opposite = np.linalg.inv(np.float64(matrix)).astype(np.float32)
    after = given_maps(jax.random.key(0), batch, matrix[None], opposite[None])
    np.testing.assert_allclose(after["image"], pixels, rtol=0, atol=0.05)
    np.testing.assert_array_equal(after["mask"], batch["mask"])
    np.testing.assert_allclose(after["boxes"], batch["boxes"], rtol=0, atol=1e-3)


still = jax.jit(
    chain(
        *(maybe(0.0, stage) for stage in (shift(0.3), rotation(90), perspective())),
        flip(0.0),
        maybe(0.0, lambda key, batch: {**batch, "image": batch["image"] / 2}),
    )
)


@examples(max_examples=10)
@hypothesis.given(keys, st.integers(0, 255))
def test_probability_nothing_is_the_identity(seed, value):
    pixels = np.random.default_rng(value).integers(0, 256, (2, 6, 7, 3)).astype(np.uint8)
    batch = {
        "image": jnp.asarray(pixels),
        "mask": jnp.asarray(pixels[..., 0]),
        "boxes": jnp.array([[[0.1, 2, 7, 6]], [[1, 1, 2, 2.3]]], jnp.float32),
        "box_valid": jnp.ones((2, 1), bool),
        "matrix": jnp.tile(jnp.eye(3, dtype=jnp.float32), (2, 1, 1)),
    }
    after = still(jax.random.key(seed), batch)
    assert after.keys() == batch.keys()
    for name in batch:
        assert after[name].dtype == batch[name].dtype
        np.testing.assert_array_equal(after[name], batch[name], err_msg=name)
