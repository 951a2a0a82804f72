"""The kernel's gradient of a widely dilated convolution, taken apart: the sums themselves."""

import jax.numpy as jnp
import numpy as np
import pytest

from models.backends.convolution import Geometry
from models.backends.onednn import engine as onednn
from models.backends.onednn import phases


@pytest.mark.usefixtures("extension")
@pytest.mark.parametrize("pads", [(48, 0), (0, 48), (16, 16), (7, 5), (0, 40), (60, 60)])
@pytest.mark.parametrize(("size", "dilation", "groups"), [(50, 8, 1), (37, 16, 1), (64, 11, 2)])
def test_equal_to_the_sums(size, dilation, groups, pads):
    kernel, channels, features = 4, 6, 4
    geometry = Geometry((size,), (kernel,), (1,), (dilation,), (pads,), groups)
    (out,) = geometry.out
    if out < 1:
        pytest.skip("no output step")
    assert phases.apart("weights", geometry)
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(1, 3, n, c)) for n, c in ((size, channels), (out, features)))
    padded = np.pad(x, [(0, 0), (0, 0), pads, (0, 0)])
    wanted = np.zeros((1, kernel, channels // groups, features))
    for k in range(kernel):
        seen = padded[:, :, k * dilation : k * dilation + out]
        for group in range(groups):
            a, b = (
                slice(group * n // groups, (group + 1) * n // groups) for n in (channels, features)
            )
            wanted[0, k, :, b] = np.einsum("pblc,pblf->cf", seen[..., a], y[..., b])
    found = onednn.convolve("weights", jnp.float32(x), jnp.float32(y), geometry)
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())


def test_other_passes_and_geometries_are_left_whole():
    geometry = Geometry((50,), (4,), (1,), (8,), ((24, 0),), 1)
    assert not phases.apart("forward", geometry)
    assert not phases.apart("weights", geometry._replace(dilations=(7,)))
    assert not phases.apart("weights", geometry._replace(strides=(2,)))
