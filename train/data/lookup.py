"""Files by the names that lists give them: the ending may be left out, and the case be another."""

import os
import pathlib
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Sequence

from train.data.decode import length

Index = dict[tuple[bool, bool, str], list[str]]
"""(whether case tells names apart, whether the ending belongs to it, name) -> entries."""


class Lookup:
    """The files below a folder whose names end in one of some ways; a folder is listed once."""

    def __init__(self, root: pathlib.Path, endings: Collection[str]):
        """Lists nothing yet.

        Args:
            root: it need not be there.
            endings: in lower case, such as ".jpg".
        """
        self._root = root
        self._endings = tuple(sorted(endings))
        self._folders: dict[pathlib.Path, Index] = {}

    def find(self, name: str) -> list[pathlib.Path]:
        """The files that a name means, in order; [] if there is none.

        That is the file of this very name, ending included; else those of this name and an ending;
        else, both again, those whose names differ by case alone, by how accents are composed, or by
        the slash. Which of several it is, is not for this to say.
        """
        exact = self._root / name
        if self.bare(name) != name and length(exact) >= 0:
            return [exact]
        above, slash, last = name.replace("\\", "/").rpartition("/")
        folders = [self._root / above] if slash else [self._root]
        if slash and not os.path.isdir(folders[0]):
            folders = _folders(self._root, above.split("/"))
        for cased in (True, False):
            for ended in (True, False):
                found = [
                    folder / entry
                    for folder in folders
                    for entry in self._index(folder).get((cased, ended, _key(last, cased)), ())
                ]
                if found:
                    return found
        return []

    def bare(self, name: str) -> str:
        """A name without its ending, where that is one of these."""
        end = next((end for end in self._endings if name.lower().endswith(end)), "")
        return name[: len(name) - len(end)]

    def _index(self, folder: pathlib.Path) -> Index:
        if folder not in self._folders:
            index: Index = defaultdict(list)
            for entry in _entries(folder):
                bare = self.bare(entry)
                if bare != entry:
                    for cased in (True, False):
                        index[cased, True, _key(entry, cased)].append(entry)
                        index[cased, False, _key(bare, cased)].append(entry)
            self._folders[folder] = dict(index)
        return self._folders[folder]


def _key(name: str, cased: bool) -> str:
    return name if cased else unicodedata.normalize("NFC", name).casefold()


def _entries(folder: pathlib.Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (OSError, ValueError):  # there is none, or none can be of that name
        return []


def _folders(root: pathlib.Path, parts: Sequence[str]) -> list[pathlib.Path]:
    """The folders that a path below `root` means in another case."""
    found = [root]
    for part in parts:
        wanted = _key(part, cased=False)
        found = [
            folder / entry
            for folder in found
            for entry in _entries(folder)
            if _key(entry, cased=False) == wanted and os.path.isdir(folder / entry)
        ]
    return found
