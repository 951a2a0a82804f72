"""Example: what a source gives, checked and brought to a shape in which examples stack."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from train.data.source import Example, Source
from train.data.subset import read
from train.refusal import Refused

TYPES = {"label": np.int32, "boxes": np.float32, "box_label": np.int32}
"""What the batch holds (`train.data.batch`); other keys keep the type that the source gives."""


class Shaper:
    """Makes every example of a source stack with its first.

    Pickles with its source, so that worker processes decode and check alike.
    """

    def __init__(self, source: Source, capacity: int | None):
        """Reads example 0.

        Args:
            source: at least one example.
            capacity: rows of `boxes` and of every `box_...` in a batch; None where the source
                has no boxes.

        Raises:
            Refused: an empty source, or example 0 is refused.
        """
        if not len(source):
            raise Refused(f"source={_name(source)} has no examples")
        self.source = source
        self.capacity = capacity
        self.first = {k: (v.shape, v.dtype) for k, v in self._complete(0, source[0]).items()}
        """Key -> (shape, type) of every example once completed."""

    def take(self, indices: Sequence[int]) -> list[Example]:
        """The examples at `indices`, boxes padded to the capacity and `box_valid` beside them.

        Raises:
            Refused: a label outside the classes, more boxes than capacity, an image of the wrong
                rank, or an example of other keys, shapes or types than the first.
        """
        given = read(self.source, indices)
        return [self._like_first(i, one) for i, one in zip(indices, given, strict=True)]

    def _like_first(self, i: int, given: Example) -> Example:
        example = self._complete(i, given)
        if example.keys() != self.first.keys():
            raise self._refused(i, f"has keys {sorted(example)}, example 0 {sorted(self.first)}")
        for key, value in example.items():
            shape, dtype = self.first[key]
            if value.shape != shape or value.dtype != dtype:
                raise self._refused(
                    i, f"has {key} {value.dtype}{value.shape}, example 0 {dtype}{shape}"
                )
        return example

    def _complete(self, i: int, given: Example) -> Example:
        example = {k: np.asarray(v, dtype=TYPES.get(k)) for k, v in given.items()}
        image = example.get("image")
        if image is not None and image.ndim != 3:
            raise self._refused(
                i, f"has image {image.shape}, which is not (height, width, channels)"
            )
        for key in ("label", "box_label"):
            self._check_labels(i, key, example)
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
            raise Refused(f"capacity=None, but {_name(self.source)} has boxes: say how many rows")
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
        return Refused(f"example {i} of {_name(self.source)} {what}")


def _name(source: Source) -> Any:
    return f"{source.about.name}/{source.about.split}"
