"""Said: names and numbers of files in a line of words."""

import collections
from collections.abc import Iterable, Sequence

from train.data.endings import ending
from train.legible import legible


def examples(paths: Iterable[str]) -> str:
    """Files in words, by their endings: "3 .txt (cat/a.txt), 1 .json (dog/b.json)"."""
    by_ending: dict[str, list[str]] = collections.defaultdict(list)
    for path in paths:
        by_ending[ending(path) or "without an ending"].append(path)
    often = sorted(by_ending.items(), key=lambda item: (-len(item[1]), item[0]))
    said = [f"{len(some):,} {ending} ({legible(some[0])})" for ending, some in often[:4]]
    rest = sum(len(some) for _, some in often[4:])
    return ", ".join(said) + (f" and {rest:,} others" if rest else "")


def few(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    rest = len(names) - 4
    return ", ".join(map(legible, names[:4])) + (f" and {rest:,} more" if rest > 0 else "")


def counted(count: int, word: str) -> str:
    """1 file, 2 files."""
    return f"{count:,} {word}{'s' * (count != 1)}"
