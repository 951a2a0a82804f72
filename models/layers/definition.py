"""Convolution by its definition: what a layer of a network computes, in one dimension.

    (f * g)(x) = sum_t g(t) f(x - t)          convolution; f * g = g * f
    (f ⋆ g)(x) = sum_t conj(g(t)) f(x + t)    cross-correlation

Convolution turns the kernel g round: f ⋆ g is f * g', g'(t) = conj(g(-t)). A convolutional network
correlates (`lax.conv_general_dilated` turns nothing round), and calls it convolution: its kernel is
learnt, so that it makes no difference which way round it is kept.

Outside of its n values f is 0, outside of its k values g is 0. Of the x where the sum may not be 0,

| mode | x | how many |
|---|---|---|
| "full" | all | n + k - 1 |
| "same" | as many as the longer of the two has, from the middle | max(n, k) |
| "valid" | those where the shorter one lies on the longer one alone | max(n, k) - min(n, k) + 1 |

The direct form takes n k products. By the convolution theorem F(f * g) = F(f) F(g) it takes three
fast Fourier transforms of n + k - 1 values, whatever k is (`docs/filters.md` shows where that is
faster). As the step h of samples goes to 0, h (f * g) goes to the integral of g(t) f(x - t) dt
(`integral`).
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft
from jax import lax

Mode = Literal["full", "same", "valid"]
Method = Literal["auto", "direct", "fft"]
FFT_FROM = 512
"""Values of the shorter operand from which "auto" transforms, as measured on a CPU."""


def convolve(
    f: jax.Array, g: jax.Array, *, mode: Mode = "full", method: Method = "auto"
) -> jax.Array:
    """(f * g)(x) = sum_t g(t) f(x - t), as `numpy.convolve`.

    `scipy.signal.fftconvolve` gives the same, but for "same" where g is the longer one, of which it
    keeps n values.

    Args:
        f, g: (n,) and (k,), of any dtype; both by `jax.vmap` over more axes.
        mode: which x, see above.
        method: the form; "auto" takes the faster one, and the direct one for integers, of which it
            is exact.

    Returns:
        Of the operands' common dtype; a transform of integers gives floats.

    Raises:
        ValueError: an operand is no vector or empty; `mode` or `method` is unknown.
    """
    f, g = operands(f, g)
    if mode not in ("full", "same", "valid"):
        raise ValueError(f"mode={mode!r} is none of full, same, valid")
    if method not in ("auto", "direct", "fft"):
        raise ValueError(f"method={method!r} is none of auto, direct, fft")
    if len(f) < len(g):
        f, g = g, f
    n, k = len(f), len(g)
    start, count = {
        "full": (0, n + k - 1),
        "same": ((k - 1) // 2, n),
        "valid": (k - 1, n - k + 1),
    }[mode]
    if method == "auto":
        method = "fft" if k >= FFT_FROM and jnp.issubdtype(f.dtype, jnp.inexact) else "direct"
    return (by_transforms if method == "fft" else directly)(f, g, start, count)


def correlate(
    f: jax.Array, g: jax.Array, *, mode: Mode = "full", method: Method = "auto"
) -> jax.Array:
    """(f ⋆ g)(x) = sum_t conj(g(t)) f(x + t), as `numpy.correlate` where f is no shorter.

    By the relation: the convolution with g turned round. Arguments, result and errors are those of
    `convolve`.
    """
    f, g = operands(f, g)
    return convolve(f, jnp.conj(g[::-1]), mode=mode, method=method)


def integral(
    f: Callable[[jax.Array], jax.Array],
    g: Callable[[jax.Array], jax.Array],
    *,
    start: float,
    stop: float,
    count: int,
) -> tuple[jax.Array, jax.Array]:
    """The integral of g(t) f(x - t) dt, as the limit of the sum: h (f * g) of samples h apart.

    Samples are taken in the middle of `count` intervals of [start, stop], outside of which f and g
    are taken to be 0: the midpoint rule at every x. Its error falls as h^2 where they are smooth
    inside, faster than any power where they are smooth everywhere.

    Args:
        f, g: values at the points of an array.
        start, stop: where both may differ from 0.
        count: of intervals, h = (stop - start) / count wide.

    Returns:
        The points x (2 count - 1,), from 2 start + h to 2 stop - h, and the values there.

    Raises:
        ValueError: `count` is below 1, or `stop` is not above `start`.
    """
    if count < 1 or not start < stop:
        raise ValueError(f"count={count} must be at least 1 and stop={stop} above start={start}")
    h = (stop - start) / count
    at = start + h * (jnp.arange(count) + 0.5)
    x = 2 * start + h * jnp.arange(1, 2 * count)
    return x, h * convolve(f(at), g(at))


def operands(f: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    """As vectors of one dtype."""
    f, g = jnp.asarray(f), jnp.asarray(g)
    for name, value in (("f", f), ("g", g)):
        if value.ndim != 1 or value.size == 0:
            raise ValueError(f"{name} of shape {value.shape} is no vector of at least 1 value")
    dtype = jnp.promote_types(f.dtype, g.dtype)
    return f.astype(dtype), g.astype(dtype)


def directly(f: jax.Array, g: jax.Array, start: int, count: int) -> jax.Array:
    """The sum over t, one shift of f after another: n k products."""
    k = len(g)
    wide = summing(f)
    padded = jnp.pad(f.astype(wide), (k - 1, k - 1))

    def add(total: jax.Array, term: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        t, weight = term
        shifted = lax.dynamic_slice(padded, (k - 1 + start - t,), (count,))  # f(x - t)
        return total + weight * shifted, None

    terms = jnp.arange(k, dtype=jnp.int32), g.astype(wide)
    return lax.scan(add, jnp.zeros(count, wide), terms, unroll=8)[0].astype(f.dtype)


def by_transforms(f: jax.Array, g: jax.Array, start: int, count: int) -> jax.Array:
    """F^-1(F(f) F(g)), of so many points that the ends do not meet."""
    full = len(f) + len(g) - 1
    size = scipy.fft.next_fast_len(full, real=True)
    wide = summing(f)
    if jnp.issubdtype(wide, jnp.integer):
        wide = jnp.promote_types(wide, jnp.float32)
    if jnp.issubdtype(wide, jnp.complexfloating):
        there, back = jnp.fft.fft, jnp.fft.ifft
    else:
        there, back = jnp.fft.rfft, jnp.fft.irfft
    y = back(there(f.astype(wide), size) * there(g.astype(wide), size), size)
    out = f.dtype if jnp.issubdtype(f.dtype, jnp.inexact) else wide
    return y[start : start + count].astype(out)


def summing(f: jax.Array) -> np.dtype:
    """Of sums: at least float32 for floats, the dtype itself for integers and complex numbers."""
    if jnp.issubdtype(f.dtype, jnp.floating):
        return np.promote_types(f.dtype, np.float32)
    return np.dtype(np.int32) if f.dtype == np.bool_ else f.dtype
