"""How far predictions are from their targets: from sums over examples, divided once, on the host.

Each figure is of one target; over several it is the plain mean, as scikit-learn's
`multioutput="uniform_average"`.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Residuals(NamedTuple):
    """Sums over examples, float64, (K,) of K targets. Those of several batches add up."""

    number: np.ndarray
    absolute: np.ndarray
    """Of |prediction - target|."""
    squared: np.ndarray
    """Of (prediction - target)^2."""
    target: np.ndarray
    """Of targets, from a reference on."""
    target_squared: np.ndarray


def residuals(predictions: ArrayLike, targets: ArrayLike, reference: ArrayLike = 0.0) -> Residuals:
    """The sums of some examples, in float64.

    Args:
        predictions, targets: (N, K).
        reference: (K,) or one number, the same for all that is added up: about the mean of the
            targets, so that the squares of large ones do not hide how they vary.

    Raises:
        ValueError: the two differ in shape, or are no (N, K).
    """
    guess, truth = np.asarray(predictions, np.float64), np.asarray(targets, np.float64)
    if guess.shape != truth.shape or truth.ndim != 2:
        raise ValueError(f"predictions {guess.shape} and targets {truth.shape} are not both (N, K)")
    error, apart = guess - truth, truth - np.asarray(reference, np.float64)
    return Residuals(
        np.full(truth.shape[1], float(len(truth))),
        np.abs(error).sum(0),
        (error**2).sum(0),
        apart.sum(0),
        (apart**2).sum(0),
    )


def mae(sums: Residuals) -> np.ndarray:
    """(K,): the mean absolute error; NaN of no examples."""
    return _ratio(sums.absolute, sums.number)


def mse(sums: Residuals) -> np.ndarray:
    """(K,): the mean squared error; NaN of no examples."""
    return _ratio(sums.squared, sums.number)


def rmse(sums: Residuals) -> np.ndarray:
    """(K,): the root of the mean squared error; NaN of no examples."""
    return np.sqrt(mse(sums))


def r2(sums: Residuals) -> np.ndarray:
    """(K,): 1 - squared error / squared distance of the targets from their mean.

    1 is perfect, 0 is who always says the mean, below 0 is worse. As scikit-learn's: of targets
    that are all the same 1 where nothing is wrong, else 0; NaN of fewer than two examples.
    """
    count = np.maximum(sums.number, 1)
    apart = sums.target_squared - sums.target**2 / count
    # Targets that are all the same leave what rounding left of the two.
    varies = apart > 4 * count * np.finfo(np.float64).eps * sums.target_squared
    same = np.where(sums.squared == 0, 1.0, 0.0)
    found = np.where(varies, 1 - _ratio(sums.squared, np.where(varies, apart, 1.0)), same)
    return np.where(sums.number < 2, np.nan, found)


def mase(sums: Residuals, scale: ArrayLike) -> np.ndarray:
    """(K,): the mean absolute error, in units of `seasonal_error`; below 1 is better than that.

    Hyndman & Koehler 2006, "Another look at measures of forecast accuracy".

    Args:
        sums: of what was forecast.
        scale: one number, or (K,): of the series that trained. NaN where it is 0.
    """
    return _ratio(mae(sums), np.broadcast_to(np.asarray(scale, np.float64), sums.number.shape))


def seasonal_error(series: ArrayLike, season: int) -> np.ndarray:
    """(...): how wrong "as a season ago" is on average, one step ahead, in the series itself.

    Args:
        series: (T, ...) of the part that trains.
        season: steps; 1 compares with the step before.

    Raises:
        ValueError: `season` is below 1, or the series is not longer than it.
    """
    values = np.asarray(series, np.float64)
    if not 1 <= season < len(values):
        raise ValueError(f"season={season} is not in 1..{len(values) - 1}, of {len(values)} steps")
    return np.abs(values[season:] - values[:-season]).mean(0)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole; NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole != 0)
