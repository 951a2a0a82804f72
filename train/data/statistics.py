"""Statistics of a source's pixels: of their channels, and of their masks' classes."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from train.data.batch import IGNORE
from train.data.decode import Unreadable
from train.data.gaps import Gaps
from train.data.source import About, Example, Source
from train.data.subset import read
from train.refusal import Refused

PIXELS = 2**26
"""A set of at most so many pixels is measured whole: CIFAR, MNIST, Fashion-MNIST are."""
EXAMPLES = 2000
"""A larger set is measured by a sample of `PIXELS` pixels, but by at least so many examples."""
_TOGETHER = 256
_LARGE = 8
"""Examples read at once where images are of many shapes, and so may be large."""


def measure(
    source: Source, examples: int | None = None, gaps: Gaps | None = None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over pixels 0..255.

    Sums are of integers and exact, so the order of reading does not matter. The standard deviation
    is the biased one (over n); that of a constant channel is given as 1, so that it can divide.

    Args:
        source: examples with an `image`, uint8.
        examples: how many to read, spread evenly over the source; by default all of a set of at
            most 2**26 pixels, of a larger one a sample of that many pixels, and at least 2,000
            examples.
        gaps: where examples that can't be read are noted, which then count for nothing; None: the
            first one is refused.

    Returns:
        (mean, std), a float a channel.

    Raises:
        Refused: fewer than one example asked for, or none that can be read.
    """
    mean, std, _ = _read(source, examples, gaps)
    return mean, std


def measured(source: Source, examples: int | None = None, gaps: Gaps | None = None) -> About:
    """The source's `about` with the statistics that `measure` finds, and with what its masks hold.

    Args:
        source, examples, gaps: as of `measure`; examples that have a `mask` besides.
    """
    mean, std, pixels = _read(source, examples, gaps)
    return dataclasses.replace(source.about, mean=mean, std=std, mask_pixels=pixels)


def _read(
    source: Source, examples: int | None, gaps: Gaps | None
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[int, ...]]:
    """Mean and standard deviation a channel; pixels a class, and ignored ones, () without masks."""
    if examples is None:
        shape = source.about.shape
        examples = EXAMPLES if shape is None else max(EXAMPLES, PIXELS // (shape[0] * shape[1]))
    if examples < 1:
        raise Refused(f"examples={examples} is less than 1")
    count = min(examples, len(source))
    indices = [i * len(source) // count for i in range(count)]
    pixels = 0
    sums: list[int] = []
    squares: list[int] = []
    classes = np.zeros(256, np.int64)
    together = _LARGE if source.about.shape is None else _TOGETHER
    for start in range(0, count, together):
        for example in _sound(source, indices[start : start + together], gaps):
            image = example["image"].reshape(-1, example["image"].shape[-1]).astype(np.int64)
            pixels += len(image)
            sums = _plus(sums, image.sum(0))
            squares = _plus(squares, (image * image).sum(0))
            if "mask" in example:
                classes += np.bincount(example["mask"].ravel(), minlength=256)
    if not pixels:
        raise Refused(f"none of {count} examples of data={source.about.name!r} can be read")
    # Python's integers have no end; n * squares would pass 2**63.
    mean = tuple(s / pixels for s in sums)
    spread = (
        math.sqrt((pixels * q - s * s) / pixels**2) for s, q in zip(sums, squares, strict=True)
    )
    known = len(source.about.mask_classes)
    held = (*(int(n) for n in classes[:known]), int(classes[IGNORE])) if classes.any() else ()
    return mean, tuple(std or 1.0 for std in spread), held


def _sound(source: Source, indices: Sequence[int], gaps: Gaps | None) -> list[Example]:
    """Those that can be read."""
    if gaps is None:
        return read(source, indices)
    wanted = [i for i in indices if i not in gaps.found]
    try:
        return read(source, wanted)
    except Unreadable:
        pass
    found = []
    for i in wanted:
        try:
            found.append(source[i])
        except Unreadable as error:
            gaps.add({i: f"{error.name}: {error.reason}"})
    return found


def _plus(sums: list[int], channels: np.ndarray) -> list[int]:
    before = sums or [0] * len(channels)
    return [s + int(c) for s, c in zip(before, channels, strict=True)]
