"""A data set whose pictures may have more pixels, or fewer, than those of others."""

from collections.abc import Callable, Sequence
from typing import Any

from train.data.decode import PIXELS, at_most
from train.data.named import Splits
from train.data.source import Example, Source
from train.data.subset import Through, read


def limited(data: Callable[[], Splits], pixels: int) -> Splits:
    """A set that is opened, and later read, with another limit than `train.data.decode.PIXELS`.

    Args:
        data: () -> its splits.
        pixels: a picture of more is `Unreadable`.
    """
    with at_most(pixels):
        train, validation, test = data()
    if pixels == PIXELS:
        return Splits(train, validation, test)
    return Splits(
        Limited(train, pixels),
        None if validation is None else Limited(validation, pixels),
        Limited(test, pixels),
    )


class Limited(Through):
    """The examples of `source`; whoever reads them, in which thread or process, has this limit.

    What else the source knows, such as `labels`, this knows too.
    """

    def __init__(self, source: Source, pixels: int):
        super().__init__(source)
        self._pixels = pixels

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

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # those that pickle asks for, before there is a source
            raise AttributeError(name)
        return getattr(self._source, name)
