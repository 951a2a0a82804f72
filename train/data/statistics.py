"""Statistics of a source: of its pixels' or steps' channels, and of its masks' classes."""

import dataclasses
import math
from typing import Any

import numpy as np

from train.data.batch import IGNORE
from train.data.gaps import Gaps
from train.data.reading import sound
from train.data.source import About, Example, Source
from train.data.typed import fault
from train.progress import working
from train.refusal import Refused

PIXELS = 2**26
"""A set of at most so many pixels, or steps, is measured whole: CIFAR, MNIST, Fashion-MNIST are."""
EXAMPLES = 2000
"""A larger set is measured by a sample of `PIXELS` pixels, but by at least so many examples."""
_TOGETHER = 256
_LARGE = 8
"""Examples read at once where they are of many shapes, and so may be large."""


def measure(
    source: Source, examples: int | None = None, gaps: Gaps | None = None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over pixels 0..255, or the real steps of signals.

    Sums over pixels are of integers and exact, so the order of reading does not matter; those over
    steps are in float64. The standard deviation is the biased one (over n); that of a constant
    channel is given as 1, so that it can divide.

    Args:
        source: examples with an `image`, uint8, or else a `signal`, with its `length` where it is
            padded.
        examples: how many to read, spread evenly over the source; by default all of a set of at
            most 2**26 pixels or steps, of a larger one a sample of that many, and at least 2,000
            examples.
        gaps: where examples that can't be read are noted, which then count for nothing; None: the
            first one is refused.

    Returns:
        (mean, std), a float a channel.

    Raises:
        Refused: fewer than one example asked for, none that can be read, or neither an image nor a
            signal in one.
        Unreadable: one can't be read, or holds NaN, where there are no gaps.
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
    about = source.about
    if examples is None:
        places = PIXELS if about.shape is None else math.prod(about.shape[:-1])
        examples = max(EXAMPLES, PIXELS // places)
    if examples < 1:
        raise Refused(f"examples={examples} is less than 1")
    count = min(examples, len(source))
    indices = [i * len(source) // count for i in range(count)]
    of_pixels, of_steps, channels = _Pixels(), _Steps(), 0
    classes = np.zeros(256, np.int64)
    together = _LARGE if about.shape is None else _TOGETHER
    with working(f"measuring {about.name}/{about.split}", count) as advance:
        for start in range(0, count, together):
            some = indices[start : start + together]
            examples_read, found = sound(source, some, None if gaps is None else gaps.found)
            if gaps is not None:
                gaps.add(found)
            for i, example in zip(some, examples_read, strict=True):
                if example is None:
                    continue
                values = _places(example, about)
                channels = channels or values.shape[-1]
                if values.shape[-1] != channels:
                    raise fault(
                        source, i, f"has {values.shape[-1]} channels, the first read {channels}"
                    )
                (of_steps if values.dtype.kind == "f" else of_pixels).add(values)
                if "mask" in example:
                    classes += np.bincount(example["mask"].ravel(), minlength=256)
            advance(len(some))
    if not of_pixels.count + of_steps.count:
        raise Refused(f"none of {count} examples of data={about.name!r} can be read")
    mean, spread = of_pixels.result() if of_pixels.count else of_steps.result()
    known = len(about.mask_classes)
    held = (*(int(n) for n in classes[:known]), int(classes[IGNORE])) if classes.any() else ()
    return mean, tuple(std or 1.0 for std in spread), held


def _places(example: Example, about: About) -> np.ndarray:
    """(n, C): an image's pixels, else a signal's real steps."""
    if "image" in example:
        image = example["image"]
        return image.reshape(-1, image.shape[-1])
    if "signal" in example:
        signal = example["signal"]
        return signal[: int(example.get("length", len(signal)))]
    raise Refused(f"data={about.name!r} has neither image nor signal; its keys: {[*example]}")


class _Pixels:
    """Exact sums of integers."""

    def __init__(self) -> None:
        self.count = 0
        self._sums: list[int] = []
        self._squares: list[int] = []

    def add(self, pixels: np.ndarray) -> None:
        """(n, C) integers."""
        pixels = pixels.astype(np.int64)
        self.count += len(pixels)
        self._sums = _plus(self._sums, pixels.sum(0))
        self._squares = _plus(self._squares, (pixels * pixels).sum(0))

    def result(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation a channel."""
        # Python's integers have no end; n * squares would pass 2**63.
        n, pairs = self.count, zip(self._sums, self._squares, strict=True)
        mean = tuple(s / n for s in self._sums)
        return mean, tuple(math.sqrt((n * q - s * s) / n**2) for s, q in pairs)


class _Steps:
    """Means and squares about them in float64, joined as Chan et al. 1983 do: none cancels."""

    def __init__(self) -> None:
        self.count = 0
        self._mean: Any = 0.0
        self._squares: Any = 0.0
        self._low: Any = math.inf
        self._high: Any = -math.inf

    def add(self, steps: np.ndarray) -> None:
        """(n, C), at least one."""
        steps = steps.astype(np.float64)
        mean, n = steps.mean(0), len(steps)
        whole = self.count + n
        apart = mean - self._mean
        self._squares += ((steps - mean) ** 2).sum(0) + apart**2 * (self.count * n / whole)
        self._mean += apart * (n / whole)
        self._low = np.minimum(self._low, steps.min(0))
        self._high = np.maximum(self._high, steps.max(0))
        self.count = whole

    def result(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation a channel; of one value exactly that value and 0."""
        constant = self._low == self._high  # which rounding would hide
        mean = np.where(constant, self._low, self._mean)
        std = np.where(constant, 0.0, np.sqrt(self._squares / self.count))
        return tuple(mean.tolist()), tuple(std.tolist())


def _plus(sums: list[int], channels: np.ndarray) -> list[int]:
    before = sums or [0] * len(channels)
    return [s + int(c) for s, c in zip(before, channels, strict=True)]
