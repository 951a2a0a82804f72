"""Processes that take turns, so that what else the machine does falls on all of them alike.

What counts is the ratio within a round.
"""

import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from train.refusal import Refused

ROOT = pathlib.Path(__file__).parents[2]
OURS = "svertka"
Found = dict[str, tuple[list[str], dict[str, Any]]]
"""Name -> command and what it is to measure; ours first."""


class Worker:
    """A process that measures one round whenever it is asked, and sleeps in between.

    Raises:
        Refused: it can't measure; its own last words say why.
    """

    def __init__(self, command: Sequence[str], spec: dict[str, Any], environment: dict[str, str]):
        # A pipe that no one reads would fill up.
        self.words = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.said: list[dict[str, Any]] = []
        """Its answer of each round."""
        try:
            self.process = subprocess.Popen(
                [*command, json.dumps(spec)],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.words,
                text=True,
            )
        except OSError as error:
            self.words.close()
            raise Refused(str(error)) from None
        try:
            self.facts = self.answer()
        except Refused:
            self.close()
            raise

    def answer(self) -> dict[str, Any]:
        """The next line of JSON that it says."""
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        self.words.seek(0)
        words = self.words.read().strip().splitlines()
        raise Refused(words[-1] if words else f"exit code {self.process.wait()}")

    def round(self) -> float:
        """Examples a second."""
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):  # it has ended: `answer` says why
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        found = self.answer()
        self.said.append(found)
        return found["rate"]

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(BrokenPipeError):
            for pipe in (self.process.stdout, self.words, self.process.stdin):
                if pipe is not None:
                    pipe.close()


def alternate(workers: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Each one's rates, a round of all after the other."""
    rates: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(rounds):
        for name, measure in workers.items():
            rates[name].append(measure())
    return rates


def ratios(rates: dict[str, list[float]], name: str) -> list[float]:
    """Ours to another's, within each round."""
    return [ours / other for ours, other in zip(rates[OURS], rates[name], strict=True)]


def middle(values: Sequence[float], digits: int) -> str:
    """Median, and from least to largest."""
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f}  ({low:.{digits}f} .. {high:.{digits}f})"


def environment(command: Sequence[str], tunables: str) -> dict[str, str]:
    """Of a process: ours imports this checkout; GLIBC_TUNABLES are those given, or none."""
    added = {"GLIBC_TUNABLES": tunables} if tunables else {}
    if command[0] == sys.executable:
        added["PYTHONPATH"] = os.pathsep.join([str(ROOT), *sys.path[1:]])
    left_out = ("GLIBC_TUNABLES", "PYTHONPATH")
    return {key: value for key, value in os.environ.items() if key not in left_out} | added


def compete(
    found: Found, title: str, *, rounds: int, tunables: str, console: Console
) -> dict[str, Any]:
    """Measure all in turns and print a table.

    Args:
        found: commands and what they are to measure.
        title: of the table.
        rounds: of each process.
        tunables: GLIBC_TUNABLES of every process; empty leaves its memory as it is by itself.
        console: to print to.

    Returns:
        `facts`: name -> what the process says of itself; `rates`: name -> examples a second of each
        round; `said`: name -> all that it said of each.

    Raises:
        Refused: ours does not run. Another that does not is said and left out.
    """
    table = Table("", "examples/s", "svertka / other", title=title)
    workers: dict[str, Worker] = {}
    try:
        for name, (command, spec) in found.items():
            try:
                workers[name] = Worker(command, spec, environment(command, tunables))
            except Refused as error:
                if name == OURS:
                    raise
                console.print(f"{name} does not run {title.partition(',')[0]}: {error}")
        rates = alternate({name: one.round for name, one in workers.items()}, rounds)
    finally:
        for worker in workers.values():
            worker.close()
    for name, worker in workers.items():
        what = ", ".join(str(value) for value in worker.facts.values())
        ratio = "" if name == OURS else middle(ratios(rates, name), 2)
        table.add_row(f"{name} ({what})", middle(rates[name], 1), ratio)
    console.print(table)
    return {
        "facts": {name: worker.facts for name, worker in workers.items()},
        "rates": rates,
        "said": {name: worker.said for name, worker in workers.items()},
    }
