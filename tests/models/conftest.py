"""The definition of convolution, which layers and networks are held against."""

import itertools

import numpy as np
import pytest


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
