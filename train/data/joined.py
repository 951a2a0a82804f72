"""Joined: the examples of several sources, one after the other."""

import bisect
import dataclasses
import hashlib
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from train.data.decode import Unreadable
from train.data.source import Example, Source, notes
from train.data.subset import file_of, image_id, labels


class Joined:
    """Parts of one set, put together; what is known of it is what the first says.

    Args:
        parts: at least one.
        split: what they are together.
    """

    def __init__(self, parts: Sequence[Source], split: str):
        self.about = dataclasses.replace(parts[0].about, split=split)
        self._parts = parts
        self._ends = [*itertools.accumulate(map(len, parts))]

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, i: int) -> Example:
        part, own = self._place(i)
        try:
            return part[own]
        except Unreadable as error:
            raise Unreadable(error.name, i, error.reason) from error

    def truth(self, i: int) -> dict[str, Any]:
        """The annotations of example i alone."""
        part, own = self._place(i)
        return part.truth(own)

    def name(self, i: int) -> str | None:
        """The file of example i, where its part knows."""
        return file_of(*self._place(i))

    def image_id(self, i: int) -> Any:
        """What the set's own file calls example i; None where it has no such file."""
        return image_id(*self._place(i))

    @property
    def labels(self) -> np.ndarray:
        """(N,) int32."""
        return np.concatenate([labels(part) for part in self._parts])

    @property
    def notes(self) -> tuple[str, ...]:
        """Of all parts, each once."""
        return tuple(dict.fromkeys(line for part in self._parts for line in notes(part)))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of those of the parts."""
        prints = [part.fingerprint for part in self._parts]
        return hashlib.sha256("\n".join(prints).encode()).hexdigest()

    def _place(self, i: int) -> tuple[Source, int]:
        if not 0 <= i < len(self):
            raise IndexError(f"index {i} is outside 0..{len(self) - 1}")
        which = bisect.bisect_right(self._ends, i)
        return self._parts[which], i - (self._ends[which - 1] if which else 0)
