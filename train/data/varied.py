"""The examples whose masks show many classes: an image of them teaches more than an empty one."""

import numpy as np

from train.data.batch import IGNORE
from train.data.decode import Unreadable
from train.data.source import Source
from train.data.subset import Subset, subset
from train.refusal import Refused


def varied(source: Source, least: int) -> Subset:
    """The examples whose masks hold at least `least` classes, in the source's order.

    Every mask is read. One that can't be read is kept: what then happens is the loader's concern.

    Args:
        source: examples with a `mask`.
        least: of classes, the background counted where the set has one, 255 not.

    Raises:
        Refused: no mask holds so many.
    """
    counts = np.array([_classes(source, i, otherwise=least) for i in range(len(source))])
    kept = np.flatnonzero(counts >= least)
    if not kept.size:
        raise Refused(
            f"no mask of data={source.about.name!r} holds {least} classes, the most is "
            f"{counts.max(initial=0)}"
        )
    return subset(source, kept)


def _classes(source: Source, i: int, otherwise: int) -> int:
    """How many classes the mask of example i holds; `otherwise` where it can't be read."""
    try:
        mask = source.truth(i)["mask"]
    except Unreadable:
        return otherwise
    pixels = np.bincount(mask.ravel(), minlength=IGNORE)
    return int(np.count_nonzero(pixels[:IGNORE]))
