"""Tables: many series in one file, CSV or `.npz`, read whole."""

import csv
import os
import pathlib
import zipfile
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from train.data.endings import ending
from train.data.said import few
from train.refusal import Refused, choose

LABELS = ("label", "class")
"""What the column of the class is called in a CSV file's header, in any case."""
TARGET = "target"
"""What the columns of numbers to predict are called, or begin with: "target", "target_2"."""
KEYS = ("signal", "length", "label", "target", "classes")
"""Arrays of an `.npz` file."""


class Table(NamedTuple):
    """What a file holds, a row an example.

    Attributes:
        signals: (l, C) numbers each.
        labels: names of classes, as the file writes them; None where it has none.
        targets: (N, K) float64; None where it has none.
        target_names: of the K; () where the file does not say.
        classes: all of them in order; () where the file does not say.
        names: where each row stands, for messages: "a.csv:3", "a.npz[2]".
    """

    signals: list[np.ndarray]
    labels: list[str] | None
    targets: np.ndarray | None
    target_names: tuple[str, ...]
    classes: tuple[str, ...]
    names: list[str]


def table(
    path: str | os.PathLike,
    want: str = "label",
    steps: int | None = None,
    classes: Collection[str] = (),
) -> Table:
    """The series in a file.

    CSV (.csv, .tsv, .txt): a line a series, cells divided by commas, semicolons, tabs or blanks.
    With a header, a column called as `LABELS` or `TARGET` say is that, and all others are the
    steps, in order; no line has more cells. Without one, the first cell is the label, or the
    target, as in the archive of UCR (Dau et al. 2019). A line may have empty cells at its end: its
    series is shorter. Other empty cells are NaN.

    `.npz`: `signal`, (N, L, C) or (N, L) numbers; where they are padded, `length`, (N,) integers;
    `label`, (N,) integers or text, with `classes`, their names, or without; or `target`, (N,) or
    (N, K) numbers.

    Args:
        path: the file.
        want: "label" or "target": what the first cell is where there is no header; "": nothing
            needs to be there.
        steps: of a series. Lines without a header that have as many cells have no label.
        classes: those that are known. Lines without a header have a label only if the first cell
            of each is one of them.

    Raises:
        Refused: no such file, a form that is not read, a cell that is no number, no series, or
            nothing of what is wanted; names the file and the line.
    """
    path = pathlib.Path(path)
    choose("ending", ending(path.name), READERS)
    try:
        found = READERS[ending(path.name)](path, want, steps, classes)
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror or error}") from None
    if not found.signals:
        raise Refused(f"{path} holds no series")
    if want and (found.labels if want == "label" else found.targets) is None:
        raise Refused(
            f"{path} has no {want}: a column of that name, or, without a header, the first cell of "
            "a line; in .npz an array"
        )
    return found


def _csv(path: pathlib.Path, want: str, steps: int | None, classes: Collection[str]) -> Table:
    lines = [(at, cells) for at, cells in _lines(path) if any(cells)]
    if not lines:
        return Table([], None, None, (), (), [])
    head = lines[0][1]
    if _is_header(head):
        columns = [cell.strip().casefold() for cell in head]
        label = next((k for k, name in enumerate(columns) if name in LABELS), None)
        targets = [k for k, name in enumerate(columns) if name.startswith(TARGET)]
        target_names = tuple(head[k].strip() for k in targets)
        _check_header(path, lines)
        lines = lines[1:]
    else:
        bare = steps is not None and all(len(cells) == steps for _, cells in lines)
        known = not classes or all(_plain(cells[0]) in classes for _, cells in lines)
        first = known and not bare
        label = 0 if first and want != "target" else None
        targets, target_names = ([0] if first and want == "target" else []), ()
    aside = {label, *targets}
    names = [f"{path}:{at}" for at, _ in lines]
    signals, labels, numbers = [], [], []
    for name, (_, cells) in zip(names, lines, strict=True):
        cells = [*cells, *[""] * (1 + max((k for k in aside if k is not None), default=-1))]
        values = [cell for k, cell in enumerate(cells) if k not in aside]
        while values and not values[-1]:
            values.pop()
        signals.append(_numbers(name, values)[:, None])
        if label is not None:
            if not cells[label]:
                raise Refused(f"{name} has no label")
            labels.append(_plain(cells[label]))
        numbers.append(_numbers(name, [cells[k] for k in targets]))
    return Table(
        signals,
        labels if label is not None else None,
        np.stack(numbers) if targets and numbers else None,
        target_names,
        (),
        names,
    )


def _lines(path: pathlib.Path) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of each line."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            start = next((line for line in file if line.strip()), "")
            divider = next((one for one in "\t;," if one in start), " ")
            file.seek(0)
            rows = csv.reader(file, delimiter=divider, skipinitialspace=divider == " ")
            for cells in rows:
                yield rows.line_num, [cell.strip() for cell in cells]
    except (UnicodeDecodeError, csv.Error) as error:
        raise Refused(f"{path} is no CSV file: {error}") from None


