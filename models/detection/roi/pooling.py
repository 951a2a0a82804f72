"""RoI pooling: the largest value in each of a region's bins, in whole pixels."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from models.detection.roi.regions import check_regions, quotient


def roi_pool(map: jax.Array, rois: jax.Array, *, size: int, scale: float) -> jax.Array:
    """The largest value in each of size x size bins of every region, in whole pixels.

    Corners are rounded, halves away from 0, and both belong to the region, so that none is smaller
    than one pixel; bins overlap where the region is smaller than they are many. A bin outside the
    map is 0. The gradient goes to the first of the largest in a bin, row by row.

    Args:
        map: (B, H, W, C) of floats.
        rois: (B, R, 4).
        size: bins along each axis.
        scale: pixels of the map to one of the image: 1 / stride.

    Returns:
        (B, R, size, size, C) of the map's dtype.

    Raises:
        ValueError: `map` or `rois` has other axes; `size` is no whole number above 0, `scale` is
            not above 0.
    """
    check_regions((map,), rois, size, (scale,))
    if 0 in (*map.shape, rois.shape[1]):
        return jnp.zeros((*rois.shape[:2], size, size, map.shape[-1]), map.dtype)
    return jax.vmap(lambda one, regions: pooled(one, regions, size, scale))(map, rois)


def pooled(map: jax.Array, rois: jax.Array, size: int, scale: float) -> jax.Array:
    """`roi_pool` of one image: (H, W, C), (R, 4) -> (R, size, size, C)."""
    height, width, channels = map.shape
    x0, y0, x1, y1 = jnp.moveaxis(rounded(lax.stop_gradient(rois), scale), -1, 0)
    top, bottom = bins(y0, y1, size, height)
    left, right = bins(x0, x1, size, width)
    flat = map.reshape(-1, channels)
    values = lax.stop_gradient(flat)
    # As many steps as the largest bin has pixels: each bin meets one of its own in each.
    rows, columns = jnp.max(bottom - top), jnp.max(right - left)
    steps = jnp.maximum(rows, 0) * jnp.maximum(columns, 0)

    def meet(step: jax.Array, found: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        largest, where = found
        y = top + step // columns
        x = left + step % columns
        inside = (y < bottom)[:, :, None] & (x < right)[:, None, :]
        at = jnp.where(inside, y[:, :, None] * width + x[:, None, :], 0)
        value = values.at[at].get(mode="promise_in_bounds")
        more = inside[..., None] & (value > largest)
        return jnp.where(more, value, largest), jnp.where(more, at[..., None], where)

    shape = (len(rois), size, size, channels)
    start = (jnp.full(shape, -jnp.inf, map.dtype), jnp.full(shape, -1, jnp.int32))
    _, where = lax.fori_loop(0, steps, meet, start)
    channel = jnp.arange(channels)[None, None, None]
    taken = flat.at[jnp.maximum(where, 0), channel].get(mode="promise_in_bounds")
    return jnp.where(where >= 0, taken, jnp.zeros((), map.dtype))


def rounded(rois: jax.Array, scale: float) -> jax.Array:
    """Corners in pixels of the map, as C's `round` has them, int32."""
    wide = rois.astype(np.promote_types(rois.dtype, np.float32))
    at = wide * jnp.asarray(scale, wide.dtype)
    whole = jnp.trunc(at)
    whole = whole + jnp.where(jnp.abs(at - whole) >= 0.5, jnp.sign(at), 0)
    return jnp.clip(whole, -FAR, FAR).astype(jnp.int32)


FAR = 2**24
"""Pixels beyond any map; whole numbers up to it are exact in float32."""


def bins(first: jax.Array, last: jax.Array, size: int, extent: int) -> tuple[jax.Array, jax.Array]:
    """Where bins start and end along an axis: (R,), (R,) -> (R, size), (R, size) of int32.

    Quantities are rounded as torchvision's float32: its last bin may end a pixel late.
    """
    length = jnp.maximum(last - first + 1, 1).astype(jnp.float32)
    step = quotient(length, size)
    edges = jnp.arange(size + 1, dtype=jnp.float32)[None] * step[:, None]
    start = jnp.floor(edges[:, :-1]).astype(jnp.int32) + first[:, None]
    end = jnp.ceil(edges[:, 1:]).astype(jnp.int32) + first[:, None]
    return jnp.clip(start, 0, extent), jnp.clip(end, 0, extent)
