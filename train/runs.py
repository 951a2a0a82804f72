"""Runs: a table of those in a directory: python -m train.runs [DIR] [--sort COLUMN]

A row a run, and below a study (several seeds, or stages) one for each of its own. `best` is the
best validation score so far, `test` that of the test split. On a terminal it is a table to be read;
in a pipe its columns are separated by tabs, with scores as they were measured and sizes in bytes.
"""

import argparse
import dataclasses
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from train import workdir
from train.disk import folder_bytes, size
from train.lock import in_use
from train.logs import read_metrics
from train.metrics.quantities import ordered, quantity, readable, show
from train.refusal import Refused
from train.study import DIVERGED

DEPTH = 4
"""Folders below the directory in which runs are looked for."""
INSIDE = {"checkpoints", "tensorboard", "__pycache__"}
"""Folders in which there are none."""
COLUMNS = ("name", "data", "model", "step", "score", "best", "test", "state", "size")
SPARED = ("data", "size", "score", "model", "best")
"""Columns that a narrow terminal does without, in this order."""
NONE = "-"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """What the files of a run say; None where they don't.

    Attributes:
        name: its path below the directory that was asked for.
        data, model, steps: of its `config.json`.
        step: the last one that was logged or saved; of a study, where the least of its runs is.
        score: name of what ranks it; empty where nothing is measured yet.
        best: on the validation split, so far.
        test: on the test split; of several seeds, of each.
        state: "running", "finished", "diverged" or "stopped".
        bytes: of all its files.
        began: when, in seconds since 1970.
        own: the runs of a study.
    """

    name: str
    data: str
    model: str
    step: int | None
    steps: int | None
    score: str
    best: float | None
    test: list[float | None]
    state: str
    bytes: int
    began: float
    own: Sequence["Run"] = ()


def runs(root: Path, say: Callable[[str], None]) -> list[Run]:
    """The runs in a directory, or the one that it is, by name.

    Args:
        root: the directory. Links are followed.
        say: takes a line about each folder that looks like a run and can't be read.

    Raises:
        Refused: there is no such directory.
    """
    if not os.path.isdir(root):
        raise Refused(f"there is no directory {str(root)!r}")
    return [*found(root, root, DEPTH, set(), say)]


def found(
    root: Path, path: Path, depth: int, seen: set[str], say: Callable[[str], None]
) -> Iterator[Run]:
    """The runs at and below a path."""
    if (real := os.path.realpath(path)) in seen:
        return  # a link to a folder above
    seen.add(real)
    if os.path.isfile(path / workdir.CONFIG):
        try:
            yield read(root, path, seen, say)
        except (Refused, OSError) as error:
            say(str(error))
        return
    yield from below(root, path, depth, seen, say)


def below(
    root: Path, path: Path, depth: int, seen: set[str], say: Callable[[str], None]
) -> Iterator[Run]:
    """The runs in the folders of a path."""
    try:
        with os.scandir(path) as entries:
            names = sorted(each.name for each in entries if each.is_dir())
    except OSError as error:
        say(f"{path} can't be read: {error.strerror}")
        return
    for name in names:
        if depth and name not in INSIDE and not name.startswith("."):
            yield from found(root, path / name, depth - 1, seen, say)


def read(root: Path, path: Path, seen: set[str], say: Callable[[str], None]) -> Run:
    """One run.

    Raises:
        Refused: its files say nothing, or not what they should.
    """
    workdir.experiment_of(path)
    config = workdir.read(path, workdir.CONFIG) or {}
    summary = workdir.read(path, workdir.SUMMARY)
    own = [*below(root, path, 1, seen, say)]
    lines = read_metrics(path)
    measured = [line for line in lines if line.get("split") == "validation"]
    scores = {key[len("test/") :]: value for key, value in (summary or {}).items() if "/" in key}
    names = ordered({**scores, **{key: None for line in measured for key in line}})
    score = next((name for name in names if quantity(name).better), "")
    better = quantity(score).better
    values = [line[score] for line in measured if number(line.get(score)) is not None]
    least = min((one.step or 0 for one in own), default=None)
    saved = [int(name) for name in folders(path / "checkpoints") if name.isdecimal()]
    if in_use(path):
        state = "running"
    elif summary is not None:
        state = "finished"
    else:
        state = "diverged" if os.path.isfile(path / DIVERGED) else "stopped"
    return Run(
        name="." if path == root else str(path.relative_to(root)),
        data=str(config.get("data", "")),
        model=str(config.get("model", "")),
        step=max([*saved, *(line["step"] for line in lines)], default=least),
        steps=steps if isinstance(steps := config.get("steps"), int) else None,
        score=score,
        best=max(values, key=lambda value: value * better) if values else None,
        test=each_of(scores.get(score)),
        state=state,
        bytes=folder_bytes(path),
        began=os.stat(path / workdir.CONFIG).st_mtime,
        own=own,
    )


