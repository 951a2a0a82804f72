"""Inside: names in the files of a set, which must not lead out of its folder unless asked for.

Who made the files of a set writes what is read by who trains on it: a name such as "../../x.jpg" or
"/home/x.jpg" would be drawn into a report, copied, or digested.
"""

import os
import pathlib
from collections.abc import Iterable

from train.refusal import Refused


def refuse_outside(
    where: str, names: Iterable[str], base: pathlib.Path, folder: pathlib.Path
) -> None:
    r"""Refuse names that lead out of a folder, by "..", or since they are absolute.

    Args:
        where: the file that has the names, as messages call it.
        names: as they stand there; "\" is a slash, as in `train.data.lookup`.
        base: what they are relative to.
        folder: of the set. Links in it may lead anywhere: who made them may read it all.

    Raises:
        Refused: names the file and the name.
    """
    for name in names:
        slashed = name.replace("\\", "/")
        if not (".." in slashed or slashed.startswith("/") or os.path.isabs(name)):
            continue  # as nearly all are
        if not _inside(slashed, base, folder):
            raise Refused(
                f"{where} names {name!r}, which lies outside of {str(folder)!r}; "
                "--outside True takes it nevertheless"
            )


def _inside(name: str, base: pathlib.Path, folder: pathlib.Path) -> bool:
    """By its letters, and where it goes back by "..", also by what links on its way are."""
    path = os.path.abspath(base / name)
    written = [os.path.abspath(folder), os.path.realpath(folder)]
    if not any(_below(path, top) for top in written):
        return False
    if ".." not in name.split("/"):
        return True
    try:
        return _below(os.path.realpath(base / name), written[1])
    except ValueError:  # a zero byte
        return False


def _below(path: str, top: str) -> bool:
    return path == top or path.startswith(top.rstrip(os.sep) + os.sep)
