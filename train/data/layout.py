"""Layout: which folder of a set of pictures is which split, where each class is a folder."""

import collections
import difflib
import os
import pathlib
from typing import NamedTuple

from train.data.listing import entries, holds_pictures, left_behind, loose, subfolders
from train.data.said import counted, few
from train.data.split_names import WORDS, roles, says_nothing
from train.legible import legible
from train.refusal import Refused

DEEP = 6
"""Levels that a path which is probably meant is looked for."""


class Layout(NamedTuple):
    """Where the splits of a set are."""

    splits: dict[str, pathlib.Path]
    """Split -> the folder of its classes; "train" is among them."""
    notes: tuple[str, ...]
    """What is not used, or taken for something that it may not be, in lines."""


def layout(root: pathlib.Path) -> Layout:
    """The folder of each split: `root/train/CLASS/...`, or `root` itself as "train" alone.

    A folder of a split holds folders with pictures, or a folder of its own name that does. A class
    may be called "train": its folder holds no folders.

    Raises:
        Refused: there is no such folder, two folders are the same split, splits without a training
            split or without class folders, or splits below what would be a class.
    """
    check_folder(f"folder={str(root)!r}", root)
    folders = subfolders(root)
    meant = roles(path.name for path in folders)
    found: dict[str, list[pathlib.Path]] = collections.defaultdict(list)
    bare = {}
    for path in folders:
        if path.name in meant:
            inner = _entered(path)
            if _has_classes(inner, meant[path.name]):
                found[meant[path.name]].append(inner)
            else:
                bare[path] = meant[path.name]
    if not found:
        return Layout({"train": root}, _alone(root, folders, bare))
    splits = {}
    for split in WORDS:
        paths = found[split]
        if len(paths) > 1:
            raise Refused(
                f"folder={str(root)!r} has {len(paths)} folders of the {split} split: "
                f"{few([_below(root, path) for path in paths])}; move one away"
            )
        if paths:
            splits[split] = paths[0]
    if "train" not in splits:
        has = few([_below(root, path) for path in splits.values()])
        without = "".join(f"; {line.rstrip('.')}" for line in _bare(bare))
        raise Refused(
            f"folder={str(root)!r} has no training split: no {root / 'train' / 'CLASS'}; it has "
            f"{has}{without}"
        )
    if _splits_in(splits["train"]):
        raise Refused(_below_classes(root, splits["train"]))
    return Layout(splits, (*_unused(root, meant), *_bare(bare), *_same(splits)))


def check_folder(asked: str, path: pathlib.Path) -> None:
    """See that there is such a folder.

    Args:
        asked: what was asked, as `field='value'`.
        path: the folder that it means.

    Raises:
        Refused: there is none.
    """
    if not path.is_dir():
        raise Refused(f"{asked}: {nearest(path)}")


def nearest(path: pathlib.Path) -> str:
    """Of a path that is no folder, for a message: the part at fault, and a name that is near."""
    whole = path.absolute()
    above = next(folder for folder in whole.parents if folder.is_dir())
    at_fault = above / whole.relative_to(above).parts[0]
    said = legible(str(at_fault))
    if at_fault.exists():
        packed = at_fault.suffix.lower() in (".zip", ".tar", ".gz", ".tgz", ".rar", ".7z", ".xz")
        return f"{said} is a file, no folder{'; unpack it' if packed else ''}"
    if at_fault.is_symlink():
        return f"{said} is a link to nothing"
    names = {each.name.casefold(): each.name for each in subfolders(above)}
    near = difflib.get_close_matches(at_fault.name.casefold(), names, n=3, cutoff=0.6)
    hint = f"; nearest: {few([str(above / names[name]) for name in near])}" if near else ""
    what = "file or folder" if at_fault == whole and whole.suffix else "folder"
    return f"there is no {what} {said}{hint}"


def meant_instead(root: pathlib.Path) -> pathlib.Path | None:
    """The folder that is probably meant where `root` is none of several classes: one below it that
    holds all its pictures, or the one above it where `root` is a class.
    """
    path = root
    for _ in range(DEEP):
        inside = [each for each in subfolders(path) if holds_pictures(each)]
        if len(inside) != 1:
            break
        path = inside[0]
        if _count(path) > 1:
            return path
    above = root.resolve().parent
    if above.parent == above or not loose(root):
        return None
    # Only a level deep: it may be anything, such as somebody's home.
    beside = subfolders(above)
    return above if len(beside) > 1 and all(map(loose, beside)) else None


def instead(root: pathlib.Path) -> str:
    """The same, for the end of a message."""
    path = meant_instead(root)
    return "" if path is None else f"; is folder:{legible(str(path))} meant?"


