"""The input transform: what it starts as, and torchvision's arithmetic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.layers.input_transform import InputTransform

X = np.random.default_rng(0).normal(size=(2, 3, 4, 3)).astype(np.float32)


def test_it_starts_as_the_identity_and_has_no_parameters():
    y, variables = InputTransform().init_with_output(jax.random.key(0), X)
    assert variables.keys() == {"input_transform"}
    np.testing.assert_array_equal(variables["input_transform"]["scale"], [1, 1, 1])
    np.testing.assert_array_equal(variables["input_transform"]["shift"], [0, 0, 0])
    np.testing.assert_array_equal(y, X)


def test_images_of_imagenets_normalisation_become_those_of_a_half():
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    variables = {"input_transform": {"scale": std / 0.5, "shift": (mean - 0.5) / 0.5}}
    pixels = np.random.default_rng(1).uniform(size=X.shape)
    y = InputTransform().apply(variables, np.float32((pixels - mean) / std))
    np.testing.assert_allclose(y, (pixels - 0.5) / 0.5, atol=1e-6)


@pytest.mark.usefixtures("x64", "strict_dtypes")
@pytest.mark.parametrize(
    ("image", "param_dtype", "out", "constants"),
    [
        ("float32", "float32", "float32", "float32"),
        ("bfloat16", "bfloat16", "bfloat16", "float32"),
        ("bfloat16", "float32", "float32", "float32"),
        ("float32", "float64", "float64", "float64"),
        ("float64", "float32", "float64", "float64"),
    ],
)
def test_dtypes(image, param_dtype, out, constants):
    x = jnp.asarray(X, image)
    y, variables = InputTransform(param_dtype).init_with_output(jax.random.key(0), x)
    assert y.dtype == out
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(variables)} == {constants}
