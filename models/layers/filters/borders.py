"""What lies outside a picture, by the names of `scipy.ndimage`.

| mode | outside | a b c d | outside |
|---|---|---|---|
| "reflect" | d c b a | a b c d | d c b a |
| "constant" | k k k k | a b c d | k k k k, with k = cval |
| "nearest" | a a a a | a b c d | d d d d |
| "wrap" | a b c d | a b c d | a b c d |

SciPy's "reflect" repeats the edge: NumPy and JAX call that "symmetric", and their "reflect", which
does not repeat it, is SciPy's "mirror". Beyond the table's ends the pattern goes on, however small
the picture is.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Mode = Literal["reflect", "constant", "nearest", "wrap"]


def extend(
    x: jax.Array, pads: tuple[tuple[int, int], tuple[int, int]], *, mode: Mode, cval: Any
) -> jax.Array:
    """(B, H, W, C) -> (B, t + H + b, l + W + r, C) for pads ((t, b), (l, r)).

    Raises:
        ValueError: `mode` is none of the table's, or x holds integers and `cval` is not one of
            their dtype.
    """
    if mode not in ("reflect", "constant", "nearest", "wrap"):
        raise ValueError(f"mode={mode!r} is none of reflect, constant, nearest, wrap")
    if mode == "constant":
        widths = [(0, 0, 0), *((before, after, 0) for before, after in pads), (0, 0, 0)]
        return lax.pad(x, constant(cval, x.dtype), widths)
    for axis, (before, after) in enumerate(pads, start=1):
        size = x.shape[axis]
        outside = [np.arange(-before, 0), np.arange(size, size + after)]
        # Gathered strips beside the picture, not a gather of it all: its gradient would scatter.
        head, tail = (x.take(inside(at, size, mode), axis=axis) for at in outside)
        x = jnp.concatenate([head, x, tail], axis=axis)
    return x


def inside(at: np.ndarray, size: int, mode: Mode) -> np.ndarray:
    """The positions in [0, size) whose values stand at the positions `at` outside."""
    if mode == "wrap":
        return at % size
    if mode == "nearest":
        return np.clip(at, 0, size - 1)
    at = at % (2 * size)
    return np.where(at < size, at, 2 * size - 1 - at)


def constant(cval: Any, dtype: Any) -> jax.Array:
    """`cval` in that dtype; refused if it is an integer's and would change."""
    if jnp.issubdtype(dtype, jnp.integer):
        info = jnp.iinfo(dtype)
        if cval != int(cval) or not info.min <= cval <= info.max:
            raise ValueError(f"cval={cval!r} is no {np.dtype(dtype)}")
    return jnp.asarray(cval, dtype)
