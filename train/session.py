"""Session: a run at work in its directory, which is locked, its files open, its signals heard."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from train import processes, workdir
from train.checkpoints import Checkpoints
from train.data.boxes import clipped_said, empty_said
from train.data.masks import missing
from train.data.source import classes_said, notes
from train.disk import size, taken
from train.files import WriteFailed
from train.finetune import Weights, begun
from train.logs import Logs
from train.noted import PROGRAM, Noted, changed
from train.place import (
    earlier_prints,
    fingerprints,
    given,
    refuse_other,
    refuse_other_statistics,
)
from train.prepared import UNREADABLE, Prepared
from train.progress import compiling, working
from train.provenance import cpu, provenance
from train.report.page import REPORT, write_report
from train.seal import digest_of
from train.sharded import held
from train.started import FirstStep
from train.state import State
from train.stop import AROUND, Stop, Stopped, again
from train.tasks.task import Summary
from train.terminal import Terminal
from train.trackers import tracking
from train.watch import LONG, STUCK, Alone, Watch, told


@dataclasses.dataclass(frozen=True, kw_only=True)
class Session:
    """What `train` and `judge` work with.

    Attributes:
        path: the work directory.
        state: the one to go on from: of the newest sound checkpoint, or before the first step.
        step: of training, compiled at its first call, which is told.
        checkpoints, logs, stop: open.
        watch: of the processes.
        noted: of the program of the run; does nothing for one whose provenance is written.
        note: said first, and in the report: what no one may mistake.
    """

    path: Path
    state: State
    step: FirstStep
    checkpoints: Checkpoints
    logs: Logs
    stop: Stop
    watch: Watch | Alone
    noted: Noted | None
    note: str

    def evaluating(self) -> Callable[[], bool]:
        """Of one evaluation: whether a signal came, to any of the processes; asked once a batch."""
        patience = [STUCK, LONG]  # at the first it compiles

        def stopping() -> bool:
            came = self._signal() is not None
            self.watch.beat(patience[-1])
            del patience[1:]
            return came

        return stopping

    def _signal(self) -> int | None:
        came = processes.gathered("which signal came", self.stop.signal)
        return next((signal for signal in came if signal is not None), None)

    def go_on(self) -> None:
        """Where a signal came: say how to go on, and end the run.

        Raises:
            Stopped: it came.
        """
        if (signal := self._signal()) is None:
            return
        saved = self.checkpoints.latest()
        at = "before the first step" if saved is None else f"and saved at step {saved}"
        how = "" if AROUND else f" To go on:\n  {again(self.path)}"  # of a part it is said last
        self.logs.say(f"Stopped {at}.{how}")
        raise Stopped(signal)

    def end_if_stopped(self) -> None:
        """Where a signal came, end what follows; the run itself is at its end.

        Raises:
            Stopped: it came.
        """
        if (signal := self._signal()) is not None:
            raise Stopped(signal)

    def report(self, prepared: Prepared, summary: Summary | None, lead: str) -> Path:
        """Write the run's page."""
        return report(prepared, self.path, summary, lead=lead, say=self.logs.say)


def report(
    prepared: Prepared,
    path: Path,
    summary: Summary | None,
    *,
    lead: str,
    say: Callable[[str], None],
) -> Path:
    """Write the page of a run in `path`; of one that diverged, without a summary."""
    if not processes.first():
        return path / REPORT
    config, test = prepared.config, prepared.data.test
    return write_report(
        path,
        f"{config.model} on {config.data}",
        summary,
        test.about,
        test,
        prepared.parts.report,
        lead=lead,
        say=say,
    )


