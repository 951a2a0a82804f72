"""What `mlp_vs_cnn.py` finds: its numbers, and the tables of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import rich.table

from train.terminal import Terminal

CLEAN, SHIFT, ROTATION, SIZE = "none", "shift", "rotation", "size"
MIRROR, UPSIDE_DOWN, PERMUTED = "mirrored", "upside down", "permuted"

TRAINED = ("mlp", "cnn", "flatten")
NAMES = {
    "mlp": "MLP",
    "cnn": "CNN, averaged",
    "flatten": "CNN, flattened",
    "adaptive": "CNN, pooled to one size, flattened",
    "half": "half as many units",
}
"""By what becomes of the last maps; `half` is one dense layer into half as many units as values."""


@dataclass(frozen=True)
class Count:
    """Parameters of a network for an image (H, W, C); of `half`, its first weights alone."""

    network: str
    image: tuple[int, int, int]
    parameters: int


@dataclass(frozen=True)
class Accuracy:
    """Of a network, 0..1, on all test images after a change; None where it refuses them.

    `amount`: pixels of a shift, degrees of a rotation, pixels a side of a size; else 0.
    """

    network: str
    change: str
    amount: int
    accuracy: float | None


@dataclass(frozen=True)
class Findings:
    """All of them; `side` is that of the training images, in pixels."""

    data: str
    side: int
    test: int
    counts: list[Count]
    accuracies: list[Accuracy]

    def parameters(self, network: str, image: tuple[int, int, int]) -> int:
        """The count of that network for that image."""
        return next(c.parameters for c in self.counts if (c.network, c.image) == (network, image))

    def accuracy(self, network: str, change: str, amount: int = 0) -> float | None:
        """What was measured of it; None where nothing was, or it refused."""
        wanted = (network, change, amount)
        found = [one for one in self.accuracies if (one.network, one.change, one.amount) == wanted]
        return found[0].accuracy if found else None

    @property
    def scalars(self) -> dict[str, float]:
        """The accuracies as a run's `summary.json` has its scalars; what is refused has none."""
        found = {}
        for one in self.accuracies:
            change = "clean" if one.change == CLEAN else one.change
            change = f"{change} {one.amount}" if one.amount else change
            if one.accuracy is not None:
                found[f"test/accuracy ({one.network}, {change})"] = one.accuracy
        return found

    def amounts(self, change: str) -> list[int]:
        """Those of a change that were measured, in order."""
        return sorted({one.amount for one in self.accuracies if one.change == change})


# --- tables -----------------------------------------------------------------------------------


class Table(NamedTuple):
    """Words; the first column says what the others are of."""

    title: str
    head: list[str]
    rows: list[list[str]]


def tables(found: Findings) -> list[Table]:
    """Parameters, accuracies after a change, accuracies at other sizes."""
    counted = ("mlp", "flatten", "cnn", "half")
    images = dict.fromkeys(count.image for count in found.counts)
    parameters = [
        ["x".join(map(str, image)), *(f"{found.parameters(n, image):,}" for n in counted)]
        for image in images
    ]
    changes = [
        ("none", CLEAN, 0),
        *((f"shifted by {n} px", SHIFT, n) for n in found.amounts(SHIFT)),
        *((f"rotated by {n} degrees", ROTATION, n) for n in found.amounts(ROTATION)),
        ("mirrored", MIRROR, 0),
        ("upside down", UPSIDE_DOWN, 0),
        ("pixels permuted, in training too", PERMUTED, 0),
    ]
    changed = [
        [words, *(percent(found.accuracy(n, change, amount), "") for n in TRAINED)]
        for words, change, amount in changes
    ]
    sizes = found.amounts(SIZE)
    sized = [
        [NAMES[n], *(percent(found.accuracy(n, SIZE, side), "refused") for side in sizes)]
        for n in (*TRAINED, "adaptive")
    ]
    measured = f"Test accuracy in %, {found.data}, {found.test:,} images"
    return [
        Table("Parameters", ["image", *(NAMES[n] for n in counted)], parameters),
        Table(measured, ["change", *(NAMES[n] for n in TRAINED)], changed),
        Table(
            f"{measured} resized, trained at {found.side}x{found.side}",
            ["network", *(f"{side}x{side}" for side in sizes)],
            sized,
        ),
    ]


def percent(accuracy: float | None, otherwise: str) -> str:
    """0.91234 -> 91.23."""
    return otherwise if accuracy is None else f"{100 * accuracy:.2f}"


def markdown(table: Table) -> str:
    """A title and a table."""
    rule = ["---", *["---:"] * (len(table.head) - 1)]
    lines = [f"| {' | '.join(line)} |\n" for line in (table.head, rule, *table.rows)]
    return f"## {table.title}\n\n{''.join(lines)}"


def printable(table: Table) -> rich.table.Table:
    """For a terminal."""
    made = rich.table.Table(title=table.title, title_justify="left")
    for number, head in enumerate(table.head):
        # Two lines, so that the longest numbers stand whole in 80 columns.
        made.add_column(head.replace(", ", ",\n"), justify="right" if number else "left")
    for row in table.rows:
        made.add_row(*row)
    return made


def say(found: Findings, path: Path, terminal: Terminal) -> None:
    """Print the tables, and where they are written."""
    for table in tables(found):
        terminal.show(printable(table))
    terminal.say(f"  {path}/figure.png, tables.md, findings.json")
