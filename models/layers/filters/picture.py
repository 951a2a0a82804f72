"""What a filter takes for a picture: its shape, its dtype, its white."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from models.layers.pooling import is_float, summing_dtype


def picture(x: Any) -> jax.Array:
    """x as an array (B, H, W, C) of real numbers.

    Raises:
        ValueError: it has other axes, no pixel, or another dtype (booleans are no pictures).
    """
    x = jnp.asarray(x)
    if x.ndim != 4 or 0 in x.shape[1:3]:
        raise ValueError(f"x of shape {x.shape} is no picture (B, H, W, C)")
    if not (is_float(x) or jnp.issubdtype(x.dtype, jnp.integer)):
        raise ValueError(f"x of dtype {x.dtype} is no picture: expected floats or integers")
    return x


def widened(x: jax.Array) -> jax.Array:
    """In the dtype that filters compute in: at least float32."""
    return x.astype(summing_dtype(x))


def rounded(y: jax.Array, dtype: Any) -> jax.Array:
    """y in `dtype`; if that is an integer, to the nearest one and clipped to what it holds."""
    if jnp.issubdtype(dtype, jnp.integer):
        info = jnp.iinfo(dtype)
        y = jnp.clip(jnp.rint(y), float(info.min), float(info.max))
    return y.astype(dtype)


def white_of(x: jax.Array, white: Any) -> Any:
    """The value of white: the given one, 1.0 for floats, the largest of an unsigned integer.

    Raises:
        ValueError: x has signed integers, and none is given.
    """
    if white is not None:
        return white
    if is_float(x):
        return 1.0
    if jnp.issubdtype(x.dtype, jnp.unsignedinteger):
        return float(np.iinfo(x.dtype).max)
    raise ValueError(f"white=None: x of dtype {x.dtype} does not say which value is white")