@contextlib.contextmanager
def session(
    prepared: Prepared,
    path: Path,
    *,
    weights: Weights | None = None,
    note: str = "",
    began: float | None = None,
    watch: Watch | Alone | None = None,
) -> Iterator[Session]:
    """Begin the run in `path`, or go on with the one that lives there.

    Args:
        prepared: what runs.
        path: a directory, made where it is missing. The caller holds its lock, see `train.lock`.
        weights: that a new run starts from in place of random ones, see `train.finetune.begun`.
        note: said first, and in the report.
        began: `time.monotonic()` when this process began to work on the run.
        watch: of the processes, where there are several.

    Raises:
        Refused: the directory can't be written, or the run there is another, or began with other
            data.
    """
    began = time.monotonic() if began is None else began
    workdir.make(path)
    config = prepared.config
    refuse_other(path, prepared.module, config)  # with what was left open until now
    inscribed, noted, goes_on = None, None, Checkpoints(path / "checkpoints").begun()
    if not prepared.at_its_end:
        inscribed = inscribe(prepared, path, weights=weights, goes_on=goes_on)
        noted = Noted(prepared, inscribed.note) if processes.first() else None
    # Compiling takes a while, and so does reading a checkpoint: what runs is said before.
    say = Terminal(Console(), config.steps).say
    for line in (note, *([] if prepared.at_its_end else opening(prepared))):
        if line:
            say(line)

    # From here on XLA compiles, where an interrupt would end the process without a word.
    said: list[str] = []
    with Stop() as stop, Checkpoints(path / "checkpoints", say=said.append) as checkpoints:
        if noted is not None and goes_on:
            noted.begin()
        with compiling("the first weights", True):
            state = prepared.start(np.uint32(config.seed))
        restored = checkpoints.restore(state)
        if restored is not None:
            state = restored.state
        elif weights is not None:
            state, replaced = begun(state, weights)
            said += replaced
        begin = None if restored is None else restored.step
        # What an evaluation of this step has logged, and did not end, it will log again.
        whole = begin is None or checkpoints.ranked(begin)
        logs = Logs(
            path,
            steps=config.steps,
            resume_step=begin,
            evaluated=whole,
            began=began,
            track=tracking(config.tracker, path, config),
        )
        checkpoints.say = logs.say
        with contextlib.closing(logs):
            if noted is not None and inscribed is not None and goes_on:
                noted.end(logs.say)
                said.append(changed(inscribed.records))
            for line in (*filter(None, said), whence(begin, config.steps, path)):
                logs.say(line)
            if begin is None or begin < config.steps:
                if config.fsdp > 1:
                    logs.say(divided(state, config.fsdp))
                for line in taken(state, config, path, checkpoints.keep):
                    logs.say(line)
            for split, gaps in prepared.gaps.items():
                if gaps is not None:
                    gaps.keep(path / UNREADABLE.format(split=split), partial(of_split, logs, split))
            try:
                with told(watch or Alone()):
                    yield Session(
                        path=path,
                        state=state,
                        step=FirstStep(prepared.step, began, logs.say),
                        checkpoints=checkpoints,
                        logs=logs,
                        stop=stop,
                        watch=watch or Alone(),
                        noted=noted,
                        note=note,
                    )
            finally:
                if noted is not None:
                    noted.end(logs.say)
                put_back(path, {} if inscribed is None else inscribed.files, logs.say)


