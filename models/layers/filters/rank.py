"""Filters that order the pixels of a window: no kernel does what they do."""

import jax
import jax.numpy as jnp

from models.layers.conv import at_least_one, one_an_axis
from models.layers.filters.borders import Mode, extend
from models.layers.filters.picture import picture


def median(
    x: jax.Array, size: int | tuple[int, int], *, mode: Mode = "reflect", cval: float = 0.0
) -> jax.Array:
    """The middle value of each window of `size` (or (h, w)): salt and pepper go, edges stay.

    Equal to `scipy.ndimage.median_filter`: of n = h w values the one of rank n // 2, so that an
    even window gives the upper of the two middle ones and reaches one pixel further up and left.
    NaN counts as the largest value. A gradient goes to the pixel that was taken.

    (B, H, W, C) of any dtype -> the same, exactly. Needs memory for n copies of x, and time to
    sort them.
    """
    x = picture(x)
    h, w = (at_least_one("size", n) for n in one_an_axis("size", size, 2))
    (_, height, width, _), pads = x.shape, ((h // 2, (h - 1) // 2), (w // 2, (w - 1) // 2))
    wide = extend(x, pads, mode=mode, cval=cval)
    shifted = [wide[:, i : i + height, j : j + width] for i in range(h) for j in range(w)]
    return jnp.sort(jnp.stack(shifted), axis=0)[h * w // 2]
