"""Warp: read an image once, at places that a projective map gives."""

import jax
import jax.numpy as jnp
import numpy as np

from train.augment.homography import inverse, project
from train.augment.kinds import Shape


def warp(image: jax.Array, matrix: jax.Array, shape: Shape, fill: np.ndarray) -> jax.Array:
    """Each image moved by its map: bilinear between pixel centres, constant outside.

    The identity, integer shifts, mirrors and quarter turns copy values to the bit. Everything is
    local to an example: a batch sharded over devices stays where it is.

    Args:
        image: (B, H, W, C), integers or floats.
        matrix: (B, 3, 3) float32: `image`'s (x, y, 1) -> the result's.
        shape: height and width of the result.
        fill: () or (C,): the value outside; rounded where the image is of integers.

    Returns:
        (B, *shape, C) of the image's type; integers are rounded to nearest, halves to even.
    """
    _, height, width, channels = image.shape
    rows = jnp.arange(shape[0], dtype=jnp.float32)[None, :, None] + 0.5
    columns = jnp.arange(shape[1], dtype=jnp.float32)[None, None, :] + 0.5
    x, y, in_sight = project(inverse(matrix), columns, rows)
    left, right_share = _split(jnp.where(in_sight, x - 0.5, -2), width)
    top, lower_share = _split(jnp.where(in_sight, y - 0.5, -2), height)

    exact = jnp.issubdtype(image.dtype, jnp.integer)
    border = np.broadcast_to(np.rint(fill) if exact else fill, (channels,))
    padded = _surrounded(image, border.astype(image.dtype))
    read = jax.vmap(lambda one, r, c: one.at[r, c].get(mode="promise_in_bounds"))
    real = np.float32 if exact else np.promote_types(image.dtype, np.float32)

    def row(r: jax.Array) -> jax.Array:
        return _between(
            read(padded, r, left).astype(real),
            read(padded, r, left + 1).astype(real),
            right_share[..., None].astype(real),
        )

    mixed = _between(row(top), row(top + 1), lower_share[..., None].astype(real))
    return (jnp.round(mixed) if exact else mixed).astype(image.dtype)


def _split(position: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """Position, in pixels from the first centre -> index of the one before it, share of the next.

    The index is into `_surrounded`. Whatever touches no pixel, NaN included, becomes -2, which
    reads two pixels of the border.
    """
    position = jnp.where((position > -1) & (position < size), position, -2)
    before = jnp.floor(position)
    return before.astype(jnp.int32) + 2, position - before


def _surrounded(image: jax.Array, border: np.ndarray) -> jax.Array:
    """(B, H, W, C) -> (B, H + 3, W + 3, C): the border two wide before, one wide after."""
    batch, height, width, channels = image.shape
    frame = jnp.broadcast_to(border, (batch, height + 3, width + 3, channels))
    return jax.lax.dynamic_update_slice(frame, image, (0, 2, 2, 0))


def _between(p: jax.Array, q: jax.Array, share: jax.Array) -> jax.Array:
    """From p, share 0, to q, share 1; p itself at 0, whatever q is (0 * inf is not 0)."""
    return jnp.where(share == 0, p, p + share * (q - p))
