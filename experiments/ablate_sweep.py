"""The sweep of an ablation: its trials are run, row by row, and what they come to is written."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import rich.table
import rich.text

from train import launch
from train.ablation import Ablation, Trial
from train.metrics.quantities import quantity, ranking
from train.refusal import Failed, choose
from train.report.ablation import Ablated, Line, cells, lines, write_ablation, write_shown
from train.report.page import REPORT
from train.stop import again
from train.sweep import TRIALS, Checked, command, measured, outcome_of, perform
from train.terminal import Terminal


@dataclasses.dataclass(frozen=True)
class Sweep:
    """An ablation at work in its directory, which is locked."""

    module: ModuleType
    ablation: Ablation
    trials: list[Trial]
    path: Path
    terminal: Terminal

    def place(self, trial: Trial) -> Path:
        """Of a trial."""
        return self.path / TRIALS / trial.folder

    def here(self, checks: Mapping[str, Checked]) -> None:
        """Run the trials that were checked, one after the other."""
        for number, trial in enumerate(self.trials, 1):
            if trial.folder not in checks:
                continue
            self.terminal.heading(f"row {number} of {len(self.trials)}: {trial.row.name}")
            place, checked = self.place(trial), checks[trial.folder]
            outcome = perform(self.module, trial.config, place, checked)
            if outcome.error:
                self.terminal.say(f"{trial.row.name} failed: {outcome.error}")
            write_ablation(self.path, self.found())

    def away(self, checks: Mapping[str, Checked], made: Any) -> None:
        """Run them as jobs."""
        jobs = {
            trial.folder: launch.Job(
                self.module.__name__, trial.config, self.place(trial).absolute(), checked
            )
            for trial in self.trials
            if (checked := checks.get(trial.folder)) is not None
        }
        self.terminal.say(
            f"This process may be ended; the jobs go on, and this waits for them again:\n"
            f"  {again(self.path)}"
        )
        launch.run_all(
            jobs,
            self.path,
            made,
            say=self.terminal.say,
            ended=lambda name: write_ablation(self.path, self.found()),
        )

    def found(self) -> Ablated:
        """The table, as far as there is one.

        Raises:
            Refused: what is to be compared is not measured.
        """
        seeds = self.ablation.seeds
        outcomes = [outcome_of(self.place(trial)) for trial in self.trials]
        rank = next((one.rank for one in outcomes if one is not None), "")
        metric = self.ablation.metric or ranking(rank)[0]
        scalars = [measured(self.place(trial)) for trial in self.trials]
        for one in scalars:
            if one:
                choose("metric", metric, one)
        values = [[one.get(metric, {}).get(seed) for seed in seeds] for one in scalars]
        rows = [trial.row for trial in self.trials]
        title = self.ablation.title or f"Ablation of {self.module.__name__.rpartition('.')[2]}"
        said = {
            name: {getattr(trial.config, name) for trial in self.trials}
            for name in ("data", "model", "steps")
        }
        return Ablated(
            title=title,
            metric=metric,
            seeds=tuple(seeds),
            lines=lines(rows, outcomes, values),
            facts={
                **{
                    name.capitalize(): str(one)
                    for name, (one, *others) in said.items()
                    if one is not None and not others
                },
                "Seeds": ", ".join(map(str, seeds)),
            },
            follows={trial.row.name: trial.follows for trial in self.trials},
            commands={
                trial.row.name: command(trial, seeds, script(self.module)) for trial in self.trials
            },
            pages={
                trial.row.name: f"{TRIALS}/{trial.folder}/{REPORT}"
                for trial in self.trials
                if (self.place(trial) / REPORT).exists()
            },
        )

    def end(self) -> list[Line]:
        """Write everything, and say it."""
        found = self.found()
        write_ablation(self.path, found)
        page = write_shown(self.path, found)
        self.terminal.heading(found.title)
        self.terminal.show(printable(found))
        for note in found.notes:
            self.terminal.say(note)
        self.terminal.say(f"  {page}\n  {self.path}/ablation.md, ablation.csv, ablation.png")
        if not any(line.spread.n for line in found.lines):
            errors = [line.outcome.error for line in found.lines if line.outcome is not None]
            raise Failed(f"no trial has a result; the first: {errors[0] if errors else 'not run'}")
        return found.lines


def script(module: ModuleType) -> str:
    """The file of an experiment, as it is typed in a checkout."""
    name = module.__name__
    return f"{name.replace('.', '/')}.py"


def printable(found: Ablated) -> rich.table.Table:
    """For a terminal: what is found, without the intervals of the means."""
    shown = (0, 1, 3, 4, 5, 6)
    made = rich.table.Table(box=None, pad_edge=False, header_style="bold")
    head = ("row", quantity(found.metric).words + found.unit, "difference", "95 %", "p (Holm)", "")
    for number, words in enumerate(head):
        justify: Literal["left", "right"] = "right" if 0 < number < 5 else "left"
        made.add_column(words, justify=justify, overflow="fold")  # names are whole
    for line in found.lines:
        every = cells(found, line)
        made.add_row(*(rich.text.Text(every[at]) for at in shown))
    return made
