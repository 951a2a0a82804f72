"""Study: several runs in one directory, which go on where they stopped."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from rich.console import Console

from train import processes, workdir
from train.assess import finite
from train.at_once import groups, remove, train_at_once
from train.lock import locked
from train.loop import NonFinite
from train.metrics.quantities import COUNT, ordered, quantity, readable, show
from train.metrics.spread import spread
from train.place import beginning, refuse_other, refuse_other_data, refuse_other_statistics
from train.prepared import Prepared
from train.refusal import Failed, Refused
from train.report.page import REPORT
from train.report.study import write_study
from train.stop import part_of
from train.tasks.task import Summary
from train.terminal import Terminal
from train.workdir import DIVERGED


class Diverged(Failed):
    """A run that others need diverged, and so what is made of them can't be."""


class Complete(Protocol):
    """(prepared, path) -> the summary of a run, made in `path`, which is locked."""

    def __call__(self, prepared: Prepared, path: Path) -> Summary: ...


@dataclasses.dataclass(frozen=True)
class Study:
    """A directory of runs, each in one of its own.

    Attributes:
        module: the experiment's.
        path: the directory.
        terminal: to print to.
    """

    module: ModuleType
    path: Path
    terminal: Terminal

    def run(self, name: str, config: Any, make: Callable[[Path], Any]) -> dict[str, Any]:
        """One run: made, or gone on with, unless it is finished.

        Args:
            name: of its directory.
            config: of this run.
            make: runs it in the directory that it is given, which is locked. It leaves one of the
                files below; where it raises `Diverged`, the second.

        Returns:
            What its `summary.json` says; or, of a run that diverged, its `diverged.json`: that is
            a result, and the others go on.

        Raises:
            Refused: another run lives in that directory, or another process is at work there.
        """
        path = self.path / name
        refuse_other(path, self.module, config)
        for file in (workdir.SUMMARY, DIVERGED):
            if (found := result(path, file)) is not None:
                return found
        self.terminal.heading(name)
        workdir.make(path)
        with locked(path):
            try:
                make(path)
            except (NonFinite, Diverged) as error:
                self.terminal.say(f"{name}: {error}.")
        found = result(path, workdir.SUMMARY) or result(path, DIVERGED)
        assert found is not None, f"{path} ended without a result"
        return found


def result(path: Path, file: str) -> dict[str, Any] | None:
    """What a run has left in a file, as the first process reads it; None where it has not."""
    return processes.same("what a run has left", lambda: workdir.read(path, file))


@contextlib.contextmanager
def study(module: ModuleType, config: Any, path: Path) -> Iterator[Study]:
    """Begin a study in a directory that the caller has locked, or go on with it.

    Raises:
        Refused: the directory holds another one.
        Stopped, KeyboardInterrupt: a signal ended one of its runs, or came between two; how to go
            on with the study is said.
    """
    refuse_other(path, module, config)  # with what was left open until the data were known
    workdir.write_config(path, module.__name__, config)
    terminal = Terminal(Console(markup=False, emoji=False), 0)  # a path is a path
    runs = Study(module, path, terminal)
    with part_of("all runs", path, terminal.say):
        yield runs


def seeds(module: ModuleType, config: Any, *, one: Callable[..., Summary]) -> Summary:
    """A run for each of `config.seeds`, each as if run alone, and what they have in common.

    `config.seeds_as` says whether they are trained one after the other, or as one program. Data are
    read once and functions compiled once. What is found is in `summary.json` and on a
    page: mean, standard deviation and every value. A seed that diverges is a result, and the others
    go on.

    Args:
        module: the experiment's.
        config: its `Config`.
        one: makes a run: a `Complete` that also takes the `watch` of the processes.

    Returns:
        Mean scalars of the test split; `tables["seeds"]`: seed -> its own scalars, {} where it
        diverged.

    Raises:
        Refused: as `prepare` and `train.place.place`.
        Diverged: every seed did.
    """
    with beginning(module, config) as (prepared, path, watch, _):
        return within(prepared, path, one=partial(one, watch=watch))


