r"""What a part of a recipe is worth: changes to any experiment, each run with several seeds.

python experiments/ablate.py resnet_cifar --data fashion_mnist --steps 2000 \
    --each nesterov=False "ema=0 label_smoothing=0.1"     a row a change, beside the baseline
python experiments/ablate.py classify --data digits --grid optimizer=sgd,adamw batch_size=32,64
python experiments/ablate.py --table NAME                 one of experiments/ablate_tables.py
python experiments/ablate.py --workdir DIR                goes on with one that was stopped

Options of the experiment are those of all rows. Everything is checked before anything runs. A row
is written when its trial ends, and one that fails is a row with its error. Rows are paired by seed:
the difference to the baseline with its 95 % interval and p-value (Student's t, Holm over the
table), and where none is found, the smallest effect that so many seeds would have found.
"""

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

if __name__ == "__main__":  # what it imports stands beside it, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from train.stop import end_quietly

    end_quietly()  # before the other imports, which take seconds

import rich.table
import rich.text
from rich.console import Console

from experiments.ablate_tables import TABLES
from experiments.by_name import named
from train import cli, launch, neighbours, workdir
from train.ablation import Ablation, Trial, grid, trials, typed
from train.lock import locked
from train.metrics.quantities import quantity, ranking
from train.refusal import Failed, Refused, choose
from train.report.ablation import CSV, Ablated, Line, cells, lines, write_ablation, write_shown
from train.stop import Stopped, again
from train.sweep import (
    ABLATION,
    TRIALS,
    Checked,
    check,
    command,
    finished,
    measured,
    outcome_of,
    perform,
    refuse_other,
)
from train.terminal import Terminal

NAME = f"experiments.{Path(__file__).stem}"


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


# --- the command line -------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """Of the options that are no experiment's."""
    made = argparse.ArgumentParser(
        usage="ablate.py [EXPERIMENT] [options] [options of the experiment]",
        description=(__doc__ or "").partition("\n\n")[0],
        epilog="Any option of the experiment is one of all rows: ablate.py resnet_cifar "
        "--data digits …; experiments/resnet_cifar.py --help lists them.",
        allow_abbrev=False,
        exit_on_error=False,
    )
    # Given twice, an option adds to the first: a row that is typed must not be lost.
    words = {"action": "extend", "nargs": "+", "default": [], "metavar": "FIELD=…"}
    made.add_argument("--each", help='a change a row: "mixup=0.2" "ema=0 pad=4"', **words)  # type: ignore[arg-type]
    made.add_argument("--grid", help="a row each of the product: ema=0,0.9 pad=2,4", **words)  # type: ignore[arg-type]
    made.add_argument("--within", help="compare anew with each: model=resnet20", **words)  # type: ignore[arg-type]
    made.add_argument("--table", help="a table that is built in")
    made.add_argument("--metric", help="of the test split; by default the one that ranks")
    made.add_argument("--seeds", nargs="+", type=int, help="of every row (0 1 2 3 4)")
    made.add_argument("--workdir", type=cli.at_home, help="where it is kept; one there goes on")
    made.add_argument("--launcher", choices=("local", "slurm"), help="of the trials (local)")
    made.add_argument(
        "--slurm",
        **{**words, "metavar": "NAME=…"},  # type: ignore[arg-type]
        help="timeout_min=600 gpus_per_node=1 …",
    )
    return made


def parsed(argv: Sequence[str]) -> Asked:
    """What the arguments ask for.

    Raises:
        Refused: they can't be understood.
    """
    words = [*argv]
    experiment = words.pop(0) if words and not words[0].startswith("-") else ""
    try:
        found, others = parser().parse_known_args(words)
    except argparse.ArgumentError as error:
        raise Refused(str(error)) from None
    seeds = tuple(found.seeds or ())
    base = given(others)
    ablation = None
    if found.table is not None:
        if experiment or found.each or found.grid or found.within:
            raise Refused(f"table={found.table!r} has its own experiment and rows")
        ablation = TABLES[choose("table", found.table, TABLES)]
        ablation = dataclasses.replace(ablation, base={**ablation.base, **base})
    elif experiment:
        ablation = of_words(experiment, base, found.each, found.grid, found.within)
    elif found.each or found.grid or found.within or base or found.metric:
        raise Refused("no experiment is named: ablate.py EXPERIMENT …, see --help")
    elif found.workdir is None:
        raise Refused("nothing is asked for: name an experiment, a --table or a --workdir")
    if ablation is not None:
        ablation = dataclasses.replace(
            ablation,
            seeds=seeds or ablation.seeds,
            metric=ablation.metric if found.metric is None else found.metric,
        )
    return Asked(
        ablation=ablation,
        seeds=seeds,
        workdir=found.workdir,
        launcher=found.launcher,
        slurm=parameters(found.slurm),
    )


