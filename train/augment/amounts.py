"""Amounts: how much each example's pixels are changed, drawn and laid on the image.

A stage of pixels is a pure function (image, amounts) -> image and the ranges of its amounts. Images
are (B, H, W, C), integers or floats, 0..255; results are floats, float32 unless the image is wider.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from train.augment.kinds import Pixel
from train.augment.once import once
from train.augment.ranges import drawn
from train.data.batch import Batch

Amount = jax.Array | float
"""(B,) float32, one an example, or a number that is the same for all."""
Span = float | tuple[float, float]
"""(low, high), from which an amount is drawn uniformly, or the one number that it always is."""


def span(name: str, value: Span, low: float, high: float = math.inf) -> tuple[float, float]:
    """(lowest, highest) of what a constructor's argument `name` gives.

    Raises:
        ValueError: it is not finite, falls, or leaves `low`..`high`.
    """
    first, last = value if isinstance(value, tuple | list) else (value, value)
    if not (low <= first <= last <= high and math.isfinite(last)):
        ends = f"in {low:g}..{high:g}" if math.isfinite(high) else f"from {low:g} on"
        raise ValueError(f"{name}={value} is no number and no (low, high) {ends}")
    return first, last


def factors(name: str, value: Span) -> tuple[float, float]:
    """The range of a factor: (low, high), or one number for 1 - number..1 + number, from 0 on.

    As `torchvision.transforms.ColorJitter` reads its arguments.

    Raises:
        ValueError: it is not finite, falls, or is negative.
    """
    if isinstance(value, tuple | list):
        return span(name, value, 0)
    (amount, _) = span(name, value, 0)
    return max(0.0, 1 - amount), 1 + amount


def stage(change: Callable[..., jax.Array], *ranges: tuple[float, float]) -> Pixel:
    """`change(image, *amounts)`, with an amount an example drawn from each range."""

    def apply(key: jax.Array, batch: Batch) -> Batch:
        image = once(key, image_of(batch))
        amounts = drawn(key, image.shape[0], *ranges) if ranges else []
        return {**batch, "image": change(image, *amounts)}

    return apply


def image_of(batch: Batch) -> jax.Array:
    """The batch's image.

    Raises:
        ValueError: there is none.
    """
    if "image" not in batch:
        raise ValueError(f"no 'image' in the batch for a stage of colour, only {sorted(batch)}")
    return batch["image"]


def real(image: jax.Array) -> jax.Array:
    """The image in floats, of 32 bits at least.

    Raises:
        ValueError: it is not (B, H, W, C).
    """
    if image.ndim != 4:
        raise ValueError(f"image has shape {image.shape}, not (B, H, W, C)")
    return image.astype(jnp.promote_types(image.dtype, jnp.float32))


def coloured(image: jax.Array) -> jax.Array:
    """`real`, of an image whose colours are known: one channel, grey, or three, RGB.

    Raises:
        ValueError: it has other channels.
    """
    x = real(image)
    if x.shape[3] not in (1, 3):
        raise ValueError(f"image has {x.shape[3]} channels; colour is of one, grey, or three, RGB")
    return x


def rows(amount: Amount, x: jax.Array) -> jax.Array:
    """An amount in the type of x, with the axes of x: (B, 1, …), or (1, 1, …) of a number."""
    return jnp.asarray(amount, x.dtype).reshape((-1,) + (1,) * (x.ndim - 1))


def clipped(x: jax.Array) -> jax.Array:
    """Within 0..255."""
    return jnp.clip(x, 0, 255)
