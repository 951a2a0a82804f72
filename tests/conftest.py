"""What every test runs under: four CPU devices, rank promotion raises, warnings are errors, and
training that copies unasked or traces a step twice raises.

And what many are held against: what torchvision computed.
"""

import importlib.util
import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).parents[1]
CACHE = ROOT / ".cache" / "jax"
GOLDEN = ROOT / "tests" / "golden"
# Before JAX is imported, and inherited by every process that a test starts.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
os.environ.setdefault("JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES", "none")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
# Most programs here are tiny and run once: LLVM's best code takes longer to make than it saves.
# `make test-slow` compiles as a user does. XLA's fusion emitters stay: without them it would take
# less still, but the same sum would not be the same bit for bit on another number of devices.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")
os.environ.setdefault("SVERTKA_CACHE", str(ROOT / ".cache" / "svertka"))

import guards
import jax
import numpy as np
import pytest

jax.config.update("jax_num_cpu_devices", 4)


@pytest.fixture(scope="session", autouse=True)
def guarded():
    """Every run of this process trains under `guards`; commands of their own do not."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("train.run", "train.at_once"):
            if (module := sys.modules.get(name)) is not None:
                patch.setattr(module, "fit", guards.guarded(module.fit))
        yield


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


@pytest.fixture(scope="session")
def inputs():
    """The module tests/golden/torchvision_inputs.py."""
    spec = importlib.util.spec_from_file_location("inputs", GOLDEN / "torchvision_inputs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def golden():
    """Reads a golden file: what was computed by torchvision."""

    def read(name):
        with np.load(GOLDEN / f"torchvision_{name}.npz") as file:
            return {key: file[key] for key in file.files}

    return read
