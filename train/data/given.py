"""Given: signals in files and arrays, as a source of signals alone, as a run's data are."""

import hashlib
import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from train.data import wav
from train.data.decode import Unreadable
from train.data.endings import ending
from train.data.source import About, Example
from train.data.steps import placed
from train.data.tables import READERS, table
from train.data.wav_folder import ENDINGS
from train.refusal import Refused


class Row(NamedTuple):
    """A series of a file that holds many.

    Attributes:
        name: of the file and the line, "a.csv:3".
        path: what a file of its own would be called, "a-1.csv" of the first.
        values: (l, C).
    """

    name: str
    path: pathlib.Path
    values: np.ndarray


class Broken(NamedTuple):
    """A file of series that can't be read.

    Attributes:
        path: of the file.
        why: what is wrong.
    """

    path: pathlib.Path
    why: str


Signal = str | os.PathLike | np.ndarray | Row | Broken
"""A WAV file, (l, C) or (l,) numbers, a row of a file, or a file that can't be read."""


def is_signal_file(name: str, about: About) -> bool:
    """Whether a file of a folder counts as one of signals, by its name.

    Beside WAV files of sounds, tables and texts stand that say something of them.
    """
    return ending(name) in (ENDINGS if about.rate is not None else (*ENDINGS, *READERS))


def rows(files: Sequence[pathlib.Path], about: About) -> Iterator[pathlib.Path | Row | Broken]:
    """The signals in files, in order: WAV files as they are, of others each row.

    Args:
        files: WAV, CSV or `.npz`, see `train.data.tables.table`; labels and targets that they have
            are left out.
        about: of the run's data. Lines of CSV without a header have a label only if the first cell
            of each is one of its classes, and they have not as many cells as its signals steps.

    Raises:
        Refused: a file is of neither kind by its name.
    """
    assert about.shape is not None
    for path in files:
        if ending(path.name) in ENDINGS:
            yield path
            continue
        if ending(path.name) not in READERS:
            raise Refused(
                f"input={str(path)!r} is no file of signals: {', '.join((*ENDINGS, *READERS))}"
            )
        try:
            found = table(path, "", about.shape[0], about.classes)
        except Refused as refused:
            why = str(refused).removeprefix(str(path)).removeprefix(":").strip()
            yield Broken(path, re.sub(r"^(\d+) ", r"line \1 ", why))
            continue
        for k, (name, values) in enumerate(zip(found.names, found.signals, strict=True), start=1):
            yield Row(name, path.with_name(f"{path.stem}-{k}{path.suffix}"), values)


def values_of(signal: Signal, index: int, about: About) -> np.ndarray:
    """(l, C) numbers of one, for example `index`.

    Raises:
        Unreadable: a file can't be decoded, or has another rate than the run's.
        Refused: as `train.data.decode.content`.
    """
    if isinstance(signal, Row):
        return signal.values
    if isinstance(signal, Broken):
        raise Unreadable(str(signal.path), index, signal.why)
    if isinstance(signal, np.ndarray):
        return signal[:, None] if signal.ndim == 1 else signal
    values, rate = wav.sound(pathlib.Path(signal), index)
    if about.rate is not None and rate != about.rate:
        why = f"has {rate} steps a second; the run takes {about.rate}"
        raise Unreadable(str(signal), index, why)
    return values


class Signals:
    """A source of `signal`, and `length` where the run's data have it; what it does not fit is
    `Unreadable` when it is asked for.
    """

    def __init__(self, signals: Sequence[Signal], about: About):
        """Nothing is read yet.

        Args:
            signals: at least one.
            about: of the run's data.

        Raises:
            Refused: an array is no signal; names its place, type and shape.
        """
        self.about = About(
            "signals", "given", (), False, shape=about.shape, ragged=about.ragged, rate=about.rate
        )
        self._signals = [_checked(i, signal) for i, signal in enumerate(signals)]

    def __len__(self) -> int:
        return len(self._signals)

    def __getitem__(self, i: int) -> Example:
        try:
            return placed(values_of(self._signals[i], i, self.about), self.about)
        except ValueError as error:
            if isinstance(error, Refused):
                raise
            raise Unreadable(self.name(i) or f"signals[{i}]", i, str(error)) from None

    def truth(self, i: int) -> dict[str, Any]:
        """Nothing is known of them."""
        return {}

    def name(self, i: int) -> str | None:
        """The file of signal i, with its line where that holds many; None of an array."""
        signal = self._signals[i]
        if isinstance(signal, Row):
            return signal.name
        if isinstance(signal, Broken):
            return str(signal.path)
        return None if isinstance(signal, np.ndarray) else str(signal)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the names of the files, and of the arrays."""
        digest = hashlib.sha256()
        for i, one in enumerate(self._signals):
            digest.update(one.tobytes() if isinstance(one, np.ndarray) else b"")
            digest.update((self.name(i) or "").encode(errors="surrogateescape"))
        return digest.hexdigest()


def _checked(i: int, signal: Signal) -> Signal:
    if isinstance(signal, str | os.PathLike | Row | Broken):
        return signal
    values = np.asarray(signal)
    if values.ndim not in (1, 2) or values.dtype.kind not in "iuf" or 0 in values.shape:
        raise Refused(
            f"signals[{i}] is {values.dtype} {values.shape}; wanted: a WAV file, or numbers "
            "(steps, channels)"
        )
    return values
