"""Study: several runs in one directory, which go on where they stopped."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from rich.console import Console

from train import workdir
from train.assess import finite
from train.lock import locked
from train.loop import NonFinite
from train.metrics.quantities import ordered, readable, show
from train.metrics.spread import spread
from train.prepared import Prepared, prepare
from train.report.page import REPORT
from train.report.study import write_study
from train.session import place
from train.stop import Stopped, again
from train.tasks.task import Summary
from train.terminal import Terminal

DIVERGED = "diverged.json"
"""Of a run that diverged: the step, and what was said."""


class Complete(Protocol):
    """(prepared, path) -> the summary of a run, made in `path`, which is locked."""

    def __call__(self, prepared: Prepared, path: Path) -> Summary: ...


@dataclasses.dataclass(frozen=True)
class Study:
    """A directory of runs, each in one of its own.

    Attributes:
        path: the directory.
        console: to print to.
    """

    path: Path
    console: Console

    def say(self, text: str) -> None:
        """As a run says it: no character and no full disk ends the study in a traceback."""
        Terminal(self.console, 0).say(text)

    def run(self, name: str, make: Callable[[Path], Any]) -> dict[str, Any]:
        """One run: made, or gone on with, unless it is finished.

        Args:
            name: of its directory.
            make: runs it in the directory that it is given, which is locked.

        Returns:
            What its `summary.json` says; or, of a run that diverged, its `diverged.json`: that is
            a result, and the others go on.
        """
        path = self.path / name
        for file in (workdir.SUMMARY, DIVERGED):
            if (found := workdir.read(path, file)) is not None:
                return found
        self.console.rule(name)
        workdir.make(path)
        with locked(path), contextlib.suppress(NonFinite):
            make(path)
        found = workdir.read(path, workdir.SUMMARY) or workdir.read(path, DIVERGED)
        assert found is not None, f"{path} ended without a result"
        return found


@contextlib.contextmanager
def study(module: ModuleType, config: Any, path: Path) -> Iterator[Study]:
    """Begin a study in a directory that the caller has locked, or go on with it.

    Raises:
        Stopped: a signal ended one of its runs; how to go on with the study is said.
    """
    workdir.write_config(path, module.__name__, config)
    runs = Study(path, Console(markup=False, emoji=False))  # a path is a path
    try:
        yield runs
    except Stopped:
        runs.say(f"To go on with all runs:\n  {again(path)}")
        raise


def seeds(module: ModuleType, config: Any, *, one: Complete) -> Summary:
    """A run for each of `config.seeds`, each as if run alone, and what they have in common.

    Data are read once and functions compiled once. What is found is in `summary.json` and on a
    page: mean, standard deviation and every value. A seed that diverges is a result, and the others
    go on.

    Args:
        module: the experiment's.
        config: its `Config`.
        one: makes a run.

    Returns:
        Mean scalars of the test split; `tables["seeds"]`: seed -> its own scalars, {} where it
        diverged.

    Raises:
        Refused: as `prepare` and `train.session.place`.
    """
    with place(module, config) as claim:
        prepared = prepare(module, dataclasses.replace(config, seeds=(), seed=config.seeds[0]))
        with study(module, config, claim()) as runs:
            found = {
                seed: runs.run(f"seed_{seed}", partial(one, prepared.with_seed(seed)))
                for seed in config.seeds
            }
            return together(runs, config, found)


def together(runs: Study, config: Any, found: Mapping[int, dict[str, Any]]) -> Summary:
    """Write what the runs of several seeds have in common, and say it."""
    scalars = {seed: scalars_of(summary) for seed, summary in found.items()}
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
            "diverged": [seed for seed, each in scalars.items() if not each],
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
        f"{config.model} on {config.data}, {len(found)} seeds",
        {f"seed {seed}": each for seed, each in scalars.items()},
        links={
            f"seed {seed}": f"seed_{seed}/{REPORT}"
            for seed in found
            if (runs.path / f"seed_{seed}" / REPORT).exists()
        },
        say=runs.say,
    )
    runs.console.rule(f"{len(found)} seeds")
    for name in ordered(names):
        of_each = ", ".join("–" if v is None else show(name, v) for v in values[name])
        runs.say(f"Test {readable(name)} {show(name, finite_of(values[name]))}: {of_each}")
    runs.say(f"  {page}")
    return Summary({name: one.mean for name, one in spreads.items()}, {"seeds": scalars})


def finite_of(values: Sequence[float | None]) -> list[float]:
    """NaN in place of None."""
    return [math.nan if value is None else value for value in values]


def scalars_of(summary: Mapping[str, Any]) -> dict[str, float | None]:
    """Of the test split, from a run's `summary.json`; {} of one that diverged."""
    prefix = "test/"
    return {
        name.removeprefix(prefix): value
        for name, value in summary.items()
        if name.startswith(prefix)
    }
