"""Spread: what a number comes to over several runs."""

import math
import statistics
from collections.abc import Iterable
from typing import NamedTuple


class Spread(NamedTuple):
    """Of the values that are finite, and how many are not."""

    mean: float
    """NaN where there is none."""
    std: float | None
    """Standard deviation with n - 1 in the denominator; None for fewer than two values."""
    n: int
    lost: int
    """Values that are None or not finite: runs that diverged."""


def spread(values: Iterable[float | None], scale: float = 1.0) -> Spread:
    """Mean and standard deviation of `scale` times the values.

    Equal values have a deviation of exactly 0.
    """
    every = [math.nan if value is None else scale * float(value) for value in values]
    finite = [value for value in every if math.isfinite(value)]
    mean = statistics.fmean(finite) if finite else math.nan
    deviation = statistics.stdev(finite) if len(finite) > 1 else None
    return Spread(mean, deviation, len(finite), len(every) - len(finite))
