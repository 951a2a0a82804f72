"""Sweep: the trials of an ablation, each in a directory of its own; a killed sweep goes on."""

import contextlib
import dataclasses
import gc
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

from train import workdir
from train.ablation import Ablation, Trial, options
from train.experiment import RUNTIME
from train.files import WriteFailed, cause
from train.refusal import Failed, Refused
from train.stop import Stopped

ABLATION, TRIAL, TRIALS = "ablation.json", "trial.json", "trials"
"""What is asked; what a trial came to; the folder of all trials."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a trial came to, as its `trial.json` says.

    Attributes:
        state: "stopped" by a signal, and not at its end; "failed" by an error.
        seconds: of wall time for all its seeds, compilation included, in all processes that worked
            on it; but for those that were killed and could not say.
        parameters: of the network.
        rank: the scalar that ranks, with a sign, see `Parts.rank`.
        error: in one line; "" where there was none.
    """

    state: Literal["finished", "failed", "stopped"]
    seconds: float
    parameters: int
    rank: str
    error: str = ""


class Checked(NamedTuple):
    """What is known of a trial that can run."""

    parameters: int
    rank: str


def perform(module: ModuleType, config: Any, path: Path, checked: Checked) -> Outcome:
    """Run a trial, or go on with it, as its experiment's command line would: all its seeds.

    Args:
        module: the experiment's.
        config: of the trial.
        path: its directory.
        checked: see `train.foreseen.check_all`.

    Returns:
        What is in its `trial.json` from now on. An error ends the trial alone.

    Raises:
        Stopped, KeyboardInterrupt: by a signal; it goes on from there.
        WriteFailed: its files can't be written, nor could those of the next.
    """
    workdir.make(path)
    before = outcome_of(path)
    began = time.monotonic() - (0.0 if before is None else before.seconds)

    def ended(state: Literal["finished", "failed", "stopped"], error: str = "") -> Outcome:
        seconds = round(time.monotonic() - began, 1)
        outcome = Outcome(state=state, seconds=seconds, error=error, **checked._asdict())
        workdir.write(path / TRIAL, outcome)
        return outcome

    try:
        module.main(dataclasses.replace(config, workdir=path))
    except (Stopped, KeyboardInterrupt, WriteFailed):
        with contextlib.suppress(WriteFailed):
            ended("stopped")
        raise
    except Exception as error:
        return ended("failed", said(error))
    finally:
        gc.collect()  # the set on the device: the next trial has its own
    return ended("finished")


def said(error: BaseException) -> str:
    """An error in one line."""
    known = isinstance(error, Refused | Failed)
    return " ".join((str(error) if known else cause(error)).split())


def outcome_of(path: Path) -> Outcome | None:
    """Of a trial; None where it has none yet."""
    return workdir.decoded(path, TRIAL, Outcome)


def reopen(path: Path) -> None:
    """Before another process goes on with a trial: it has not ended, and its time counts on."""
    before = outcome_of(path)
    if before is not None:
        workdir.write(path / TRIAL, dataclasses.replace(before, state="stopped", error=""))


def measured(path: Path) -> dict[str, dict[int, float | None]]:
    """Test scalar -> seed -> value, of the seeds that a trial has made; {} while it runs."""
    summary = workdir.read(path, workdir.SUMMARY) or {}
    seeds = summary.get("seeds", [])
    return {
        name.removeprefix("test/"): dict(zip(seeds, of["values"], strict=True))
        for name, of in summary.items()
        if name.startswith("test/") and isinstance(of, dict)
    }


def finished(path: Path, seeds: Sequence[int]) -> Outcome | None:
    """The outcome of a trial that has nothing left to do for these seeds."""
    outcome = outcome_of(path)
    summary = workdir.read(path, workdir.SUMMARY) or {}
    done = outcome is not None and outcome.state == "finished"
    return outcome if done and summary.get("seeds") == list(seeds) else None


def refuse_other(earlier: Ablation, asked: Ablation, old: list[Trial], new: list[Trial]) -> None:
    """A directory goes on with its own ablation, to which seeds and rows may be added.

    Args:
        earlier: what lives there.
        asked: what is to go on.
        old: trials of the one.
        new: trials of the other.

    Raises:
        Refused: it is another one, or seeds or rows are left out.
    """
    if left := sorted(set(earlier.seeds) - set(asked.seeds)):
        raise Refused(f"the ablation there has seeds that are left out: {left}")
    if earlier.experiment != asked.experiment:
        raise Refused(f"the ablation there is of {earlier.experiment}, not {asked.experiment}")
    if earlier.metric != asked.metric:
        metrics = [one.metric or "what ranks" for one in (earlier, asked)]
        raise Refused(f"the ablation there compares {metrics[0]}, not {metrics[1]}")
    by_folder = {trial.folder: trial for trial in new}
    for trial in old:
        other = by_folder.get(trial.folder)
        if other is None:
            raise Refused(f"the ablation there has a row that is left out: {trial.row.name!r}")
        names = [f.name for f in dataclasses.fields(trial.config) if f.name not in RUNTIME]
        for name in names:
            there, asks = getattr(trial.config, name), getattr(other.config, name)
            if there != asks:
                raise Refused(
                    f"the ablation there has {name}={there!r} in row {trial.row.name!r}, not "
                    f"{asks!r}"
                )


def command(trial: Trial, seeds: Sequence[int], script: str) -> list[str]:
    """The command that makes a row by itself."""
    return ["python", script, *options(trial.row.fields), "--seeds", *map(str, seeds)]
