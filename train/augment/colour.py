"""Colour: brightness, contrast, saturation, hue, grey and gamma, as torchvision computes them.

Each stage draws an amount an example, uniformly; below it stands the function of the image and the
amounts. Images are (B, H, W, C), 0..255, grey or RGB; results are float32 and clipped to 0..255 by
each stage. They differ from torchvision's on uint8 by its roundings to whole values, and from its
floats by nothing. A neutral amount changes nothing, exactly.
"""

import jax
import jax.numpy as jnp

from train.augment.amounts import (
    Amount,
    Span,
    clipped,
    coloured,
    factors,
    image_of,
    real,
    rows,
    span,
    stage,
)
from train.augment.kinds import Pixel
from train.augment.once import once
from train.augment.ranges import Range, limits, probability
from train.data.batch import Batch

GREY = (0.2989, 0.587, 0.114)
"""ITU-R BT.601's luma, in torchvision's digits: the sum is 0.9999."""


def brightness(factor: Span) -> Pixel:
    """Times a factor: 0 is black, 1 the image.

    Args:
        factor: (low, high), or a number for 1 - number..1 + number.

    Raises:
        ValueError: `factor` is no range from 0 on.
    """
    return stage(brightened, factors("factor", factor))


def contrast(factor: Span) -> Pixel:
    """Away from the image's mean grey by a factor: 0 is that grey, 1 the image.

    Args:
        factor: (low, high), or a number for 1 - number..1 + number.

    Raises:
        ValueError: `factor` is no range from 0 on.
    """
    return stage(contrasted, factors("factor", factor))


def saturation(factor: Span) -> Pixel:
    """Away from each pixel's grey by a factor: 0 is grey, 1 the image. One channel stays.

    Args:
        factor: (low, high), or a number for 1 - number..1 + number.

    Raises:
        ValueError: `factor` is no range from 0 on.
    """
    return stage(saturated, factors("factor", factor))


def hue(turns: Range) -> Pixel:
    """Around the circle of colours by a share of a turn: 1/3 makes red green. One channel stays.

    Args:
        turns: (low, high) in -0.5..0.5, or a number for -number..number.

    Raises:
        ValueError: `turns` is no such range.
    """
    low, high = limits("turns", turns)
    if low < -0.5 or high > 0.5:
        raise ValueError(f"turns={turns} is not in -0.5..0.5")
    return stage(turned, (low, high))


def colour_jitter(
    brightness: Span = 0.0, contrast: Span = 0.0, saturation: Span = 0.0, hue: Range = 0.0
) -> Pixel:
    """The four, in this order, by the ranges of the stages of these names.

    torchvision's ColorJitter shuffles the order, one for a whole batch.

    Raises:
        ValueError: one of them is no range.
    """
    low, high = limits("hue", hue)
    if low < -0.5 or high > 0.5:
        raise ValueError(f"hue={hue} is not in -0.5..0.5")

    def change(image: jax.Array, bright: Amount, apart: Amount, full: Amount, turn: Amount):
        return turned(saturated(contrasted(brightened(image, bright), apart), full), turn)

    named = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
    return stage(change, *(factors(name, value) for name, value in named.items()), (low, high))


def grayscale(p: float = 0.1) -> Pixel:
    """Grey in all three channels with probability `p` an example. One channel stays.

    Raises:
        ValueError: `p` is not in 0..1.
    """
    probability("p", p)

    def apply(key: jax.Array, batch: Batch) -> Batch:
        image = once(key, image_of(batch))
        heads = jax.random.bernoulli(key, jnp.float32(p), image.shape[:1])
        return {**batch, "image": saturated(image, 1 - heads.astype(jnp.float32))}

    return apply


def gamma(low: float, high: float) -> Pixel:
    """255 (x / 255)^exponent: above 1 is darker, below brighter; black and white stay.

    Args:
        low, high: between which the exponent is drawn.

    Raises:
        ValueError: they are no range from 0 on.
    """
    return stage(raised, span("(low, high)", (low, high), 0))


def brightened(image: jax.Array, factor: Amount) -> jax.Array:
    """See `brightness`; any number of channels."""
    x = real(image)
    return clipped(x * rows(factor, x))


def contrasted(image: jax.Array, factor: Amount) -> jax.Array:
    """See `contrast`."""
    x = coloured(image)
    # The mean of the grey is the grey of the mean: sums of whole numbers are exact in any order.
    means = jnp.mean(x, axis=(1, 2), keepdims=True)
    return _blended(x, means if x.shape[3] == 1 else _grey(means), factor)


def saturated(image: jax.Array, factor: Amount) -> jax.Array:
    """See `saturation`."""
    x = coloured(image)
    return clipped(x) if x.shape[3] == 1 else _blended(x, _grey(x), factor)


def turned(image: jax.Array, turns: Amount) -> jax.Array:
    """See `hue`: the hue of HSV (Smith 1978, "Color Gamut Transform Pairs") plus `turns`.

    With h the hue in sixths of a turn, the channels are v - v s clip(min(k, 4 - k), 0, 1), where k
    is 5 + h for red, 3 + h for green and 1 + h for blue, modulo 6.
    """
    x = coloured(image)
    if x.shape[3] == 1:
        return clipped(x)
    red, green, blue = jnp.unstack(x, axis=-1)
    largest = jnp.maximum(jnp.maximum(red, green), blue)
    extent = largest - jnp.minimum(jnp.minimum(red, green), blue)
    scale = jnp.where(extent == 0, 0, 1 / jnp.where(extent == 0, 1, extent))
    sixths = jnp.where(
        largest == red,
        (green - blue) * scale,
        jnp.where(largest == green, 2 + (blue - red) * scale, 4 + (red - green) * scale),
    )
    amount = rows(turns, x)[..., 0]
    sixths = sixths + 6 * amount

    def channel(before: jax.Array, place: int) -> jax.Array:
        k = sixths + place
        k = k - 6 * jnp.floor(k / 6)
        after = largest - extent * jnp.clip(jnp.minimum(k, 4 - k), 0, 1)
        return jnp.where(amount == 0, before, after)

    return clipped(jnp.stack([channel(red, 5), channel(green, 3), channel(blue, 1)], axis=-1))


def raised(image: jax.Array, exponent: Amount) -> jax.Array:
    """See `gamma`; any number of channels."""
    x = clipped(real(image))
    power = rows(exponent, x)
    return jnp.where(power == 1, x, 255 * (x / 255) ** power)


def _grey(x: jax.Array) -> jax.Array:
    """(B, H, W, 3) -> (B, H, W, 1)."""
    red, green, blue = GREY
    return red * x[..., :1] + green * x[..., 1:2] + blue * x[..., 2:]


def _blended(x: jax.Array, neutral: jax.Array, factor: Amount) -> jax.Array:
    share = rows(factor, x)
    return clipped(share * x + (1 - share) * neutral)
