"""The work directory of a run: its configuration, what it was given, what it found; as JSON."""

import dataclasses
import datetime
import itertools
import json
import os
import pathlib
import re
from typing import Any, TypeVar

from train import files
from train.experiment import RUNTIME
from train.refusal import Refused

Config = TypeVar("Config")


def claim(experiment: str, data: str) -> pathlib.Path:
    """Make runs/<experiment>/<time>-<data>, which is nobody else's.

    Raises:
        Refused: it can't be made.
    """
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    name = f"{now}-{re.sub('[^a-z0-9_.-]+', '-', data.lower())}"
    for number in itertools.count(1):
        path = pathlib.Path("runs") / experiment.rpartition(".")[2] / name
        path = path if number == 1 else path.with_name(f"{name}-{number}")
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


def make(path: pathlib.Path) -> None:
    """Create it, and see that it can be written.

    Raises:
        Refused: it can't.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".write-{os.getpid()}"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise Refused(f"workdir={str(path)!r} can't be written: {error.strerror}") from None


def write(path: pathlib.Path, value: Any) -> None:
    """JSON, whole or not at all."""
    files.write(path, json.dumps(value, indent=2, allow_nan=False, default=plain) + "\n")


def plain(value: Any) -> Any:
    """What JSON has no form for."""
    if isinstance(value, pathlib.PurePath):
        return str(value)
    raise TypeError(f"{type(value).__name__} in a JSON file of the work directory")


def read_config(path: pathlib.Path, experiment: str, kind: type[Config]) -> Config | None:
    """The configuration of the run that lives in `path`; None where none does.

    Raises:
        Refused: it is another experiment's, or not one of today's.
    """
    file = path / "config.json"
    try:
        values = dict(json.loads(file.read_text()))
        name = values.pop("experiment")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refused(f"workdir={str(path)!r}: config.json can't be read: {error!r}") from None
    if name != experiment:
        raise Refused(f"workdir={str(path)!r} belongs to {name}, not to {experiment}")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if strange := sorted(set(values) ^ set(fields)):
        raise Refused(
            f"workdir={str(path)!r} was written by another version of {experiment}; "
            f"fields that differ: {', '.join(strange)}"
        )
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    try:
        return kind(**{**values, "workdir": path})
    except TypeError as error:
        raise Refused(f"workdir={str(path)!r}: config.json holds a wrong value: {error}") from None


def write_config(path: pathlib.Path, experiment: str, config: Any) -> None:
    """The configuration, with the name of the module that readers import."""
    values = {**dataclasses.asdict(config), "workdir": None}  # a run may be moved
    write(path / "config.json", {"experiment": experiment, **values})


def write_provenance(path: pathlib.Path, record: dict[str, Any]) -> None:
    """What the run was made of; of a run that goes on, under `resumed`, beside what it began as.

    Raises:
        Refused: it goes on with other data: a fingerprint is not the recorded one.
    """
    file = path / "provenance.json"
    if file.exists():
        try:
            first = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise Refused(f"workdir={str(path)!r}: {file.name} can't be read: {error}") from None
        if first["data"] != record["data"]:
            raise Refused(
                f"workdir={str(path)!r} began with other data: "
                f"{first['data']} there, {record['data']} here"
            )
        record = {**first, "resumed": [*first.get("resumed", []), record]}
    write(file, record)


def refuse_changes(path: pathlib.Path, earlier: Any, config: Any) -> None:
    """A resumed run may change its runtime fields alone.

    Raises:
        Refused: shows the other fields that differ.
    """
    names = [field.name for field in dataclasses.fields(config) if field.name not in RUNTIME]
    differ = [
        f"{name}: {getattr(earlier, name)!r} there, {getattr(config, name)!r} asked"
        for name in names
        if getattr(earlier, name) != getattr(config, name)
    ]
    if differ:
        raise Refused(
            f"workdir={str(path)!r} holds a run of another config: {'; '.join(differ)} "
            f"(a run that goes on may change {', '.join(sorted(RUNTIME))} alone)"
        )
