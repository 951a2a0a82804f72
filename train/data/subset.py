"""Parts of a source, which are sources: by index, by what masks hold, cut by chance or time."""

import contextlib
import dataclasses
import functools
import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from train.data.batch import IGNORE
from train.data.decode import Unreadable
from train.data.source import About, Example, Source, earlier_fingerprint, notes
from train.progress import told
from train.refusal import Refused


class Through:
    """The examples of `source`, in its order, in another form: what that leaves as it is."""

    def __init__(self, source: Source):
        self._source = source

    @property
    def about(self) -> About:
        """Of the source."""
        return self._source.about

    @property
    def fingerprint(self) -> str:
        """Of the source."""
        return self._source.fingerprint

    def __len__(self) -> int:
        return len(self._source)

    def name(self, i: int) -> str | None:
        """The file of example i, where the source knows."""
        return file_of(self._source, i)

    def image_id(self, i: int) -> Any:
        """What the set's own file calls example i; None where it has no such file."""
        return image_id(self._source, i)


class Subset:
    """The examples of `source` at `indices`, in that order; index i is the part's own index."""

    def __init__(self, source: Source, indices: np.ndarray, about: About):
        self.about = about
        self.cut_off = False
        """Whether it is a test split that the set itself does not have."""
        self._source = source
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, i: int) -> Example:
        with self._own([i]):
            return self._source[self._inside(i)]

    def __getitems__(self, indices: Sequence[int]) -> list[Example]:
        """Several at once: where the source reads many faster than one by one."""
        with self._own(indices):
            return read(self._source, [self._inside(i) for i in indices])

    def truth(self, i: int) -> dict[str, Any]:
        """The annotations of example i of the part."""
        with self._own([i]):
            return self._source.truth(self._inside(i))

    def name(self, i: int) -> str | None:
        """The file of example i of the part, where the source knows."""
        return file_of(self._source, self._inside(i))

    @property
    def clipped(self) -> dict[int, int]:
        """Of the part, where the source counts them."""
        return self._counted(self._source.clipped)  # type: ignore[attr-defined]

    @property
    def empty(self) -> dict[int, int]:
        """Of the part, where the source counts them."""
        return self._counted(self._source.empty)  # type: ignore[attr-defined]

    def _counted(self, counts: dict[int, int]) -> dict[int, int]:
        return {i: counts[k] for i, k in enumerate(self._indices.tolist()) if k in counts}

    def image_id(self, i: int) -> Any:
        """What the set's own file calls example i of the part; None where it has no such file."""
        return image_id(self._source, self._inside(i))

    @property
    def labels(self) -> np.ndarray:
        """(N,) int32: the label of every example of the part."""
        return labels(self._source)[self._indices]

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the source's fingerprint and of the indices."""
        return self._printed(self._source.fingerprint)

    @functools.cached_property
    def earlier_fingerprint(self) -> str:
        """Of the source's earlier one."""
        return self._printed(earlier_fingerprint(self._source))

    def _printed(self, fingerprint: str) -> str:
        digest = hashlib.sha256(fingerprint.encode())
        digest.update(self._indices.astype("<i8").tobytes())
        return digest.hexdigest()

    @property
    def notes(self) -> tuple[str, ...]:
        """Of the source."""
        return notes(self._source)

    @contextlib.contextmanager
    def _own(self, indices: Sequence[int]) -> Iterator[None]:
        """What cannot be read is named by the part's own index."""
        try:
            yield
        except Unreadable as error:
            own = next((i for i in indices if self._indices[i] == error.index), error.index)
            raise Unreadable(error.name, own, error.reason) from error

    def _inside(self, i: int) -> int:
        if not 0 <= i < len(self._indices):
            raise IndexError(f"index {i} is outside 0..{len(self._indices) - 1}")
        return int(self._indices[i])


def read(source: Source, indices: Sequence[int]) -> list[Example]:
    """The examples at `indices`, at once where the source can (`__getitems__`)."""
    together = getattr(source, "__getitems__", None)
    if together is not None:
        return list(together(indices))
    return [source[i] for i in indices]


