"""A folder of images, a class a subfolder; split by folders above them, or not at all."""

import functools
import hashlib
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from train.data.class_files import ClassFiles, fixed
from train.data.decode import length, picture
from train.data.layout import instead, layout
from train.data.listing import Below, below, composed, entries, loose, subfolders
from train.data.said import counted, examples, few
from train.data.source import About, Example
from train.legible import legible
from train.refusal import Refused, choose


def folder(root: str | os.PathLike, split: str = "train", mirror: bool | None = None) -> "Folder":
    """A split of a folder of images.

    Classes are the subfolders of the training split by Unicode code point (of the composed form,
    NFC), the same on every machine and for every split. Images are all files below a class with
    one of `train.data.endings.ENDINGS`, and those without an ending that are pictures; hidden files
    and folders are left alone. A link to nothing that has such an ending counts, and is
    `Unreadable` when it is read, as a device or a pipe is: a part of the set must not be missing
    without a word. What else is left out is in `notes`.

    Args:
        root: as `train.data.layout.layout` takes it.
        split: one of those that it finds.
        mirror: whether a mirror image keeps its label; None: nobody has judged it.

    Raises:
        Refused: no such folder or split, a folder without classes, a class of the training split
            without an image, a class that the training split does not have, or pictures of a format
            that is not read; names it.
    """
    root = pathlib.Path(root)
    found, notes = layout(root)
    choose("split", split, found)
    names = _classes(root, found["train"])
    place = found[split]
    tops = [path.name for path in subfolders(place)]
    parts = dict(zip(tops, below(place, tops), strict=True))
    _check_formats(place, parts.values())
    bare = [top for top in tops if not parts[top].pictures]
    if split == "train" and bare:
        raise Refused(_without(place / bare[0], parts[bare[0]]) + instead(root))
    paths: list[str] = []
    labels: list[int] = []
    order = {name: label for label, name in enumerate(names)}
    for top in tops:
        if pictures := parts[top].pictures:
            paths += pictures
            labels += [_label(place / top, order, found["train"])] * len(pictures)
    about = About(
        name=composed(root.resolve().name), split=split, classes=tuple(names), mirror=mirror
    )
    notes = notes if split == "train" else ()
    notes += _left_out(place, parts.values(), [top for top in bare if composed(top) not in order])
    return Folder(place, paths, np.array(labels, np.int32), about, notes)


class Folder(ClassFiles):
    """Image files and their classes; a file that cannot be decoded is `Unreadable` when read."""

    def __getitem__(self, i: int) -> Example:
        return {"image": picture(self._root / self._paths[self._inside(i)], i), **self.truth(i)}

    @functools.cached_property
    def earlier_fingerprint(self) -> str:
        """As runs of 0.1 recorded it: without the sampled bytes."""
        digest = hashlib.sha256("\n".join(self.about.classes).encode(errors="surrogateescape"))
        for path, label in zip(self._paths, self.labels, strict=True):
            size = length(self._root / path)
            digest.update(b"\0%b\0%d\0%d" % (fixed(path), size, label))
        return digest.hexdigest()


def _classes(root: pathlib.Path, place: pathlib.Path) -> list[str]:
    """Names of the classes, composed, each once, in order."""
    names = [*dict.fromkeys(composed(path.name) for path in subfolders(place))]
    if not names:
        pictures = loose(place)
        has = f"{counted(len(pictures), 'picture')} ({few(pictures)}) and " if pictures else ""
        raise Refused(f"folder={str(place)!r} holds {has}no folder, one for a class{instead(root)}")
    return names


def _label(path: pathlib.Path, names: Mapping[str, int], train: pathlib.Path) -> int:
    """The class that a folder is of.

    Raises:
        Refused: the training split has none such.
    """
    name = composed(path.name)
    if name in names:
        return names[name]
    alike = [each for each in names if each.casefold() == name.casefold()]
    hint = f"; it has {alike[0]!r}" if alike else ""
    raise Refused(f"folder={str(path)!r} is a class that {str(train)!r} does not have{hint}")


def _without(path: pathlib.Path, part: Below) -> str:
    """Of a class that has no pictures, what it has."""
    if path.is_symlink() and part.again:
        return f"folder={str(path)!r} is a link to a folder that is taken already"
    holds = f"; it holds {examples(part.others)}" if part.others else ""
    return f"folder={str(path)!r} is a class without an image{holds}"


def _check_formats(place: pathlib.Path, parts: Iterable[Below]) -> None:
    """See that no picture would be left out.

    Raises:
        Refused: there are some of formats that are not read; names these.
    """
    unread = [path for part in parts for path in part.unread]
    if unread:
        raise Refused(
            f"folder={str(place)!r} holds pictures of formats that are not read: "
            f"{examples(unread)}; convert them, to PNG or JPEG say, or move them away"
        )


def _left_out(place: pathlib.Path, parts: Iterable[Below], bare: Sequence[str]) -> tuple[str, ...]:
    """What of a split's folder is not used, in lines."""
    parts, where = list(parts), legible(str(place))
    own = entries(place)
    entered = {path.name for path in subfolders(place)}
    others = [path for part in parts for path in part.others]
    lost = [entry.name for entry in own if not entry.there]
    lost += [path for part in parts for path in part.lost]
    again = [entry.name for entry in own if entry.folder and entry.name not in entered]
    again += [path for part in parts for path in part.again]
    pictures = loose(place)
    said = [
        (others, f"{counted(len(others), 'file')} in {where}, no picture: {examples(others)}"),
        (
            pictures,
            f"{counted(len(pictures), 'picture')} in {where} itself, of no class: {few(pictures)}",
        ),
        (bare, f"folders in {where} without a picture: {few(bare)}"),
        (again, f"links in {where} to folders that are taken already, or above: {few(again)}"),
    ]
    notes = [f"Not used: {line}." for some, line in said if some]
    if lost:
        notes.append(f"Links to nothing in {where}, which can't be read: {few(lost)}.")
    return tuple(notes)
