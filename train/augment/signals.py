"""Signals: moved in time, scaled, and partly hidden; padding from `length` on stays 0.

What moves or hides goes by each signal's own length, not by what it is padded to.
"""

import jax
import jax.numpy as jnp

from train.augment.amounts import Span, factors, rows
from train.augment.fills import Fill, colour_of, laid
from train.augment.kinds import Pixel
from train.augment.ranges import drawn, probability
from train.augment.rectangles import inside, whole
from train.data.batch import Batch


def time_shift(most: float, *, circular: bool = True, fill: Fill = 0.0) -> Pixel:
    """Every signal some steps later or earlier, a whole number of them.

    Args:
        most: the largest share of its length, 0..1, in either direction; all shares are equally
            likely. 1 with `circular` is any rotation.
        circular: what leaves at one end comes back at the other; else `fill` comes.
        fill: one value, or one a channel, in the unit of the signal.

    Raises:
        ValueError: `most` is not in 0..1, or `fill` not finite; once traced, `fill` has other
            channels than the signal, or there is no signal.
    """
    probability("most", most)
    colour = colour_of(fill)

    def apply(key: jax.Array, batch: Batch) -> Batch:
        x, length = _signal(batch)
        (share,) = drawn(key, x.shape[0], (-most, most))
        by = jnp.round(share * length).astype(jnp.int32)
        at = jnp.arange(x.shape[1], dtype=jnp.int32)[None] - by[:, None]
        there = (at >= 0) & (at < length[:, None])
        at = jnp.mod(at, jnp.maximum(length, 1)[:, None])
        moved = jnp.take_along_axis(x, at[..., None], axis=1)
        if not circular:
            moved = jnp.where(there[..., None], moved, laid(colour, x, "signal"))
        return {**batch, "signal": silent(moved, batch)}

    return apply


def amplitude(gain: Span) -> Pixel:
    """Every signal times a factor of its own, the same for all its steps and channels.

    Args:
        gain: (low, high), or a number for 1 - number..1 + number.

    Raises:
        ValueError: `gain` is no range from 0 on; once traced, there is no signal.
    """
    limits = factors("gain", gain)

    def apply(key: jax.Array, batch: Batch) -> Batch:
        x, _ = _signal(batch)
        (times,) = drawn(key, x.shape[0], limits)
        return {**batch, "signal": x * rows(times, x)}

    return apply


def time_mask(most: float, fill: Fill = 0.0) -> Pixel:
    """A span of every signal hidden, all its channels (Park et al. 2019, section 2).

    Args:
        most: the largest share of its length, 0..1. The span's steps are any number up to that,
            0 too, and its place any within the signal.
        fill: the new value, or one a channel, in the unit of the signal: its mean, to be 0 once
            that is subtracted.

    Raises:
        ValueError: `most` is not in 0..1, or `fill` not finite; once traced, `fill` has other
            channels than the signal, or there is no signal.
    """
    probability("most", most)
    colour = colour_of(fill)

    def apply(key: jax.Array, batch: Batch) -> Batch:
        x, length = _signal(batch)
        for_extent, for_place = drawn(key, x.shape[0], (0.0, 1.0), (0.0, 1.0))
        widest = jnp.floor(most * length.astype(jnp.float32)).astype(jnp.int32)
        extent = whole(for_extent, widest + 1)
        start = whole(for_place, length - extent + 1)
        hidden = inside(x.shape[1:2], start[:, None], extent[:, None])
        masked = jnp.where(hidden[..., None], laid(colour, x, "signal"), x)
        return {**batch, "signal": silent(masked, batch)}

    return apply


def silent(x: jax.Array, batch: Batch) -> jax.Array:
    """A signal (B, L, C) with 0 from the batch's `length` on, where it has one."""
    if "length" not in batch:
        return x
    at = jnp.arange(x.shape[1], dtype=jnp.int32)[None]
    return jnp.where((at < batch["length"][:, None])[..., None], x, jnp.zeros((), x.dtype))


def _signal(batch: Batch) -> tuple[jax.Array, jax.Array]:
    """The signals, (B, L, C), and (B,) int32, how many steps of each are no padding."""
    if "signal" not in batch:
        raise ValueError(f"no 'signal' in the batch, only {sorted(batch)}")
    x = batch["signal"]
    if x.ndim != 3:
        raise ValueError(f"signal has shape {x.shape}, not (B, L, C)")
    return x, batch.get("length", jnp.full(x.shape[:1], x.shape[1], jnp.int32))