def within(prepared: Prepared, path: Path, *, one: Complete) -> Summary:
    """As `seeds`, of a recipe that is prepared, in a directory that the caller has locked."""
    config = prepared.config
    for seed in config.seeds:  # those that are finished too, which are not run again
        refuse_other_data(path / f"seed_{seed}", prepared.data)
        refuse_other_statistics(path / f"seed_{seed}", prepared.about)
    with study(prepared.module, config, path) as runs:
        found = {}
        for several, program in groups(prepared, path, runs.terminal):
            if program is not None:
                train_at_once(program, path, runs.terminal)
            for seed in several:
                its = dataclasses.replace(prepared.with_seed(seed), at_its_end=program is not None)
                found[seed] = runs.run(f"seed_{seed}", its.config, partial(one, its))
            if program is not None:
                remove(path)
        return together(runs, config, {seed: found[seed] for seed in config.seeds})


def refuse_at_once(config: Any) -> None:
    """Of a study whose seeds are several trainings each, which come one after the other.

    Raises:
        Refused: another way was asked for.
    """
    if config.seeds_as != "loop":
        raise Refused(
            f"seeds_as={config.seeds_as!r} can't be had: a seed is several trainings here, and "
            "they come one after the other"
        )


def together(runs: Study, config: Any, found: Mapping[int, dict[str, Any]]) -> Summary:
    """Write what the runs of several seeds have in common, and say it.

    Raises:
        Diverged: every seed did.
    """
    scalars = {seed: scalars_of(summary) for seed, summary in found.items()}
    diverged = [seed for seed, each in scalars.items() if not each]
    names = list(dict.fromkeys(name for each in scalars.values() for name in each))
    values = {name: [each.get(name) for each in scalars.values()] for name in names}
    spreads = {name: spread(each) for name, each in values.items()}
    workdir.write(
        runs.path / workdir.SUMMARY,
        {
            "data": config.data,
            "model": config.model,
            "seeds": list(found),
            "steps": config.steps,
            "diverged": diverged,
            **{
                f"test/{name}": {
                    "mean": finite(spreads[name].mean),
                    "std": finite(spreads[name].std),
                    "values": values[name],
                }
                for name in names
            },
        },
    )
    page = write_study(
        runs.path,
        f"{config.model} on {config.data}, {counted(len(found), 'seed')}",
        {f"seed {seed}": each for seed, each in scalars.items()},
        links={
            f"seed {seed}": f"seed_{seed}/{REPORT}"
            for seed in found
            if (runs.path / f"seed_{seed}" / REPORT).exists()
        },
        facts={
            "Data": config.data,
            "Model": config.model,
            "Trained for": f"{config.steps:,} steps of {config.batch_size:,} examples",
        },
        say=runs.terminal.say,
    )
    runs.terminal.heading(counted(len(found), "seed"))
    if diverged:
        runs.terminal.say(f"Diverged: {', '.join(map(str, diverged))}")
    for name in ordered(name for name in names if quantity(name).unit != COUNT):
        of_each = ", ".join("–" if v is None else show(name, v) for v in values[name])
        runs.terminal.say(f"Test {readable(name)} {show(name, values[name])}: {of_each}")
    runs.terminal.say(f"  {page}")
    if len(diverged) == len(found):
        raise Diverged(f"every seed diverged: {', '.join(map(str, diverged))}")
    return Summary({name: one.mean for name, one in spreads.items()}, {"seeds": scalars})


def counted(count: int, word: str) -> str:
    """1 seed, 2 seeds."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def scalars_of(summary: Mapping[str, Any]) -> dict[str, float | None]:
    """Of the test split, from a run's `summary.json`; {} of one that diverged."""
    prefix = "test/"
    return {
        name.removeprefix(prefix): value
        for name, value in summary.items()
        if name.startswith(prefix)
    }
