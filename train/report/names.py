"""Names as people read them: of examples, by their files; of classes, in any bytes."""

import os
import pathlib
import unicodedata

from train.data.source import Source
from train.data.subset import file_of

TURNS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Characters that turn the direction of the text after them."""


def legible(text: str) -> str:
    r"""The text with what can't be shown escaped: a byte that is no UTF-8 as `\xe9`, a line's end.

    So it can be written as UTF-8, and drawn: control characters, halves of a pair and what turns
    the direction of the text are escaped as Python does. Everything else stays.
    """
    return "".join(map(_legible, text))


def _legible(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # how Python keeps a byte of a file name
        return f"\\x{ord(character) - 0xDC00:02x}"
    odd = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in TURNS
    if odd or ord(character) & 0xFFFE == 0xFFFE:  # the last two are no characters, XML has none
        return character.encode("unicode_escape").decode()
    return character


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
