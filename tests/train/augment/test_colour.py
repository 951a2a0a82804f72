"""Colour, blur and tone against torchvision (golden), Pillow, SciPy and colorsys."""

import colorsys
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import PIL.ImageEnhance
import PIL.ImageOps
import pytest
import scipy.ndimage

from train.augment.blur import blurred, gaussian_blur, sharpened, sharpness
from train.augment.colour import (
    brightened,
    brightness,
    colour_jitter,
    contrast,
    contrasted,
    gamma,
    grayscale,
    hue,
    raised,
    saturated,
    saturation,
    turned,
)
from train.augment.tone import (
    autocontrasted,
    dark_ground,
    equalised,
    inverted,
    posterise,
    posterised,
    solarise,
    solarised,
    with_dark_ground,
)

GOLDEN = np.load(pathlib.Path(__file__).parents[2] / "golden" / "torchvision_augment.npz")
IMAGE = GOLDEN["image"]
CHANGES = {
    "brightness": brightened,
    "contrast": contrasted,
    "saturation": saturated,
    "hue": turned,
    "gamma": raised,
    "sharpness": sharpened,
    "blur": lambda image, sigma: blurred(image, sigma, 3),
    "autocontrast": lambda image, _: autocontrasted(image),
    "invert": lambda image, _: inverted(image),
    "posterise": posterised,
    "solarise": solarised,
}
STEPS = {
    "brightness": 1,
    "contrast": 2,
    "saturation": 2,
    "sharpness": 1.5,
    "hue": 1.01,
    "blur": 0.51,
}
"""How far uint8 may be off, by the roundings on the way; 1, of the last, where not said."""


def picture(height=40, width=30, channels=3, seed=0):
    """A smooth field with noise, so that histograms are neither level nor of one value."""
    rng = np.random.default_rng(seed)
    field = scipy.ndimage.gaussian_filter(rng.normal(size=(height, width, channels)), (3, 3, 0))
    return np.uint8(np.clip(110 + 400 * field + rng.normal(size=field.shape) * 5, 0, 255))


def repeated(image, amounts, dtype):
    return jnp.asarray(np.broadcast_to(image, (len(amounts), *image.shape)), dtype)


@pytest.mark.parametrize("name", CHANGES)
def test_equals_torchvision(name):
    amounts, change = jnp.asarray(GOLDEN[f"amounts/{name}"]), jax.jit(CHANGES[name])
    of_uint8, of_floats = (
        change(repeated(IMAGE, amounts, dtype), amounts) for dtype in (jnp.uint8, jnp.float32)
    )
    assert of_uint8.dtype == of_floats.dtype == jnp.float32
    np.testing.assert_array_equal(of_uint8, of_floats)
    assert of_floats.min() >= 0
    assert of_floats.max() <= 255
    if f"float/{name}" in GOLDEN:
        np.testing.assert_allclose(of_floats, GOLDEN[f"float/{name}"], atol=2e-3)
        grey = change(repeated(IMAGE[..., 1:2], amounts, jnp.uint8), amounts)
        np.testing.assert_allclose(grey, GOLDEN[f"grey/{name}"], atol=2e-3)
    else:
        np.testing.assert_array_equal(of_floats, GOLDEN[f"uint8/{name}"])
    np.testing.assert_allclose(of_uint8, GOLDEN[f"uint8/{name}"], atol=STEPS.get(name, 1))


def enhanced(kind, factor):
    return lambda image: kind(PIL.Image.fromarray(image)).enhance(factor)


def operated(function, *amounts):
    return lambda image: function(PIL.Image.fromarray(image), *amounts)


@pytest.mark.parametrize(
    ("change", "reference", "off"),
    [
        (lambda x: brightened(x, 1.4), enhanced(PIL.ImageEnhance.Brightness, 1.4), 1),
        (lambda x: saturated(x, 0.3), enhanced(PIL.ImageEnhance.Color, 0.3), 2),
        (lambda x: contrasted(x, 1.8), enhanced(PIL.ImageEnhance.Contrast, 1.8), 2),
        (lambda x: sharpened(x, 1.9), enhanced(PIL.ImageEnhance.Sharpness, 1.9), 2),
        (lambda x: posterised(x, 3), operated(PIL.ImageOps.posterize, 3), 0),
        (lambda x: solarised(x, 99), operated(PIL.ImageOps.solarize, 99), 0),
        (inverted, operated(PIL.ImageOps.invert), 0),
        (autocontrasted, operated(PIL.ImageOps.autocontrast), 1),
        (equalised, operated(PIL.ImageOps.equalize), 0),
    ],
)  # fmt: skip
def test_equals_pillow(change, reference, off):
    images = np.stack([picture(seed=0), picture(seed=1)])
    expected = np.stack([np.asarray(reference(image)) for image in images])
    assert (expected != images).any()
    np.testing.assert_allclose(jax.jit(change)(images), expected, atol=off + 1e-4)


