"""Policies: torchvision's tables and matrices (golden), and how often each operation comes."""

import pathlib
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import PIL.ImageEnhance
import PIL.ImageOps
import pytest
import scipy.stats

from train.augment import chain, rand_augment, trivial_augment_wide
from train.augment.policies import RAND, WIDE, colouring, moving
from train.augment.warp import warp

GOLDEN = np.load(pathlib.Path(__file__).parents[2] / "golden" / "torchvision_augment.npz")
GEOMETRY = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
COLOUR = (
    *("Brightness", "Color", "Contrast", "Sharpness", "Posterize", "Solarize"),
    *("AutoContrast", "Equalize"),
)


@pytest.mark.parametrize("name", RAND)
@pytest.mark.parametrize(("policy", "table"), [("RAND", RAND), ("WIDE", WIDE)])
def test_magnitudes_are_torchvisions(policy, table, name):
    found = table[name].magnitudes(31, (32, 48))
    np.testing.assert_allclose(found, GOLDEN[f"{policy}/{name}"], rtol=1e-5, atol=1e-5)
    assert len(table) == 14
    signed = (*GEOMETRY, "Brightness", "Color", "Contrast", "Sharpness")
    assert table[name].signed == (name in signed)


@pytest.mark.parametrize("name", GEOMETRY)
def test_maps_are_torchvisions(name):
    by, expected = GOLDEN[f"moved_by/{name}"], GOLDEN[f"moved/{name}"]
    image = jnp.asarray(np.stack([GOLDEN["image"]] * len(by)), jnp.float32)
    amounts = {other: jnp.zeros(len(by), jnp.float32) for other in GEOMETRY}
    amounts[name] = jnp.asarray(by)
    shape = image.shape[1:3]
    found = jax.jit(lambda image, by: warp(image, moving(by, shape), shape, np.float32(0)))(
        image, amounts
    )
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_each_operation_of_colour_is_pillows():
    image = np.random.default_rng(0).normal(100, 40, (24, 30, 3)).clip(0, 255).astype(np.uint8)
    picture = PIL.Image.fromarray(image)
    amounts = dict(zip(COLOUR, (0.5, -0.6, 0.9, -0.9, 3, 99, 0, 0), strict=True))
    expected = [
        PIL.ImageEnhance.Brightness(picture).enhance(1.5),
        PIL.ImageEnhance.Color(picture).enhance(0.4),
        PIL.ImageEnhance.Contrast(picture).enhance(1.9),
        PIL.ImageEnhance.Sharpness(picture).enhance(0.1),
        PIL.ImageOps.posterize(picture, 3),
        PIL.ImageOps.solarize(picture, 99),
        PIL.ImageOps.autocontrast(picture),
        PIL.ImageOps.equalize(picture),
        picture,
    ]
    size = len(expected)
    chosen = {name: jnp.arange(size) == n for n, name in enumerate(COLOUR)}
    by = {name: jnp.where(chosen[name], jnp.float32(amounts[name]), 0) for name in COLOUR}
    found = jax.jit(colouring)(jnp.asarray(np.stack([image] * size)), by, chosen)
    for one, reference in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, np.asarray(reference), atol=2.01)
    np.testing.assert_array_equal(found[-1], np.float32(image))


def operations(matrix, image, before):
    """Names of what was done to each example, as far as its results tell."""
    for one, after in zip(matrix, image, strict=True):
        if not np.array_equal(one, np.eye(3)):
            assert np.array_equal(one[2], [0, 0, 1])
            if one[0, 1] and one[1, 0]:
                yield "Rotate"
            elif one[0, 1] or one[1, 0]:
                yield "ShearX" if one[0, 1] else "ShearY"
            else:
                yield "TranslateX" if one[0, 2] else "TranslateY"
        else:
            yield "same" if np.array_equal(after, before) else "colour"


def test_operations_are_equally_likely():
    size = 1500
    before = np.random.default_rng(0).integers(60, 200, (18, 17, 3)).astype(np.float32)
    batch = {
        "image": jnp.broadcast_to(before, (size, *before.shape)),
        "matrix": jnp.broadcast_to(jnp.eye(3, dtype=jnp.float32), (size, 3, 3)),
    }
    stages = rand_augment(1, 20)
    after = jax.jit(chain(*stages))(jax.random.key(0), batch)
    image, matrix = np.asarray(after["image"]), np.asarray(after["matrix"])
    counts = Counter(operations(matrix, image, before))
    # Of eight that change colours, all do; sides of a shift are 20 / 30 of 150 / 331 of the image.
    expected = dict.fromkeys(GEOMETRY, size / 14) | {"colour": size * 8 / 14, "same": size / 14}
    assert counts.keys() == expected.keys()
    pairs = [(counts[name], expected[name]) for name in expected]
    assert scipy.stats.chisquare(*zip(*pairs, strict=True)).pvalue > 1e-3
    shifts = Counter(matrix[:, 0, 2][(matrix[:, 0, 0] == 1) & (matrix[:, 0, 1] == 0)])
    assert shifts.keys() == {0, -5, 5}
    assert scipy.stats.binomtest(shifts[5], shifts[5] + shifts[-5]).pvalue > 1e-3
    leaning = np.unique(np.round(matrix[:, 0, 1][matrix[:, 1, 0] == 0], 5))
    np.testing.assert_allclose(leaning, [-0.2, 0, 0.2])


