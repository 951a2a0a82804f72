"""The series that `forecast.py` forecasts: real ones, which statsmodels carries in its wheel."""

import csv
import importlib.util
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np

from train.refusal import Refused

Rows = Sequence[Sequence[str]]


class Series(NamedTuple):
    """One long series at equal intervals.

    Attributes:
        values: (T,) float64, finite, the earliest first.
        years: (T,) float64: when.
    """

    values: np.ndarray
    years: np.ndarray


class Known(NamedTuple):
    """What is known of a series before it is read.

    Attributes:
        read: rows of the file below its head -> the series.
        words: what it is.
        unit: of its values.
        season: its steps.
        past, ahead: steps that are seen and forecast where nothing else is asked.
    """

    read: Callable[[Rows], Series]
    words: str
    unit: str
    season: int
    past: int
    ahead: int


def _dated(rows: Rows) -> Series:
    """Lines of a day and a value, a week apart; values that are missing lie on a line between."""
    values = np.array([float(row[1]) if row[1] else np.nan for row in rows])
    years = np.array([_year(row[0]) for row in rows])
    there, at = np.isfinite(values), np.arange(len(values))
    return Series(np.interp(at, at[there], values[there]), years)


def _year(day: str) -> float:
    at = date(int(day[:4]), int(day[4:6]), int(day[6:]))
    return at.year + (at.timetuple().tm_yday - 1) / 365.25


def _monthly(rows: Rows) -> Series:
    """A line a year, twelve values in it."""
    values = np.array([[float(cell) for cell in row[1:]] for row in rows])
    return Series(values.ravel(), int(rows[0][0]) + np.arange(values.size) / 12)


def _yearly(rows: Rows) -> Series:
    values, years = (np.array([float(row[k]) for row in rows]) for k in (1, 0))
    return Series(values, years)


KNOWN = {
    "co2": Known(_dated, "CO2 in the air at Mauna Loa, weekly, 1958 to 2001", "ppm", 52, 104, 52),
    "elnino": Known(_monthly, "sea surface temperature, Nino 1+2, monthly", "°C", 12, 24, 12),
    "sunspots": Known(_yearly, "sunspots, yearly means from 1700 on", "sunspots", 11, 33, 11),
}


def series(name: str) -> Series:
    """A series of `KNOWN`, from the file that statsmodels carries; nothing is downloaded.

    The file is read, and not through statsmodels, whose import takes seconds.

    Raises:
        Refused: statsmodels is not installed, or has no such file.
    """
    found = importlib.util.find_spec("statsmodels")
    if found is None or found.origin is None:
        raise Refused(f"data={name!r} comes with statsmodels: pip install 'svertka[forecast]'")
    file = Path(found.origin).parent / "datasets" / name / f"{name}.csv"
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            _, *rows = [row for row in csv.reader(lines) if row]
        if not rows:
            raise ValueError("it has no lines below its head")
        return KNOWN[name].read(rows)
    except (OSError, ValueError, IndexError) as error:
        raise Refused(f"data={name!r} can't be read from statsmodels' {file}: {error}") from None
