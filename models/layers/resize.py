"""Bilinear resizing of maps."""

import jax
import numpy as np


def bilinear(x: jax.Array, height: int, width: int) -> jax.Array:
    """(B, h, w, C) -> (B, height, width, C): linear between pixel centres, edges repeated.

    Pixels are areas: corners of the map stay corners (PyTorch's `align_corners=False`). Nothing is
    averaged where the map shrinks. Computed in at least float32, returned in x's type.

    Raises:
        ValueError: x has other axes or no pixels, or a size is below 1.
    """
    if x.ndim != 4 or min(*x.shape[1:3], height, width) < 1:
        raise ValueError(f"x of shape {x.shape} to {height}x{width}: expected (B, h, w, C)")
    if x.shape[1:3] == (height, width):
        return x
    wide = x.astype(np.promote_types(x.dtype, np.float32))
    shape = (x.shape[0], height, width, x.shape[3])
    return jax.image.resize(wide, shape, "linear", antialias=False).astype(x.dtype)
