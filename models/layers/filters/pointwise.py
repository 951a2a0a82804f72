"""Filters g = h(f): the same function of every pixel, (B, H, W, C) -> the same shape and dtype.

Arithmetic is in at least float32, which holds integers up to 2^24 exactly. Numbers such as `amount`
may be arrays that broadcast with equal rank, (B, 1, 1, 1) for one an example.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from models.layers.conv import at_least_one
from models.layers.filters.picture import picture, rounded, white_of, widened
from models.layers.pooling import is_float


def invert(x: jax.Array, *, white: Any = None) -> jax.Array:
    """white - f: the negative."""
    x = picture(x)
    return rounded(white_of(x, white) - widened(x), x.dtype)


def brightness(x: jax.Array, amount: Any) -> jax.Array:
    """f + amount, in the picture's own units."""
    x = picture(x)
    return rounded(widened(x) + amount, x.dtype)


def contrast(x: jax.Array, factor: Any, *, white: Any = None) -> jax.Array:
    """factor (f - white / 2) + white / 2: away from mid-grey, or towards it below 1."""
    x = picture(x)
    grey = white_of(x, white) / 2
    return rounded(factor * (widened(x) - grey) + grey, x.dtype)


def gamma(x: jax.Array, exponent: Any, *, white: Any = None) -> jax.Array:
    """white (f / white)^exponent: below 1 lifts the shadows. Black and white stay.

    Equal to `skimage.exposure.adjust_gamma`. A negative f gives NaN where the exponent has a
    fraction; the gradient at black is infinite where it is below 1.
    """
    x = picture(x)
    top = white_of(x, white)
    return rounded(top * (widened(x) / top) ** exponent, x.dtype)


def threshold(x: jax.Array, level: Any, *, white: Any = None) -> jax.Array:
    """White where f > level, else 0 (where f is NaN too). Its gradient is 0."""
    x = picture(x)
    return rounded(jnp.where(widened(x) > level, white_of(x, white), 0.0), x.dtype)


def equalise_histogram(x: jax.Array, *, nbins: int = 256, white: Any = None) -> jax.Array:
    """white F(f), with F the share of pixels that are no brighter: all greys about as often.

    F is of one channel of one example. Integers: exact, one bin a value. Floats: `nbins` bins from
    the darkest to the brightest pixel, F piecewise linear through their centres; a channel with
    NaN is NaN. `white` times `skimage.exposure.equalize_hist`, rounded where x holds integers. The
    gradient takes the counts as constant.
    """
    x = picture(x)
    nbins, top, floats = at_least_one("nbins", nbins), white_of(x, white), is_float(x)

    def each(read: Callable[[jax.Array], jax.Array]) -> jax.Array:
        def channel(pixels: jax.Array) -> jax.Array:
            return read(pixels.reshape(-1)).reshape(pixels.shape)

        return jax.vmap(jax.vmap(channel, in_axes=2, out_axes=2))(widened(x) if floats else x)

    if floats:
        return rounded(top * each(partial(binned, nbins=nbins)), x.dtype)
    counts = each(ranked)
    return rounded(divided(top * counts, x.shape[1] * x.shape[2]), x.dtype)


def ranked(pixels: jax.Array) -> jax.Array:
    """(N,) -> for each, the number of pixels that are no larger, float32."""
    return jnp.searchsorted(jnp.sort(pixels), pixels, side="right").astype(jnp.float32)


def binned(pixels: jax.Array, nbins: int) -> jax.Array:
    """(N,) -> for each, the cumulative histogram, linear between the centres of the bins."""
    ordered = jnp.sort(pixels)
    edges = bin_edges(ordered[0], ordered[-1], nbins)
    below = jnp.searchsorted(ordered, edges[1:-1], side="left")
    share = jnp.append(below, pixels.size).astype(pixels.dtype) / pixels.size
    return jnp.interp(pixels, (edges[:-1] + edges[1:]) / 2, share)


def bin_edges(first: jax.Array, last: jax.Array, nbins: int) -> jax.Array:
    """(nbins + 1,): NumPy's to the last bit, since pixels of few greys stand on edges."""
    same = first == last
    first, last = jnp.where(same, first - 0.5, first), jnp.where(same, last + 0.5, last)
    # XLA would make one rounding of a product and a sum, were there not an absolute value, of what
    # is never negative, between the two.
    step = divided(last - first, nbins)
    edges = first + jnp.abs(step * jnp.arange(nbins + 1, dtype=first.dtype))
    return edges.at[-1].set(last)


def divided(x: jax.Array, count: int) -> jax.Array:
    """x / count as IEEE 754 rounds it; finite x."""
    # By a constant, XLA divides by multiplying with its inverse, which moves ties. This is none.
    return x / (count + 0 * x)