def test_the_ground_is_dark_thereafter():
    dark = np.stack([picture(seed=0) // 2, picture(seed=1) // 3])
    # Half of the pixels 127, half of them 128: no brighter than half, and stays.
    half = np.broadcast_to(np.arange(40)[:, None, None] % 2 + 127, dark.shape[1:])
    images = np.uint8([dark[0], 255 - dark[0], dark[1], 255 - dark[1], half, 255 - half, half + 1])
    expected = np.uint8([dark[0], dark[0], dark[1], dark[1], half, 255 - half, 254 - half])
    found = jax.jit(with_dark_ground)(images)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(with_dark_ground(found), expected)
    # Of all channels together: a bright one among dark ones does not turn by itself.
    yellow = np.zeros((1, 4, 5, 3), np.uint8) + np.uint8([255, 100, 0])
    np.testing.assert_array_equal(with_dark_ground(yellow), yellow)
    batch = {"image": images, "label": np.arange(7)}
    staged = dark_ground()(jax.random.key(0), batch)
    np.testing.assert_array_equal(staged["image"], expected)
    np.testing.assert_array_equal(staged["label"], batch["label"])


@pytest.mark.parametrize(
    "values",
    [
        np.full((20, 20), 77),  # one value
        np.arange(400).reshape(20, 20) % 2 * 255,  # two
        np.arange(256).reshape(16, 16),  # all, evenly
        np.minimum(np.arange(400).reshape(20, 20), 200),  # half of it the largest
        np.arange(12).reshape(3, 4) * 20,  # fewer than 255 pixels
        np.array([[3]]),
    ],
)
def test_equalise_at_its_edges_is_pillows(values):
    values = np.uint8(values)
    expected = np.asarray(PIL.ImageOps.equalize(PIL.Image.fromarray(values)))
    one, other = np.asarray(jax.jit(equalised)(np.stack([values, values[::-1]])[..., None]))[..., 0]
    np.testing.assert_array_equal(one, expected)
    np.testing.assert_array_equal(other, expected[::-1])


def test_hue_turns_by_colorsys():
    colours = np.random.default_rng(3).integers(0, 256, (1, 4, 50, 3))
    after = np.asarray(jax.jit(turned)(jnp.asarray(colours, jnp.uint8), -0.3))
    for before, found in zip(colours.reshape(-1, 3), after.reshape(-1, 3), strict=True):
        h, s, v = colorsys.rgb_to_hsv(*(before / 255))
        expected = 255 * np.array(colorsys.hsv_to_rgb((h - 0.3) % 1, s, v))
        np.testing.assert_allclose(found, expected, atol=1e-3)
    red = jnp.asarray([[[[255, 0, 0]]]], jnp.uint8)
    np.testing.assert_allclose(turned(red, 1 / 3)[0, 0, 0], [0, 255, 0], atol=1e-3)


@pytest.mark.parametrize("shape", [(9, 7), (3, 2), (1, 5), (1, 1)])
def test_blur_is_scipys_at_the_widest_sigma(shape):
    image = picture(*shape).astype(np.float32)
    sigma = 1.3
    batch = {"image": jnp.asarray(image[None])}
    found = jax.jit(gaussian_blur((sigma, sigma)))(jax.random.key(0), batch)["image"]
    expected = scipy.ndimage.gaussian_filter(image.astype(float), (sigma, sigma, 0), mode="mirror")
    np.testing.assert_allclose(found[0], expected, atol=1e-3)


def test_each_example_has_an_amount_of_its_own():
    image = np.stack([picture(9, 8)] * 3)
    for change, amounts in (
        (brightened, [0.5, 1.0, 1.5]),
        (contrasted, [0.5, 1.0, 1.5]),
        (saturated, [0.5, 1.0, 1.5]),
        (turned, [-0.5, 0.0, 0.2]),
        (raised, [0.5, 1.0, 1.5]),
        (sharpened, [0.5, 1.0, 1.5]),
        (lambda x, sigma: blurred(x, sigma, 4), [1.0, 0.0, 0.3]),
        (posterised, [2, 8, 4]),
        (solarised, [100, 256, 50]),
    ):
        one = jax.jit(change)
        together, turned_round = (
            np.asarray(one(image, jnp.asarray(order, jnp.float32)))
            for order in (amounts, amounts[::-1])
        )
        np.testing.assert_array_equal(turned_round, together[::-1])
        assert len(np.unique(together.reshape(3, -1), axis=0)) == 3
        # The middle one is neutral: to the bit.
        np.testing.assert_array_equal(together[1], np.float32(image[1]))


def spread(stage, size=400, value=100):
    """What a stage makes of equal pixels, one an example."""
    batch = {"image": jnp.full((size, 1, 1, 1), value, jnp.uint8)}
    return np.asarray(jax.jit(stage)(jax.random.key(0), batch)["image"]).ravel()


def test_amounts_fill_their_ranges():
    for stage, low, high in (
        (brightness(0.4), 60, 140),
        (brightness(1.4), 0, 240),
        (brightness((0.5, 0.6)), 50, 60),
        (gamma(1, 2), 255 * (100 / 255) ** 2, 100),
    ):
        found = spread(stage)
        assert low <= found.min() < low + 0.05 * (high - low) + 1e-3
        assert high - 0.05 * (high - low) - 1e-3 < found.max() <= high + 1e-3
    assert set(spread(posterise((1, 3)))) == {0, 64, 96}
    assert set(spread(posterise(2))) == {64}
    assert np.mean(spread(solarise((0, 200))) == 155) == pytest.approx(0.5, abs=0.08)


def test_grayscale_is_a_coin():
    batch = {"image": jnp.broadcast_to(jnp.array([9, 99, 200], jnp.uint8), (400, 1, 1, 3))}
    after = np.asarray(jax.jit(grayscale(0.3))(jax.random.key(0), batch)["image"])[:, 0, 0]
    grey = after[:, 0] == after[:, 1]
    assert grey.mean() == pytest.approx(0.3, abs=0.08)
    np.testing.assert_allclose(after[grey], 0.2989 * 9 + 0.587 * 99 + 0.114 * 200, atol=1e-4)
    np.testing.assert_array_equal(after[~grey], np.tile([[9.0, 99, 200]], (sum(~grey), 1)))


def test_jitter_is_the_four_in_order():
    image = picture(6, 5)[None]
    fixed = colour_jitter((0.7, 0.7), (1.5, 1.5), (0.4, 0.4), (0.2, 0.2))
    found = jax.jit(fixed)(jax.random.key(0), {"image": image})["image"]
    four = ((brightened, 0.7), (contrasted, 1.5), (saturated, 0.4), (turned, 0.2))
    expected = image
    for change, amount in four:
        expected = jax.jit(change)(expected, amount)
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: brightness(-0.1), "factor=-0.1"),
        (lambda: contrast((2, 1)), r"factor=\(2, 1\)"),
        (lambda: saturation(float("nan")), "factor=nan"),
        (lambda: brightness((0, float("inf"))), "factor="),
        (lambda: hue(0.6), "turns=0.6"),
        (lambda: hue((-0.7, 0)), "turns="),
        (lambda: colour_jitter(contrast=-1), "contrast=-1"),
        (lambda: colour_jitter(hue=0.7), "hue=0.7"),
        (lambda: grayscale(1.1), "p=1.1"),
        (lambda: gamma(2, 1), r"\(low, high\)=\(2, 1\)"),
        (lambda: posterise(9), "bits=9"),
        (lambda: posterise(2.5), "bits=2.5"),
        (lambda: posterise((1.5, 3)), "bits="),
        (lambda: solarise(256), "threshold=256"),
        (lambda: gaussian_blur(-1), "sigma=-1"),
        (lambda: sharpness((-1, 0)), "factor="),
    ],
)
def test_refused_at_construction(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("stage", [contrast(0.1), saturation(0.1), hue(0.1), grayscale()])
def test_refused_where_the_image_is_seen(stage):
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="2 channels"):
        jax.eval_shape(stage, key, {"image": jnp.zeros((2, 3, 3, 2), jnp.uint8)})
    with pytest.raises(ValueError, match=r"shape \(3, 3, 1\)"):
        jax.eval_shape(stage, key, {"image": jnp.zeros((3, 3, 1), jnp.uint8)})
    with pytest.raises(ValueError, match=r"no 'image' .*'signal'"):
        jax.eval_shape(stage, key, {"signal": jnp.zeros((3, 3, 1))})
