"""Steps: signals of several lengths brought to that of the longest of their set."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from train.data.source import About, Example, Source
from train.data.subset import Through, read


def placed(signal: np.ndarray, about: About) -> Example:
    """`signal` as the examples of a set are, zeros at its end and its `length` where they differ.

    Args:
        signal: (l, C).
        about: of the set, with its `shape` and `ragged`.

    Returns:
        `signal`, (L, C) float32; in a ragged set `length` too, int32.

    Raises:
        ValueError: it has other channels, or more steps, or fewer where all have as many; says how
            many.
    """
    assert about.shape is not None
    steps, channels = about.shape
    if signal.shape[-1] != channels:
        raise ValueError(f"has {signal.shape[-1]} channels; wanted: {channels}")
    if len(signal) > steps or (len(signal) < steps and not about.ragged):
        most = "at most " if about.ragged else ""
        raise ValueError(f"has {len(signal):,} steps; wanted: {most}{steps:,}")
    padded = np.zeros((steps, channels), np.float32)
    with np.errstate(over="ignore"):  # what becomes infinite is found by who reads it
        padded[: len(signal)] = signal
    length = {"length": np.asarray(len(signal), np.int32)} if about.ragged else {}
    return {"signal": padded, **length}


class Longer(Through):
    """The examples of `source`, padded to more steps than they have."""

    def __init__(self, source: Source, steps: int):
        super().__init__(source)
        assert source.about.shape is not None
        shape = (steps, source.about.shape[1])
        self._about = dataclasses.replace(source.about, shape=shape, ragged=True)

    @property
    def about(self) -> About:
        """Of the source, with as many steps."""
        return self._about

    def __getitem__(self, i: int) -> Example:
        return self._padded(self._source[i])

    def __getitems__(self, indices: Sequence[int]) -> list[Example]:
        """Several at once."""
        return [self._padded(example) for example in read(self._source, indices)]

    def truth(self, i: int) -> dict[str, Any]:
        """The annotations of example i."""
        return self._source.truth(i)

    def _padded(self, example: Example) -> Example:
        signal = example["signal"]
        real = signal[: int(example.get("length", len(signal)))]
        return {**example, **placed(real, self._about)}
