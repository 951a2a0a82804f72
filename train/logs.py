"""Logs: the one place that prints and writes what a run measures.

| file in the work directory | content |
|---|---|
| `metrics.jsonl` | one JSON object a line, and a line a seed where there are several |
| `tensorboard/` | the same as TensorBoard events; `tensorboard/seed_3/` where there are several |

A line of training: `{"kind": "train", "step", "epoch", "seconds", ["seed"], <quantity>: number}`.
A line of evaluation: `{"kind": "evaluation", "split", "step", "seconds", ["seed"], <quantity>: …}`.
`seconds` is the wall time that the run has taken so far, its earlier parts included. A number that
is not finite is written as null.

Where a file can't be written, what logs raises `train.files.WriteFailed`, and the run ends there.
"""

import contextlib
import json
import math
import os
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console

from train import processes
from train.events import Events
from train.files import Growing, cause, write, writing
from train.metrics.quantities import EARLIER
from train.refusal import Refused
from train.terminal import Terminal, Value
from train.trackers import Track

METRICS = "metrics.jsonl"
RESERVED = {"kind", "split", "step", "epoch", "seconds", "seed"}


class Logs:
    """Prints and writes in process 0; in every other process it does nothing.

    Args:
        workdir: created where it is missing.
        steps: that the run will take, for the time left.
        resume_step: the step restored from a checkpoint: what earlier lines say of later steps is
            cut, and TensorBoard hides it. None: the run begins, and the lines and events that
            stood there are removed.
        console: to print to; the standard output by default.
        evaluated: whether the evaluation of `resume_step` had ended; else its lines are cut too.
        seeds: of a run of several, in the order of the lists that are logged.
        began: `time.monotonic()` when this process began to work on the run, so that its start-up
            counts; now by default.
        track: ("", or of several the folder of a seed; `say`) -> what is told the same, see
            `train.trackers`; or None.
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        *,
        steps: int,
        resume_step: int | None = None,
        evaluated: bool = True,
        console: Console | None = None,
        seeds: Sequence[int] | None = None,
        began: float | None = None,
        track: Track | None = None,
    ):
        self._began = time.monotonic() if began is None else began
        self._writes = processes.first()
        self._seeds = None if seeds is None else [int(seed) for seed in seeds]
        if not self._writes:
            return
        workdir = pathlib.Path(workdir)
        self._terminal = Terminal(console or Console(), steps)
        with writing(workdir):
            workdir.mkdir(parents=True, exist_ok=True)
        kept = -1 if resume_step is None else resume_step
        self._began -= _cut(workdir, kept, evaluated, self.say)
        if resume_step is None:
            for old in (workdir / "tensorboard").rglob("events.out.tfevents.*"):
                with writing(old):
                    old.unlink()
        folders = [""] if self._seeds is None else [f"seed_{seed}" for seed in self._seeds]
        with contextlib.ExitStack() as opened:  # all files, or none
            self._file = opened.enter_context(
                contextlib.closing(Growing(workdir / METRICS, say=self.say))
            )
            self._events = [
                opened.enter_context(
                    contextlib.closing(
                        Events(workdir / "tensorboard" / folder, purge_step=kept + 1, say=self.say)
                    )
                )
                for folder in folders
            ]
            self._trackers = [
                opened.enter_context(contextlib.closing(track(folder, self.say)))
                for folder in folders
                if track is not None
            ]
            self._opened = opened.pop_all()

    @property
    def seconds(self) -> float:
        """Wall time that the run has taken so far, as the lines have it.

        Earlier parts count up to the step that was resumed from; in process 0, which knows them.
        """
        return time.monotonic() - self._began

    def say(self, text: str) -> None:
        """Plain paragraphs; a line that begins with a space (a command, a path) is not broken."""
        if self._writes:
            self._terminal.say(text)

    def train(self, step: int, values: Mapping[str, Value], epoch: float) -> None:
        """One logged interval of training.

        Args:
            step: updates done.
            values: quantity -> number, or one a seed. Those that have a short name in
                `train.metrics.quantities` are shown; all are written.
            epoch: passes over the training data, a fraction.
        """
        if self._writes:
            values = _plain(values)
            self._write({"kind": "train", "step": step, "epoch": epoch}, "train", values)
            self._terminal.train(step, values, epoch)

    def evaluation(self, step: int, split: str, scalars: Mapping[str, Value]) -> None:
        """What an evaluation on `split` found; a list holds one number a seed."""
        if self._writes:
            scalars = _plain(scalars)
            self._write({"kind": "evaluation", "split": split, "step": step}, split, scalars)
            self._terminal.evaluation(step, split, scalars)

    def lost(self, step: int, places: Sequence[int]) -> None:
        """Of N seeds at once, those at `places` are not finite from `step` on."""
        seeds = places if self._seeds is None else [self._seeds[i] for i in places]
        for seed in seeds:
            self.say(f"Seed {seed} diverged at step {step}; the others go on.")

    def close(self) -> None:
        """Closes the files and ends the live line; `say` goes on working. May be called twice."""
        if self._writes:
            self._opened.close()
            self._terminal.close()

    def _write(self, head: dict[str, Any], tag: str, values: dict[str, Value]) -> None:
        if clash := RESERVED & values.keys():
            raise ValueError(f"a quantity may not be called {sorted(clash)[0]!r}")
        head["seconds"] = round(self.seconds, 3)
        lines = []
        for i, events in enumerate(self._events):
            seed = {} if self._seeds is None else {"seed": self._seeds[i]}
            mine = {name: self._of_seed(name, value, i) for name, value in values.items()}
            finite = {k: v if math.isfinite(v) else None for k, v in mine.items()}
            lines.append(json.dumps({**head, **seed, **finite}, allow_nan=False) + "\n")
            tagged = {f"{tag}/{name}": v for name, v in mine.items()}
            for told in (events, *self._trackers[i : i + 1]):
                told.scalars(head["step"], tagged)
        self._file.add("".join(lines))

    def _of_seed(self, name: str, value: Value, i: int) -> float | int:
        if not isinstance(value, Sequence):
            return value
        count = 0 if self._seeds is None else len(self._seeds)
        if len(value) != count:
            raise ValueError(f"{name} has {len(value)} values in a run of {count} seeds")
        return value[i]


def read_metrics(
    workdir: str | os.PathLike, say: Callable[[str], None] = lambda text: None
) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`, in order; none if there is no file.

    Every line has what the head of this module says; a quantity is a finite number or None.
    Quantities of older runs have today's names. What is no such line, as a killed process leaves
    behind, is passed over; `say` gets one line about all of them.

    Raises:
        Refused: there is a file, and it can't be read.
    """
    return [entry for _, entry in _read(pathlib.Path(workdir) / METRICS, say)]


