"""Example: what a source gives, checked and brought to a shape in which examples stack."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from train.augment.kinds import Shape
from train.data.batch import KEYS, RAGGED
from train.data.gaps import Gaps, exceeds, too_many
from train.data.host import Host, check, generator
from train.data.ragged import Capacity, padded
from train.data.ragged import check as check_capacity
from train.data.reading import sound
from train.data.source import Example, Source
from train.data.typed import fault, name
from train.refusal import Refused

TOGETHER = 8
"""Pictures asked of a source at once where they may be large, being of many shapes."""


class Place(NamedTuple):
    """An example that is asked for: where it stands, and what its random numbers are drawn from."""

    at: int
    """Its index."""
    seed: int = 0
    epoch: int = 0
    slot: int = 0


class Taken(NamedTuple):
    """One that was taken."""

    at: int
    """Its index: another than was asked where that one stands in for it."""
    example: Example | None
    """None where it can't be read, and nothing stands in."""
    passed: tuple[int, ...]
    """Those that can't be read, from the one that was asked on."""


class Shaper:
    """Makes every example of a source stack with its first.

    Pickles with its source, so that worker processes decode and check alike.
    """

    def __init__(
        self,
        source: Source,
        capacity: Capacity | None,
        host: Host | None = None,
        gaps: Gaps | None = None,
        *,
        cut: bool = False,
    ):
        """Reads example 0, or the first that can be read where there may be gaps.

        Args:
            source: at least one example.
            capacity: rows or steps of each ragged key in a batch, see `train.data.ragged`; None
                where the source has none.
            host: what brings images to a shape; None where the source gives all in one.
            gaps: examples not to be read, and how many there may be; None: not one.
            cut: whether boxes and proposals beyond the capacity are left out, as in evaluation,
                which scores by the source's `truth`; else an example that has more is refused.

        Raises:
            Refused: an empty source, a capacity of something else, boxes without one; example 0 is
                refused, or no example can be read.
        """
        if not len(source):
            raise Refused(f"source={name(source)} has no examples")
        if host is not None:
            check(host)
        self.source = source
        self.capacity = check_capacity(capacity)
        self.cut = cut
        self.host = host
        self.limit = None if gaps is None else gaps.limit
        self.gaps: dict[int, str] = {} if gaps is None else dict(gaps.found)
        """Index -> name and reason, of those that are not read again."""
        at = 0
        while (given := self._read([at])[0]) is None:
            at += 1
            if at == len(source):
                raise too_many(self.gaps, self.limit or 0.0, at, name(source))
        for key in RAGGED:
            if KEYS[key].annotation and key in given and key not in self.capacity:
                raise Refused(
                    f"capacity={capacity}, but {name(source)} has {key}: say how many rows, "
                    f"{{{key!r}: …}}"
                )
        self._first = {
            shape: {
                k: (v.shape, v.dtype) for k, v in self._brought(Place(at), given, shape).items()
            }
            for shape in ((None,) if host is None else host.shapes)
        }

    def first(self, shape: Shape | None) -> Mapping[str, tuple[tuple[int, ...], np.dtype]]:
        """Key -> (shape, type) of every example once brought to a shape; None without a host."""
        return self._first[shape]

    def take(
        self, places: Sequence[Place], shape: Shape | None, *, replace: bool
    ) -> Iterator[Taken]:
        """The examples at `places`, in turn.

        Ragged keys are padded to their capacity, images are of `shape`.

        Args:
            places: any.
            shape: one of the host's; None without one.
            replace: whether the next sound example stands in for one that can't be read.

        Raises:
            Unreadable: an example can't be read, or holds NaN, and there may be no gaps.
            Refused: what `train.data.typed` refuses, more rows or steps than the capacity, or an
                example of other keys, shapes or types than the first; in search of one that stands
                in, more that can't be read than there may be.
        """
        step = max(1, len(places)) if self.host is None else TOGETHER
        for start in range(0, len(places), step):
            some = places[start : start + step]
            for place, given in zip(some, self._read([place.at for place in some]), strict=True):
                yield self._taken(place, given, shape, replace)

    def words(self, indices: Iterable[int]) -> dict[int, str]:
        """Index -> name and reason, of gaps."""
        return {i: self.gaps[i] for i in indices}

    def stand_in(self, index: int) -> int:
        """`index`, or the next that is not known as a gap."""
        while index in self.gaps:
            index = (index + 1) % len(self.source)
        return index

    def _taken(
        self, place: Place, given: Example | None, shape: Shape | None, replace: bool
    ) -> Taken:
        passed: list[int] = []
        at, length = place.at, len(self.source)
        while given is None:
            passed.append(at)
            if not replace:
                return Taken(at, None, tuple(passed))
            if exceeds(len(passed), self.limit or 0.0, length):
                raise too_many(self.words(passed), self.limit or 0.0, length, name(self.source))
            at = (at + 1) % length
            (given,) = self._read([at])
        return Taken(at, self._like_first(place._replace(at=at), given, shape), tuple(passed))

    def _read(self, indices: Sequence[int]) -> list[Example | None]:
        """Typed; None where one can't be read."""
        examples, found = sound(self.source, indices, None if self.limit is None else self.gaps)
        self.gaps.update(found)
        return examples

    def _like_first(self, place: Place, given: Example, shape: Shape | None) -> Example:
        example = self._brought(place, given, shape)
        first = self._first[shape]
        if example.keys() != first.keys():
            raise fault(
                self.source, place.at, f"has keys {sorted(example)}, example 0 {sorted(first)}"
            )
        for key, value in example.items():
            wanted, dtype = first[key]
            if value.shape != wanted or value.dtype != dtype:
                what = f"has {key} {value.dtype}{value.shape}, example 0 {dtype}{wanted}"
                hint = f"; capacity={{{key!r}: …}} pads them" if key in RAGGED else ""
                raise fault(self.source, place.at, what + hint)
        return example

    def _brought(self, place: Place, given: Example, shape: Shape | None) -> Example:
        try:
            example = padded(given, self.capacity, cut=self.cut)
        except ValueError as error:
            raise fault(self.source, place.at, str(error)) from None
        if self.host is None or shape is None:
            return example
        if "image" not in example:
            raise Refused(f"host={self.host}, but {name(self.source)} has no images")
        return self.host.stage(example, shape, generator(*place[1:]))
