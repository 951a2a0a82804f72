"""Crops: geometric stages that cut a part out of the image."""

import math
import numbers

import jax
import jax.numpy as jnp

from train.augment.homography import product
from train.augment.kinds import Geometric, Shape
from train.augment.matrices import shifts, zooms
from train.data.batch import Batch

TRIES = 10
"""How often torchvision draws an area and a ratio before it takes the middle of the image."""


def pad_and_crop(pad: int) -> Geometric:
    """`pad` pixels on each side, then a crop of the original size (He et al. 2015, section 4.2).

    All (2 pad + 1)^2 places are equally likely; exact. The padding is `chain`'s border.

    Raises:
        ValueError: `pad` is negative or no integer.
    """
    _integer("pad", pad, 0)

    def draw(key: jax.Array, batch: Batch) -> jax.Array:
        size = batch["image"].shape[0]
        shift = jax.random.randint(key, (size, 2), -pad, pad + 1, jnp.int32).astype(jnp.float32)
        return shifts(size, shift[:, 0], shift[:, 1])

    return Geometric(draw)


def random_crop(height: int, width: int) -> Geometric:
    """A part of `height` x `width` pixels; all its places in the image are equally likely; exact.

    Raises:
        ValueError: `height` or `width` is not positive or no integer; once traced, larger than the
            image's.
    """
    new = _shape(height, width)

    def draw(key: jax.Array, batch: Batch) -> jax.Array:
        size, *old, _ = batch["image"].shape
        if old[0] < height or old[1] < width:
            raise ValueError(f"random_crop({height}, {width}) of an image {old[0]}x{old[1]}")
        place = jax.random.uniform(key, (size, 2), jnp.float32)
        corner = _corners(place, jnp.array([old], jnp.float32), jnp.array([new], jnp.float32))
        return shifts(size, -corner[:, 1], -corner[:, 0])

    return Geometric(draw, lambda _: new)


def random_resized_crop(
    height: int,
    width: int,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Geometric:
    """A part of random area and shape, brought to `height` x `width` (Szegedy et al. 2015, sec. 6).

    Drawn as by torchvision's RandomResizedCrop: sides in whole pixels from an area, uniform, and a
    ratio, uniform in its logarithm; the first of ten that fits into the image, else the middle, as
    large as `ratio` allows. Read bilinearly: what shrinks to less than a half loses fine detail to
    aliasing, so large pictures are better cut on the host.

    Args:
        height, width: of the result, in pixels.
        scale: least and largest share of the image's area.
        ratio: least and largest width over height of the part.

    Raises:
        ValueError: `height` or `width` is not positive or no integer; `scale` or `ratio` is no
            range of positive numbers.
    """
    new = _shape(height, width)
    for name, (low, high) in {"scale": scale, "ratio": ratio}.items():
        if not 0 < low <= high < math.inf:
            raise ValueError(f"{name}={(low, high)} is no range of positive numbers")

    def draw(key: jax.Array, batch: Batch) -> jax.Array:
        size, *old, _ = batch["image"].shape
        # Area and ratio of each try, and a place: to compile one draw takes a third of the time.
        numbers = jax.random.uniform(key, (size, 2 * TRIES + 2), jnp.float32)
        area = _within(numbers[:, :TRIES], *scale) * (old[0] * old[1])
        root = jnp.exp(_within(numbers[:, TRIES:-2], *map(math.log, ratio)) / 2)
        side = jnp.sqrt(area)
        # (size, TRIES, 2): heights and widths.
        sides = jnp.round(jnp.stack([side / root, side * root], axis=-1))
        extent = jnp.array(old, jnp.float32)
        fits = ((sides >= 1) & (sides <= extent[None, None])).all(-1)
        first = jnp.argmax(fits, axis=1)[:, None, None]
        chosen = jnp.take_along_axis(sides, first, axis=1)[:, 0]
        corner = _corners(numbers[:, -2:], extent[None], chosen)
        middle = _middle((old[0], old[1]), ratio)
        any_fits = fits.any(1)[:, None]
        chosen = jnp.where(any_fits, chosen, jnp.array([middle], jnp.float32))
        centre = [[(whole - part) // 2 for whole, part in zip(old, middle, strict=True)]]
        corner = jnp.where(any_fits, corner, jnp.array(centre, jnp.float32))
        zoom = zooms(size, width / chosen[:, 1], height / chosen[:, 0])
        return product(zoom, shifts(size, -corner[:, 1], -corner[:, 0]))

    return Geometric(draw, lambda _: new)


def _middle(shape: Shape, ratio: tuple[float, float]) -> Shape:
    """Height and width of the largest part whose width over height `ratio` allows."""
    height, width = shape
    if width / height < ratio[0]:
        return max(1, round(width / ratio[0])), width
    if width / height > ratio[1]:
        return height, max(1, round(height * ratio[1]))
    return height, width


def _within(share: jax.Array, low: float, high: float) -> jax.Array:
    return low + share * (high - low)


def _corners(place: jax.Array, whole: jax.Array, part: jax.Array) -> jax.Array:
    """(B, 2) in [0, 1) -> top and left of the part, all of its places in whole pixels alike."""
    room = whole - part
    return jnp.minimum(jnp.floor(place * (room + 1)), room)


def _shape(height: int, width: int) -> Shape:
    for name, value in {"height": height, "width": width}.items():
        _integer(name, value, 1)
    return height, width


def _integer(name: str, value: int, least: int) -> None:
    if not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(f"{name}={value} is no whole number from {least} on")
