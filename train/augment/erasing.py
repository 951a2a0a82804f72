"""Erasing: a rectangle of the image, or a span of the signal, hidden.

Values change and nothing moves: boxes and masks still say what is behind it. Images become float32.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from train.augment.amounts import real
from train.augment.fills import Fill, colour_of, laid
from train.augment.kinds import Pixel
from train.augment.ranges import drawn, probability
from train.augment.rectangles import anywhere, around, changed, inside, places, sides, whole
from train.augment.signals import silent
from train.data.batch import Batch

TRIES = 10
"""How often an area and a ratio are drawn, as in torchvision."""


def cutout(size: int, fill: Fill = 0.0) -> Pixel:
    """A square of `size` x `size` pixels about any pixel, or `size` samples of a signal.

    DeVries and Taylor 2017, section 3.2: the centre is anywhere, so that a part of the square may
    be outside. It begins size // 2 before its centre.

    Args:
        size: in pixels, from 0 on; may exceed the image.
        fill: the new value; with the mean colour it is 0 once the mean is subtracted.

    Raises:
        ValueError: `size` is negative, `fill` not finite; once traced, `fill` has other channels
            than the image or is not in 0..255, or there is neither image nor signal.
    """
    if size != int(size) or size < 0:
        raise ValueError(f"size={size} is no whole number from 0 on")
    colour = colour_of(fill)

    def apply(key: jax.Array, batch: Batch) -> Batch:
        count, *shape = places(batch)
        centre = anywhere(key, count, sides(batch))
        hidden = around(shape, centre, jnp.full_like(centre, size))
        return _erased(batch, hidden, colour)

    return apply


def random_erasing(
    p: float = 0.5,
    area: tuple[float, float] = (0.02, 0.33),
    ratio: tuple[float, float] = (0.3, 3.3),
    fill: Fill | Literal["noise"] = 0.0,
) -> Pixel:
    """A rectangle of random area and shape inside the image (Zhong et al. 2017, section 3.2).

    Drawn as by torchvision's RandomErasing: sides in whole pixels from an area, uniform, and a
    ratio, uniform in its logarithm; the first of ten that is smaller than the image on both sides,
    else none; then one of its places. Of a signal: a span, whose length is the area; both stages
    go by its own `length`.

    Args:
        p: the probability that something is erased, an example.
        area: least and largest share of the image.
        ratio: least and largest height over width.
        fill: the new value, or `noise`: a uniform one in 0..255 for each value of an image.

    Raises:
        ValueError: `p` is not in 0..1, `area` no range in 0..1, `ratio` none of positive numbers,
            `fill` not finite; once traced, `fill` has other channels than the image or is not in
            0..255, is `noise` for a signal, or there is neither image nor signal.
    """
    probability("p", p)
    if not 0 <= area[0] <= area[1] <= 1:
        raise ValueError(f"area={area} is no range in 0..1")
    if not 0 < ratio[0] <= ratio[1] < math.inf:
        raise ValueError(f"ratio={ratio} is no range of positive numbers")
    colour = None if isinstance(fill, str) and fill == "noise" else colour_of(fill)

    def apply(key: jax.Array, batch: Batch) -> Batch:
        count, *shape = places(batch)
        whole_of = sides(batch)
        for_extent, for_place, for_noise = jax.random.split(key, 3)
        coin_and_place = jax.random.uniform(for_place, (count, 1 + len(shape)), jnp.float32)
        extent = _extents(for_extent, count, whole_of, area, ratio)
        extent = jnp.where(coin_and_place[:, :1] < p, extent, 0)
        start = whole(coin_and_place[:, 1:], whole_of - extent + 1)
        hidden = inside(shape, start, extent)
        if colour is not None:
            return _erased(batch, hidden, colour)
        if changed(batch) == "signal":
            raise ValueError("fill='noise' is of pixels; the batch has a signal")
        noise = jax.random.uniform(for_noise, batch["image"].shape, jnp.float32, 0, 255)
        return _erased(batch, hidden, noise)

    return apply


def _extents(
    key: jax.Array,
    count: int,
    whole_of: jax.Array,
    area: tuple[float, float],
    ratio: tuple[float, float],
) -> jax.Array:
    """(count, n) int32: height and width of a rectangle, or the length of a span; 0: none.

    `whole_of`: (count or 1, n), of each image or signal.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    share, logarithm = (
        amount.reshape(count, TRIES) for amount in drawn(key, count * TRIES, area, (low, high))
    )
    area_of = jnp.prod(whole_of.astype(jnp.float32), axis=1, keepdims=True)
    if whole_of.shape[1] == 1:
        tried = (share * area_of)[..., None]
    else:
        side, root = jnp.sqrt(share * area_of), jnp.exp(logarithm / 2)
        tried = jnp.stack([side * root, side / root], axis=-1)
    tried = jnp.round(tried)
    fits = (tried < whole_of[:, None].astype(jnp.float32)).all(-1)
    first = jnp.argmax(fits, axis=1)[:, None, None]
    chosen = jnp.take_along_axis(tried, first, axis=1)[:, 0]
    return jnp.where(fits.any(1)[:, None], chosen, 0).astype(jnp.int32)


def _erased(batch: Batch, hidden: jax.Array, fill: np.ndarray | jax.Array) -> Batch:
    """The batch with `fill`, () or (C,) or of the image's shape, where `hidden` is."""
    key = changed(batch)
    x = real(batch[key]) if key == "image" else batch[key]
    if isinstance(fill, np.ndarray):
        if key == "image" and not ((fill >= 0) & (fill <= 255)).all():
            raise ValueError(f"fill={fill.tolist()} is not in 0..255")
        fill = laid(fill, x, key)
    erased = jnp.where(hidden[..., None], fill.astype(x.dtype), x)
    return {**batch, key: silent(erased, batch) if key == "signal" else erased}
