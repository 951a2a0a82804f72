"""Ranges: what a random number is drawn from, uniformly."""

import math

import jax
import jax.numpy as jnp

Range = float | tuple[float, float]
"""(low, high), or one number for (-number, number)."""


def limits(name: str, value: Range) -> tuple[float, float]:
    """(low, high) of a range that a constructor's argument `name` gives.

    Raises:
        ValueError: it is not finite, or low above high, or one negative number.
    """
    low, high = value if isinstance(value, tuple | list) else (-value, value)
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"{name}={value} is no range: (low, high), or one number from 0 on")
    return low, high


def probability(name: str, value: float) -> None:
    """Refuses what is not in 0..1.

    Raises:
        ValueError: names the argument and the value.
    """
    if not 0 <= value <= 1:
        raise ValueError(f"{name}={value} is not in 0..1")


def drawn(key: jax.Array, size: int, *ranges: tuple[float, float]) -> list[jax.Array]:
    """A number an example from each range, (size,) float32 each."""
    share = jax.random.uniform(key, (size, len(ranges)), jnp.float32)
    return [share[:, n] * (high - low) + low for n, (low, high) in enumerate(ranges)]
