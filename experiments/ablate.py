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
import contextlib
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # what it imports stands beside it, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from train.stop import end_quietly

    end_quietly()  # before the other imports, which take seconds

from rich.console import Console

from experiments.ablate_asked import (
    Asked,
    begun,
    launched_away,
    refuse_begun,
    root_of,
    settled,
    unfinished,
    with_data,
)
from experiments.ablate_sweep import Sweep
from experiments.ablate_tables import TABLES
from experiments.by_name import named
from train import cli, launch, workdir
from train.ablation import Ablation, grid, typed
from train.foreseen import check_all
from train.lock import locked
from train.refusal import Refused, choose
from train.report.ablation import Line
from train.stop import part_of
from train.sweep import ABLATION
from train.terminal import Terminal

NAME = f"experiments.{Path(__file__).stem}"


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


def main(asked: Asked) -> list[Line]:
    """Run what is asked for, or go on with it; the table.

    Raises:
        Refused: it can't be; nothing has run.
        Failed: no trial has a result.
    """
    path = None if asked.workdir is None else root_of(asked.workdir)
    terminal = Terminal(Console(markup=False, emoji=False), 0)
    with contextlib.ExitStack() as held:
        there = path is not None and path.is_dir()
        if path is not None and there:
            held.enter_context(locked(path))
        module, ablation, todo = settled(asked, path)
        away = launched_away(asked, path)
        left = unfinished(todo, path, ablation.seeds)
        terminal.say(begun(len(left), len(todo), len(ablation.seeds)))
        checks = check_all(module, left, ablation.metric)
        if path is None:
            path = workdir.claim(NAME, todo[0].config.data)
        workdir.make(path)
        if not there:
            held.enter_context(locked(path))
            refuse_begun(path)
        sweep = Sweep(module, with_data(ablation, todo), todo, path, terminal)
        workdir.write(path / ABLATION, sweep.ablation)
        with part_of("the ablation", path, terminal.say):
            if away:
                sweep.away(checks, launch.executor(path.absolute() / launch.LOGS, asked.slurm))
            else:
                sweep.here(checks)
        return sweep.end()


if __name__ == "__main__":
    sys.exit(cli.exit_code(lambda: main(parsed(sys.argv[1:]))))
