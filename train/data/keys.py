"""Some keys of a source: what a task does not read need not be decoded, moved or padded."""

from collections.abc import Sequence
from typing import Any

from train.data.batch import INPUTS, KEYS
from train.data.source import Example, Source
from train.data.subset import Through, read

WANTS = {
    want: (*INPUTS, *(key for key, row in KEYS.items() if row.annotation == want))
    for want in ("label", "boxes", "mask", "target")
}
"""What is wanted of an example -> the keys that it then has, where the set knows them."""


class Wanted(Through):
    """The examples of `source` with the keys of `WANTS[want]` alone."""

    def __init__(self, source: Source, want: str):
        super().__init__(source)
        self._keys = WANTS[want]

    def __getitem__(self, i: int) -> Example:
        return self._only(self._source[i])

    def __getitems__(self, indices: Sequence[int]) -> list[Example]:
        """Several at once."""
        return [self._only(example) for example in read(self._source, indices)]

    def truth(self, i: int) -> dict[str, Any]:
        """The annotations of example i."""
        return self._only(self._source.truth(i))

    @property
    def clipped(self) -> dict[int, int]:
        """Of the source, where it counts them."""
        return self._source.clipped  # type: ignore[attr-defined]

    @property
    def empty(self) -> dict[int, int]:
        """Of the source, where it counts them."""
        return self._source.empty  # type: ignore[attr-defined]

    def _only(self, example: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in example.items() if key in self._keys}