def _read(path: pathlib.Path, say: Callable[[str], None]) -> list[tuple[bytes, dict[str, Any]]]:
    """Every line as it stands there, and what it says; the others are passed over and said."""
    try:
        lines = [line for line in path.read_bytes().split(b"\n") if line.strip()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise Refused(f"{path} can't be read: {cause(error)}") from None
    found = [(line, _entry(line)) for line in lines]
    good = [(line, entry) for line, entry in found if entry is not None]
    if len(good) < len(lines):
        strange = len(lines) - len(good)
        say(f"{path}: {strange} of {len(lines)} lines can't be read and don't count.")
    return good


def _entry(line: bytes) -> dict[str, Any] | None:
    """What a line says; None for one that is not from here."""
    try:
        read = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(read, dict) or not _whole(read.get("step")):
        return None
    if not _whole(read.get("seed", 0)) or not _finite(read.get("seconds")):
        return None
    if read.get("kind") == "train":
        fits = _finite(read.get("epoch"))
    else:
        fits = read.get("kind") == "evaluation" and isinstance(read.get("split"), str)
    if not fits:
        return None
    entry = {name: value for name, value in read.items() if name in RESERVED}
    for name, value in read.items():
        if name not in RESERVED and (value is None or _number(value)):
            name = name if EARLIER.get(name, name) in read else EARLIER.get(name, name)
            entry[name] = value if _finite(value) else None
    return entry


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _finite(value: Any) -> bool:
    """Whether it is a number that a float can hold."""
    try:
        return _number(value) and math.isfinite(value)
    except OverflowError:
        return False


def _whole(value: Any) -> bool:
    """Whether it is a step or a seed."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _cut(workdir: pathlib.Path, step: int, evaluated: bool, say: Callable[[str], None]) -> float:
    """Removes lines beyond `step`, and those that are not from here, in one rename.

    Where `step` was not `evaluated` to the end, what evaluations say of it goes too.

    Returns:
        The seconds at the last that stays.
    """
    path = workdir / METRICS
    kept = [
        (line, entry["seconds"])
        for line, entry in _read(path, say if step >= 0 else lambda text: None)
        if entry["step"] < step
        or (entry["step"] == step and (evaluated or entry["kind"] != "evaluation"))
    ]
    content = b"".join(line + b"\n" for line, _ in kept)
    if path.exists() and path.read_bytes() != content:  # else a full disk is no matter
        write(path, content)
    return max((float(seconds) for _, seconds in kept), default=0.0)


def _plain(values: Mapping[str, Any]) -> dict[str, Value]:
    """Python numbers and lists of them, whatever arrays they came in."""
    return {name: np.asarray(value).tolist() for name, value in values.items()}