def _is_header(cells: Sequence[str]) -> bool:
    """Whether a first line names its columns: one as we do, or all behind the first are text.

    Numbers among text are a line of values with something wrong in it, such as "NA" or "1,5".
    """
    names = [cell.casefold() for cell in cells]
    ours = any(name in LABELS or name.startswith(TARGET) for name in names)
    behind = [cell for cell in cells[1:] if cell]
    numbers = [cell for cell in behind if _is_number(cell.replace(",", "."))]
    return ours or (bool(behind) and not numbers)


def _check_header(path: pathlib.Path, lines: Sequence[tuple[int, list[str]]]) -> None:
    """Refuses a header whose first column has no name, and lines that have more cells than it."""
    (top, head), *rest = lines
    if not head[0]:
        raise Refused(
            f"{path}:{top} gives its first column no name, as a table that is written with the "
            "numbers of its rows: leave these out"
        )
    for at, cells in rest:
        count = max((k for k, cell in enumerate(cells, start=1) if cell), default=0)
        if count > len(head):
            raise Refused(f"{path}:{at} has {count} cells, its header has {len(head)}")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _numbers(name: str, cells: Sequence[str]) -> np.ndarray:
    """(n,) float64; NaN of empty ones."""
    try:
        return np.array([cell or "nan" for cell in cells], np.str_).astype(np.float64)
    except ValueError:
        wrong = next(k for k, cell in enumerate(cells) if cell and not _is_number(cell))
        raise Refused(f"{name} has {cells[wrong]!r} as value {wrong + 1}, no number") from None


def _plain(label: str) -> str:
    """A class is the same whether it is written 1, 1.0 or 1.0000000e+00."""
    if label.isdecimal() or not _is_number(label):
        return label
    value = float(label)
    return str(int(value)) if value.is_integer() else label


def _npz(path: pathlib.Path, want: str, steps: int | None, classes: Collection[str]) -> Table:
    del want, steps, classes  # its arrays are named
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise Refused(f"{path} holds one array and no names: save it by numpy.savez")
            arrays = {key: file[key] for key in file.files if key in KEYS}
            others = [key for key in file.files if key not in KEYS]
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        # Where it is no archive at all, NumPy takes it for a pickle and advises to load that.
        why = "it is no archive" if "pickle" in str(error) else str(error)
        raise Refused(f"{path} is no .npz file that is read: {why}") from None
    if "signal" not in arrays:
        has = f"; it has {few(others)}" if others else ""
        raise Refused(f"{path} has no array 'signal'{has}")
    signal = arrays["signal"]
    signal = signal[..., None] if signal.ndim == 2 else signal
    if signal.ndim != 3 or signal.dtype.kind not in "iuf":
        raise Refused(
            f"{path}: signal is {signal.dtype} {signal.shape}; wanted: numbers (N, L, C) or (N, L)"
        )
    count, longest, channels = signal.shape
    if not channels:
        raise Refused(f"{path}: signal {signal.shape} has no channels")
    for key, value in arrays.items():
        if key != "classes" and len(np.atleast_1d(value)) != count:
            entries = len(np.atleast_1d(value))
            raise Refused(f"{path}: {key} has {entries} entries, signal has {count} rows")
    signals = [*signal]
    if "length" in arrays:
        length = arrays["length"]
        wrong = length.dtype.kind not in "iu" or length.ndim != 1
        if wrong or (count and not 0 <= length.min() <= length.max() <= longest):
            raise Refused(f"{path}: length is not (N,) integers in 0..{longest}")
        signals = [one[:n] for one, n in zip(signals, length, strict=True)]
    classes = _classes(path, arrays.get("classes", np.array([])))
    target = arrays.get("target")
    if target is not None:
        target = target[:, None] if target.ndim == 1 else target
        if target.ndim != 2 or target.dtype.kind not in "iuf":
            raise Refused(f"{path}: target is {target.dtype} {target.shape}; wanted: numbers")
    labels = None
    if "label" in arrays:
        labels = _names_of(path, arrays["label"], classes)
    names = [f"{path}[{i}]" for i in range(count)]
    return Table(signals, labels, target, (), classes, names)


def _classes(path: pathlib.Path, given: np.ndarray) -> tuple[str, ...]:
    names = tuple(map(str, given.ravel()))
    if given.ndim != 1 or len({*names}) < len(names):
        raise Refused(f"{path}: classes {few(names)} are not (K,) names, each once")
    return names


def _names_of(path: pathlib.Path, labels: np.ndarray, classes: Sequence[str]) -> list[str]:
    if labels.ndim != 1 or labels.dtype.kind not in "iuU":
        raise Refused(
            f"{path}: label is {labels.dtype} {labels.shape}; wanted: (N,) integers or text"
        )
    if not classes or labels.dtype.kind == "U":
        return [str(one) for one in labels]
    wrong = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if wrong.size:
        raise Refused(
            f"{path}[{wrong[0]}] has label {labels[wrong[0]]}, outside its {len(classes)} classes"
        )
    return [classes[one] for one in labels]


READERS = {".csv": _csv, ".tsv": _csv, ".txt": _csv, ".npz": _npz}
"""Ending -> what reads such a file."""
