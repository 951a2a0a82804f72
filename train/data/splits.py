"""The splits of a data set: which is trained on, which chosen on, which tested on."""

import contextlib
import functools
import math
import pathlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

from train.data.said import counted
from train.data.source import Source, is_signals
from train.data.subset import cut
from train.refusal import Refused

TEST = 0.2
"""Share of the examples that is test where a set has only a training split."""

LOOKED_AT = 32
"""Examples of a test split that are asked whether it is annotated."""

TAKES = {
    "label": "experiments/classify.py",
    "mask": "experiments/segment.py",
    "signal": "experiments/sequence.py",
}
"""Annotation, or signals of any, -> the experiment that trains on it."""


class Splits(NamedTuple):
    """The sources of one data set."""

    train: Source
    validation: Source | None
    """None where the set has none of its own: cut one off `train`."""
    test: Source


ALL = Splits._fields

Cut = Callable[[Source, float], tuple[Source, Source]]
"""(source, fraction) -> (rest, part): how a part is cut off."""


def with_validation(
    data: Splits, share: float, cut: Cut = functools.partial(cut, seed=0)
) -> Splits:
    """The splits, with a part of `train` as validation where they have none.

    Args:
        data: of one set.
        share: of `train`, 0..1; 0 leaves all of it to train on. Which examples it is depends on no
            seed of a run.
        cut: which they are. By default they are drawn at random, stratified. Of examples ordered by
            time, such as windows of a series, take the last, `train.data.subset.cut_by_time`, or
            `partial(cut_by_time, gap=24)` where windows overlap: else training sees the future of
            what it is judged on.
    """
    if data.validation is not None or not share:
        return data
    if not 0 < math.floor(share * len(data.train) + 0.5) < len(data.train):
        raise Refused(
            f"validation={share} of {len(data.train)} training examples leaves one side empty; "
            "--validation 0 trains on all of them"
        )
    train, validation = cut(data.train, share)
    return Splits(train, validation, data.test)


def by_role(name: str, has: Iterable[str], source: Callable[[str], Source]) -> Splits:
    """The splits of a set that has these; what is tested on is said at `train.data.named.named`."""
    if "train" not in has:
        raise Refused(f"data={name!r} has no split to train on; it has {', '.join(has)}")
    train = source("train")
    if "test" in has and _annotated(test := source("test")):
        return Splits(train, source("validation") if "validation" in has else None, test)
    if "validation" in has:
        return Splits(train, None, source("validation"))
    if not math.floor(TEST * len(train) + 0.5):
        count = counted(len(train), "example")
        raise Refused(f"data={name!r} has {count} and no test split: too few for one to be cut off")
    rest, part = cut(train, TEST, seed=0, splits=("train", "test"))
    part.cut_off = True
    return Splits(rest, None, part)


def _annotated(source: Source) -> bool:
    """Whether one of the first examples has what a withheld test split lacks."""
    for i in range(min(len(source), LOOKED_AT)):
        with contextlib.suppress(Refused):
            truth = source.truth(i)
            if "boxes" not in truth or len(truth["boxes"]):
                return True
    return False


def refuse_other(data: Splits, key: str) -> Splits:
    """The splits, where their examples are what a task reads.

    Args:
        data: of any set.
        key: "image" or "signal".

    Raises:
        Refused: they are of the other; names what takes them.
    """
    about = data.train.about
    if is_signals(about) != (key == "signal"):
        has, takes = ("signals", "signal") if key == "image" else ("images", "label")
        raise Refused(f"data={about.name!r} has {has}, no {key}s: {TAKES[takes]} takes it")
    return data


def refuse_want(name: str | pathlib.Path, want: str, *has: str, of: str = "") -> None:
    """Refuses what is wanted of a set that has other annotations, or signals, for `of`."""
    if want not in has:
        by = TAKES.get(of or has[-1])
        takes = f": {by} takes it" if by else ""
        raise Refused(f"data={str(name)!r} has no {want}; it has {', '.join(has)}{takes}")
