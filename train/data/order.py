"""Order: which example comes when, computed from (seed, epoch, slot) alone.

The permutation is swap-or-not (Hoang, Morris and Rogaway 2012, "An Enciphering Scheme Based on a
Card Shuffle", fig. 1): in each round x meets its partner K - x (mod length), and one bit that is a
function of the pair says whether the two change places. It is a bijection of range(length) for
every length, in constant memory and without a loop of data-dependent length. It stands here for
its statistics, not for secrecy: after 32 rounds two examples have shared their fate throughout
with probability 2^-32.
"""

from collections.abc import Callable
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Integers = Any
"""Integers or an array of them: NumPy's, JAX's or traced."""

ROUNDS = 32
LONGEST = 2**31
GOLDEN = np.uint32(0x9E3779B9)
"""2^32 over the golden ratio: its multiples are spread evenly."""


def order(seed: Integers, epoch: Integers, slot: Integers, length: int) -> Integers:
    """The index of the example that stands at `slot` of `epoch`.

    Each (seed, epoch) is a permutation of range(length). Arithmetic is in uint32 throughout, so
    NumPy and compiled code give the same integers on every platform.

    Args:
        seed, epoch: reduced modulo 2^32; they and `slot` broadcast.
        slot: 0 <= slot < length.
        length: 1 .. 2^31, static.

    Returns:
        uint32, an array of JAX where an argument is one, of NumPy otherwise.

    Raises:
        ValueError: `length` is out of range.
    """
    if not 1 <= length <= LONGEST:
        raise ValueError(f"length={length} is not in 1..2^31")
    traced = any(isinstance(argument, jax.Array) for argument in (seed, epoch, slot))
    xp: Any = jnp if traced else np
    with np.errstate(over="ignore"):  # scalars of NumPy warn where its arrays wrap
        seed, epoch, x = (_uint32(xp, argument) for argument in (seed, epoch, slot))
        # Two words, since with one some pair of 2^16 epochs would likely share its order.
        partners = _mix(_mix(seed ^ GOLDEN) ^ epoch)
        bits = _mix(_mix(seed ^ np.uint32(0x7F4A7C15)) + epoch)
        shuffle = partial(_round, xp, partners, bits, np.uint32(length))
        if not traced:
            return reduce(lambda x, r: shuffle(r, x), np.arange(ROUNDS, dtype=np.uint32), x)
        x = jnp.broadcast_to(x, jnp.broadcast_shapes(*map(jnp.shape, (seed, epoch, x))))
        # A loop, since 32 rounds in line take four times as long to compile.
        return jax.lax.fori_loop(0, ROUNDS, shuffle, x, unroll=8)


def _round(
    xp: Any, partners: Integers, bits: Integers, length: np.uint32, r: Integers, x: Integers
) -> Integers:
    tick = (r + 1).astype(np.uint32) * GOLDEN
    key = _mix(partners + tick) % length
    partner = xp.where(key >= x, key - x, key + (length - x))
    swap = _mix(xp.maximum(x, partner) ^ _mix(bits + tick)) >> np.uint32(31)
    return xp.where(swap == np.uint32(1), partner, x)


def _mix(x: Integers) -> Integers:
    """A bijection of uint32 that avalanches (Wellons 2018, "lowbias32")."""
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))


def _uint32(xp: Any, value: Integers) -> Integers:
    if isinstance(value, int):
        return np.uint32(value & 0xFFFFFFFF)
    return xp.asarray(value).astype(np.uint32)


def position(step: int, batch_size: int, length: int) -> tuple[int, int]:
    """(epoch, slot) of the first example of a step's batch; exact, on Python's integers."""
    return divmod(step * batch_size, length)


def positions(
    epoch: Integers, slot: Integers, batch_size: int, length: int
) -> tuple[Integers, Integers]:
    """(epoch, slot) of each of a batch's examples, (B,) uint32: they run on into the next epoch.

    Args:
        epoch, slot: of the first, scalars.
        batch_size: at most `length`.
        length: of the source.
    """
    xp: Any = jnp if isinstance(epoch, jax.Array) or isinstance(slot, jax.Array) else np
    slots = _uint32(xp, slot) + xp.arange(batch_size, dtype=np.uint32)
    later = slots >= np.uint32(length)
    epochs = _uint32(xp, epoch) + later.astype(np.uint32)
    return epochs, xp.where(later, slots - np.uint32(length), slots)


class Places(NamedTuple):
    """The examples of one batch, each (B,), after the axes that `seed` has."""

    index: Integers
    """int32: where in the source it stands."""
    valid: Integers
    """bool: False where it only fills the batch."""
    epoch: Integers
    """int32: how often the source was gone through before; that of 2^31 and later wraps."""
    slot: Integers
    """uint32: its place in that epoch."""


class Order(NamedTuple):
    """What a loader asks of an order; both functions take host and traced integers."""

    steps: Callable[[int, int], int | None]
    """(batch_size, length) -> number of batches; None: without end, and seeds differ."""
    examples: Callable[[Integers, Integers, Integers, int, int], Places]
    """(seed, epoch, slot, batch_size, length) -> the batch whose first is at (epoch, slot)."""


def _endless(batch_size: int, length: int) -> None:
    return None


def _shuffle(
    seed: Integers, epoch: Integers, slot: Integers, batch_size: int, length: int
) -> Places:
    epochs, slots = positions(epoch, slot, batch_size, length)
    index = order(seed, epochs, slots, length).astype(np.int32)
    # Always valid: a training batch is full.
    return Places(index, index >= np.int32(0), epochs.astype(np.int32), slots)


def _through(batch_size: int, length: int) -> int:
    return -(-length // batch_size)


def _in_turn(
    seed: Integers, epoch: Integers, slot: Integers, batch_size: int, length: int
) -> Places:
    xp: Any = jnp if isinstance(slot, jax.Array) else np
    slots = _uint32(xp, slot) + xp.arange(batch_size, dtype=np.uint32)
    index = xp.minimum(slots, np.uint32(length - 1)).astype(np.int32)
    return Places(index, slots < np.uint32(length), xp.zeros_like(index), slots)


shuffled = Order(steps=_endless, examples=_shuffle)
"""Training: every epoch another permutation, batches always full, without end."""

once = Order(steps=_through, examples=_in_turn)
"""Evaluation: the source's order once; the tail repeats the last example with `valid` False."""
