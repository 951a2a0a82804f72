"""RoI pooling and RoIAlign against torchvision's values and gradients, and by hand."""

import pathlib
import sys

import jax
import numpy as np
import pytest

from models.detection import roi

GOLDEN = pathlib.Path(__file__).parents[2] / "golden"
sys.path.insert(0, str(GOLDEN))
from torchvision_inputs import drawn  # noqa: E402

SIZES = ((13, 17), (7, 9), (4, 5))
SCALES = (1 / 4, 1 / 8, 1 / 16)


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "torchvision_roi.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def maps():
    return [drawn(f"map{height}", (2, height, width, 2)) for height, width in SIZES]


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
def test_values_and_gradients_are_torchvisions(name, golden, maps):
    given = maps if name == "multiscale" else maps[:1]
    if name == "pool_tied":
        given = [np.maximum(np.round(2 * maps[0]), 0)]

    @jax.jit
    def both(given, rois, cotangent):
        values, back = jax.vjp(lambda given: CASES[name](given, rois), given)
        return values, *back(cotangent)

    cotangent = drawn("cotangent", golden[f"{name}/values"].shape)
    values, gradients = both(given, golden["rois"], cotangent)
    exact = name.startswith("pool")
    np.testing.assert_allclose(values, golden[f"{name}/values"], rtol=0, atol=0 if exact else 3e-6)
    for number, gradient in enumerate(gradients):
        # A pixel adds up some hundred samples, in another order than torchvision.
        np.testing.assert_allclose(gradient, golden[f"{name}/gradient{number}"], atol=3e-5)