def _count(root: pathlib.Path) -> int:
    """Classes to train on."""
    try:
        return sum(map(holds_pictures, subfolders(layout(root).splits["train"])))
    except Refused:
        return 0


def _entered(path: pathlib.Path) -> pathlib.Path:
    """`path`, or the folder in it where it holds that alone, of the same name."""
    inside = subfolders(path)
    same = len(inside) == 1 and inside[0].name.casefold() == path.name.casefold()
    return inside[0] if same and not loose(path) else path


def _has_classes(path: pathlib.Path, role: str) -> bool:
    """Whether the folder of a split holds folders of pictures, one a class.

    One folder with a name that says nothing, as in test/images, is no class but of a split to
    train on, where it is refused as the only one.
    """
    held = [each.name for each in subfolders(path) if holds_pictures(each)]
    if role == "train" or len(held) != 1:
        return bool(held)
    return not says_nothing(held[0])


def _alone(
    root: pathlib.Path, folders: list[pathlib.Path], bare: dict[pathlib.Path, str]
) -> tuple[str, ...]:
    """Notes of a set that is not split.

    Raises:
        Refused: it is, but not as it is read.
    """
    held = [path for path in folders if holds_pictures(path)]
    split = [path for path in held if path in bare]
    called = {bare[path] for path in split}
    if split and (split == held or ("train" in called and len(called) > 1)):
        names, first = few([path.name for path in split]), split[0]
        raise Refused(
            f"folder={str(root)!r}: {names} hold{'s' * (len(split) == 1)} pictures and no folders, "
            f"one a class: wanted are {first / 'CLASS'}/*.jpg, or {root / 'train' / first.name} "
            "where that is a class"
        )
    for path in split:
        if bare[path] == "test":
            raise Refused(
                f"folder={str(path)!r} holds pictures and no folders: if it is a class, move all "
                f"classes to {root / 'train'}; if it is the test split, move it away"
            )
    divided = [path for path in held if _divided(path)] if len(held) > 1 else []
    if divided:
        raise Refused(_below_classes(root, divided[0]))
    return tuple(
        f"{legible(str(path))} holds pictures and no folders: it is taken for a class, not for the "
        f"{bare[path]} split."
        for path in split
    )


def _divided(path: pathlib.Path) -> bool:
    """Whether a folder holds a training split and another, by their names."""
    inside = {*roles(each.name for each in subfolders(path)).values()}
    return "train" in inside and len(inside) > 1


def _splits_in(path: pathlib.Path) -> bool:
    """Whether it holds these with class folders, so that it is a set of its own."""
    try:
        return _divided(path) and len(layout(path).splits) > 1
    except Refused:
        return False


def _below_classes(root: pathlib.Path, path: pathlib.Path) -> str:
    """Why a set is refused whose splits lie in `path`, which would be a class, or split again."""
    inside = f"folder={str(root)!r} has splits inside {_below(root, path)!r}"
    if _splits_in(path):
        return f"{inside}; is folder:{legible(str(path))} meant?"
    return f"{inside}; wanted: {root / 'train' / path.name}/*.jpg"


def _unused(root: pathlib.Path, meant: dict[str, str]) -> list[str]:
    """What lies beside the splits, in a line."""
    try:
        names = sorted(each.name for each in os.scandir(root) if each.is_dir())
    except OSError:
        names = []
    other = [name for name in names if name not in meant]
    other = sorted(other, key=left_behind)  # what the user knows first
    notes = []
    if other:
        notes.append(f"Not used, as no split: {few(other)} in {legible(str(root))}.")
    if pictures := loose(root):
        count = counted(len(pictures), "picture")
        notes.append(
            f"Not used: {count} in {legible(str(root))} itself, of no class: {few(pictures)}."
        )
    if lost := [entry.name for entry in entries(root) if not entry.there]:
        notes.append(f"Links to nothing in {legible(str(root))}: {few(lost)}.")
    return notes


def _bare(bare: dict[pathlib.Path, str]) -> list[str]:
    return [
        f"{legible(str(path))} has no folder with pictures, one a class: it is no {role} split."
        for path, role in bare.items()
    ]


def _same(splits: dict[str, pathlib.Path]) -> list[str]:
    """Splits that links lead to the same folder."""
    first: dict[str, str] = {}
    notes = []
    for split, path in splits.items():
        other = first.setdefault(os.path.realpath(path), split)
        if other != split:
            notes.append(f"{legible(str(path))} is the folder of the {other} split too, by a link.")
    return notes


def _below(root: pathlib.Path, path: pathlib.Path) -> str:
    return str(path.relative_to(root))