def file_of(source: Source, i: int) -> str | None:
    """The file of example i, for messages; None where the source does not say (`name`)."""
    known = getattr(source, "name", None)
    return None if known is None else known(i)


def image_id(source: Source, i: int) -> Any:
    """What the set's own file calls example i; None where the source does not say (`image_id`)."""
    known = getattr(source, "image_id", None)
    return None if known is None else known(i)


def labels(source: Source) -> np.ndarray:
    """(N,) int32: the label of every example, at once where the source can (`labels`).

    Raises:
        Refused: the examples have no label, or one that is no integer.
    """
    known = getattr(source, "labels", None)
    if known is None:
        keys = _annotations(source)
        if "label" not in keys:
            raise Refused(f"data={source.about.name!r} has no label; its keys: {keys}")
        what = f"reading the labels of {source.about.name}/{source.about.split}"
        known = [_label(source, i) for i in told(what, len(source))]
    try:
        found = np.asarray(known)
    except ValueError:  # some are lists
        found = np.asarray(known, object)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        every = found.tolist()
        odd = next((one for one in every if type(one) is not int), every[0])
        raise Refused(
            f"data={source.about.name!r} has labels of type {found.dtype}, such as {odd!r}; "
            "wanted: integers, classes from 0"
        )
    return found.astype(np.int32, copy=False)


READ = 20_000
"""Examples of a source whose labels are read although nothing needs them."""


def at_hand(source: Source) -> np.ndarray | None:
    """(N,) int32: the label of every example, where they are known or soon read; else None."""
    if isinstance(source, Subset):
        inner = at_hand(source._source)
        return None if inner is None else inner[source._indices]
    if "labels" in vars(source):
        return labels(source)
    if hasattr(type(source), "labels") and len(source) <= READ:
        with contextlib.suppress(Refused):  # of a source of other annotations
            return labels(source)
    return None


def _label(source: Source, i: int) -> Any:
    truth = source.truth(i)
    if "label" not in truth:
        raise Refused(
            f"example {i} of data={source.about.name!r} has no label; its keys: {[*truth]}"
        )
    return truth["label"]


def _annotations(source: Source) -> list[str]:
    """The keys of `truth`: those of the first example that can be read."""
    for i in range(len(source)):
        with contextlib.suppress(Unreadable):
            return [*source.truth(i)]
    return []


def subset(source: Source, indices: Sequence[int] | np.ndarray, split: str | None = None) -> Subset:
    """The part of `source` at `indices`, in their order.

    Args:
        source: any.
        indices: (N,) integers in 0..len(source) - 1; may repeat.
        split: the part's name; the source's own by default.

    Raises:
        Refused: there are none, or one is outside; names its position and value.
    """
    taken = np.asarray(indices)
    if taken.ndim != 1 or not taken.size or taken.dtype.kind not in "iu":
        raise Refused(
            f"indices has shape {taken.shape}, type {taken.dtype}; wanted: at least one integer"
        )
    wrong = np.flatnonzero((taken < 0) | (taken >= len(source)))
    if wrong.size:
        i = int(wrong[0])
        raise Refused(f"indices[{i}]={taken[i]} is outside 0..{len(source) - 1}")
    about = source.about if split is None else dataclasses.replace(source.about, split=split)
    return Subset(source, taken.astype(np.int64), about)


def with_classes(source: Source, at_least: int) -> Subset:
    """The examples whose masks hold at least so many classes, in the source's order.

    Every mask is read. One that can't be read is kept, as its classes are not known: what then
    happens is the loader's concern.

    Args:
        source: examples with a `mask`.
        at_least: the background counts where the set has one, 255 does not.

    Raises:
        Refused: no mask holds so many.
    """

    def held(i: int) -> int:
        try:
            mask = source.truth(i)["mask"]
        except Unreadable:
            return at_least
        return int(np.count_nonzero(np.bincount(mask.ravel(), minlength=IGNORE)[:IGNORE]))

    what = f"reading the masks of {source.about.name}/{source.about.split}"
    counts = np.array([held(i) for i in told(what, len(source))])
    kept = np.flatnonzero(counts >= at_least)
    if not kept.size:
        raise Refused(
            f"no mask of data={source.about.name!r} holds {at_least} classes, the most is "
            f"{counts.max(initial=0)}"
        )
    return subset(source, kept)


