"""Time series in CSV or `.npz` files, an example a row: of classes, or with numbers to predict."""

import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from train.data.arrays import Arrays
from train.data.endings import ending
from train.data.layout import nearest
from train.data.listing import composed, entries
from train.data.said import few
from train.data.source import About
from train.data.split_names import roles
from train.data.tables import READERS, Table, table
from train.refusal import Refused


def series(path: str | os.PathLike, want: str = "label") -> dict[str, "Series"]:
    """The splits of a set of series.

    Args:
        path: a file, which is "train" alone; or a folder of files each of which is a split by its
            name: train.csv and test.csv, or GunPoint_TRAIN.tsv and GunPoint_TEST.tsv. What a file
            may hold: `train.data.tables.table`.
        want: "label" or "target".

    Returns:
        Split -> source of `signal`, (L, C) float32, of the longest of all splits, with `length`
        where they are of several; and `label` or `target`. NaN in a series makes its example
        `Unreadable`, with file and line.

    Raises:
        Refused: as `table`; no file of a split in the folder, or two of one; one class, a class
            that the training split does not have; series of several numbers of channels, or
            targets.
    """
    path = pathlib.Path(path)
    files = _splits(path)
    tables = {split: table(file, want) for split, file in files.items()}
    shape, ragged = _form(tables)
    classes = _classes(path, tables) if want == "label" else ()
    first = tables["train"]
    sources = {}
    for split, found in tables.items():
        about = About(
            name=composed(path.resolve().name),
            split=split,
            classes=classes,
            mirror=False,
            shape=shape,
            ragged=ragged,
            targets=_targets(first, found) if want == "target" else (),
        )
        sources[split] = Series(found, about, want)
    return sources


class Series(Arrays):
    """The rows of a file."""

    def __init__(self, rows: Table, about: About, want: str):
        assert about.shape is not None
        padded = np.zeros((len(rows.signals), *about.shape), np.float32)
        with np.errstate(over="ignore"):  # what becomes infinite is found by who reads it
            for i, signal in enumerate(rows.signals):
                padded[i, : len(signal)] = signal
        arrays = {"signal": padded}
        if about.ragged:
            arrays["length"] = np.array([*map(len, rows.signals)], np.int32)
        if want == "label":
            arrays["label"] = _labels(rows, about.classes)
        else:
            assert rows.targets is not None
            arrays["target"] = rows.targets
        super().__init__(arrays, about)
        self._names = rows.names

    def name(self, i: int) -> str:
        """File and line of example i."""
        return self._names[i]


def _splits(path: pathlib.Path) -> dict[str, pathlib.Path]:
    if path.is_file():
        return {"train": path}
    if not path.is_dir():
        raise Refused(f"data='series:{path}': {nearest(path)}")
    files = [each.name for each in entries(path) if ending(each.name) in READERS and each.file]
    meant = roles(pathlib.PurePath(name).stem for name in files)
    found: dict[str, pathlib.Path] = {}
    for name in files:
        split = meant.get(pathlib.PurePath(name).stem)
        if split in found:
            raise Refused(
                f"data='series:{path}' has two files of the {split} split: "
                f"{few([found[split].name, name])}; name one, or move one away"
            )
        if split is not None:
            found[split] = path / name
    if not found and len(files) == 1:
        return {"train": path / files[0]}
    if "train" not in found:
        has = f"it has {few(files)}" if files else f"it has none of {', '.join(READERS)}"
        raise Refused(f"data='series:{path}' has no file to train on, such as train.csv; {has}")
    return found


def _form(tables: Mapping[str, Table]) -> tuple[tuple[int, int], bool]:
    """Shape of all series, and whether they are of several lengths."""
    channels, first = tables["train"].signals[0].shape[1], tables["train"].names[0]
    lengths = set()
    for found in tables.values():
        for signal, name in zip(found.signals, found.names, strict=True):
            if signal.shape[1] != channels:
                raise Refused(f"{name} has {signal.shape[1]} channels, {first} has {channels}")
            lengths.add(len(signal))
    if not max(lengths):
        raise Refused(f"{first} has no steps, and no other series has")
    return (max(lengths), channels), len(lengths) > 1


def _classes(path: pathlib.Path, tables: Mapping[str, Table]) -> tuple[str, ...]:
    """By number where all are numbers, else by code point; those that a file names, as they are."""
    train = tables["train"]
    names: Sequence[str] = train.classes or sorted({*(train.labels or ())}, key=_order)
    if not all(_whole(name) for name in names) and not train.classes:
        names = sorted(names)
    if not train.classes and len(names) > len(train.signals) / 2 and any(map(_fraction, names)):
        raise Refused(
            f"data='series:{path}' has {len(names)} classes in {len(train.signals)} lines, such as "
            f"{few(names)}: without a header, the first cell of a line is its class"
        )
    if len(names) == 1:
        raise Refused(f"data='series:{path}' has one class, {names[0]!r}: nothing to tell apart")
    return tuple(names)


def _whole(name: str) -> bool:
    return name.removeprefix("-").isdecimal()


def _fraction(name: str) -> bool:
    """Whether a class is a number that is not whole: more likely a value."""
    try:
        return not float(name).is_integer()
    except ValueError:
        return False


def _order(name: str) -> tuple[int, str]:
    return (int(name), "") if _whole(name) else (0, name)


def _labels(rows: Table, classes: Sequence[str]) -> np.ndarray:
    known = {name: k for k, name in enumerate(classes)}
    assert rows.labels is not None
    for name, label in zip(rows.names, rows.labels, strict=True):
        if label not in known:
            raise Refused(f"{name} is of class {label!r}, which the training split does not have")
    return np.array([known[label] for label in rows.labels], np.int32)


def _targets(first: Table, found: Table) -> tuple[str, ...]:
    """Names of the columns, numbers where the file has none."""
    assert first.targets is not None
    assert found.targets is not None
    if first.targets.shape[1] != found.targets.shape[1]:
        raise Refused(
            f"{found.names[0]} has {found.targets.shape[1]} targets, {first.names[0]} has "
            f"{first.targets.shape[1]}"
        )
    return first.target_names or tuple(f"target_{k}" for k in range(first.targets.shape[1]))
