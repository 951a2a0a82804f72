"""What the scripts that wrote the golden files of torchvision's gave to it."""

import importlib.util
import pathlib

import numpy as np
import pytest

GOLDEN = pathlib.Path(__file__).parents[2] / "golden"


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
