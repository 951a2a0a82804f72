"""Results: files of what is predicted: a line a picture as CSV or JSON, and pictures by name."""

import csv
import io
import itertools
import json
import os
import pathlib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

from PIL import Image

from train.files import Growing, write
from train.legible import legible
from train.refusal import Refused, choose

ENDINGS = (".csv", ".jsonl")


class Lines:
    """A file with a line a picture, each there as soon as it is known.

    CSV has a head, and names what is nested with a dot: "scores.cat". What can't be shown of a name
    is escaped as in `predictions.csv`, see `train.report.names.legible`. JSON keeps names as they
    are: bytes that are no UTF-8 are escaped as "\\udcff", which Python reads back.
    """

    def __init__(self, path: pathlib.Path):
        """What stood there before is gone.

        Raises:
            Refused: it ends otherwise, or its folder can't be made.
            WriteFailed: it can't be written.
        """
        choose("out ending", path.suffix.lower(), ENDINGS)
        folder(path.parent, "out")
        write(path, "")
        self.csv = path.suffix.lower() == ".csv"
        self._head = False
        self._file = Growing(path)

    def add(self, row: Mapping[str, Any]) -> None:
        """One line.

        Raises:
            WriteFailed: it can't be written.
        """
        if self.csv:
            flat = {legible(name): _cell(value) for name, value in _flat(row)}
            text = io.StringIO()
            table = csv.DictWriter(text, flat, lineterminator="\n")
            if not self._head:
                table.writeheader()
                self._head = True
            table.writerow(flat)
            line = text.getvalue()
        else:
            line = json.dumps(row, ensure_ascii=False) + "\n"
        self._file.add(line.encode("utf-8", "backslashreplace"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def save(
    picture: Image.Image, path: pathlib.Path, *, field: str = "pictures", **options: Any
) -> None:
    """A picture, whole or not at all, in the format that its name ends with; its folder is made.

    Args:
        picture: what is written.
        path: of the file.
        field: that asked for it.
        **options: of the format.

    Raises:
        Refused: the folder can't be made, or the name ends otherwise.
        WriteFailed: it can't be written; what stood there before stays.
    """
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind not in Image.SAVE:
        raise Refused(f"{field}={str(path)!r}: {path.suffix!r} is no ending of a picture's name")
    folder(path.parent, field)
    data = io.BytesIO()
    picture.save(data, kind, **options)
    write(path, data.getvalue())


def folder(path: pathlib.Path, field: str) -> None:
    """Make a folder.

    Raises:
        Refused: it can't be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"{field}={str(path)!r} can't be made: {error.strerror}") from None


def names(paths: Sequence[pathlib.Path]) -> list[pathlib.Path]:
    """A PNG's name each, below the folder that holds all of `paths`: no two are the same.

    "a/x.jpg" and "b/x.jpg" become "a/x.png" and "b/x.png"; "x.jpg" and "x.tif" of one folder become
    "x.png" and "x.tif.png". Where capitals or composed accents alone tell two apart, a number does.
    """
    whole = [pathlib.Path(os.path.abspath(path)) for path in paths]
    if not whole:
        return []
    root = os.path.commonpath([path.parent for path in whole])
    taken: set[str] = set()
    found = []
    for path in whole:
        for name in _candidates(path.relative_to(root)):
            key = unicodedata.normalize("NFC", str(name)).casefold()
            if key not in taken:
                taken.add(key)
                found.append(name)
                break
    return found


def _candidates(path: pathlib.Path) -> Iterator[pathlib.Path]:
    yield path.with_name(f"{path.stem}.png")
    yield path.with_name(f"{path.name}.png")
    for number in itertools.count(2):
        yield path.with_name(f"{path.name}-{number}.png")


def _cell(value: Any) -> Any:
    return legible(value) if isinstance(value, str) else value


def _flat(row: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
