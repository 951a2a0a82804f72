"""Listing: what lies in a folder of pictures, each file once, and what of it is left out."""

import os
import pathlib
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from train.data.endings import ENDINGS, UNREAD, ending, is_one
from train.refusal import Refused

LEFT_BEHIND = frozenset(
    (
        "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r", "__macosx",
        "@eadir", "$recycle.bin", "system volume information", "lost+found", "__pycache__",
    )
)  # fmt: skip
"""Names, in lower case, of what systems leave in a folder; so is all whose name begins with "."."""


class Entry(NamedTuple):
    """Something in a folder."""

    name: str
    folder: bool
    """A folder, or a link to one."""
    link: bool
    there: bool
    """Not a link to nothing, or to itself."""
    file: bool
    """A file, or a link to one: no device and no pipe."""


class Below(NamedTuple):
    """What lies below a folder, as paths relative to where the search began, in order."""

    pictures: list[str]
    unread: list[str]
    """Pictures of formats that are not read."""
    others: list[str]
    """Files that are no pictures."""
    lost: list[str]
    """Links to nothing."""
    again: list[str]
    """Links to folders that are taken already, or lie above: not entered."""


def composed(name: str) -> str:
    """File systems give accents composed or not; classes and order follow the composed form."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def left_behind(name: str) -> bool:
    """Whether a file or folder is not the user's: hidden, or left there by a system."""
    return name.startswith(".") or name.lower() in LEFT_BEHIND


def entries(path: str | pathlib.Path) -> list[Entry]:
    """What a folder holds, by code point of the composed name, but for what is `left_behind`.

    Raises:
        Refused: it can't be listed.
    """
    try:
        with os.scandir(str(path)) as found:
            listed = [_entry(each) for each in found if not left_behind(each.name)]
    except OSError as error:
        raise Refused(f"folder={str(path)!r} can't be listed: {error.strerror}") from None
    return sorted(listed, key=lambda entry: (composed(entry.name), entry.name))


def subfolders(path: str | pathlib.Path) -> list[pathlib.Path]:
    """The folders in a folder, and those that its links lead to, but for those above it."""
    where = os.path.realpath(path)
    return [
        pathlib.Path(path, entry.name)
        for entry in entries(path)
        if entry.folder and not (entry.link and _above(os.path.join(path, entry.name), where))
    ]


def is_picture(path: str, entry: Entry) -> bool:
    """Whether a file counts as a picture that is read, whatever is in it: by the end of its name.

    Without an ending, by its content.
    """
    if entry.folder or ending(entry.name) or not entry.file:
        return not entry.folder and ending(entry.name) in ENDINGS
    return is_one(path)


def loose(path: str | pathlib.Path) -> list[str]:
    """Names of the pictures in a folder itself, read or not."""
    return [entry.name for entry in entries(path) if _stands_for_one(path, entry)]


def holds_pictures(path: str | pathlib.Path) -> bool:
    """Whether any lies below a folder, read or not."""
    seen = set()

    def any_in(path: str) -> bool:
        where = os.path.realpath(path)
        if where in seen:
            return False
        seen.add(where)
        own = any(_stands_for_one(path, entry) for entry in entries(path))
        return own or any(any_in(str(inner)) for inner in subfolders(path))

    return any_in(str(path))


def below(root: str | pathlib.Path, tops: Sequence[str]) -> Iterator[Below]:
    """What lies below each of some folders: the files of each folder, then those of its subfolders.

    Each folder is entered once, however many links lead there: from where it lies, else from the
    first link. So no circle of links is walked twice.

    Args:
        root: the folder that they lie in; paths are relative to it.
        tops: their names.

    Raises:
        Refused: a folder can't be listed.
    """
    root, above = str(root), os.path.realpath(root)
    listed: dict[str, list[Entry]] = {}
    taken: set[str] = set()

    def take(where: str) -> set[str]:
        """Folders of a tree that nothing else has taken yet, links aside; they are now."""
        taken.add(where)
        mine = {where}
        listed[where] = entries(where)
        for entry in listed[where]:
            inner = os.path.join(where, entry.name)
            if entry.folder and not entry.link and inner not in taken:
                mine |= take(inner)
        return mine

    def walk(path: str, where: str, mine: set[str], found: Below) -> None:
        for entry in listed[where]:
            name = os.path.join(path, entry.name)
            if not entry.there:
                found.lost.append(name)
            if entry.folder:
                continue
            if is_picture(os.path.join(where, entry.name), entry):
                found.pictures.append(name)
            elif ending(entry.name) in UNREAD:
                found.unread.append(name)
            elif entry.there:
                found.others.append(name)
        for entry in listed[where]:
            name, inner = os.path.join(path, entry.name), os.path.join(where, entry.name)
            if entry.folder and entry.link:
                follow(name, inner, where, found)
            elif entry.folder and inner in mine:
                walk(name, inner, mine, found)

    def follow(name: str, link: str, where: str, found: Below) -> None:
        target = os.path.realpath(link)
        if target in taken or _above(target, where):
            found.again.append(name)
        else:
            walk(name, target, take(target), found)

    real = {}
    for top in tops:
        if not os.path.islink(os.path.join(root, top)):
            real[top] = take(os.path.join(above, top))
    for top in tops:
        found = Below([], [], [], [], [])
        where = os.path.join(above, top)
        if top in real:
            walk(top, where, real[top], found)
        else:
            follow(top, where, above, found)
        yield found


def _entry(found: os.DirEntry[str]) -> Entry:
    link = found.is_symlink()
    if not link:
        folder, file = found.is_dir(follow_symlinks=False), found.is_file(follow_symlinks=False)
        return Entry(found.name, folder, False, True, file)
    return Entry(
        found.name,
        os.path.isdir(found.path),
        True,
        os.path.exists(found.path),
        os.path.isfile(found.path),
    )


def _stands_for_one(path: str | pathlib.Path, entry: Entry) -> bool:
    """Whether a file in a folder is a picture, read or not."""
    unread = not entry.folder and ending(entry.name) in UNREAD
    return unread or is_picture(os.path.join(path, entry.name), entry)


def _above(path: str, where: str) -> bool:
    """Whether a path leads to the real path `where`, or to a folder that it lies in."""
    target = os.path.realpath(path)
    return where == target or where.startswith(os.path.join(target, ""))
