"""RoIAlign: the mean of bilinear samples in each of a region's bins, on a map or on a pyramid."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from models.detection.roi.regions import check_regions, quotient
from models.layers.conv import at_least_one


def roi_align(
    map: jax.Array,
    rois: jax.Array,
    *,
    size: int,
    scale: float,
    sampling: int = 2,
    aligned: bool = False,
) -> jax.Array:
    """The mean of bilinear samples in each of size x size bins of every region.

    A sample more than a pixel outside the map is 0; between there and the outermost centres the
    border's values hold.

    Args:
        map: (B, H, W, C) of floats.
        rois: (B, R, 4).
        size: bins along each axis.
        scale: pixels of the map to one of the image: 1 / stride.
        sampling: samples in a bin along each axis. torchvision's default of -1, as many as the bin
            has pixels, depends on the regions: no fixed shape holds it.
        aligned: whether pixel r has its centre at r + 0.5. Else, as in the paper's code, at r, and
            a region is at least one pixel of the map wide and high.

    Returns:
        (B, R, size, size, C) of the map's dtype. Coordinates and sums are at least float32.

    Raises:
        ValueError: `map` or `rois` has other axes; `size` or `sampling` is no whole number above 0,
            `scale` is not above 0.
    """
    check_regions((map,), rois, size, (scale,))
    level = jnp.zeros(rois.shape[:2], jnp.int32)
    return sampled((map,), rois, level, size, (scale,), sampling, aligned)


def multiscale_roi_align(
    maps: Sequence[jax.Array],
    rois: jax.Array,
    *,
    size: int,
    scales: Sequence[float],
    sampling: int = 2,
    canonical_size: int = 224,
    canonical_level: int = 4,
) -> jax.Array:
    """`roi_align`, not aligned, of each region on the level of a pyramid that its area asks for.

    Level k = floor(canonical_level + log2(sqrt(area) / canonical_size) + 1e-6), where level k has a
    stride of 2**k; a level that is not there is the nearest that is. A region of negative area has
    none: it is 0, unless there is one map alone, which all are read from.

    Args:
        maps: (B, H, W, C) each, the finest first.
        rois: (B, R, 4).
        size, sampling: as in `roi_align`.
        scales: of each map, pixels of the map to one of the image, each half of the one before:
            see `inferred_scales`.
        canonical_size: side of the square, in pixels, that is read from `canonical_level`.
        canonical_level: see there.

    Returns:
        (B, R, size, size, C) of the maps' dtype.

    Raises:
        ValueError: as `roi_align`; `maps` are none, or unlike in batch, channels or dtype; `scales`
            are not as many, or not powers of 2 that halve from one to the next.
    """
    check_regions(maps, rois, size, scales)
    finest = -math.log2(scales[0])
    halve = all(second * 2 == first for first, second in itertools.pairwise(scales))
    if not halve or finest != int(finest):
        raise ValueError(f"scales={tuple(scales)} must be powers of 2, each half of the one before")
    level = jnp.zeros(rois.shape[:2], jnp.int32)
    if len(maps) > 1:
        steps = area_steps(int(finest), len(maps), canonical_size, canonical_level)
        x0, y0, x1, y1 = jnp.moveaxis(lax.stop_gradient(rois), -1, 0)
        area = (x1 - x0) * (y1 - y0)
        for step in steps:
            level += area >= step
        level = jnp.where(area >= 0, level, -1)
    return sampled(maps, rois, level, size, scales, sampling, aligned=False)


def inferred_scales(maps: Sequence[jax.Array], image_size: tuple[int, int]) -> tuple[float, ...]:
    """The power of 2 nearest to each map's height over the image's, as torchvision has it.

    Args:
        maps: (B, H, W, C) each.
        image_size: height and width of the image.
    """
    ratios = [np.log2(np.float32(one.shape[1] / image_size[0])) for one in maps]
    return tuple(2.0 ** float(np.round(ratio)) for ratio in ratios)


def area_steps(finest: int, levels: int, canonical_size: int, canonical_level: int) -> list[float]:
    """The least area, in float32, of a region on each level but the first.

    Compared with these, an area needs no logarithm, whose last digit differs from machine to
    machine; the search is by torchvision's own float32 steps.
    """

    def level(area: np.float32) -> float:
        ratio = np.sqrt(area) / np.float32(canonical_size)
        log = np.float32(np.log2(np.float64(ratio)))
        return float(np.floor(np.float32(canonical_level) + log + np.float32(1e-6)))

    steps = []
    for wanted in range(finest + 1, finest + levels):
        exact = (canonical_size * 2.0 ** (wanted - canonical_level)) ** 2
        # Positive float32 are in the order of their bits.
        low, high = (int(np.float32(exact * f).view(np.int32)) for f in (0.999, 1.001))
        while high - low > 1:
            middle = (low + high) // 2
            if level(np.int32(middle).view(np.float32)) >= wanted:
                high = middle
            else:
                low = middle
        steps.append(float(np.int32(high).view(np.float32)))
    return steps


class Samples(NamedTuple):
    """Along one axis, of all regions, each (R, size * sampling)."""

    low: jax.Array
    """The pixel before, int32."""
    high: jax.Array
    """The pixel after."""
    low_weight: jax.Array
    """Of the pixel before; 0 for both outside the map."""
    high_weight: jax.Array


def samples(
    start: jax.Array, length: jax.Array, extent: jax.Array, size: int, sampling: int
) -> Samples:
    """Where a region is read along an axis; start, length and the map's extent are (R,)."""
    dtype = start.dtype
    step = quotient(length, size)[:, None]
    number = np.arange(size * sampling)
    whole = jnp.asarray(number // sampling, dtype)[None]
    part = jnp.asarray(number % sampling + 0.5, dtype)[None]
    # By 1: a product that is added is else not rounded itself, and a border is met or missed.
    at = start[:, None] + quotient(whole * step, 1) + quotient(part * step, sampling)
    most = extent[:, None]
    inside = (at >= -1) & (at <= most)
    at = jnp.clip(jnp.where(inside, at, 0), 0, most - 1)
    low = jnp.floor(at)
    weight = at - low
    low = low.astype(jnp.int32)
    high = jnp.minimum(low + 1, most - 1)
    none = jnp.zeros((), dtype)
    return Samples(low, high, jnp.where(inside, 1 - weight, none), jnp.where(inside, weight, none))


def sampled(
    maps: Sequence[jax.Array],
    rois: jax.Array,
    level: jax.Array,
    size: int,
    scales: Sequence[float],
    sampling: int,
    aligned: bool,
) -> jax.Array:
    """`roi_align` of each region on the map that `level`, (B, R), names; 0 where it is below 0.

    All maps are one list of pixels, so that a region is read once, whatever the levels.
    """
    at_least_one("sampling", sampling)
    dtype = maps[0].dtype
    wide = np.promote_types(np.promote_types(dtype, rois.dtype), np.float32)
    batch, count = rois.shape[:2]
    channels = maps[0].shape[-1]
    if 0 in (batch, count, channels):
        return jnp.zeros((batch, count, size, size, channels), dtype)
    flat = jnp.concatenate([one.reshape(batch, -1, channels) for one in maps], 1).astype(wide)
    heights, widths = (np.array([one.shape[axis] for one in maps], np.int32) for axis in (1, 2))
    starts = np.cumsum([0, *heights[:-1] * widths[:-1]], dtype=np.int32)

    def read(pixels: jax.Array, regions: jax.Array, level: jax.Array) -> jax.Array:
        own = jnp.maximum(level, 0)
        scale, height, width, start = (
            jnp.asarray(each)[own] for each in (np.array(scales, wide), heights, widths, starts)
        )
        offset = jnp.asarray(0.5 if aligned else 0, wide)
        corners = lax.stop_gradient(regions).astype(wide) * scale[:, None] - offset
        x0, y0, x1, y1 = corners.T
        least = -jnp.inf if aligned else 1
        across, down = jnp.maximum(x1 - x0, least), jnp.maximum(y1 - y0, least)
        y = samples(y0, down, height, size, sampling)
        x = samples(x0, across, width, size, sampling)

        def by_tap(low: jax.Array, high: jax.Array) -> jax.Array:
            """2 x (R, size * sampling) -> (2 * sampling, R, size)."""
            both = jnp.stack([low, high]).reshape(2, -1, size, sampling)
            return jnp.moveaxis(both, 3, 1).reshape(2 * sampling, -1, size)

        rows = by_tap(y.low, y.high) * width[None, :, None] + start[None, :, None]
        columns = by_tap(x.low, x.high)
        down_weights = by_tap(y.low_weight, y.high_weight) * (level >= 0)[None, :, None]
        across_weights = by_tap(x.low_weight, x.high_weight)
        at = rows[:, None, :, :, None] + columns[None, :, :, None, :]
        weight = down_weights[:, None, :, :, None] * across_weights[None, :, :, None, :]

        taps = (part.reshape(-1, *part.shape[2:]) for part in (at, weight))
        return (weighted(pixels, *taps) / sampling**2).astype(dtype)

    return jax.vmap(read)(flat, rois, level)


@jax.custom_jvp
def weighted(pixels: jax.Array, at: jax.Array, weight: jax.Array) -> jax.Array:
    """Sums of weighted pixels: (P, C), (T, R, s, s) int32 and floats -> (R, s, s, C).

    The gradient wants another form, `by_regions`. Here XLA's CPU backend makes one loop of a few
    terms, and keeps none of them; all in one expression it would join with what reads the result,
    which is slower than a term at a time.
    """

    def add(total: jax.Array, tap: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        at, weight = tap
        value = pixels.at[at].get(mode="promise_in_bounds")
        return total + value * weight[..., None], None

    none = jnp.zeros((*at.shape[1:], pixels.shape[-1]), pixels.dtype)
    return lax.scan(add, none, (at, weight), unroll=math.isqrt(len(at)))[0]


@weighted.defjvp
def weighted_tangent(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    """`weighted` is linear in the pixels; no gradient goes to the weights."""
    pixels, at, weight = primals
    return weighted(pixels, at, weight), by_regions(tangents[0], at, weight)


def by_regions(pixels: jax.Array, at: jax.Array, weight: jax.Array) -> jax.Array:
    """`weighted`, a few regions at a time, so that what its transpose scatters stays in a cache."""

    def one(taps: tuple[jax.Array, jax.Array]) -> jax.Array:
        at, weight = taps
        value = pixels.at[at].get(mode="promise_in_bounds")
        return jnp.sum(value * weight[..., None], 0)

    few = max(1, CACHED // (math.prod(at.shape) // at.shape[1] * pixels.shape[-1]))
    return lax.map(one, (jnp.moveaxis(at, 1, 0), jnp.moveaxis(weight, 1, 0)), batch_size=few)


CACHED = 2**18
"""Numbers of an image that fit a cache, about."""
