"""The work directory of a run: its configuration, what it was given, what it found; as JSON."""

import dataclasses
import datetime
import itertools
import json
import os
import pathlib
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from train import encoding, files, processes
from train.refusal import Refused

Kind = TypeVar("Kind")

CONFIG, ABOUT, PROVENANCE, SUMMARY = (
    "config.json",
    "about.json",
    "provenance.json",
    "summary.json",
)
"""What a run leaves beside its checkpoints, logs and report."""

DIVERGED = "diverged.json"
"""Of a run that diverged: the step, and what was said."""

OF_START = ("workdir", "coordinator", "processes", "process_id")
"""Fields that belong to one start of a run, and are not kept: it may be moved, and go on alone."""

LONGEST = 60
"""Characters of the data's name in that of a run's directory; file systems take 255 bytes."""

PATTERN = "*?[\\"
"""Orbax looks for the parts of a checkpoint by a pattern that begins with the directory. With one
of these characters in its path it finds none, says nothing, and what it writes can't be read."""


def claim(experiment: str, data: str) -> pathlib.Path:
    """Make runs/<experiment>/<time>-<data>, which is nobody else's.

    Raises:
        Refused: it can't be made.
    """
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    name = f"{now}-{slug(data)}"
    for number in itertools.count(1):
        path = pathlib.Path("runs") / experiment.rpartition(".")[2] / name
        path = path if number == 1 else path.with_name(f"{name}-{number}")
        refuse_pattern(path)
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            if path.is_dir():
                continue
            raise Refused(f"workdir={str(path)!r} can't be made: a file is in the way") from None
        except OSError as error:
            raise Refused(f"workdir={str(path)!r} can't be made: {error.strerror}") from None
        break
    return path


def slug(data: str) -> str:
    """The name of a data set as part of a directory's; of a long path, its beginning and its end.

    >>> slug("emnist/letters:3.1.0")
    'emnist-letters-3.1.0'
    """
    name = re.sub("[^a-z0-9_.-]+", "-", data.lower()).strip("-.") or "data"
    return name if len(name) <= LONGEST else f"{name[: LONGEST // 3]}--{name[-LONGEST // 2 :]}"


