"""What a forecast is held against: the same as a season ago, and a linear autoregression."""

from typing import Protocol

import numpy as np

from train.data.source import Source
from train.metrics.regression import mae, residuals

RIDGES = (0.0, 0.01, 0.1, 1.0, 10.0, 100.0)
"""Strengths of the penalty that are tried, in units of the standardised series."""


class Forecaster(Protocol):
    """(N, past) -> (N, ahead)."""

    def __call__(self, past: np.ndarray) -> np.ndarray: ...


def windows_of(source: Source) -> tuple[np.ndarray, np.ndarray]:
    """(N, past) float64 of the first channel, and (N, ahead)."""
    examples = [source[i] for i in range(len(source))]
    past, ahead = (np.stack([one[key] for one in examples]) for key in ("signal", "target"))
    return past[..., 0].astype(np.float64), ahead.astype(np.float64)


def seasonal_naive(season: int, ahead: int) -> Forecaster:
    """Every step as it was a season ago, or as many seasons as it takes.

    Args:
        season: steps; no more than are seen.
        ahead: steps that are forecast.
    """
    back = season - np.arange(ahead) % season

    def forecast(past: np.ndarray) -> np.ndarray:
        return past[:, past.shape[1] - back]

    return forecast


def autoregression(
    train: Source, validation: Source | None, *, relative: bool
) -> tuple[Forecaster, float]:
    """A linear function of the steps that are seen for each that is forecast: least squares.

    Fitted on the windows that train; the penalty on its weights is that of `RIDGES` with the least
    mean absolute error on the validation windows, 0.1 where there are none.

    Args:
        train, validation: windows.
        relative: whether both sides are counted from the last step that is seen.

    Returns:
        What forecasts, and its penalty.
    """
    past, ahead = windows_of(train)
    mean, std = past.mean(), past.std() or 1.0

    def base(past: np.ndarray) -> np.ndarray:
        return past[:, -1:] if relative else np.full((len(past), 1), mean)

    def read(past: np.ndarray) -> np.ndarray:
        one = np.ones((len(past), 1))
        return np.concatenate([(past - base(past)) / std, one], axis=1)

    x, y = read(past), (ahead - base(past)) / std

    def fitted(ridge: float) -> Forecaster:
        penalty = np.sqrt(ridge) * np.eye(x.shape[1])[:-1]  # none on the constant
        rows = (
            np.concatenate([x, penalty]),
            np.concatenate([y, np.zeros((len(penalty), y.shape[1]))]),
        )
        weights = np.linalg.lstsq(*rows, rcond=None)[0]
        return lambda past: read(past) @ weights * std + base(past)

    if validation is None:
        return fitted(0.1), 0.1
    seen, truth = windows_of(validation)

    def error(ridge: float) -> float:
        return float(mae(residuals(fitted(ridge)(seen), truth)).mean())

    best = min(RIDGES, key=error)
    return fitted(best), best
