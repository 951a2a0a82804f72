"""The kernel's gradient of a widely dilated 1-D convolution, as that of one without dilation.

Steps t, t + d, t + 2d, … of a series of dilation d meet no others: they are a series of their own.
oneDNN's own form takes up to twice as long from d = 8 on (batches of 32, 784 steps, 25 and 32
channels, kernels of 7, AVX-512; equal at d = 2).
"""

import jax
import jax.numpy as jnp

from models.backends.convolution import Geometry

WIDE = 8
"""The least dilation that is taken apart."""


def apart(which: str, geometry: Geometry) -> bool:
    """Whether a pass is one that is computed in phases."""
    return (
        which == "weights"
        and len(geometry.size) == 1
        and geometry.strides == (1,)
        and geometry.dilations[0] >= WIDE
    )


def split(x: jax.Array, y: jax.Array, geometry: Geometry) -> tuple[jax.Array, jax.Array, Geometry]:
    """Input and the output's cotangent, a series a phase, and their convolution's geometry.

    (P, B, L, C) and (P, B, M, O) -> (P, B d, m + k - 1, C), (P, B d, m, O), with m = ceil(M / d);
    what is beyond the last step of a phase is 0.
    """
    (d,), (k,), ((before, _),) = geometry.dilations, geometry.kernel, geometry.pads
    steps = -(-y.shape[2] // d)
    seen = steps + k - 1
    after = seen * d - before - x.shape[2]  # below 0: the last steps meet no output
    zero = jnp.zeros((), x.dtype)
    x = jax.lax.pad(x, zero, [(0, 0, 0), (0, 0, 0), (before, after, 0), (0, 0, 0)])
    y = jnp.pad(y, [(0, 0), (0, 0), (0, steps * d - y.shape[2]), (0, 0)])
    one = geometry._replace(size=(seen,), dilations=(1,), pads=((0, 0),))
    return by_phase(x, d), by_phase(y, d), one


def by_phase(x: jax.Array, d: int) -> jax.Array:
    """(P, B, n d, C) -> (P, B d, n, C)."""
    parts, count, steps, channels = x.shape
    x = x.reshape(parts, count, steps // d, d, channels)
    return x.swapaxes(2, 3).reshape(parts, count * d, steps // d, channels)
