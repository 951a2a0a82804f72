"""A source over arrays in memory: any keys of a batch, checked once, at construction."""

import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from train.data import annotations
from train.data.batch import INPUTS
from train.data.source import About, Example
from train.refusal import Refused


class Arrays:
    """Examples that are the rows of arrays; what is read must not be written to.

    Args:
        arrays: key -> array whose leading axis is the example, or a sequence of one array an
            example where shapes vary (images of different sizes, `boxes`, `box_label`).
            `image`: (N, H, W, C) uint8; `signal`: (N, L, C) numbers, with `length`, (N,) integers,
            where they are padded, or (L, C) an example; `label`: (N,) integers; `target`: (N, K)
            numbers, or (N,) of one an example; `boxes` and `proposals`: (n, 4) float32 an example,
            inside its image; `box_label`: (n,) integers an example, `box_crowd`, `box_difficult`
            and `proposal_valid`: (n,) bool; `mask`: (N, H, W) integers, of its image's size.
        about: class names and the rest; labels are checked against its classes, masks against its
            mask classes, targets against its targets, images and signals against its shape where it
            has one.

    Raises:
        Refused: lengths differ, an image has the wrong rank, type or shape, a label or a mask's
            pixel is outside the classes, a box outside its image or without area; names the key,
            the index and the value. NaN in a signal or a target is the fault of its example alone,
            and found by who reads it (`train.data.typed`).
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
        annotations.check(self._values, about)

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


def _values(key: str, value: Any) -> annotations.Values:
    """An array stays one; anything else becomes a list of one array an example.

    So does an array of objects, which holds addresses and no values.
    """
    if isinstance(value, np.ndarray):
        if value.ndim == 0:
            raise Refused(f"{key}: an array without a leading axis of examples")
        if value.dtype.kind != "O":
            return value
        value = list(value)
    if not isinstance(value, Sequence):
        raise Refused(f"{key}: {type(value).__name__} is neither an array nor a sequence of them")
    parts = [_part(key, i, part) for i, part in enumerate(value)]
    return parts if any(part.ndim for part in parts) else np.asarray(value)


def _part(key: str, i: int, part: Any) -> np.ndarray:
    try:
        return np.asarray(part)
    except ValueError:
        raise Refused(f"{key}[{i}] has rows that differ in length; wanted: an array") from None
