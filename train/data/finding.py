"""Finding: from files, folders and patterns on a command line to the files that are meant."""

import difflib
import glob
import os
import pathlib
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

from train.data.listing import Entry, entries, is_picture
from train.data.said import counted
from train.refusal import Refused


class Found(NamedTuple):
    """What was found.

    Attributes:
        pictures: files in the order asked; those of a folder by name, then those of its subfolders.
            One that was asked for twice is there once.
        others: files of the folders that do not count.
    """

    pictures: list[pathlib.Path]
    others: list[pathlib.Path]


def find(
    inputs: Sequence[str],
    apart: Collection[pathlib.Path] = (),
    counts: Callable[[str, Entry], bool] = is_picture,
    word: str = "picture",
) -> Found:
    """The pictures, or other files, that are asked for.

    Args:
        inputs: files, of any name; folders, with all that is below them; patterns such as
            "photos/*.jpg", "**" for any number of folders. In folders, hidden files are left alone,
            and a folder to which a link leads is entered once.
        apart: folders below them that are not entered: what is written there is no input.
        counts: (path, entry) -> whether a file of a folder is one that is looked for.
        word: what such a file is called.

    Raises:
        Refused: there is no such file, no picture at all, or a folder that can't be listed.
    """
    pictures: dict[str, pathlib.Path] = {}
    others: list[pathlib.Path] = []
    closed = {os.path.realpath(path) for path in apart}
    entered: set[str] = set()
    for given in inputs:
        for path in _named(given):
            if not path.is_dir():
                pictures.setdefault(os.path.abspath(path), path)
                continue
            for file, entry in _below(path, entered, closed):
                if counts(str(file), entry):
                    pictures.setdefault(os.path.abspath(file), file)
                else:
                    others.append(file)
    if not inputs:
        raise Refused(f"input: no {word}, folder or pattern is named")
    if not pictures:
        left = f"; it has {counted(len(others), 'other file')}" if others else ""
        raise Refused(f"input={', '.join(map(repr, inputs))} holds no {word}{left}")
    # One that is named counts, whatever the folder says of it.
    others = [file for file in others if os.path.abspath(file) not in pictures]
    return Found([*pictures.values()], others)


def _named(given: str) -> list[pathlib.Path]:
    """The one of that name, else all that the pattern fits."""
    path = pathlib.Path(os.path.expanduser(given))
    try:
        if given and os.path.lexists(path):
            return [path]
        if found := sorted(glob.glob(str(path), recursive=True)) if given else []:
            return [*map(pathlib.Path, found)]
        if glob.has_magic(given):
            raise Refused(f"input={given!r}: no file fits this pattern")
        hint = _hint(path) if given else ""
    except (OSError, ValueError) as error:  # too long a name, a zero byte
        why = getattr(error, "strerror", None) or error
        raise Refused(f"input={given!r} is no name of a file: {why}") from None
    raise Refused(f"input={given!r} does not exist{hint}")


def _hint(path: pathlib.Path) -> str:
    """What of a path is not there, and a name that is near."""
    whole = path.absolute()
    above = next(folder for folder in whole.parents if folder.is_dir())
    missing = whole.relative_to(above).parts[0]
    near = difflib.get_close_matches(missing, os.listdir(above), n=1, cutoff=0.6)
    return (
        f"; nearest: {str(above / near[0])!r}" if near else f"; {str(above)!r} has no {missing!r}"
    )


def _below(
    folder: pathlib.Path, entered: set[str], closed: Collection[str]
) -> Iterator[tuple[pathlib.Path, Entry]]:
    """Files of a folder, then those of its subfolders that are not closed."""
    real = os.path.realpath(folder)
    if real in entered:
        return
    entered.add(real)
    there = entries(folder)
    yield from ((folder / each.name, each) for each in there if not each.folder)
    for each in there:
        path = folder / each.name
        if each.folder and os.path.realpath(path) not in closed:
            yield from _below(path, entered, closed)
