"""Unseen: what a split of a set has no example of: a class that another has, or any object."""

import contextlib
from collections.abc import Mapping

import numpy as np

from train.data.decode import Unreadable
from train.data.source import Source
from train.data.subset import at_hand

SHOWN = 10


def unseen(splits: Mapping[str, Source | None]) -> str:
    """What no one may overlook of a set's labels: classes that a split lacks; "" if none.

    Args:
        splits: name -> source; those whose labels are not at hand, as masks and boxes, are left
            alone, and so is a class that no split has.
    """
    there = {split: held for split, s in splits.items() if s is not None and (held := classes(s))}
    known = set().union(*there.values())
    lacking = {split: sorted(known - held) for split, held in there.items() if known - held}
    if not lacking:
        return ""
    names = next(s for s in splits.values() if s is not None).about.classes
    said = "; ".join(
        f"{len(absent)} without a {split} example: {', '.join(map(repr, shown(names, absent)))}"
        f"{', …' if len(absent) > SHOWN else ''}"
        for split, absent in lacking.items()
    )
    return f"Of {len(names)} classes, {said}."


def classes(source: Source) -> set[int]:
    """The classes that a source has examples of; empty where they are not at hand."""
    found = at_hand(source)
    return set() if found is None else set(np.unique(found).tolist())


def shown(names: tuple[str, ...], absent: list[int]) -> list[str]:
    """Names of the first of them; a set may have labels and no names."""
    return [names[c] if c < len(names) else str(c) for c in absent[:SHOWN]]


def without_objects(splits: Mapping[str, Source | None]) -> list[str]:
    """The splits of boxes none of which is an object to be found.

    Annotations are read up to the first object: all of them only where there is none.

    Args:
        splits: name -> source; those without boxes are left alone.
    """
    return [split for split, source in splits.items() if source is not None and _bare(source)]


def _bare(source: Source) -> bool:
    known = False  # where no example can be read, nothing is
    for i in range(len(source)):
        with contextlib.suppress(Unreadable):
            truth = source.truth(i)
            if "boxes" not in truth:
                return False
            known = True
            boxes = np.reshape(truth["boxes"], (-1, 4))
            there = (boxes[:, 2:] > boxes[:, :2]).all(1)
            for key in ("box_crowd", "box_difficult"):
                there &= ~np.asarray(truth.get(key, False), bool)
            if there.any():
                return False
    return known
