"""A source whose examples are made once and kept in files, page by page, as they are asked for.

A page is written beside its place and moved there when it is whole, and ends with a checksum that
is compared when it is opened: half a page is never taken for one, and processes that make the same
page at once end with equal files.
"""

import contextlib
import functools
import hashlib
import multiprocessing
import os
import pathlib
import secrets
import sys
import threading
import warnings
import zlib
from typing import Any

import numpy as np

from train.data.batch import KEYS, RAGGED
from train.data.places import at_home, temporary
from train.data.source import Example, Source
from train.data.subset import Through
from train.data.typed import fault
from train.progress import working

PAGE = 250
"""Examples in a file: of 96x96 scenes with masks, 9 MB."""
SOON = 0.5
"""Seconds after which it is said that a page is being made."""


def directory() -> pathlib.Path:
    """Where caches lie: SVERTKA_CACHE, or ~/.cache/svertka, see `train.data.places.at_home`."""
    given = os.environ.get("SVERTKA_CACHE")
    return pathlib.Path(os.path.expanduser(given)) if given else at_home(".cache/svertka")


class Cached(Through):
    """The examples of `source`, kept under `directory()` by its fingerprint; may be pickled.

    Where nothing can be written, a warning says so once and examples are made as they are read. One
    line says it where they are kept below the temporary directory, since there is no home.
    """

    def __init__(self, source: Source, row: np.dtype):
        """See the class.

        Args:
            source: its examples have fixed shapes, but for ragged keys (`train.data.batch`).
            row: a structure with a field for each key of an example. Of a ragged key it has room
                for as many rows as there may be, and a field that says how many there are,
                `KEY_count`, or `count` where only one kind of key is ragged: `count` of `boxes` and
                of every `box_...`.
        """
        super().__init__(source)
        self._row = row
        names = row.names or ()
        counts = {key: f"{key}_count" if f"{key}_count" in names else "count" for key in RAGGED}
        self._counts = {
            name: counts[KEYS[name].ragged]
            for name in names
            if name in KEYS and counts.get(KEYS[name].ragged) in names
        }
        """Field -> the one that says how many rows it has."""
        if len({KEYS[name].ragged for name, of in self._counts.items() if of == "count"}) > 1:
            raise ValueError(f"row={row.descr}: `count` is of one kind of key, and two have none")
        facts = (source.fingerprint, np.dtype(row).descr, PAGE)
        key = hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
        self._folder = directory() / f"{source.about.name}-{source.about.split}-{key}"
        self._pages: dict[int, np.ndarray] = {}
        self._writes = True
        self._said = False
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pages": {}, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def __getitem__(self, i: int) -> Example:
        if not 0 <= i < len(self):
            raise IndexError(f"index {i} is outside 0..{len(self) - 1}")
        page = self._page(i // PAGE)
        if page is None:
            return self._source[i]
        row = page[i % PAGE]
        keys = [key for key in self._row.names or () if key not in self._counts.values()]
        counts = {key: int(row[name]) for key, name in self._counts.items()}
        return {
            key: np.array(row[key][: counts[key]] if key in counts else row[key]) for key in keys
        }

    def truth(self, i: int) -> dict[str, Any]:
        """The annotations of example i, as the source makes them."""
        return self._source.truth(i)

    def _page(self, number: int) -> np.ndarray | None:
        if number in self._pages:
            return self._pages[number]
        with self._lock:  # threads that wait here find the page made
            if number not in self._pages:
                path = self._folder / f"{number:05}.page"
                found = self._open(path, number)
                if found is None and self._writes:
                    self._write(path, self._told(number))
                    found = self._open(path, number)
                if found is None:
                    return None
                self._pages[number] = found
            return self._pages[number]

    def _indices(self, number: int) -> range:
        return range(number * PAGE, min((number + 1) * PAGE, len(self)))

    def _told(self, number: int) -> np.ndarray:
        """As `_make`; the first time it is said what is made and where it is kept."""
        if self._said:
            return self._make(number)
        self._said = True
        about = self.about
        what = f"composing {about.name}/{about.split} (once: it is kept in {directory()})"
        with working(what, after=SOON):
            return self._make(number)

    def _make(self, number: int) -> np.ndarray:
        indices = self._indices(number)
        rows = np.zeros(len(indices), self._row)
        for i, row in zip(indices, rows, strict=True):
            for key, value in self._source[i].items():
                if key not in self._counts:
                    row[key] = value
                    continue
                room = len(row[key])
                if len(value) > room:
                    raise fault(self._source, i, f"has {len(value)} of {key}; its row has {room}")
                row[self._counts[key]] = len(value)
                row[key][: len(value)] = value
        return rows

    def _open(self, path: pathlib.Path, number: int) -> np.ndarray | None:
        """The page, read from disk as it is touched; None where there is no sound one."""
        size = len(self._indices(number)) * self._row.itemsize
        try:
            content = np.memmap(path, np.uint8, mode="r")
        except (OSError, ValueError):  # none, or empty
            return None
        if (
            content.size != size + 4
            or zlib.crc32(content[:size].data) != content[size:].view("<u4")[0]
        ):
            return None
        return content[:size].view(self._row)

    def _write(self, path: pathlib.Path, rows: np.ndarray) -> None:
        # Its own name in every process; `tempfile` would keep it from all other users.
        part = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        try:
            if path.is_relative_to(temporary()):
                temporary().mkdir(mode=0o700, exist_ok=True)
                say_temporary(self.about.name, temporary())
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(part, "xb") as file:
                content = rows.view(np.uint8)
                file.write(content.data)
                file.write(zlib.crc32(content.data).to_bytes(4, "little"))
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except OSError as error:
            self._writes = False
            with contextlib.suppress(OSError):
                part.unlink()
            warnings.warn(
                f"{self.about.name} is made anew as it is read, since it cannot be kept in "
                f"{self._folder}: {error}",
                stacklevel=2,
            )


@functools.cache
def say_temporary(name: str, folder: pathlib.Path) -> None:
    """One line in a process, and none in those that read for it."""
    if multiprocessing.parent_process() is None:
        print(
            f"{name} is kept in {folder}, since no home can be written; SVERTKA_CACHE names "
            "another place.",
            file=sys.stderr,
        )
