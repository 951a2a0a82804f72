"""What every test runs under: four CPU devices, rank promotion raises, warnings are errors."""

import os
import pathlib

ROOT = pathlib.Path(__file__).parents[1]
CACHE = ROOT / ".cache" / "jax"
# Before JAX is imported, and inherited by every process that a test starts.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
os.environ.setdefault("JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES", "none")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
os.environ.setdefault("SVERTKA_CACHE", str(ROOT / ".cache" / "svertka"))

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 4)


@pytest.fixture
def strict_dtypes():
    """Strict dtype promotion, for our own arithmetic (Flax and optax break under it)."""
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture
def x64():
    """float64 inside one test."""
    with jax.enable_x64(True):
        yield
