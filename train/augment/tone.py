"""Tone: stages that give each value another, by a fixed curve or by what the image holds.

Images are (B, H, W, C), 0..255, any number of channels; results are float32, in 0..255. Of whole
numbers they are, up to a last rounding down, what torchvision and Pillow give for uint8; these have
no `dark_ground`.
"""

import jax
import jax.numpy as jnp

from train.augment.amounts import Amount, Span, clipped, image_of, real, rows, span, stage
from train.augment.kinds import Pixel
from train.data.batch import Batch


def posterise(bits: int | tuple[int, int]) -> Pixel:
    """The upper bits of each value, the others 0: 8 is the image, 0 is black.

    Args:
        bits: how many, or the fewest and the most, all equally likely.

    Raises:
        ValueError: `bits` is no integer or range of integers in 0..8.
    """
    low, high = (int(end) for end in span("bits", bits, 0, 8))
    if (low, high) != (bits if isinstance(bits, tuple | list) else (bits, bits)):
        raise ValueError(f"bits={bits} is not of whole numbers")

    def apply(key: jax.Array, batch: Batch) -> Batch:
        image = image_of(batch)
        drawn = jax.random.randint(key, image.shape[:1], low, high + 1, jnp.int32)
        return {**batch, "image": posterised(image, drawn)}

    return apply


def solarise(threshold: Span) -> Pixel:
    """Values from a threshold on become their negative.

    Args:
        threshold: 0..255, or (low, high).

    Raises:
        ValueError: `threshold` is no number and no range in 0..255.
    """
    return stage(solarised, span("threshold", threshold, 0, 255))


def invert() -> Pixel:
    """The negative of every image: 255 - x. For some of them: `maybe(p, invert())`."""
    return stage(inverted)


def dark_ground() -> Pixel:
    """The negative of each image that is brighter than half on average, over all its channels.

    Where most of an image is ground, and bright on dark as good as dark on bright, a network then
    learns one instead of two. It has no random number; twice is once.
    """
    return stage(with_dark_ground)


def autocontrast() -> Pixel:
    """Each channel's least value becomes 0, its largest 255. A channel of one value stays."""
    return stage(autocontrasted)


def equalise() -> Pixel:
    """Each channel's histogram made level, as by Pillow's `ImageOps.equalize`."""
    return stage(equalised)


def posterised(image: jax.Array, bits: Amount) -> jax.Array:
    """See `posterise`; `bits` (B,) whole numbers. Floats are rounded down to a level too."""
    x = clipped(real(image))
    kept = rows(bits, x)
    step = jnp.exp2(8 - kept)
    return jnp.where(kept == 8, x, jnp.floor(x / step) * step)


def solarised(image: jax.Array, threshold: Amount) -> jax.Array:
    """See `solarise`; a threshold above 255 changes nothing."""
    x = clipped(real(image))
    return jnp.where(x >= rows(threshold, x), 255 - x, x)


def inverted(image: jax.Array) -> jax.Array:
    """See `invert`."""
    return 255 - clipped(real(image))


def with_dark_ground(image: jax.Array) -> jax.Array:
    """See `dark_ground`; an image of exactly half, 127.5, stays."""
    x = clipped(real(image))
    # Not a mean: a rounded quotient could call an image and its negative both bright.
    bright = jnp.sum(x - 127.5, axis=(1, 2, 3), keepdims=True) > 0
    return jnp.where(bright, 255 - x, x)


def autocontrasted(image: jax.Array) -> jax.Array:
    """See `autocontrast`."""
    x = clipped(real(image))
    least, most = (end(x, axis=(1, 2), keepdims=True) for end in (jnp.min, jnp.max))
    extent = most - least
    stretched = (x - least) / jnp.where(extent == 0, 1, extent) * 255
    return jnp.where(extent == 0, x, stretched)


def equalised(image: jax.Array) -> jax.Array:
    """See `equalise`. Floats are rounded to whole numbers first.

    With h the histogram of n values of which m are the largest, and step = (n - m) // 255, value v
    becomes (sum of h below v + step // 2) // step; a channel whose step is 0 stays as it was.
    """
    x = clipped(real(image))
    batch, height, width, channels = x.shape
    level = jnp.round(x).astype(jnp.int32).reshape(batch, height * width, channels)
    level = jnp.moveaxis(level, 2, 1)
    histogram = jax.vmap(jax.vmap(_histogram))(level)
    below = jnp.cumsum(histogram, axis=2, dtype=jnp.int32) - histogram
    # Of the largest value: all below it are none of it.
    largest = jnp.max(level, axis=2, keepdims=True)
    step = jnp.take_along_axis(below, largest, axis=2, mode="promise_in_bounds") // 255
    table = jnp.clip((below + step // 2) // jnp.maximum(step, 1), 0, 255)
    mapped = jnp.take_along_axis(table, level, axis=2, mode="promise_in_bounds")
    mapped = jnp.moveaxis(mapped, 1, 2).reshape(x.shape).astype(x.dtype)
    return jnp.where(step.reshape(batch, 1, 1, channels) == 0, x, mapped)


def _histogram(level: jax.Array) -> jax.Array:
    """(n,) int32 in 0..255 -> (256,) int32: how often each comes."""
    ones = jnp.ones_like(level)
    return jnp.zeros(256, jnp.int32).at[level].add(ones, mode="promise_in_bounds")
