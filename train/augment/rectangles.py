"""Rectangles: parts of an image, (B, H, W), or spans of a signal, (B, L), in whole places."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from train.data.batch import Batch


def changed(batch: Batch) -> str:
    """The key whose places are covered: `image`, else `signal`.

    Raises:
        ValueError: the batch has neither.
    """
    for key in ("image", "signal"):
        if key in batch:
            return key
    raise ValueError(f"neither 'image' nor 'signal' in the batch, only {sorted(batch)}")


def places(batch: Batch) -> tuple[int, ...]:
    """(B, H, W) of the batch's image, else (B, L) of its signal.

    Raises:
        ValueError: it has neither, or one of other axes.
    """
    key = changed(batch)
    shape = batch[key].shape
    if len(shape) != {"image": 4, "signal": 3}[key]:
        axes = {"image": "(B, H, W, C)", "signal": "(B, L, C)"}[key]
        raise ValueError(f"{key} has shape {shape}, not {axes}")
    return shape[:-1]


def sides(batch: Batch) -> jax.Array:
    """(B, n) or (1, n) int32: places along each axis; of a signal those before its `length`."""
    _, *shape = places(batch)
    if changed(batch) == "signal" and "length" in batch:
        return batch["length"][:, None]
    return jnp.array([shape], jnp.int32)


def inside(shape: Sequence[int], start: jax.Array, extent: jax.Array) -> jax.Array:
    """Which places are in a rectangle; what of it is outside the image is cut off.

    Args:
        shape: (H, W) or (L,): n axes.
        start: (B, n) int32: its first place.
        extent: (B, n) int32: how many places it has; none where one is 0.

    Returns:
        (B, *shape) bool.
    """
    covered = jnp.ones((start.shape[0],) + (1,) * len(shape), bool)
    for axis, length in enumerate(shape):
        spread = [1] * (1 + len(shape))
        spread[1 + axis] = length
        at = jnp.arange(length, dtype=jnp.int32).reshape(spread)
        first, count = (
            part[:, axis].reshape((-1,) + (1,) * len(shape)) for part in (start, extent)
        )
        covered = covered & (at >= first) & (at < first + count)
    return covered


def around(shape: Sequence[int], centre: jax.Array, extent: jax.Array) -> jax.Array:
    """`inside`, of the rectangle that begins extent // 2 places before `centre`, (B, n) int32."""
    return inside(shape, centre - extent // 2, extent)


def anywhere(key: jax.Array, size: int, sides: jax.Array) -> jax.Array:
    """(size, n) int32: a place of the image, all equally likely; of `sides` (size or 1, n)."""
    share = jax.random.uniform(key, (size, sides.shape[1]), jnp.float32)
    return whole(share, sides)


def whole(share: jax.Array, count: jax.Array) -> jax.Array:
    """Shares in [0, 1) of numbers -> int32 from 0 to one less, of one rank with them."""
    return jnp.minimum(jnp.floor(share * count).astype(jnp.int32), count - 1)
