"""What is asked of an ablation, settled: which rows, whether they go on, and where they run."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from experiments.by_name import named, refuse_several
from train import launch, neighbours, workdir
from train.ablation import Ablation, Trial, configured, rows, trials
from train.refusal import Refused
from train.report.ablation import CSV
from train.study import counted
from train.sweep import ABLATION, TRIALS, finished, refuse_other


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """What a command asks for.

    Attributes:
        ablation: None to go on with the one in `workdir`.
        seeds: given by themselves; () where they are not.
        workdir: of the ablation, or a directory in it.
        launcher: "local" runs one trial after the other, "slurm" each as a job; None goes on as it
            was begun.
        slurm: parameters of the jobs, see `train.launch.executor`.
    """

    ablation: Ablation | None
    seeds: tuple[int, ...] = ()
    workdir: Path | None = None
    launcher: str | None = None
    slurm: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def settled(asked: Asked, path: Path | None) -> tuple[ModuleType, Ablation, list[Trial]]:
    """The experiment, what is compared, and what is run for it.

    Args:
        asked: what is asked for.
        path: the ablation's directory, which is locked if it is there.

    Raises:
        Refused: it can't be, or another one lives there.
    """
    earlier = None if path is None else workdir.decoded(path, ABLATION, Ablation)
    ablation = asked.ablation or earlier
    if ablation is None:
        raise Refused(f"workdir={str(path)!r} holds no ablation")
    if asked.ablation is None and asked.seeds:
        ablation = dataclasses.replace(ablation, seeds=asked.seeds)
    module = named(ablation.experiment)
    ablation = dataclasses.replace(ablation, experiment=module.__name__)
    # Before all rows are looked at: what they change may be no field of it.
    refuse_several(module, configured(module, next(rows(ablation)), ablation))
    todo = trials(module, ablation)
    for trial in todo:
        refuse_several(module, trial.config)
    if earlier is not None and path is not None:
        if not (path / CSV).exists():  # no row yet: it may have asked for what is not measured
            earlier = dataclasses.replace(earlier, metric=ablation.metric)
        refuse_other(earlier, ablation, trials(module, earlier), todo)
    elif path is not None:
        neighbours.refuse_mistaken(path)
    return module, ablation, todo


def launched_away(asked: Asked, path: Path | None) -> bool:
    """Whether trials are jobs.

    Raises:
        Refused: they can't be, or can't be run here, where jobs have not ended.
    """
    folder = (path or Path("runs")).absolute() / launch.LOGS
    if asked.launcher == "local" and path is not None:
        launch.refuse_running(path, partial(launch.executor, folder, {}))
    jobs = path is not None and (path / launch.JOBS).exists()
    away = asked.launcher == "slurm" or (jobs and asked.launcher is None)
    if away:
        launch.executor(folder, asked.slurm)
    return away


def unfinished(
    todo: Sequence[Trial], path: Path | None, seeds: Sequence[int]
) -> list[tuple[Trial, Path | None]]:
    """Trials that have something left to do, and their directories; None in a new ablation."""
    if path is None:
        return [(trial, None) for trial in todo]
    places = [(trial, path / TRIALS / trial.folder) for trial in todo]
    return [(trial, place) for trial, place in places if finished(place, seeds) is None]


def begun(left: int, rows: int, seeds: int) -> str:
    """What is about to happen, in words."""
    all_rows, each = counted(rows, "row"), f"{counted(seeds, 'seed')} each"
    if left == rows:
        return f"Checking {all_rows}, {each}."
    if not left:
        return f"All of {all_rows} are finished, {each}."
    return f"Checking {left} of {all_rows}, {each}; the others are finished."


def refuse_begun(path: Path) -> None:
    """Refuse a directory in which another process has begun an ablation since it was looked at.

    Raises:
        Refused: it is there.
    """
    if (path / ABLATION).exists():
        raise Refused(f"workdir={str(path)!r}: another process has begun an ablation there")


def with_data(ablation: Ablation, todo: Sequence[Trial]) -> Ablation:
    """With the data that "auto" came to, which are those of a sweep that goes on too."""
    if len({trial.config.data for trial in todo}) > 1:
        return ablation
    return dataclasses.replace(ablation, base={**ablation.base, "data": todo[0].config.data})


def root_of(path: Path) -> Path:
    """The directory of the ablation that a path lies in: a trial says how to go on with itself."""
    for each in (path, *path.absolute().parents[:3]):
        if (each / ABLATION).is_file():
            return each
    return path