def put_back(
    path: Path, files: Mapping[str, Callable[[], None]], say: Callable[[str], None]
) -> None:
    """Write again what somebody has deleted under a run, which could not go on without it.

    Args:
        path: the work directory; where it is gone itself, nothing is written.
        files: name in it -> what writes it.
        say: takes a line for the user.
    """
    for name, write in files.items():
        if path.is_dir() and not (path / name).exists():
            try:
                write()
            except WriteFailed as failed:
                say(str(failed))  # not in place of the error that ends the run
            else:
                say(f"{path / name} was deleted, and is put back.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inscribed:
    """What a run's directory says of it.

    Attributes:
        files: name of a file in it -> what writes it again.
        record: of this process, in the run's provenance.
        written: that provenance.
    """

    files: Mapping[str, Callable[[], None]]
    record: dict[str, Any]
    written: dict[str, Any]

    def note(self, program: str) -> None:
        """Add the digest of the program, see `train.noted`.

        Raises:
            WriteFailed: it can't be written.
        """
        self.record[PROGRAM] = program
        self.files[workdir.PROVENANCE]()

    @property
    def records(self) -> list[dict[str, Any]]:
        """Of the processes that worked on the run, this one's last."""
        return workdir.records(self.written)


def inscribe(
    prepared: Prepared,
    path: Path,
    *,
    weights: Weights | None = None,
    goes_on: bool = False,
    at_once: Mapping[str, Any] | None = None,
) -> Inscribed:
    """Leave in a run's directory what it is and what it is made of.

    Args:
        prepared: what runs.
        path: the directory, which is there.
        weights: that a new run starts from in place of random ones.
        goes_on: whether there is a checkpoint that it goes on from.
        at_once: of a run that is trained with others as one program: which, and how.

    Raises:
        Refused: the run there began with other data; before anything changes.
    """
    data = prepared.data
    with working("digesting the data"):
        prints = fingerprints(data)
    record = provenance(
        seed=prepared.config.seed,
        convolution=prepared.backend.name,
        fingerprints=prints,
        devices=prepared.mesh.devices.ravel().tolist(),
        fsdp=prepared.config.fsdp,
        weights=None if weights is None else digest_of(weights.variables),
        origin=None if weights is None else weights.origin,
    )
    record |= {} if at_once is None else {"at_once": dict(at_once)}
    written = workdir.joined(path, record, goes_on=goes_on, earlier=partial(earlier_prints, data))
    refuse_other_statistics(path, prepared.about)
    # The configuration first: without it what a killed process leaves could not be gone on with.
    files: dict[str, Callable[[], None]] = {
        workdir.CONFIG: partial(workdir.write_config, path, prepared.experiment, prepared.config),
        workdir.ABOUT: partial(workdir.write, path / workdir.ABOUT, prepared.about),
        workdir.PROVENANCE: partial(workdir.write, path / workdir.PROVENANCE, written),
    }
    for write in files.values():
        write()
    return Inscribed(files=files, record=record, written=written)


def opening(prepared: Prepared) -> list[str]:
    """What is said of a run before it begins; "" among it says nothing."""
    data = prepared.data
    return [
        *dict.fromkeys(line for source in given(data).values() for line in notes(source)),
        *prepared.said,
        missing(prepared.about),
        describe(prepared),
        clipped_said(data.train),
        empty_said(data.train),
    ]


def whence(begin: int | None, steps: int, path: Path) -> str:
    """Where the run begins, in words."""
    if begin is None:
        return f"A new run in {path}."
    if begin >= steps:
        return f"The run in {path} is at its last step, {steps}."
    return f"Going on from step {begin} of {path}."


def of_split(logs: Logs, split: str, text: str) -> None:
    """Say something about one split of the data."""
    logs.say(f"{split}: {text}")


def divided(state: State, fsdp: int) -> str:
    """How much of the state each device has."""
    total = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    if held(state) == total:
        return f"Each device has the whole state, {size(total)}: fsdp={fsdp} divides none of it."
    return f"Each device has {size(held(state))} of the state's {size(total)} (fsdp={fsdp})."


def describe(prepared: Prepared) -> str:
    """What runs on what, in two lines, and a third where it could be faster."""
    about, backend = prepared.data.train.about, prepared.backend
    sizes = ", ".join(
        f"{len(s):,} {name}" for name, s in prepared.data._asdict().items() if s is not None
    )
    device = prepared.mesh.devices.flat[0]
    kind = device.device_kind
    if device.platform == "cpu":
        its = cpu()
        kind = f"CPU ({its['model']}, {its['class']}, {its['cores']} cores)"
    return (
        f"{prepared.config.model} on {about.name}: {sizes} examples, {classes_said(about)}.\n"
        f"Device: {prepared.mesh.devices.size} x {kind}; convolutions by {backend.name}."
        + (f"\nSlower than it could be: {backend.why}." if backend.why else "")
    )
