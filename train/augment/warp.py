"""Warp: read an image once, at places that a projective map gives."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from train.augment.homography import inverse, project
from train.augment.kinds import Shape

Border = Literal["constant", "reflect", "edge"]
"""What lies outside an image, by NumPy's names (`numpy.pad`): one value; the image mirrored about
the centres of its outermost pixels, which are not repeated (dcb|abcd|cba is `symmetric`, cb|abcd|cb
is this: OpenCV's BORDER_REFLECT_101, SciPy's `mirror`); or the outermost pixel."""

Interpolation = Literal["bilinear", "nearest"]
"""What an image has between the centres of its pixels."""


def warp(
    image: jax.Array,
    matrix: jax.Array,
    shape: Shape,
    fill: np.ndarray,
    border: Border = "constant",
) -> jax.Array:
    """Each image moved by its map: bilinear between pixel centres.

    The identity, integer shifts, mirrors and quarter turns copy values to the bit. Everything is
    local to an example: a batch sharded over devices stays where it is.

    Args:
        image: (B, H, W, C), integers or floats.
        matrix: (B, 3, 3) float32: `image`'s (x, y, 1) -> the result's.
        shape: height and width of the result.
        fill: () or (C,): the value outside, with any border that of places which the map takes from
            nowhere, such as those beyond its horizon; rounded where the image is of integers.
        border: what is outside.

    Returns:
        (B, *shape, C) of the image's type; integers are rounded to nearest, halves to even.
    """
    _, height, width, _ = image.shape
    x, y = _sources(matrix, shape)
    left, right_share = _split(_folded(x, width, border), width)
    top, lower_share = _split(_folded(y, height, border), height)

    exact = jnp.issubdtype(image.dtype, jnp.integer)
    padded = _surrounded(image, np.rint(fill) if exact else fill)
    real = np.float32 if exact else np.promote_types(image.dtype, np.float32)

    def row(r: jax.Array) -> jax.Array:
        return _between(
            _read(padded, r, left).astype(real),
            _read(padded, r, left + 1).astype(real),
            right_share[..., None].astype(real),
        )

    mixed = _between(row(top), row(top + 1), lower_share[..., None].astype(real))
    return (jnp.round(mixed) if exact else mixed).astype(image.dtype)


def warp_nearest(
    image: jax.Array,
    matrix: jax.Array,
    shape: Shape,
    fill: np.ndarray,
    border: Border = "constant",
) -> jax.Array:
    """Each image moved by its map: the value of the pixel in which a place falls.

    Noise stays as strong as it was, and outlines are where `warp_mask` has them. See `warp`.
    """
    _, height, width, _ = image.shape
    exact = jnp.issubdtype(image.dtype, jnp.integer)
    x, y = _sources(matrix, shape)
    row = _nearest(_folded(y, height, border), height)
    column = _nearest(_folded(x, width, border), width)
    return _read(_surrounded(image, np.rint(fill) if exact else fill), row, column)


def warp_mask(
    mask: jax.Array, matrix: jax.Array, shape: Shape, fill: int, border: Border = "constant"
) -> jax.Array:
    """Each mask moved by its map: the class of the pixel in which a place falls.

    Args:
        mask: (B, H, W), integers.
        matrix, shape, border: see `warp`.
        fill: the class outside.

    Returns:
        (B, *shape) of the mask's type.
    """
    return warp_nearest(mask[..., None], matrix, shape, np.asarray(fill), border)[..., 0]


def _sources(matrix: jax.Array, shape: Shape) -> tuple[jax.Array, jax.Array]:
    """(B, *shape) twice: x and y, in pixels from the first centre; NaN where none is in sight."""
    rows = jnp.arange(shape[0], dtype=jnp.float32)[None, :, None] + 0.5
    columns = jnp.arange(shape[1], dtype=jnp.float32)[None, None, :] + 0.5
    x, y, in_sight = project(inverse(matrix), columns, rows)
    return jnp.where(in_sight, x - 0.5, jnp.nan), jnp.where(in_sight, y - 0.5, jnp.nan)


def _folded(position: jax.Array, size: int, border: Border) -> jax.Array:
    """The position in the image, 0..size - 1, where the border takes its values from.

    A continuation of whole pixels, interpolated, is the interpolation of the image, continued. What
    is not finite stays outside.
    """
    if border == "constant":
        return position
    if border == "edge" or size == 1:
        return jnp.where(jnp.isfinite(position), position.clip(0, size - 1), jnp.nan)
    period = 2 * (size - 1)
    position = jnp.mod(position, period)
    return jnp.minimum(position, period - position)


def _split(position: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """Position, in pixels from the first centre -> index of the one before it, share of the next.

    The index is into `_surrounded`. Whatever touches no pixel, NaN included, becomes -2, which
    reads two pixels of the border.
    """
    position = jnp.where((position > -1) & (position < size), position, -2)
    before = jnp.floor(position)
    return before.astype(jnp.int32) + 2, position - before


def _nearest(position: jax.Array, size: int) -> jax.Array:
    """Position, in pixels from the first centre -> index into `_surrounded` of the pixel it is in.

    Whatever is in no pixel, NaN included, becomes -2.
    """
    nearest = jnp.floor(position + 0.5)
    inside = (nearest >= 0) & (nearest < size)
    return jnp.where(inside, nearest, -2).astype(jnp.int32) + 2


def _surrounded(image: jax.Array, fill: np.ndarray) -> jax.Array:
    """(B, H, W, C) -> (B, H + 3, W + 3, C): `fill` two wide before, one wide after."""
    batch, height, width, channels = image.shape
    colour = np.broadcast_to(fill, (channels,)).astype(image.dtype)
    frame = jnp.broadcast_to(colour, (batch, height + 3, width + 3, channels))
    return jax.lax.dynamic_update_slice(frame, image, (0, 2, 2, 0))


def _read(image: jax.Array, row: jax.Array, column: jax.Array) -> jax.Array:
    """(B, H, W, C) at (B, h, w) rows and columns -> (B, h, w, C)."""
    read = jax.vmap(lambda one, r, c: one.at[r, c].get(mode="promise_in_bounds"))
    return read(image, row, column)


def _between(p: jax.Array, q: jax.Array, share: jax.Array) -> jax.Array:
    """From p, share 0, to q, share 1; p itself at 0, whatever q is (0 * inf is not 0)."""
    return jnp.where(share == 0, p, p + share * (q - p))
