"""A folder of images, a class a subfolder; split by folders above them, or not at all."""

import functools
import hashlib
import os
import pathlib
import unicodedata
from typing import Any

import numpy as np

from train.data.decode import length, picture
from train.data.source import About, Example
from train.refusal import Refused, choose

EXTENSIONS = (".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""What an image's name ends with, in any case; other files are left alone."""

SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}
"""Split -> the names of its folder."""


def splits(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """The folder of each split: `root/train/CLASS/...`, or `root` itself as "train" alone.

    A class may be called "train": its folder holds no folders.

    Raises:
        Refused: there is no such folder.
    """
    if not root.is_dir():
        raise Refused(f"folder={str(root)!r} is no folder; {nearest(root)}")
    found = {}
    for split, names in SPLITS.items():
        for path in (root / name for name in names):
            if split not in found and path.is_dir() and _classes(path):
                found[split] = path
    return found if "train" in found else {"train": root}


def folder(root: str | os.PathLike, split: str = "train", mirror: bool | None = None) -> "Folder":
    """A split of a folder of images.

    Classes are the subfolders of the training split by Unicode code point (of the composed form,
    NFC), the same on every machine and for every split. Images are all files below a class that
    `EXTENSIONS` names; hidden files and folders are left alone. A link to nothing counts, and is
    `Unreadable` when it is read, as a device or a pipe is: a part of the set must not be missing
    without a word.

    Args:
        root: as `splits` takes it.
        split: one of `splits(root)`.
        mirror: whether a mirror image keeps its label; None: nobody has judged it.

    Raises:
        Refused: no such folder or split, a folder without classes, a class without an image, or a
            class that the training split does not have; names it.
    """
    root = pathlib.Path(root)
    found = splits(root)
    choose("split", split, found)
    classes = {_composed(path.name): path for path in _classes(found["train"])}
    if not classes:
        raise Refused(
            f"folder={str(found['train'])!r} is empty: it holds no subfolder, a class each"
        )
    paths, labels = [], []
    names = [*classes]
    for path in _classes(found[split]):
        name = _composed(path.name)
        if name not in classes:
            raise Refused(
                f"folder={str(path)!r} is a class that {str(found['train'])!r} does not have"
            )
        images = _below(path)
        if not images:
            raise Refused(f"folder={str(path)!r} is a class without an image")
        paths += images
        labels += [names.index(name)] * len(images)
    about = About(
        name=_composed(root.resolve().name), split=split, classes=tuple(names), mirror=mirror
    )
    return Folder(found[split], paths, np.array(labels, np.int32), about)


class Folder:
    """Image files and their classes; a file that cannot be decoded is `Unreadable` when read."""

    def __init__(
        self, root: pathlib.Path, paths: list[pathlib.Path], labels: np.ndarray, about: About
    ):
        self.about = about
        self.labels = labels
        """(N,) int32."""
        self._root = root
        self._paths = [str(path.relative_to(root)) for path in paths]

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, i: int) -> Example:
        return {"image": picture(self._root / self._paths[self._inside(i)], i), **self.truth(i)}

    def truth(self, i: int) -> dict[str, Any]:
        """The label of example i; the file is not opened."""
        return {"label": self.labels[self._inside(i)]}

    def name(self, i: int) -> str:
        """The file of example i."""
        return str(self._root / self._paths[self._inside(i)])

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the classes and of every file's name below the split, size and label."""
        digest = hashlib.sha256("\n".join(self.about.classes).encode(errors="surrogateescape"))
        for path, label in zip(self._paths, self.labels, strict=True):
            name = _composed(pathlib.Path(path).as_posix()).encode(errors="surrogateescape")
            size = length(self._root / path)
            digest.update(b"\0%b\0%d\0%d" % (name, size, label))
        return digest.hexdigest()

    def _inside(self, i: int) -> int:
        if not 0 <= i < len(self._paths):
            raise IndexError(f"index {i} is outside 0..{len(self._paths) - 1}")
        return i


def nearest(path: pathlib.Path) -> str:
    """For a message: the part of a path that is at fault, and what it may have meant."""
    whole = path.absolute()
    above = next(folder for folder in whole.parents if folder.is_dir())
    name = whole.relative_to(above).parts[0]
    if (above / name).exists():
        return f"{above / name} is a file"
    try:
        choose(str(above), name, [entry.name for entry in _shown(above)])
    except Refused as refused:
        return str(refused)
    return f"{above / name} is a link to nothing"


def _composed(name: str) -> str:
    """File systems give accents composed or not; classes and order follow the composed form."""
    return unicodedata.normalize("NFC", name)


def _shown(path: pathlib.Path) -> list[pathlib.Path]:
    try:
        found = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        raise Refused(f"folder={str(path)!r} can't be listed: {error.strerror}") from None
    return sorted(found, key=lambda entry: (_composed(entry.name), entry.name))


def _classes(path: pathlib.Path) -> list[pathlib.Path]:
    return [entry for entry in _shown(path) if entry.is_dir()]


def _images(path: pathlib.Path) -> list[pathlib.Path]:
    return [
        entry
        for entry in _shown(path)
        if entry.name.lower().endswith(EXTENSIONS) and not entry.is_dir()
    ]


def _below(path: pathlib.Path) -> list[pathlib.Path]:
    """Every image below `path`: its own, then those of its subfolders; links to folders are left
    alone, since they may lead in a circle.
    """
    found = _images(path)
    for inner in _classes(path):
        if not inner.is_symlink():
            found += _below(inner)
    return found
