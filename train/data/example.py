"""Example: what a source gives, checked and brought to a shape in which examples stack."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from train.augment.kinds import Shape
from train.data.decode import Unreadable
from train.data.gaps import Gaps, exceeds, too_many
from train.data.host import Host, check, generator
from train.data.source import Example, Source
from train.data.subset import file_of, read
from train.refusal import Refused

TYPES = {
    "label": np.int32, "boxes": np.float32, "box_label": np.int32, "box_crowd": np.bool_,
    "box_difficult": np.bool_, "proposals": np.float32, "proposal_valid": np.bool_,
}  # fmt: skip
"""What the batch holds (`train.data.batch`); other keys keep the type that the source gives."""

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
        capacity: int | None,
        host: Host | None = None,
        gaps: Gaps | None = None,
    ):
        """Reads example 0, or the first that can be read where there may be gaps.

        Args:
            source: at least one example.
            capacity: rows of `boxes` and of every `box_...` in a batch; None where the source
                has no boxes.
            host: what brings images to a shape; None where the source gives all in one.
            gaps: examples not to be read, and how many there may be; None: not one.

        Raises:
            Refused: an empty source, or example 0 is refused, or no example can be read.
        """
        if not len(source):
            raise Refused(f"source={name(source)} has no examples")
        if host is not None:
            check(host)
        self.source = source
        self.capacity = capacity
        self.host = host
        self.limit = None if gaps is None else gaps.limit
        self.gaps: dict[int, str] = {} if gaps is None else dict(gaps.found)
        """Index -> name and reason, of those that are not read again."""
        at = 0
        while (given := self._read([at])[0]) is None:
            at += 1
            if at == len(source):
                raise too_many(self.gaps, self.limit or 0.0, at, name(source))
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

        Boxes are padded to the capacity with `box_valid` beside them, images are of `shape`.

        Args:
            places: any.
            shape: one of the host's; None without one.
            replace: whether the next sound example stands in for one that can't be read.

        Raises:
            Unreadable: an example can't be read, and there may be no gaps.
            Refused: a label outside the classes, more boxes than capacity, an image of the wrong
                rank, or an example of other keys, shapes or types than the first; in search of
                one that stands in, more that can't be read than there may be.
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
        """As the source gives them; None where one can't be read."""
        wanted = [i for i in indices if i not in self.gaps]
        try:
            found: dict[int, Example | None] = dict(
                zip(wanted, read(self.source, wanted), strict=True)
            )
        except Unreadable:
            if self.limit is None:
                raise
            found = {i: self._read_one(i) for i in wanted}
        return [found.get(i) for i in indices]

    def _read_one(self, i: int) -> Example | None:
        try:
            return self.source[i]
        except Unreadable as error:
            self.gaps[i] = f"{error.name}: {error.reason}"
            return None

    def _like_first(self, place: Place, given: Example, shape: Shape | None) -> Example:
        example = self._brought(place, given, shape)
        first = self._first[shape]
        if example.keys() != first.keys():
            raise self._refused(place.at, f"has keys {sorted(example)}, example 0 {sorted(first)}")
        for key, value in example.items():
            wanted, dtype = first[key]
            if value.shape != wanted or value.dtype != dtype:
                raise self._refused(
                    place.at,
                    f"has {key} {value.dtype}{value.shape}, example 0 {dtype}{wanted}",
                )
        return example

    def _brought(self, place: Place, given: Example, shape: Shape | None) -> Example:
        example = self._complete(place.at, given)
        if self.host is None or shape is None:
            return example
        if "image" not in example:
            raise Refused(f"host={self.host}, but {name(self.source)} has no images")
        return self.host.stage(example, shape, generator(*place[1:]))

    def _complete(self, i: int, given: Example) -> Example:
        example = {k: np.asarray(v, dtype=TYPES.get(k)) for k, v in given.items()}
        image = example.get("image")
        if image is not None and image.ndim != 3:
            raise self._refused(
                i, f"has image {image.shape}, which is not (height, width, channels)"
            )
        for key in ("label", "box_label"):
            self._check_labels(i, key, example)
        if "proposals" in example and "proposal_valid" not in example:
            example["proposal_valid"] = np.ones(len(example["proposals"]), bool)
        return self._pad(i, example) if "boxes" in example else example

    def _check_labels(self, i: int, key: str, example: Mapping[str, np.ndarray]) -> None:
        # On the host, since JAX would wrap -1 to the last class and train on it.
        classes = len(self.source.about.classes)
        for label in np.atleast_1d(example.get(key, ())):
            if not 0 <= label < classes:
                raise self._refused(i, f"has {key}={label}, outside the {classes} classes")

    def _pad(self, i: int, example: Example) -> Example:
        count = len(example["boxes"])
        if self.capacity is None:
            raise Refused(f"capacity=None, but {name(self.source)} has boxes: say how many rows")
        if count > self.capacity:
            raise self._refused(i, f"has {count} boxes, more than capacity={self.capacity}")
        example = dict(example, box_valid=np.ones(count, bool))
        for key, value in example.items():
            if key == "boxes" or key.startswith("box_"):
                if len(value) != count:
                    raise self._refused(i, f"has {count} boxes and {len(value)} of {key}")
                rows = [(0, self.capacity - count)] + [(0, 0)] * (value.ndim - 1)
                example[key] = np.pad(value, rows)
        return example

    def _refused(self, i: int, what: str) -> Refused:
        file = file_of(self.source, i)
        where = f" ({file})" if file else ""
        return Refused(f"example {i} of {name(self.source)}{where} {what}")


def name(source: Source) -> str:
    """What messages call it."""
    return f"{source.about.name}/{source.about.split}"
