"""What `mlp_vs_cnn.py` finds: its numbers, the tables of them, and the figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import rich.table
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, PercentFormatter
from rich.console import Console

from train import workdir

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
LOOKS = {
    "mlp": ("#D55E00", "s", "//"),
    "cnn": ("#0072B2", "o", ""),
    "flatten": ("#009E73", "^", ".."),
    "adaptive": ("#CC79A7", "D", "xx"),
    "half": ("#000000", "x", ""),
}
"""Okabe and Ito's colours, distinct to colour-blind readers; a marker and a hatch besides."""


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
    def scalars(self) -> dict[str, float | None]:
        """The accuracies as a run's `summary.json` has its scalars."""
        found = {}
        for one in self.accuracies:
            change = f"{one.change} {one.amount}" if one.amount else one.change
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


def write(found: Findings, path: Path) -> None:
    """Leave findings.json, tables.md and figure.png in a directory."""
    workdir.write(path / "findings.json", found)
    (path / "tables.md").write_text("\n".join(map(markdown, tables(found))), encoding="utf-8")
    figure(found).savefig(path / "figure.png", dpi=150)


def say(found: Findings, path: Path, console: Console) -> None:
    """Print the tables, and where they are written."""
    for table in tables(found):
        console.print(printable(table))
    console.print(f"{path}/figure.png, tables.md, findings.json", soft_wrap=True)


# --- figure -----------------------------------------------------------------------------------


def figure(found: Findings) -> Figure:
    """Parameters, shifts, rotations; flips, permuted pixels, other sizes."""
    made = Figure(figsize=(11, 7), layout="constrained")
    (counts, shifts, rotations), (flips, permuted, sizes) = made.subplots(2, 3)
    clean = {"as it is": (CLEAN, 0)}
    draw_counts(counts, found)
    draw_over(shifts, found, SHIFT)
    draw_over(rotations, found, ROTATION)
    flipped = {change: (change, 0) for change in (MIRROR, UPSIDE_DOWN)}
    draw_bars(flips, found, TRAINED, clean | flipped)
    draw_bars(permuted, found, ("mlp", "cnn"), clean | {"permuted": (PERMUTED, 0)})
    resized = {str(side): (SIZE, side) for side in found.amounts(SIZE)}
    draw_bars(sizes, found, (*TRAINED, "adaptive"), resized)
    words = {
        counts: ("Parameters", "values of an image"),
        shifts: ("Shifted", "pixels, mean of four directions"),
        rotations: ("Rotated", "degrees, mean of both directions"),
        flips: ("Flipped", ""),
        permuted: ("Pixels permuted, in training too", ""),
        sizes: (f"Resized, trained at {found.side}x{found.side}", "pixels a side"),
    }
    for axes, (title, label) in words.items():
        dress(axes, title, label)
        if axes is not counts:
            axes.set_ylim(0, 1.1)
            axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])
            axes.set_ylabel("test accuracy", fontsize=9)
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    handles = [handle(network) for network in NAMES]
    made.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=9, frameon=False)
    made.suptitle(f"MLP and CNN on {found.data}, {found.test:,} test images", fontsize=12)
    return made


def draw_counts(axes: Axes, found: Findings) -> None:
    """Over the values of an image, both logarithmic."""
    for network in ("half", "mlp", "flatten", "cnn"):
        mine = [count for count in found.counts if count.network == network]
        values = [height * width * channels for height, width, channels in (c.image for c in mine)]
        axes.add_line(handle(network, values, [count.parameters for count in mine]))
    axes.autoscale()
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(numticks=6))


def draw_over(axes: Axes, found: Findings, change: str) -> None:
    """Accuracy over the amount of a change, from none on."""
    for network in TRAINED:
        points = {0: found.accuracy(network, CLEAN)}
        points |= {n: found.accuracy(network, change, n) for n in found.amounts(change)}
        axes.add_line(handle(network, [*points], [*points.values()]))
    axes.autoscale()


def draw_bars(
    axes: Axes, found: Findings, networks: Sequence[str], groups: dict[str, tuple[str, int]]
) -> None:
    """A group a change and its amount, a bar a network, its per cent above; or that it refuses."""
    width = 0.84 / len(networks)
    for number, network in enumerate(networks):
        colour, _, hatch = LOOKS[network]
        for group, (change, amount) in enumerate(groups.values()):
            place = group + (number - (len(networks) - 1) / 2) * width
            value = found.accuracy(network, change, amount)
            if value is None:
                axes.text(
                    place, 0.02, "refused", fontsize=8, color=colour, rotation=90, ha="center"
                )
            else:
                axes.bar(place, value, width, color=colour, hatch=hatch, edgecolor="white")
                axes.text(place, value + 0.01, f"{100 * value:.0f}", fontsize=7, ha="center")
    axes.set_xticks(range(len(groups)), [*groups])


def handle(network: str, x: Sequence[float] = (), y: Sequence[Any] = ()) -> Line2D:
    """A network's line, for axes or for the legend."""
    colour, marker, _ = LOOKS[network]
    return Line2D(
        x, y, color=colour, marker=marker, markersize=5, linewidth=1.4, label=NAMES[network]
    )


def dress(axes: Axes, title: str, label: str) -> None:
    """Light lines behind the data."""
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(label, fontsize=9)
    axes.tick_params(labelsize=8, length=3, color="#888888")
    axes.grid(True, axis="y", color="#E6E6E6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#888888")
