"""Fills: what stands where something is hidden: one value, or one a channel."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

Fill = float | Sequence[float]
"""One value, or one a channel: of an image in pixels 0..255, of a signal in its unit."""


def colour_of(fill: Fill) -> np.ndarray:
    """`fill` as a float32 array, () or (C,).

    Raises:
        ValueError: it is none, or not finite.
    """
    colour = np.asarray(fill, np.float32) if not isinstance(fill, str) else np.float32(np.nan)
    if colour.ndim > 1 or not np.isfinite(colour).all():
        raise ValueError(f"fill={fill!r} is not one value, or one a channel")
    return np.asarray(colour)


def laid(fill: np.ndarray, x: jax.Array, key: str) -> jax.Array:
    """`fill` in the type of x, (1, …, C).

    Raises:
        ValueError: it has other channels.
    """
    if fill.size not in (1, x.shape[-1]):
        raise ValueError(f"fill={fill.tolist()} for {x.shape[-1]} channels of {key}")
    wide = np.broadcast_to(fill, (1,) * (x.ndim - 1) + (x.shape[-1],))
    return jnp.asarray(wide).astype(x.dtype)
