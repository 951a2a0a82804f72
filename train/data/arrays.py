"""A source over arrays in memory: any keys of a batch, checked once, at construction."""

import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from train.data.source import About, Example
from train.refusal import Refused

INPUTS = ("image", "signal")
"""Keys that a network reads; the others are annotations, which `truth` gives alone."""

Values = np.ndarray | list[np.ndarray]


class Arrays:
    """Examples that are the rows of arrays; what is read must not be written to.

    Args:
        arrays: key -> array whose leading axis is the example, or a sequence of one array an
            example where shapes vary (images of different sizes, `boxes`, `box_label`).
            `image`: (N, H, W, C) uint8; `label`: (N,) integers; `boxes`: (n, 4) an example;
            `box_label`: (n,) an example.
        about: class names and the rest; labels are checked against its classes, images against
            its shape where it has one.

    Raises:
        Refused: lengths differ, an image has the wrong rank, type or shape, a label is outside
            the classes; names the key, the index and the value.
    """

    def __init__(self, arrays: Mapping[str, Any], about: About):
        if not arrays:
            raise Refused("arrays={} holds no key")
        self.about = about
        self._values = {key: _values(key, value) for key, value in arrays.items()}
        lengths = {key: len(value) for key, value in self._values.items()}
        if len(set(lengths.values())) > 1:
            said = ", ".join(f"{key} has {length}" for key, length in lengths.items())
            raise Refused(f"arrays differ in length: {said}")
        self._length = next(iter(lengths.values()))
        if not self._length:
            raise Refused(f"{next(iter(lengths))} holds no example")
        if "image" in self._values:
            _check_images(self._values["image"], about)
        if "label" in self._values:
            self._values["label"] = _labels(self._values["label"], len(about.classes))
        if "boxes" in self._values:
            _check_boxes(self._values["boxes"])
        if "box_label" in self._values:
            self._values["box_label"] = _box_labels(
                self._values["box_label"], self._values.get("boxes"), len(about.classes)
            )

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, i: int) -> Example:
        return self._row(i, self._values)

    def truth(self, i: int) -> dict[str, Any]:
        """The annotations of example i alone."""
        return self._row(i, [key for key in self._values if key not in INPUTS])

    @property
    def labels(self) -> np.ndarray:
        """(N,) int32: the label of every example.

        Raises:
            Refused: the set has no `label`.
        """
        if "label" not in self._values:
            raise Refused(f"data={self.about.name!r} has no label; its keys: {[*self._values]}")
        return np.asarray(self._values["label"])

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of keys, types, shapes and values in order; bytes count as little-endian."""
        digest = hashlib.sha256()
        for key in sorted(self._values):
            value = self._values[key]
            parts = [value] if isinstance(value, np.ndarray) else value
            digest.update(f"{key}:{'array' if parts[0] is value else len(parts)};".encode())
            for part in parts:
                little = np.ascontiguousarray(part, dtype=part.dtype.newbyteorder("<"))
                digest.update(f"{little.dtype.str}{part.shape};".encode())
                digest.update(little.tobytes())
        return digest.hexdigest()

    def _row(self, i: int, keys) -> dict[str, np.ndarray]:
        if not 0 <= i < self._length:
            raise IndexError(f"index {i} is outside 0..{self._length - 1}")
        return {key: np.asarray(self._values[key][i]) for key in keys}


def _values(key: str, value: Any) -> Values:
    """An array stays one; anything else becomes a list of one array an example."""
    if isinstance(value, np.ndarray):
        if value.ndim == 0:
            raise Refused(f"{key}: an array without a leading axis of examples")
        return value
    if not isinstance(value, Sequence):
        raise Refused(f"{key}: {type(value).__name__} is neither an array nor a sequence of them")
    if all(np.ndim(part) == 0 for part in value):
        return np.asarray(value)
    return [np.asarray(part) for part in value]


def _check_images(images: Values, about: About) -> None:
    wanted = "(height, width, channels)" if about.shape is None else str(about.shape)
    one = [images[0]] if isinstance(images, np.ndarray) else images
    for i, image in enumerate(one):
        if np.ndim(image) != 3:
            raise Refused(
                f"image[{i}] has rank {np.ndim(image)}, shape {np.shape(image)}; wanted: {wanted}"
            )
        if image.dtype != np.uint8:
            raise Refused(f"image[{i}] has type {image.dtype}; wanted: uint8, pixels 0..255")
        if about.shape is not None and image.shape != about.shape:
            raise Refused(f"image[{i}] has shape {image.shape}; wanted: {wanted}")


def _labels(labels: Values, classes: int) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise Refused(
            f"label has rank {labels.ndim}, type {labels.dtype}; wanted: one integer an example"
        )
    check_labels(labels, classes)
    return labels.astype(np.int32)


def check_labels(labels: np.ndarray, classes: int, key: str = "label", start: int = 0) -> None:
    """Refuses a label outside 0..classes - 1; JAX would wrap -1 to the last class.

    Args:
        labels: (N,) integers.
        classes: how many there are.
        key: what the message calls them.
        start: index of the first.

    Raises:
        Refused: names the first such index and its value.
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        i = int(wrong[0])
        raise Refused(
            f"{key}[{start + i}]={labels[i]} is outside the {classes} classes 0..{classes - 1}"
        )


def _check_boxes(boxes: Values) -> None:
    for i, rows in enumerate(boxes):
        if np.ndim(rows) != 2 or np.shape(rows)[1] != 4:
            raise Refused(f"boxes[{i}] has shape {np.shape(rows)}; wanted: (n, 4)")
        if rows.dtype != np.float32:
            raise Refused(f"boxes[{i}] has type {rows.dtype}; wanted: float32")


def _box_labels(labels: Values, boxes: Values | None, classes: int) -> list[np.ndarray]:
    for i, row in enumerate(labels):
        if np.ndim(row) != 1 or (row.dtype.kind not in "iu" and row.size):
            raise Refused(
                f"box_label[{i}] has rank {np.ndim(row)}, type {row.dtype}; "
                "wanted: one integer a box"
            )
        if boxes is not None and len(row) != len(boxes[i]):
            raise Refused(f"box_label[{i}] has {len(row)} rows, boxes[{i}] has {len(boxes[i])}")
        check_labels(row, classes, key=f"box_label[{i}]")
    return [row.astype(np.int32) for row in labels]
