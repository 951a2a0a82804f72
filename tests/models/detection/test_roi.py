"""RoI pooling and RoIAlign against torchvision's values and gradients, and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.detection import roi

SIZES = ((13, 17), (7, 9), (4, 5))
SCALES = (1 / 4, 1 / 8, 1 / 16)


def given(name, inputs):
    maps = [inputs.drawn(f"map{height}", (2, height, width, 2)) for height, width in SIZES]
    if name == "pool_tied":
        return [np.maximum(np.round(2 * maps[0]), 0)]
    return maps if name == "multiscale" else maps[:1]


CASES = {
    "pool": lambda maps, rois: roi.roi_pool(maps[0], rois, size=3, scale=0.25),
    "pool_tied": lambda maps, rois: roi.roi_pool(maps[0], rois, size=3, scale=0.25),
    "align": lambda maps, rois: roi.roi_align(maps[0], rois, size=3, scale=0.25, sampling=2),
    "align_one": lambda maps, rois: roi.roi_align(maps[0], rois, size=3, scale=0.25, sampling=1),
    "align_aligned": lambda maps, rois: roi.roi_align(
        maps[0], rois, size=3, scale=0.25, sampling=3, aligned=True
    ),
    "multiscale": lambda maps, rois: roi.multiscale_roi_align(
        maps, rois, size=3, scales=SCALES, sampling=2, canonical_size=20, canonical_level=3
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_torchvisions(name, golden, inputs):
    """Also of pixels that tie, and of regions outside, turned, empty and at borders."""
    cases = golden("roi")

    @jax.jit
    def both(maps, rois, cotangent):
        values, back = jax.vjp(lambda maps: CASES[name](maps, rois), maps)
        return values, *back(cotangent)

    cotangent = inputs.drawn("cotangent", cases[f"{name}/values"].shape)
    values, gradients = both(given(name, inputs), cases["rois"], cotangent)
    atol = 0 if name.startswith("pool") else 3e-6
    np.testing.assert_allclose(values, cases[f"{name}/values"], rtol=0, atol=atol)
    for number, gradient in enumerate(gradients):
        # A pixel adds up some hundred samples, in another order than torchvision.
        np.testing.assert_allclose(gradient, cases[f"{name}/gradient{number}"], atol=3e-5)


def test_levels_are_torchvisions_about_every_step(golden):
    """Areas some bits to each side of where a level begins: no logarithm of ours is asked."""
    cases = golden("roi")
    steps = np.float32(roi.area_steps(2, 4, 224, 4))
    found = (cases["levels/areas"][:, None] >= steps).sum(1)
    np.testing.assert_array_equal(found, cases["levels/levels"])
    assert len(set(found)) == 4


def test_scales_are_the_nearest_powers_of_2():
    maps = [np.zeros((1, height, 9, 1), np.float32) for height in (200, 100, 50, 25, 13)]
    assert roi.inferred_scales(maps, (800, 1)) == (1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64)


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16, np.float64])
@pytest.mark.parametrize("name", CASES)
def test_output_has_the_maps_dtype_and_no_regions_are_none(name, dtype, x64):
    maps = [jax.ShapeDtypeStruct((2, h, w, 2), dtype) for h, w in SIZES]
    for count in (5, 0):
        rois = jax.ShapeDtypeStruct((2, count, 4), np.float32)
        found = jax.eval_shape(CASES[name], maps, rois)
        assert (found.shape, found.dtype) == ((2, count, 3, 3, 2), jnp.dtype(dtype))


def test_coordinates_stay_float32_beside_a_bfloat16_map():
    """A ramp read at 100.25 + 0.5: bfloat16 would have put the region at 100 or 100.5."""
    ramp = jnp.broadcast_to(jnp.arange(128.0)[None, None, :, None] - 100, (1, 4, 128, 1))
    box = jnp.float32([[[100.25, 1, 101.25, 2]]])
    read = jax.jit(lambda ramp: roi.roi_align(ramp, box, size=1, scale=1, sampling=1))
    assert read(ramp.astype(jnp.bfloat16)).item() == 0.75


def test_a_gradient_is_summed_in_float32():
    """300 regions read one pixel: in bfloat16 257 would be 256 again."""
    image, boxes = jnp.zeros((1, 1, 1, 1), jnp.bfloat16), jnp.zeros((1, 300, 4))
    total = jax.jit(jax.grad(lambda image: roi.roi_align(image, boxes, size=1, scale=1).sum()))
    assert total(image).item() == 300


def test_it_differentiates_forward_as_backward():
    """Linear in the map, and its derivative in another form: both ways must give the same."""
    image = jnp.arange(32.0).reshape(1, 4, 4, 2)
    boxes = jnp.float32([[[0, 0, 3, 2], [1, 1, 9, 9], [0, 0, 0, 0]]])

    @jax.jit
    def both(image):
        return jax.jvp(lambda x: roi.roi_align(x, boxes, size=2, scale=1), (image,), (image,))

    values, tangents = both(image)
    np.testing.assert_allclose(tangents, values, rtol=1e-6)


def test_no_gradient_goes_to_the_regions():
    box = jnp.float32([[[1, 1, 3, 3]]])
    image = jnp.arange(16.0).reshape(1, 4, 4, 1)
    gradient = jax.grad(lambda rois: roi.roi_align(image, rois, size=1, scale=1).sum())(box)
    assert not np.any(gradient)


ONE = np.zeros((1, 4, 4, 1), np.float32)
BOX = np.zeros((1, 1, 4), np.float32)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: roi.roi_align(ONE, BOX, size=1, scale=1, sampling=0), "sampling=0 must be"),
        (lambda: roi.roi_align(ONE, BOX, size=1, scale=1, sampling=-1), "sampling=-1 must be"),
        (lambda: roi.roi_align(ONE, BOX, size=0, scale=1), "size=0 must be"),
        (lambda: roi.roi_pool(ONE, BOX, size=1, scale=0), "scale=0 must be above 0"),
        (lambda: roi.roi_pool(ONE[0], BOX, size=1, scale=1), r"map of shape \(4, 4, 1\)"),
        (lambda: roi.roi_pool(ONE, BOX[0], size=1, scale=1), r"rois of shape \(1, 4\)"),
        (
            lambda: roi.multiscale_roi_align([ONE, ONE], BOX, size=1, scales=(1 / 4, 1 / 16)),
            "each half of the one before",
        ),
        (
            lambda: roi.multiscale_roi_align([ONE], BOX, size=1, scales=(1 / 4, 1 / 8)),
            r"for 1 map\(s\)",
        ),
    ],
)
def test_what_has_no_fixed_meaning_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()