def each_of(value: Any) -> list[float | None]:
    """Of a summary: a number, or those of several seeds."""
    if value is None:
        return []
    values = value.get("values") if isinstance(value, dict) else [value]
    return [number(one) for one in values] if isinstance(values, list) else []


def number(value: Any) -> float | None:
    """It, where it is one."""
    there = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if there else None


def folders(path: Path) -> list[str]:
    """Names of what is in a folder; none where there is none."""
    try:
        return os.listdir(path)
    except OSError:
        return []


def mean(values: Sequence[float | None]) -> float | None:
    """Of those that are there."""
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def largest(value: float | None) -> tuple[bool, float]:
    """A key: the largest first, and what is None last."""
    return value is None, -(value or 0)


def of_score(run: Run, value: float | None) -> tuple[bool, float]:
    """A key: the best first."""
    return largest(None if value is None else value * quantity(run.score).better)


ORDERS: dict[str, Callable[[Run], Any]] = {
    "name": lambda run: run.name,
    "data": lambda run: (run.data, run.name),
    "model": lambda run: (run.model, run.name),
    "step": lambda run: (largest(run.step), run.name),
    "best": lambda run: (of_score(run, run.best), run.name),
    "test": lambda run: (of_score(run, mean(run.test)), run.name),
    "state": lambda run: (run.state, run.name),
    "size": lambda run: (largest(run.bytes), run.name),
    "time": lambda run: (largest(run.began), run.name),
}
"""Column -> key of a run; of numbers the best or largest comes first, of times the newest."""


def rows(found: Sequence[Run], by: str) -> Iterator[Run]:
    """In order, the runs of a study below it."""
    for run in sorted(found, key=ORDERS[by]):
        yield run
        yield from rows(run.own, by)


def cells(run: Run, *, plain: bool) -> list[str]:
    """Of `COLUMNS`; `plain`: numbers as they were measured."""
    step = NONE if run.step is None else str(run.step)
    step = step if run.steps is None else f"{step if run.step is not None else 0}/{run.steps}"
    best, test = ([] if run.best is None else [run.best]), [*run.test]
    if plain:
        average = mean(test)
        scores = [repr(best[0]) if best else NONE, NONE if average is None else repr(average)]
    else:
        scores = [show(run.score, values) if values else NONE for values in (best, test)]
    taken = str(run.bytes) if plain else size(run.bytes)
    score = run.score if plain else readable(run.score)
    line = [run.name, run.data, run.model, step, score, *scores, run.state, taken]
    return [shown(cell) or NONE for cell in line]


def shown(text: str) -> str:
    """A name as one that can be printed: control characters and what is no text are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def table(found: Sequence[Run], by: str, width: int) -> Table:
    """For a terminal, of so many columns: names stay whole, and others are left out for them."""
    whole = [dict(zip(COLUMNS, cells(run, plain=False), strict=True)) for run in rows(found, by)]
    kept = [*COLUMNS]
    for column in SPARED:
        if sum(max(len(name), *(len(row[name]) for row in whole)) + 2 for name in kept) > width:
            kept.remove(column)
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in kept:
        right = column in ("step", "best", "test", "size")
        made.add_column(column, justify="right" if right else "left", overflow="fold")
    for row in whole:
        made.add_row(*(Text(row[column]) for column in kept))
    return made


def unheard() -> None:
    """What is left of the output goes nowhere; Python would complain at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; the exit code is 0, or 2 for a request that can't be met."""
    parser = argparse.ArgumentParser(
        prog="python -m train.runs",
        description=(__doc__ or "").partition(": ")[2].partition(":")[0],
    )
    parser.add_argument("dir", nargs="?", default="runs", help="a folder of runs (default: runs)")
    parser.add_argument("--sort", choices=ORDERS, default="name", help="the best or newest first")
    asked = parser.parse_args(argv)
    root = Path(os.path.expanduser(asked.dir))
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    strange: list[str] = []
    try:
        here = runs(root, strange.append)
        if not here:
            print(f"There are no runs in {shown(str(root))}.", file=sys.stderr)
        elif sys.stdout.isatty():
            console = Console()
            console.print(table(here, asked.sort, console.width))
        else:
            print(*COLUMNS, sep="\t")
            for run in rows(here, asked.sort):
                print(*cells(run, plain=True), sep="\t")
        sys.stdout.flush()
        for line in strange:
            print(f"Left out: {shown(line)}", file=sys.stderr)
    except Refused as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # `| head` has seen enough
        unheard()
        return 128 + signal.SIGPIPE
    except OSError as error:
        unheard()
        print(f"error: the output could not be written: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
