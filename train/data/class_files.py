"""Files with a class each: what a folder of images and one of sounds have in common."""

import functools
import hashlib
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from train.data.listing import composed
from train.data.sampled import FORM, sampled
from train.data.source import About


class ClassFiles:
    """All of a source but `__getitem__`, which reads a file."""

    def __init__(
        self,
        root: pathlib.Path,
        paths: Sequence[str],
        labels: np.ndarray,
        about: About,
        notes: tuple[str, ...] = (),
    ):
        self.about = about
        self.labels = labels
        """(N,) int32."""
        self.notes = notes
        """What is left out of the set, in lines."""
        self._root = root
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def truth(self, i: int) -> dict[str, Any]:
        """The label of example i; the file is not opened."""
        return {"label": self.labels[self._inside(i)]}

    def name(self, i: int) -> str:
        """The file of example i."""
        return str(self._root / self._paths[self._inside(i)])

    @functools.cached_property
    def fingerprint(self) -> str:
        """`FORM` and a SHA-256: of the classes, and of every file its name below its root, label,
        size and sampled bytes (`train.data.sampled`). Where the set lies does not count.
        """
        digest = hashlib.sha256("\n".join(self.about.classes).encode(errors="surrogateescape"))
        files = sampled(os.path.join(self._root, path) for path in self._paths)
        for path, label, (size, content) in zip(self._paths, self.labels, files, strict=True):
            digest.update(b"\0%b\0%d\0%d\0%b" % (fixed(path), size, label, content))
        return FORM + digest.hexdigest()

    def _inside(self, i: int) -> int:
        if not 0 <= i < len(self._paths):
            raise IndexError(f"index {i} is outside 0..{len(self._paths) - 1}")
        return i


def fixed(path: str) -> bytes:
    """A name as it is on every system."""
    return composed(pathlib.Path(path).as_posix()).encode(errors="surrogateescape")
