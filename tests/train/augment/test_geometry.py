"""The geometric stages: their distribution, and that a number belongs to an example."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from train.augment import (
    Geometric,
    chain,
    flip,
    maybe,
    one_of,
    pad_and_crop,
    perspective,
    quarter_turns,
    random_crop,
    random_resized_crop,
    rotation,
    scale,
    shear,
    shift,
    vertical_flip,
)

MANY, HEIGHT, WIDTH = 4000, 5, 7
STAGES = {
    "flip": flip(),
    "maybe": maybe(0.5, one_of(shift(0.2), flip())),
    "pad_and_crop": pad_and_crop(4),
    "perspective": perspective(0.5),
    "random_resized_crop": random_resized_crop(3, 4),
    "shear": shear(20, (0, 10)),
}
"""One of each way to draw."""


def drawn(stage, seed=0, size=MANY, shape=(HEIGHT, WIDTH)):
    """What a stage, or each of a dict of them, draws."""
    batch = {"image": jax.ShapeDtypeStruct((size, *shape, 1), jnp.uint8)}

    @jax.jit
    def draw(key):
        if isinstance(stage, Geometric):
            return stage.draw(key, batch)
        return {name: one.draw(key, batch) for name, one in stage.items()}

    return jax.tree.map(np.asarray, draw(jax.random.key(seed)))


def uniform(values, low, high):
    assert low <= values.min()
    assert values.max() <= high
    assert scipy.stats.kstest(values, scipy.stats.uniform(low, high - low).cdf).pvalue > 1e-3


def test_shift_is_a_share_of_the_image():
    matrices = drawn(shift((-0.25, 0.5), 0.1))
    uniform(matrices[:, 0, 2] / WIDTH, -0.25, 0.5)
    uniform(matrices[:, 1, 2] / HEIGHT, -0.1, 0.1)
    assert abs(np.corrcoef(matrices[:, 0, 2], matrices[:, 1, 2])[0, 1]) < 0.05
    assert (matrices[:, :2, :2] == np.eye(2)).all()
    np.testing.assert_array_equal(drawn(shift(0.3), size=9), drawn(shift(0.3, 0.3), size=9))


def test_rotation_is_about_the_centre_and_counter_clockwise():
    matrices = np.float64(drawn(rotation((10, 60))))
    uniform(np.degrees(np.arctan2(matrices[:, 0, 1], matrices[:, 0, 0])), 10 - 1e-4, 60 + 1e-4)
    np.testing.assert_allclose(np.linalg.det(matrices), 1, rtol=1e-5)
    centre = np.array([WIDTH / 2, HEIGHT / 2, 1])
    np.testing.assert_allclose(matrices @ centre, np.tile(centre, (MANY, 1)), rtol=0, atol=1e-5)
    # A point to the right of the centre goes up: y runs down.
    assert ((matrices @ np.add(centre, [1, 0, 0]))[:, 1] < centre[1]).all()


def test_rotation_by_ninety_degrees_is_exact():
    image = np.random.default_rng(0).integers(0, 256, (2, 6, 6, 3)).astype(np.uint8)
    transform = jax.jit(chain(rotation((90, 90))))
    after = transform(jax.random.key(0), {"image": jnp.asarray(image)})
    np.testing.assert_array_equal(after["image"], np.rot90(image, axes=(1, 2)))


def test_quarter_turns_are_those_of_numpy():
    size = 32
    image = np.random.default_rng(0).integers(0, 256, (size, 5, 5, 2)).astype(np.uint8)
    batch = {"image": jnp.asarray(image), "mask": jnp.asarray(image[..., 1])}
    after = jax.jit(chain(quarter_turns()))(jax.random.key(0), batch)
    seen = []
    for one, turned, mask in zip(image, after["image"], after["mask"], strict=True):
        (k,) = (k for k in range(4) if (np.rot90(one, k) == np.asarray(turned)).all())
        np.testing.assert_array_equal(mask, np.rot90(one[..., 1], k))
        seen.append(k)
    assert set(seen) == {0, 1, 2, 3}
    turns = drawn(quarter_turns(), shape=(4, 4))[:, 0, :2]
    _, counts = np.unique(turns, axis=0, return_counts=True)
    assert len(counts) == 4
    assert scipy.stats.chisquare(counts).pvalue > 1e-3
    with pytest.raises(ValueError, match="5x7, which is not square"):
        drawn(quarter_turns())


def test_scale_is_about_the_centre():
    matrices = drawn(scale(0.5, 3))
    uniform(matrices[:, 0, 0], 0.5, 3)
    np.testing.assert_array_equal(matrices[:, 0, 0], matrices[:, 1, 1])
    centre = np.array([WIDTH / 2, HEIGHT / 2, 1])
    np.testing.assert_allclose(matrices @ centre, np.tile(centre, (MANY, 1)), rtol=0, atol=1e-5)


def test_shear_leans_by_degrees():
    matrices = drawn(shear(30))
    uniform(np.degrees(np.arctan(np.float64(matrices[:, 0, 1]))), -30 - 1e-4, 30 + 1e-4)
    assert (matrices[:, 1] == [0, 1, 0]).all()
    along_y = drawn(shear(0, (5, 20)))
    uniform(np.degrees(np.arctan(np.float64(along_y[:, 1, 0]))), 5 - 1e-4, 20 + 1e-4)
    assert (along_y[:, 0] == [1, 0, 0]).all()
    # Both keep areas.
    np.testing.assert_allclose(np.linalg.det(np.float64(drawn(shear(50, 50)))), 1, atol=1e-4)


def test_perspective_moves_corners_inwards():
    matrices = np.float64(drawn(perspective(0.4)))
    corners = np.array([[0, 0, 1], [WIDTH, 0, 1], [WIDTH, HEIGHT, 1], [0, HEIGHT, 1]])
    points = np.einsum("bij,kj->bki", matrices, corners)
    points = points[..., :2] / points[..., 2:]
    inwards = np.abs(points - corners[:, :2]) / [WIDTH / 2, HEIGHT / 2]
    assert (points > -1e-4).all()
    assert (points < np.array([WIDTH, HEIGHT]) + 1e-4).all()
    for corner in range(4):
        for axis in range(2):
            uniform(inwards[:, corner, axis], -1e-5, 0.4 + 1e-5)


def test_a_draw_depends_on_key_and_place_alone():
    few, more, others = drawn(STAGES, size=8), drawn(STAGES, size=32), drawn(STAGES, 1, size=8)
    with jax.enable_x64(True):
        wide = drawn(STAGES, size=8)
    for name in STAGES:
        np.testing.assert_array_equal(few[name], more[name][:8], err_msg=name)
        np.testing.assert_array_equal(few[name], wide[name], err_msg=name)
        assert wide[name].dtype == np.float32, name
        assert (others[name] != few[name]).any(), name
        assert len(np.unique(more[name].reshape(32, 9), axis=0)) > 1, name


STILL = {
    "flip": flip(0),
    "maybe": maybe(0, rotation(90)),
    "pad_and_crop": pad_and_crop(0),
    "perspective": perspective(0),
    "random_crop": random_crop(HEIGHT, WIDTH),
    "rotation": rotation(0),
    "scale": scale(1, 1),
    "shear": shear(0, 0),
    "shift": shift(0),
    "vertical_flip": vertical_flip(0),
}


def test_no_range_is_the_identity():
    for name, matrices in drawn(STILL, size=4).items():
        np.testing.assert_array_equal(matrices, np.tile(np.eye(3), (4, 1, 1)), err_msg=name)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: shift(-0.1), "x=-0.1"),
        (lambda: shift(0, (2, 1)), r"y=\(2, 1\)"),
        (lambda: rotation(float("inf")), "degrees=inf"),
        (lambda: scale(0, 1), "low=0"),
        (lambda: scale(2, 1), r"\(low, high\)=\(2, 1\)"),
        (lambda: shear(90), r"x=\(-90, 90\)"),
        (lambda: shear(0, (0, 95)), r"y=\(0, 95\)"),
        (lambda: perspective(1.1), "distortion_scale=1.1"),
    ],
)
def test_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