def make(path: pathlib.Path) -> None:
    """Create it, and see that it can be written.

    Raises:
        Refused: it can't, or no checkpoint in it could be read.
    """
    refuse_pattern(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        # In containers several processes may have one number.
        probe = path / f".write-{processes.HERE.index}-{os.getpid()}"
        probe.write_text("")
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise Refused(f"workdir={str(path)!r} can't be written: {error.strerror}") from None


def refuse_pattern(path: pathlib.Path) -> None:
    """Refuse a directory, or one above it, of a name in which no checkpoint could be read."""
    odd = [c for c in str(path.absolute()) if c in PATTERN or "\ud800" <= c <= "\udfff"]
    if odd:
        raise Refused(
            f"workdir={str(path)!r}: checkpoints can't be kept below a directory with {odd[0]!r} "
            "in its name"
        )


def write(path: pathlib.Path, value: Any) -> None:
    """JSON, whole or not at all.

    Raises:
        train.files.WriteFailed: it can't be written.
    """
    files.write(path, json.dumps(encoding.plain(value), indent=2, allow_nan=False) + "\n")


def read(path: pathlib.Path, name: str) -> dict[str, Any] | None:
    """An object from a JSON file of a work directory; None where there is none.

    Raises:
        Refused: it can't be read, or is something else.
    """
    try:
        values = json.loads((path / name).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise Refused(f"workdir={str(path)!r}: {name} can't be read: {error}") from None
    if not isinstance(values, dict):
        raise Refused(f"workdir={str(path)!r}: {name} can't be read: it holds no object")
    return values


def decoded(path: pathlib.Path, name: str, kind: type[Kind]) -> Kind | None:
    """A dataclass from a JSON file of a work directory; None where there is none.

    Raises:
        Refused: it holds something else; names the field.
    """
    values = read(path, name)
    try:
        return None if values is None else encoding.decoded(kind, values)
    except encoding.Wrong as error:
        raise Refused(f"workdir={str(path)!r}: {name} holds a wrong value: {error}") from None


def experiment_of(path: pathlib.Path) -> str:
    """Name of the module that the run in `path` is one of.

    Raises:
        Refused: there is no run.
    """
    values = read(path, CONFIG)
    if values is None or not isinstance(name := values.get("experiment"), str):
        raise Refused(f"workdir={str(path)!r} holds no run: it has no {CONFIG} that names one")
    return name


def read_config(path: pathlib.Path, experiment: str, kind: type[Kind]) -> Kind | None:
    """The configuration of the run that lives in `path`; None where none does.

    Fields that were added to `kind` since take their defaults.

    Raises:
        Refused: it is another experiment's, or one of its values is none of today's.
    """
    values = read(path, CONFIG)
    if values is None:
        if (path / "checkpoints").is_dir() or (path / PROVENANCE).exists():
            raise Refused(f"workdir={str(path)!r} holds a run whose {CONFIG} is missing")
        return None
    name = values.pop("experiment", None)
    if name is None:
        raise Refused(f"workdir={str(path)!r}: {CONFIG} can't be read: it names no experiment")
    if name != experiment:
        raise Refused(f"workdir={str(path)!r} belongs to {name}, not to {experiment}")
    try:
        return encoding.decoded(kind, {**values, "workdir": str(path)})
    except (encoding.Wrong, Refused) as error:
        raise Refused(f"workdir={str(path)!r}: {CONFIG} holds a wrong value: {error}") from None


def write_config(path: pathlib.Path, experiment: str, config: Any) -> None:
    """The configuration, with the name of the module that readers import."""
    values = {**encoding.plain(config), **dict.fromkeys(OF_START)}
    write(path / CONFIG, {"experiment": experiment, **values})


def joined(
    path: pathlib.Path,
    provenance: dict[str, Any],
    *,
    goes_on: bool = True,
    earlier: Callable[[], Mapping[str, str]] = dict,
) -> dict[str, Any]:
    """What the run is made of; of a run that goes on, under `resumed`, beside what it began as.

    Args:
        path: where a run may live.
        provenance: of this process.
        goes_on: whether the run has a checkpoint; else it begins again.
        earlier: as `refuse_other_data` takes it.

    Raises:
        Refused: as `refuse_other_data`.
    """
    refuse_other_data(path, provenance["data"], earlier)
    first = read(path, PROVENANCE)
    if first is None or not goes_on:
        return provenance
    return {**first, "resumed": [*records(first)[1:], provenance]}


def refuse_other_data(
    path: pathlib.Path, data: Mapping[str, str], earlier: Callable[[], Mapping[str, str]] = dict
) -> None:
    """A run goes on with its data alone, wherever these lie by now.

    Args:
        path: where a run may live.
        data: split -> fingerprint.
        earlier: gives the same in the form that earlier versions recorded, where that was another;
            asked only where `data` are not the recorded ones.

    Raises:
        Refused: a fingerprint is not the one that was recorded last; names the splits.
    """
    first = read(path, PROVENANCE)
    if first is None:
        return
    if first.get("data") is None:
        raise Refused(
            f"workdir={str(path)!r}: {PROVENANCE} does not say which data the run began with"
        )
    # The newest form, once a run that began with an earlier one has gone on.
    began = [one.get("data") for one in records(first) if one.get("data")][-1]
    if began == data:
        return
    if not isinstance(began, dict):
        began = {}
    before = earlier()
    differ = [
        split
        for split in dict.fromkeys((*began, *data))
        if split not in began or began[split] not in (data.get(split), before.get(split))
    ]
    if differ:
        raise Refused(
            f"workdir={str(path)!r} began with other data: the files of {', '.join(differ)}, or "
            f"what is in them, are not what {PROVENANCE} recorded"
        )


def records(first: dict[str, Any]) -> list[dict[str, Any]]:
    """What provenance says of the process that began a run, and of those that went on with it."""
    found = first.get("resumed", [])
    found = found if isinstance(found, list) else []
    return [first, *(one for one in found if isinstance(one, dict))]


def refuse_changes(path: pathlib.Path, earlier: Any, config: Any, runtime: Collection[str]) -> None:
    """A resumed run may change its runtime fields alone.

    Raises:
        Refused: shows the other fields that differ.
    """
    names = [field.name for field in dataclasses.fields(config) if field.name not in runtime]
    differ = [
        f"{name}: {getattr(earlier, name)!r} there, {getattr(config, name)!r} asked"
        for name in names
        if getattr(earlier, name) != getattr(config, name)
    ]
    if differ:
        starts = f", from these weights with --init-from {path}" if "init_from" in names else ""
        raise Refused(
            f"workdir={str(path)!r} holds a run of another config: {'; '.join(differ)} "
            f"(a run that goes on may change {', '.join(sorted(runtime))} alone; for a longer or "
            f"another one, begin a new run{starts})"
        )
