"""Some of the anchors or regions of an image, drawn at random, in fixed shapes."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Sample(NamedTuple):
    """What was drawn: the positive ones first, then the negative ones, then rows of padding."""

    indices: jax.Array
    """(…, count) int32, none twice; 0 in rows that are not valid."""
    positive: jax.Array
    """(…, count) bool; the other valid rows are negative."""
    valid: jax.Array
    """(…, count) bool."""


def sample(
    key: jax.Array, positive: jax.Array, negative: jax.Array, *, count: int, fraction: float
) -> Sample:
    """At most `count * fraction` of the positive ones, and negative ones up to `count`.

    Those of a kind are equally likely (Ren et al. 2015, section 3.1.3). What is drawn in an image
    depends on the key and its place in the batch, not on the other images.

    Args:
        key: of the step.
        positive: (…, A) bool.
        negative: (…, A) bool; none is both.
        count: how many are drawn in an image, where there are as many.
        fraction: the largest share of positive ones, rounded down to whole ones.

    Raises:
        ValueError: `count` is below 1 or `fraction` not from 0 to 1.
    """
    if count < 1:
        raise ValueError(f"count={count} must be at least 1")
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction={fraction} must be from 0 to 1")
    leading, anchors = positive.shape[:-1], positive.shape[-1]
    images = math.prod(leading)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(images))
    most = int(count * fraction)
    drawn = jax.vmap(lambda key, yes, no: draw(key, yes, no, count, most))(
        keys, positive.reshape(images, anchors), negative.reshape(images, anchors)
    )
    return Sample(*(part.reshape(*leading, count) for part in drawn))


def draw(key: jax.Array, positive: jax.Array, negative: jax.Array, count: int, most: int) -> Sample:
    """`sample` for one image, `most` positive ones at most."""
    # 30 bits as they stand, made normal numbers: ties, which the first in order would win, hardly
    # occur, and the largest floats are found 50 times as fast as the largest integers.
    bits = (jax.random.bits(key, positive.shape, jnp.uint32) >> 2) + (1 << 23)
    luck = jax.lax.bitcast_convert_type(bits, jnp.float32)
    found, there = luckiest(luck, positive, most)
    taken = jnp.sum(there, dtype=jnp.int32)
    others, others_there = luckiest(luck, negative, count)
    slots = jnp.arange(count, dtype=jnp.int32)
    first = slots < taken
    after = slots - taken
    # Slots past the positive ones take the negative ones from the first on.
    indices = jnp.where(first, padded(found, count), others[after])
    valid = first | others_there[after]
    return Sample(jnp.where(valid, indices, 0), first, valid)


def luckiest(luck: jax.Array, among: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """Indices (count,) int32 of those with the largest numbers, and which are there, first ones."""
    values, indices = jax.lax.top_k(jnp.where(among, luck, -1), min(count, len(luck)))
    return padded(indices.astype(jnp.int32), count), padded(values >= 0, count)


def padded(row: jax.Array, count: int) -> jax.Array:
    """`row`, with zeros after it, `count` long."""
    return jnp.pad(row, (0, count - len(row)))
