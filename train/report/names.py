"""Names of examples as people read them, by their files."""

import os
import pathlib
import unicodedata

from train.data.source import Source
from train.data.subset import file_of


def places(source: Source) -> list[str | None]:
    """What the file of each example is called, from the root of its data; None where it has none.

    The root is the folder that the set is named after, as folders of classes, COCO's and VOC's are:
    "test/cat/1.jpg" of an example in folder:/data/pets. Where none of the folders above all files
    has that name (the root is a link), it is the one above the folder that holds them all.
    """
    files = [file_of(source, i) for i in range(len(source))]
    known = [pathlib.PurePath(file) for file in files if file is not None]
    try:
        common = pathlib.PurePath(os.path.commonpath([path.parent for path in known]))
    except ValueError:  # no files, or some of them on another drive
        return [None if file is None else pathlib.PurePath(file).as_posix() for file in files]
    name = _composed(source.about.name)
    above = (one for one in (common, *common.parents) if _composed(one.name) == name)
    root = next(above, common.parent)
    below = (path.relative_to(root).as_posix() for path in known)
    return [None if file is None else next(below) for file in files]


def _composed(name: str) -> str:
    """File systems give accents composed or not."""
    return unicodedata.normalize("NFC", name)


def called(place: str | None, index: int) -> str:
    """An example in few words: the name of its file, or its number in the split."""
    return f"no. {index}" if place is None else pathlib.PurePosixPath(place).name
