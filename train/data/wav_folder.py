"""A folder of WAV files, a class a subfolder; split by folders above them, by lists, or not."""

import collections
import concurrent.futures
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from train.data import wav
from train.data.class_files import ClassFiles
from train.data.decode import Unreadable
from train.data.endings import ending
from train.data.listing import composed, entries, subfolders
from train.data.said import counted, examples, few
from train.data.source import About, Example
from train.data.split_names import roles
from train.data.steps import placed
from train.legible import legible
from train.progress import working
from train.refusal import Refused

ENDINGS = (".wav", ".wave")
UNREAD = (
    ".aac", ".aif", ".aifc", ".aiff", ".amr", ".au", ".flac", ".m4a", ".mp3", ".oga", ".ogg",
    ".opus", ".snd", ".w64", ".wma",
)  # fmt: skip
"""What the name of a sound ends with that is not read: it must not be missing unsaid."""
LISTS = {"test": "testing_list.txt", "validation": "validation_list.txt"}
"""Split -> the file beside the classes that names its own, as Speech Commands has them."""
THREADS = 4
"""A disk or a network answers several requests as fast as one."""


def wav_folder(root: str | os.PathLike) -> dict[str, "Sounds"]:
    """The splits of a folder of WAV files.

    `root/train/CLASS/*.wav`, likewise val and test, in any of the names that
    `train.data.split_names` knows; or `root/CLASS/*.wav`, which is "train" but for what the lists
    of Speech Commands name, where they are there (Warden 2018). Classes are those of the training
    split by code point, and sounds all files below a class with one of `ENDINGS`. Hidden files, and
    folders that begin with "_", such as `_background_noise_`, are left alone. What else is left out
    is in `notes`.

    Every header is read: signals have the shape of the longest of all splits.

    Args:
        root: the folder.

    Returns:
        Split -> source of `signal`, (L, C) float32 with -1 <= x < 1 of integers, `label`, and
        `length` where the files are of several.

    Raises:
        Refused: a folder without classes, one class, a class of the training split without a sound
            or one that it does not have, sounds in a format that is not read, files of several
            rates or numbers of channels; names it.
    """
    root = pathlib.Path(root)
    found = {split: [*_files(root, folder)] for split, folder in _split_folders(root).items()}
    names = _class_names(root, found)
    if list(found) == ["train"]:
        found = _listed(root, found["train"])
    files = [file for some in found.values() for file, _ in some]
    with working(f"reading the headers of {counted(len(files), 'file')}", after=1.0):
        headers = dict(zip(files, _headers([root / file for file in files]), strict=True))
    shape, ragged, rate = _form(root, headers)
    notes = _left_out(root)
    sources = {}
    for split, some in found.items():
        about = About(
            name=composed(root.resolve().name),
            split=split,
            classes=names,
            mirror=False,
            shape=shape,
            ragged=ragged,
            rate=rate,
        )
        labels = np.array([names.index(name) for _, name in some], np.int32)
        paths = [file for file, _ in some]
        sources[split] = Sounds(root, paths, labels, about, notes if split == "train" else ())
    return sources


class Sounds(ClassFiles):
    """WAV files and their classes; one that can't be decoded is `Unreadable` when it is read."""

    def __getitem__(self, i: int) -> Example:
        path = self._root / self._paths[self._inside(i)]
        signal, rate = wav.sound(path, i)
        if rate != self.about.rate:
            raise Unreadable(str(path), i, f"has {rate} steps a second; wanted: {self.about.rate}")
        try:
            return {**placed(signal, self.about), **self.truth(i)}
        except ValueError as error:
            raise Unreadable(str(path), i, str(error)) from None


