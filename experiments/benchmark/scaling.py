"""`experiments.benchmark --what scaling`: a training step on more and more devices.

Each device has as many examples whatever their number, so that N of them do N times the work of
one. Efficiency is images/s over N times those of one device.
"""

import pathlib
import statistics
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from experiments.benchmark.layer_speed import measured_at
from experiments.benchmark.turns import Worker, alternate, environment, middle
from train.provenance import cpu
from train.refusal import Refused

SCRIPT = pathlib.Path(__file__).parent / "scaling_speed.py"
COUNTED = """\
Exchanged: the arrays that each device reduces (operand) or gathers (result) in a step, whole, as
the compiled program has them; an asynchronous pair counts once. A ring of N devices sends
2 (N - 1) / N of what it reduces and (N - 1) / N of what it gathers. The program is this machine's:
that of another, such as a GPU's, may exchange other bytes."""
SHARED = """\
The devices of a CPU share its {cores} cores. One device uses all of them by itself, so images/s
can't grow with their number: what is lost below an efficiency of 1/N is the cost of dividing."""


def scaling(
    names: Sequence[str],
    counts: Sequence[int],
    console: Console,
    *,
    batch_size: int | None,
    dtype: str,
    backend: str,
    rounds: int,
    seconds: float,
    tunables: str,
) -> list[dict[str, Any]]:
    """Print a table for each classifier; the numbers.

    Args:
        names: of the classifiers.
        counts: numbers of devices, with data alone divided and, above 1, the state too.
        console: to print to.
        batch_size: examples of each device; 128 of 32x32 or 32 of 224x224 by default.
        dtype: of the arithmetic.
        backend: see `models.backends`; "auto" takes one for all rows.
        rounds: of each process, in turns.
        seconds: of a round.
        tunables: GLIBC_TUNABLES of every process.
    """
    measured: list[dict[str, Any]] = []
    for name in names:
        size, batch = measured_at(name, batch_size)
        spec = {"model": name, "fields": {}, "size": size, "dtype": dtype}
        spec |= {"classes": 10 if size == 32 else 1000, "backend": backend, "seconds": seconds}
        rows = [(n, fsdp) for n in counts for fsdp in dict.fromkeys((1, n))]
        specs = [spec | {"batch_size": n * batch, "devices": n, "fsdp": fsdp} for n, fsdp in rows]
        found = run(specs, rounds, tunables, console)
        title = f"{name}: {batch} examples of {size}x{size} a device, {dtype}"
        console.print(table(found, title))
        if any(row["facts"]["exchanged"] for row in found):
            console.print(exchanges(found))
        measured += found
    console.print(COUNTED)
    if any(row["facts"]["platform"] == "cpu" for row in measured):
        console.print(SHARED.format(cores=cpu()["cores"]))
    return measured


def run(
    specs: Sequence[dict[str, Any]], rounds: int, tunables: str, console: Console
) -> list[dict[str, Any]]:
    """Of each that runs here: what it was asked, its facts, and images/s of each round.

    Raises:
        Refused: none runs.
    """
    command = [sys.executable, str(SCRIPT)]
    # Several processes are there at a time, and one alone would take the memory of a GPU.
    around = environment(command, tunables) | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    workers: dict[int, Worker] = {}
    why: Refused | None = None
    try:
        for place, spec in enumerate(specs):
            try:
                workers[place] = Worker(command, spec, around)
            except Refused as error:
                why = error
                console.print(f"{spec['devices']} devices, {layout(spec)}: {error}")
        if not workers:
            raise why or Refused("devices='' names none")
        rates = alternate({str(place): one.round for place, one in workers.items()}, rounds)
    finally:
        for worker in workers.values():
            worker.close()
    return [
        {**specs[place], "facts": worker.facts, "rates": rates[str(place)]}
        for place, worker in workers.items()
    ]


def efficiency(row: dict[str, Any], one: dict[str, Any]) -> list[float]:
    """Of each round: images/s over as many times those of one device."""
    pairs = zip(row["rates"], one["rates"], strict=True)
    return [rate / (row["devices"] * alone) for rate, alone in pairs]


def table(found: Sequence[dict[str, Any]], title: str) -> Table:
    """A row for each number of devices and each layout."""
    shown = Table(title=title)
    for head in ("devices", "divided", "images/s", "steps/s", "efficiency", "state, MB"):
        shown.add_column(head, justify="right" if head != "divided" else "left")
    alone = next((row for row in found if row["devices"] == 1), None)
    for row in found:
        steps = statistics.median(row["rates"]) / row["batch_size"]
        shown.add_row(
            str(row["devices"]),
            layout(row),
            middle(row["rates"], 1),
            f"{steps:.3g}",
            "" if alone is None else middle(efficiency(row, alone), 2),
            f"{row['facts']['held'] / 1e6:.2f}",
        )
    return shown


def exchanges(found: Sequence[dict[str, Any]]) -> Table:
    """A row for each that exchanges something."""
    shown = Table(title="exchanged in a step, MB (messages)")
    shown.add_column("devices", justify="right")
    shown.add_column("divided")
    shown.add_column("exchanged")
    for row in found:
        if row["facts"]["exchanged"]:
            shown.add_row(str(row["devices"]), layout(row), exchanged(row["facts"]))
    return shown


def layout(row: dict[str, Any]) -> str:
    """What is divided over the devices, in words."""
    if row["devices"] == 1:
        return "nothing"
    return "data" if row["fsdp"] == 1 else "data and state (fsdp)"


def exchanged(facts: dict[str, Any]) -> str:
    """Such as "all-reduce 1.09 (77)"."""
    kinds = [
        f"{kind} {own['bytes'] / 1e6:.2f} ({own['count']})"
        for kind, own in facts["exchanged"].items()
    ]
    return ", ".join(kinds) + ("" if facts["certain"] else ", and more in loops")