def of_words(
    experiment: str,
    base: Mapping[str, Any],
    each: Sequence[str],
    product: Sequence[str],
    within: Sequence[str],
) -> Ablation:
    """An ablation as it is typed.

    Raises:
        Refused: it is none.
    """
    if bool(each) == bool(product):
        raise Refused("give either --each, a change a row, or --grid, values of fields")
    changes: list[Any] = [typed(text) for text in each]
    words = "baseline"
    if product:
        fields: dict[str, list[str]] = {}
        for text in product:
            for name, values in typed(text).items():
                if name in fields:
                    raise Refused(f"grid names {name} twice")
                fields[name] = values.split(",")
        first, changes = grid(fields)
        base = {**base, **first}
        words = " ".join(f"{name}={value}" for name, value in first.items())
    return Ablation(
        experiment=named(experiment).__name__,
        base=base,
        changes=changes,
        within=[typed(text) for text in within] or ({},),
        baseline=words,
    )


def given(words: Sequence[str]) -> dict[str, Any]:
    """Options of an experiment as fields: a value as it is typed, several as a tuple.

    Raises:
        Refused: a word belongs to no option.
    """
    found: dict[str, Any] = {}
    name = ""
    for word in words:
        if cli.OPTION.match(word):
            flag, equals, value = word.partition("=")
            name = flag.lstrip("-").replace("-", "_")
            found[name] = (value,) if equals else ()
        elif not name:
            raise Refused(f"{word!r} belongs to no option")
        else:
            found[name] = (*found[name], word)
    return {name: one[0] if len(one) == 1 else one for name, one in found.items()}


def parameters(words: Sequence[str]) -> dict[str, Any]:
    """Of a job: whole numbers as such, all else as it is typed."""
    found: dict[str, Any] = {}
    for word in words:
        for name, value in typed(word).items():
            found[name] = int(value) if value.isdecimal() else value
    return found


# --- the sweep --------------------------------------------------------------------------------


def main(asked: Asked) -> list[Line]:
    """Run what is asked for, or go on with it; the table.

    Raises:
        Refused: it can't be; nothing has run.
        Failed: no trial has a result.
    """
    path = None if asked.workdir is None else root_of(asked.workdir)
    earlier = None if path is None else workdir.decoded(path, ABLATION, Ablation)
    ablation = asked.ablation or earlier
    if ablation is None:
        raise Refused(f"workdir={str(path)!r} holds no ablation")
    if asked.ablation is None and asked.seeds:
        ablation = dataclasses.replace(ablation, seeds=asked.seeds)
    module = named(ablation.experiment)
    ablation = dataclasses.replace(ablation, experiment=module.__name__)
    todo = trials(module, ablation)
    if earlier is not None and path is not None:
        if not (path / CSV).exists():  # no row yet: it may have asked for what is not measured
            earlier = dataclasses.replace(earlier, metric=ablation.metric)
        refuse_other(earlier, ablation, trials(module, earlier), todo)
    elif path is not None:
        neighbours.refuse_mistaken(path)
    made = None
    jobs = path is not None and (path / launch.JOBS).exists()
    if asked.launcher == "slurm" or (jobs and asked.launcher is None):
        made = launch.executor((path or Path("runs")) / launch.LOGS, asked.slurm)
    console = Terminal(Console(markup=False, emoji=False), 0)
    console.say(f"Checking {len(todo)} rows, of {len(ablation.seeds)} seed(s) each.")
    checks = {}
    for trial in todo:
        where = None if path is None else path / TRIALS / trial.folder
        if where is None or finished(where, ablation.seeds) is None:
            checks[trial.folder] = check(module, trial, where)
    if path is None:
        path = workdir.claim(NAME, todo[0].config.data)
    workdir.make(path)
    with locked(path):
        sweep = Sweep(module, settled(ablation, todo), todo, path, console)
        workdir.write(path / ABLATION, sweep.ablation)
        try:
            if made is None:
                sweep.here(checks)
            else:
                made = launch.executor(path.absolute() / launch.LOGS, asked.slurm)
                sweep.away(checks, made)
        except (Stopped, KeyboardInterrupt):
            console.say(f"To go on with the ablation:\n  {again(path)}")
            raise
        return sweep.end()


def settled(ablation: Ablation, todo: Sequence[Trial]) -> Ablation:
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


if __name__ == "__main__":
    sys.exit(cli.exit_code(lambda: main(parsed(sys.argv[1:]))))