def cut(
    source: Source,
    fraction: float,
    seed: int,
    splits: tuple[str, str] = ("train", "validation"),
) -> tuple[Subset, Subset]:
    """Cuts a source in two, stratified by label where it has one; both keep the source's order.

    The part holds round(fraction * N) examples, of each class its share rounded down, and one more
    for the classes with the largest remainders (the lower class first). Each example draws one
    64-bit word of Philox with key `seed`, in the source's order; of each class those with the
    smallest words go to the part. Raw words of a bit generator are the same on every platform and
    in every version of NumPy, which those of its distributions need not be.

    Args:
        source: any; without a `label` all its examples count as of one class.
        fraction: of the examples that go to the part, between 0 and 1.
        seed: belongs to the recipe, never to the run, so that seeds share one part.
        splits: what the rest and the part are called.

    Returns:
        (rest, part)

    Raises:
        Refused: a fraction outside (0, 1), or one that leaves either side empty.
    """
    if not 0 < fraction < 1:
        raise Refused(f"fraction={fraction} is not between 0 and 1")
    labelled = "label" in _annotations(source)
    label = labels(source) if labelled else np.zeros(len(source), np.int32)
    total = math.floor(fraction * len(label) + 0.5)
    if not 0 < total < len(label):
        raise Refused(f"fraction={fraction} of {len(label)} examples leaves one side empty")
    classes, counts = np.unique(label, return_counts=True)
    shares = fraction * counts
    take = np.floor(shares).astype(int)
    for c in np.argsort(take - shares, kind="stable")[: total - take.sum()]:
        take[c] += 1
    words = np.random.Philox(key=seed).random_raw(len(label))
    chosen = np.zeros(len(label), bool)
    for c, n in zip(classes, take, strict=True):
        members = np.flatnonzero(label == c)
        chosen[members[np.argsort(words[members], kind="stable")[:n]]] = True
    rest, part = splits
    return (
        subset(source, np.flatnonzero(~chosen), rest),
        subset(source, np.flatnonzero(chosen), part),
    )


def cut_by_time(
    source: Source,
    fraction: float,
    gap: int = 0,
    splits: tuple[str, str] = ("train", "validation"),
) -> tuple[Subset, Subset]:
    """Cuts off the last examples of a source that is ordered by time; both keep its order.

    Nothing of the part comes before anything of the rest: what is forecast is never seen.

    Args:
        source: in order of time, such as windows of a series, the earliest first.
        fraction: of the examples that go to the part, round(fraction * N), between 0 and 1.
        gap: examples between the two that go to neither. Of windows that begin at each step, as
            many as a window and what it forecasts have steps, less one: then the two share no step.
        splits: what the rest and the part are called.

    Returns:
        (rest, part)

    Raises:
        Refused: a fraction outside (0, 1), a negative gap, or either side is empty.
    """
    if not 0 < fraction < 1:
        raise Refused(f"fraction={fraction} is not between 0 and 1")
    if gap < 0:
        raise Refused(f"gap={gap} is negative")
    start = len(source) - math.floor(fraction * len(source) + 0.5)
    if not 0 < start < len(source):
        raise Refused(f"fraction={fraction} of {len(source)} examples leaves one side empty")
    if gap >= start:
        raise Refused(f"gap={gap} leaves none of the {start} examples before the part")
    rest, part = splits
    return (
        subset(source, np.arange(start - gap), rest),
        subset(source, np.arange(start, len(source)), part),
    )
