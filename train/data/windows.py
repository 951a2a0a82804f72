"""Windows: one long series as examples to forecast, divided by time."""

import functools
import hashlib
import math
from typing import Any

import numpy as np

from train.data.named import Splits
from train.data.source import About, Example
from train.refusal import Refused


def windows(
    series: np.ndarray,
    past: int,
    ahead: int,
    *,
    validation: float = 0.0,
    test: float = 0.2,
    column: int = 0,
    every: int = 1,
    name: str = "series",
) -> Splits:
    """What comes next in a series, from what came before, for each step of it.

    The steps are divided by time: the last share is what is tested on, the share before it what is
    chosen on. An example belongs to the split in which all that it forecasts lies; one whose
    forecast lies in two is in none. So training sees no step of the other splits, neither to
    forecast nor to forecast from, and the earliest forecasts of the others are made from what was
    known then, which are steps of the split before.

    Args:
        series: (T,) or (T, C) finite numbers, the earliest first, at equal intervals.
        past: steps that are seen.
        ahead: steps after them that are forecast.
        validation, test: shares of the T steps, 0 <= share < 1; no `validation` where it is 0.
        column: the channel that is forecast.
        every: steps from one example to the next.
        name: of the set.

    Returns:
        Sources of `signal`, (past, C) float32, and `target`, (ahead,) float32: the values of
        `column` at the steps that follow. `about.targets` are "+1", "+2", …; `about.mirror` is
        False. A source's `series` are the steps of its split.

    Raises:
        Refused: a value that is not finite, no such column, or a split without a window; names it.
    """
    series = np.asarray(series, np.float64)
    series = series[:, None] if series.ndim == 1 else series
    if series.ndim != 2:
        raise Refused(f"series has shape {series.shape}; wanted: (T,) or (T, C)")
    sound = np.isfinite(series)
    if not sound.all():
        step, channel = (int(axis[0]) for axis in np.nonzero(~sound))
        raise Refused(f"series[{step}, {channel}]={series[step, channel]} is not finite")
    steps, channels = series.shape
    if not 0 <= column < channels:
        raise Refused(f"column={column} is none of the {channels} channels")
    for field, value in (("past", past), ("ahead", ahead), ("every", every)):
        if value < 1:
            raise Refused(f"{field}={value} is not positive")
    if not (0 <= validation < 1 and 0 < test < 1 and validation + test < 1):
        raise Refused(f"validation={validation} and test={test} leave no share of the series")
    end = steps - math.floor(test * steps + 0.5)
    middle = end - math.floor(validation * steps + 0.5)
    parts = {"train": (0, middle), "validation": (middle, end), "test": (end, steps)}
    found = {}
    for split, (start, stop) in parts.items():
        if split == "validation" and not validation:
            continue
        first = max(start, past)  # forecast by the first window
        if first + ahead > stop:
            raise Refused(
                f"past={past} and ahead={ahead} leave no window in {split}, which has "
                f"{stop - start} of the {steps} steps"
            )
        about = About(
            name=name,
            split=split,
            classes=(),
            mirror=False,
            shape=(past, channels),
            targets=steps_ahead(ahead),
        )
        starts = np.arange(first - past, stop - ahead - past + 1, every)
        found[split] = Windows(series, starts, (start, stop), past, ahead, column, about)
    return Splits(found["train"], found.get("validation"), found["test"])


def steps_ahead(count: int) -> tuple[str, ...]:
    """Names of targets that are the next steps of a series."""
    return tuple(f"+{k + 1}" for k in range(count))


class Windows:
    """Windows of a series that begin at `starts`."""

    def __init__(
        self,
        series: np.ndarray,
        starts: np.ndarray,
        part: tuple[int, int],
        past: int,
        ahead: int,
        column: int,
        about: About,
    ):
        self.about = about
        self.starts = starts
        """(N,): the step with which each begins; it forecasts from `starts + past` on."""
        self._whole = series
        self._part = part
        self._past, self._ahead, self._column = past, ahead, column

    @property
    def series(self) -> np.ndarray:
        """(T, C) float64: the steps of the split alone."""
        start, stop = self._part
        return self._whole[start:stop]

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, i: int) -> Example:
        start = self._inside(i)
        signal = self._whole[start : start + self._past].astype(np.float32)
        return {"signal": signal, **self.truth(i)}

    def truth(self, i: int) -> dict[str, Any]:
        """What is forecast by example i."""
        start = self._inside(i) + self._past
        target = self._whole[start : start + self._ahead, self._column]
        return {"target": target.astype(np.float32)}

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the series up to the split's end, of what is a window, and of its splits."""
        facts = (self._part, self._past, self._ahead, self._column, self.starts.tolist())
        digest = hashlib.sha256(repr(facts).encode())
        digest.update(self._whole[: self._part[1]].astype("<f8").tobytes())
        return digest.hexdigest()

    def _inside(self, i: int) -> int:
        if not 0 <= i < len(self.starts):
            raise IndexError(f"index {i} is outside 0..{len(self.starts) - 1}")
        return int(self.starts[i])