def sounds_below(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """WAV files of a folder by name, then those of its subfolders; a folder is entered once.

    Raises:
        Refused: a folder can't be listed, or it holds sounds in a format that is not read.
    """
    unread = []
    for path in _below(folder, set()):
        if ending(path.name) in ENDINGS:
            yield path
        elif ending(path.name) in UNREAD:
            unread.append(str(path.relative_to(folder)))
    if unread:
        raise Refused(
            f"folder={str(folder)!r} holds sounds in formats that are not read: "
            f"{examples(unread)}; convert them to WAV, or move them away"
        )


def _below(folder: pathlib.Path, entered: set[str]) -> Iterator[pathlib.Path]:
    """All files, hidden ones aside."""
    real = os.path.realpath(folder)
    if real in entered:
        return
    entered.add(real)
    yield from (folder / each.name for each in entries(folder) if not each.folder)
    for inner in subfolders(folder):
        yield from _below(inner, entered)


def _classes(folder: pathlib.Path) -> list[pathlib.Path]:
    return [path for path in subfolders(folder) if not path.name.startswith("_")]


def _split_folders(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """Split -> the folder of its classes; `root` alone, as "train", where it has none."""
    folders = subfolders(root)
    meant = roles(path.name for path in folders)
    found: dict[str, pathlib.Path] = {}
    for path in folders:
        split = meant.get(path.name)
        if split is None or not any(any(sounds_below(one)) for one in _classes(path)):
            continue
        if split in found:
            raise Refused(
                f"folder={str(root)!r} has two folders of the {split} split: "
                f"{few([found[split].name, path.name])}; move one away"
            )
        found[split] = path
    if found and "train" not in found:
        has = few([path.name for path in found.values()])
        raise Refused(
            f"folder={str(root)!r} has no training split: no {root / 'train' / 'CLASS'}; it has "
            f"{has}"
        )
    if not found and (not _classes(root) or len(meant) == len(folders)):
        raise Refused(
            f"folder={str(root)!r} has no folder of a class with WAV files in it: wanted are "
            f"{root / 'CLASS'}/*.wav, or {root / 'train' / 'CLASS'}/*.wav"
        )
    return found or {"train": root}


def _files(root: pathlib.Path, folder: pathlib.Path) -> Iterator[tuple[str, str]]:
    """Path below `root`, and class, of each sound of a split.

    Raises:
        Refused: a class has none.
    """
    for each in _classes(folder):
        paths = [*sounds_below(each)]
        if not paths:
            raise Refused(f"folder={str(each)!r} is a class without a WAV file")
        for path in paths:
            yield str(path.relative_to(root)), composed(each.name)


def _class_names(
    root: pathlib.Path, found: Mapping[str, Sequence[tuple[str, str]]]
) -> tuple[str, ...]:
    """Of the training split, in order."""
    names = sorted({name for _, name in found["train"]})
    if len(names) == 1:
        raise Refused(
            f"data='wav:{root}' has one class, {names[0]!r}: nothing to tell apart; a folder for "
            "each class holds its files"
        )
    for file, name in (one for files in found.values() for one in files):
        if name not in names:
            raise Refused(f"{root / file} is of a class that the training split does not have")
    return tuple(names)


def _listed(root: pathlib.Path, files: list[tuple[str, str]]) -> dict[str, list[tuple[str, str]]]:
    """The splits that lists name, the rest as "train"."""
    of: dict[str, str] = {}
    for split, name in LISTS.items():
        if (root / name).is_file():
            lines = (root / name).read_text(encoding="utf-8", errors="replace").splitlines()
            of |= dict.fromkeys((line.strip() for line in lines), split)
    found = collections.defaultdict(list)
    for file, name in files:
        found[of.get(pathlib.Path(file).as_posix(), "train")].append((file, name))
    if not found["train"]:
        raise Refused(f"data='wav:{root}': its lists leave no file to train on")
    return dict(found)


def _headers(paths: Sequence[pathlib.Path]) -> Iterator[wav.Header | None]:
    """Of each file; None of one that can't be read, which reading it will say."""

    def one(path: pathlib.Path) -> wav.Header | None:
        try:
            return wav.header(path) if path.is_file() else None
        except (ValueError, OSError):
            return None

    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        yield from pool.map(one, paths)


def _form(
    root: pathlib.Path, headers: Mapping[str, wav.Header | None]
) -> tuple[tuple[int, int], bool, int]:
    """Shape of all signals, whether they are of several lengths, and their rate."""
    known = {file: header for file, header in headers.items() if header is not None}
    if not known:
        raise Refused(f"data='wav:{root}': none of its {len(headers)} WAV files can be read")
    for field, what in (("rate", "steps a second"), ("channels", "channels")):
        values = {file: getattr(header, field) for file, header in known.items()}
        usual = collections.Counter(values.values()).most_common(1)[0][0]
        other = next((file for file, value in values.items() if value != usual), None)
        if other is not None:
            first = next(file for file, value in values.items() if value == usual)
            raise Refused(
                f"data='wav:{root}' is of several {what}: {legible(other)} has {values[other]}, "
                f"{legible(first)} and most have {usual}; bring all to one"
            )
    one = next(iter(known.values()))
    lengths = {header.steps for header in known.values()}
    return (max(lengths), one.channels), len(lengths) > 1, one.rate


def _left_out(root: pathlib.Path) -> tuple[str, ...]:
    """What lies in the folder that is not used, in lines."""
    others = [
        str(path.relative_to(root))
        for path in _below(root, set())
        if ending(path.name) not in ENDINGS and path.name not in LISTS.values()
    ]
    aside = [path.name for path in subfolders(root) if path.name.startswith("_")]
    notes = []
    if others:
        files = counted(len(others), "file")
        notes.append(f"Not used: {files} in {legible(str(root))}, no WAV: {examples(others)}.")
    if aside:
        notes.append(f"Not used, as no class: {few(aside)} in {legible(str(root))}.")
    return tuple(notes)
