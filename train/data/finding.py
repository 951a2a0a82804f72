"""Finding: from files, folders and patterns on a command line to the pictures that are meant."""

import difflib
import glob
import os
import pathlib
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from train.data.endings import ENDINGS, ending
from train.refusal import Refused


class Found(NamedTuple):
    """What was found.

    Attributes:
        pictures: files in the order asked; those of a folder by name, then those of its subfolders.
            One that was asked for twice is there once.
        others: files of the folders that are no pictures by their names.
    """

    pictures: list[pathlib.Path]
    others: list[pathlib.Path]


def find(inputs: Sequence[str], apart: Collection[pathlib.Path] = ()) -> Found:
    """The pictures that are asked for.

    Args:
        inputs: files, of any name; folders, with all that is below them; patterns such as
            "photos/*.jpg", "**" for any number of folders. In folders, hidden files are left alone,
            and a folder to which a link leads is entered once.
        apart: folders below them that are not entered: what is written there is no input.

    Raises:
        Refused: there is no such file, or no picture at all.
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
            for file in _below(path, entered, closed):
                if ending(file.name) in ENDINGS:
                    pictures.setdefault(os.path.abspath(file), file)
                else:
                    others.append(file)
    if not inputs:
        raise Refused("input: no picture, folder or pattern is named")
    if not pictures:
        left = f"; its {len(others)} files are none by their names" if others else ""
        raise Refused(f"input={', '.join(map(repr, inputs))} holds no picture{left}")
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
) -> Iterator[pathlib.Path]:
    """Files of a folder, then those of its subfolders that are not closed."""
    real = os.path.realpath(folder)
    if real in entered:
        return
    entered.add(real)
    try:
        there = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise Refused(f"input={str(folder)!r} can't be listed: {error.strerror}") from None
    yield from (path for path in there if not path.is_dir())
    for path in there:
        if path.is_dir() and os.path.realpath(path) not in closed:
            yield from _below(path, entered, closed)
