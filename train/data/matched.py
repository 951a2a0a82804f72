"""Matched: another source as a run knows its own: its classes, by name, and its channels."""

import dataclasses
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from train.data.pictures import in_channels
from train.data.source import About, Example, Source, notes
from train.data.subset import Through, file_of, read
from train.refusal import Refused

FIELDS = {"label": "classes", "box_label": "classes", "mask": "mask_classes"}
"""Key of an annotation -> the field of `About` that names its values."""
NAMED = 4
"""Classes that a refusal names, of either side."""


def matched(source: Source, known: About, channels: int | None = None) -> Source:
    """`source`, its annotations as indices of the classes that a run knows.

    Args:
        source: any.
        known: of the data of the run.
        channels: of the images that the run takes; None leaves them.

    Returns:
        `source` itself where there is nothing to change.

    Raises:
        Refused: a class is missing on either side, or the source has none of the kind; names them.
    """
    tables = {}
    for field in dict.fromkeys(FIELDS.values()):
        own, wanted = (_composed(getattr(about, field)) for about in (source.about, known))
        if apart := differ(own, wanted):
            raise Refused(f"data={source.about.name!r} has other classes than the run: {apart}")
        if own != wanted:
            tables[field] = np.array([wanted.index(name) for name in own])
    shape = source.about.shape
    if not tables and (channels is None or (shape is not None and shape[-1] == channels)):
        return source
    return Matched(source, known, tables, channels)


def differ(own: Sequence[str], wanted: Sequence[str]) -> str:
    """What one list of classes has and another has not, in words; "" where the names are equal."""
    said = [
        f"{who} {', '.join(map(repr, names[:NAMED]))}{', …' if len(names) > NAMED else ''}"
        for who, names in (
            ("it lacks", [name for name in wanted if name not in own]),
            ("it alone has", [name for name in own if name not in wanted]),
        )
        if names
    ]
    if not said and len(own) != len(wanted):
        said = [f"it has {len(own)} with names that occur twice, not {len(wanted)}"]
    return "; ".join(said)


class Matched(Through):
    """See `matched`."""

    def __init__(
        self, source: Source, known: About, tables: dict[str, np.ndarray], channels: int | None
    ):
        super().__init__(source)
        shape = source.about.shape
        self._about = dataclasses.replace(
            source.about,
            classes=known.classes,
            mask_classes=known.mask_classes,
            colours=known.colours,
            shape=shape if shape is None or channels is None else (*shape[:-1], channels),
        )
        self._tables = tables
        self._channels = channels

    @property
    def about(self) -> About:
        """Of the source, with the classes and channels of the run."""
        return self._about

    @property
    def notes(self) -> tuple[str, ...]:
        """Of the source."""
        return notes(self._source)

    def __getitem__(self, i: int) -> Example:
        return self._changed(self._source[i], i)

    def __getitems__(self, indices: Sequence[int]) -> list[Example]:
        """Several at once."""
        read_at = zip(read(self._source, indices), indices, strict=True)
        return [self._changed(example, i) for example, i in read_at]

    def truth(self, i: int) -> dict[str, Any]:
        """The annotations of example i."""
        return self._changed(self._source.truth(i), i)

    def _changed(self, example: dict[str, Any], i: int) -> dict[str, Any]:
        new = dict(example)
        for key, field in FIELDS.items():
            if key in new and field in self._tables:
                new[key] = _looked_up(self._tables[field], np.asarray(new[key]))
        if "image" in new and self._channels is not None:
            name = file_of(self._source, i) or f"example {i} of {self.about.name}"
            new["image"] = in_channels(np.asarray(new["image"]), self._channels, name)
        return new


def _looked_up(table: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Indices of the other list; what is no class stays, as 255 in masks, which have no 256."""
    known = (values >= 0) & (values < len(table))
    return np.where(known, table[np.where(known, values, 0)], values).astype(values.dtype)


def _composed(names: Sequence[str]) -> tuple[str, ...]:
    """File systems give accents composed or not."""
    return tuple(unicodedata.normalize("NFC", name) for name in names)
