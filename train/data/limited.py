"""A source of which pictures of more pixels, or of fewer, may be read than of others."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from train.data.decode import PIXELS, at_most
from train.data.source import About, Example, Source
from train.data.subset import file_of, read


def limited(source: Source, pixels: int) -> Source:
    """The same examples, each read with another limit than `train.data.decode.PIXELS`."""
    return source if pixels == PIXELS else Limited(source, pixels)


class Limited:
    """The examples of `source`; whoever reads them, in which thread or process, has this limit."""

    def __init__(self, source: Source, pixels: int):
        self._source = source
        self._pixels = pixels

    @property
    def about(self) -> About:
        """Of the source."""
        return self._source.about

    @property
    def fingerprint(self) -> str:
        """Of the source."""
        return self._source.fingerprint

    @property
    def labels(self) -> np.ndarray:
        """Of the source, where it knows them without reading."""
        return self._source.labels  # type: ignore[attr-defined]

    @property
    def clipped(self) -> dict[int, int]:
        """Of the source, where it counts them."""
        return self._source.clipped  # type: ignore[attr-defined]

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, i: int) -> Example:
        with at_most(self._pixels):
            return self._source[i]

    def __getitems__(self, indices: Sequence[int]) -> list[Example]:
        """Several at once."""
        with at_most(self._pixels):
            return read(self._source, indices)

    def truth(self, i: int) -> dict[str, Any]:
        """The annotations of example i."""
        with at_most(self._pixels):
            return self._source.truth(i)

    def name(self, i: int) -> str | None:
        """The file of example i, where the source knows."""
        return file_of(self._source, i)