def test_trivial_augment_draws_its_magnitudes():
    size = 12000
    shape = jax.ShapeDtypeStruct((size, 80, 90, 3), jnp.uint8)
    (stage,) = trivial_augment_wide()
    matrix = jax.jit(lambda key: stage.geometric.draw(key, {"image": shape}))(jax.random.key(0))
    matrix = np.asarray(matrix)
    moved = (matrix[:, 0, 2] != 0) & (matrix[:, 0, 0] == 1) & (matrix[:, 0, 1] == 0)
    shifts = matrix[moved][:, 0, 2]
    allowed = {sign * int(32 * n / 30) for n in range(1, 31) for sign in (1, -1)}
    assert set(shifts) == allowed
    turned = np.degrees(np.arctan2(-matrix[:, 1, 0], matrix[:, 0, 0]))[matrix[:, 0, 1] != 0]
    turned = turned[np.abs(turned) > 1e-3]
    steps = turned / 4.5
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
    assert {-30, 30} <= set(np.round(steps)) <= set(range(-30, 31)) - {0}


def test_strength_zero_is_the_identity_but_for_what_has_none():
    """Bin 0 moves nothing and keeps colours, but for operations that know no magnitude."""
    image = np.random.default_rng(0).integers(0, 256, (200, 6, 5, 3)).astype(np.uint8)
    after = jax.jit(chain(*rand_augment(1, 0)))(jax.random.key(0), {"image": jnp.asarray(image)})
    same = (np.asarray(after["image"]) == image).all((1, 2, 3))
    # Solarize at 255 turns white black, AutoContrast stretches; Equalize needs 255 pixels.
    assert same.mean() > 0.8
    none = jax.jit(chain(*rand_augment(0)))(jax.random.key(0), {"image": jnp.asarray(image)})
    np.testing.assert_array_equal(none["image"], image)


def test_geometry_is_one_map_and_moves_boxes_and_masks():
    size = 40
    batch = {
        "image": jnp.full((size, 16, 16, 1), 90, jnp.uint8),
        "mask": jnp.ones((size, 16, 16), jnp.uint8),
        "boxes": jnp.broadcast_to(jnp.array([4, 4, 12, 12], jnp.float32), (size, 1, 4)),
        "box_valid": jnp.ones((size, 1), bool),
        "matrix": jnp.broadcast_to(jnp.eye(3, dtype=jnp.float32), (size, 3, 3)),
    }
    after = jax.jit(chain(*rand_augment(2, 25), fill=90))(jax.random.key(3), batch)
    moved = np.asarray((after["matrix"] != batch["matrix"]).any((1, 2)))
    assert 5 < moved.sum() < size
    np.testing.assert_array_equal(np.asarray(after["mask"] != 1).any((1, 2))[~moved], False)
    assert np.asarray(after["boxes"] != batch["boxes"]).any((1, 2))[moved].mean() > 0.9
    corners = np.array([[4, 4, 1], [12, 4, 1], [4, 12, 1], [12, 12, 1]], np.float32)
    for matrix, box in zip(after["matrix"], after["boxes"][:, 0], strict=True):
        x, y, _ = np.asarray(matrix) @ corners.T
        expected = np.clip([x.min(), y.min(), x.max(), y.max()], 0, 16)
        np.testing.assert_allclose(box, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rand_augment(-1), "operations=-1"),
        (lambda: rand_augment(2, 31), "magnitude=31"),
        (lambda: rand_augment(2, 2.5), "magnitude=2.5"),
        (lambda: rand_augment(bins=1), "bins=1"),
        (lambda: trivial_augment_wide(0), "bins=0"),
    ],
)
def test_refused_at_construction(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_other_channels_are_refused():
    with pytest.raises(ValueError, match="4 channels"):
        jax.eval_shape(
            chain(*rand_augment()), jax.random.key(0), {"image": jnp.zeros((2, 4, 4, 4), jnp.uint8)}
        )
