"""Source: random access to examples, and what is known about them without reading any."""

import dataclasses
from typing import Any, Protocol

import numpy as np

from train.data.batch import IGNORE
from train.refusal import Refused

Example = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class About:
    """What a run must know about its data; written to the work directory as JSON.

    Attributes:
        name: of the data set, as a reader would cite it ("cifar10", "digits").
        split: "train", "validation", "test", or what the set itself calls it.
        classes: class names; `label` and `box_label` are indices into them.
        mirror: whether a mirror image keeps its label; None where nobody has judged it.
        shape: of every example's input, (height, width, channels) of an image or (steps, channels)
            of a signal; None where it varies.
        mean, std: statistics of each channel over the training pixels, 0..255, or over the steps of
            signals; None until measured (`train.data.statistics`).
        mask_classes: names of a mask's classes, at most 255; () where there is no mask.
        mask_pixels: in the training examples that were measured, of each of these classes, and of
            255, which is ignored; () until then.
        colours: (red, green, blue) 0..255 of each of them.
        ids: what the set's own files call its classes, where that is not their index (COCO).
        targets: names of what `target` holds, one a column; () where it has no names, or there is
            none.
        ragged: whether signals are of several lengths: `shape` is then that of the longest, and
            `length` says how many steps of each are no padding.
        rate: steps of a signal in a second; None where nobody knows, or time has no part in it.

    Raises:
        Refused: more mask classes than a mask can tell from 255.
    """

    name: str
    split: str
    classes: tuple[str, ...]
    mirror: bool | None
    shape: tuple[int, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    mask_classes: tuple[str, ...] = ()
    colours: tuple[tuple[int, int, int], ...] = ()
    ids: tuple[int, ...] = ()
    mask_pixels: tuple[int, ...] = ()
    targets: tuple[str, ...] = ()
    ragged: bool = False
    rate: int | None = None

    def __post_init__(self) -> None:
        if len(self.mask_classes) > IGNORE:
            raise Refused(
                f"data={self.name!r} declares {len(self.mask_classes)} mask classes; masks have "
                f"{IGNORE} at most"
            )


def classes_said(about: About) -> str:
    """How many classes there are, in words: "10 classes", "masks of 11 classes", "1 target"."""
    count = len(about.classes)
    said = [f"{count} {'class' if count == 1 else 'classes'}"] if count else []
    said += [f"masks of {len(about.mask_classes)} classes"] if about.mask_classes else []
    count = len(about.targets)
    said += [f"{count} {'target' if count == 1 else 'targets'}"] if count else []
    return ", ".join(said) or "no classes"


def extent_said(about: About) -> str:
    """What a network is given, in words: "28×28 grey images", "signals of 40 steps, 1 channel"."""
    if about.shape is None:
        return "examples of varying size"
    if len(about.shape) == 3:
        height, width, channels = about.shape
        return f"{height}×{width} {'grey' if channels == 1 else 'colour'} images"
    if len(about.shape) == 2:
        steps, channels = about.shape
        most = "up to " if about.ragged else ""
        rate = f", {about.rate:,} steps a second" if about.rate else ""
        return f"signals of {most}{steps} steps, {channels} channel{'s' * (channels != 1)}{rate}"
    return f"examples of shape {about.shape}"


def is_signals(about: About) -> bool:
    """Whether the examples are signals, which have a shape in any case."""
    return about.shape is not None and len(about.shape) == 2


class Source(Protocol):
    """Random access. Keys are those of the batch (`train.data.batch`), without the axis B.

    May also have, each optional:
        __getitems__(indices): several examples, where reading them at once is faster.
        labels: (N,) int32, where they are known without reading.
        name(i): the file of example i, for messages, the report's pictures and `predictions.csv`;
            None where it has none.
        clipped: index -> how many boxes were clipped to the image, of the examples that were read.
        empty: index -> how many boxes had no area, and were dropped, likewise.
        image_id(i): what the set's own file calls example i (COCO); None where it has no such file.
        notes: lines to be said as a run begins: what of the set is not used, or was assumed of it.
        earlier_fingerprint: as earlier versions recorded it, where that was another.
    """

    @property
    def about(self) -> About: ...

    @property
    def fingerprint(self) -> str:
        """Contents of in-memory sets; names, sizes and recorded checksums or samples of files."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, i: int) -> Example: ...

    def truth(self, i: int) -> dict[str, Any]:
        """The annotations of example i alone, in source pixels; no image is decoded."""
        ...


def notes(source: Source) -> tuple[str, ...]:
    """What is to be said of a set as a run begins, in lines."""
    return getattr(source, "notes", ())


def earlier_fingerprint(source: Source) -> str:
    """The fingerprint as earlier versions recorded it."""
    return getattr(source, "earlier_fingerprint", source.fingerprint)
