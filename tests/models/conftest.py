"""What layers and networks are held against: convolution's definition, torchvision's results."""

import importlib.util
import itertools
import pathlib

import numpy as np
import pytest

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"


def convolve(x, kernel, stride, pads, dilation, groups, mode="constant"):
    """Cross-correlation as explicit sums over window and channels, in float64.

    x (B, spatial…, C), kernel (window…, C / groups, F); stride, pads, dilation: one for each axis.
    """
    x = np.pad(np.float64(x), [(0, 0), *pads, (0, 0)], mode=mode)
    *window, channels, features = kernel.shape
    spatial = [
        (size - d * (k - 1) - 1) // s + 1
        for size, k, s, d in zip(x.shape[1:-1], window, stride, dilation, strict=True)
    ]
    y = np.zeros((len(x), *spatial, features))
    for b, f in itertools.product(range(len(x)), range(features)):
        first = f // (features // groups) * channels
        for out in np.ndindex(*spatial):
            for tap in np.ndindex(*window):
                at = tuple(
                    o * s + t * d for o, s, t, d in zip(out, stride, tap, dilation, strict=True)
                )
                for c in range(channels):
                    y[(b, *out, f)] += x[(b, *at, first + c)] * kernel[(*tap, c, f)]
    return y


@pytest.fixture(scope="session")
def definition():
    return convolve


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
