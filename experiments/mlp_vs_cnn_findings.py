"""What `mlp_vs_cnn.py` finds: its numbers, the tables of them, and the figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import rich.table
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, PercentFormatter

CLEAN, SHIFT, ROTATION, SIZE = "none", "shift", "rotation", "size"
MIRROR, UPSIDE_DOWN, PERMUTED = "mirrored", "upside down", "permuted"

TRAINED = ("mlp", "cnn", "flatten")
NAMES = {
    "mlp": "MLP",
    "cnn": "CNN, mean of its maps",
    "flatten": "CNN, maps flattened",
    "adaptive": "CNN, flattened after adaptive pooling",
    "half": "dense, half as many units",
}
LOOKS = {
    "mlp": ("#D55E00", "s", "//"),
    "cnn": ("#0072B2", "o", ""),
    "flatten": ("#009E73", "^", ".."),
    "adaptive": ("#CC79A7", "D", ""),
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
        made.add_column(head, justify="right" if number else "left")
    for row in table.rows:
        made.add_row(*row)
    return made


# --- figure -----------------------------------------------------------------------------------


def figure(found: Findings) -> Figure:
    """Parameters, shifts, rotations; flips, permuted pixels, other sizes."""
    made = Figure(figsize=(11, 7), layout="constrained")
    (counts, shifts, rotations), (flips, permuted, sizes) = made.subplots(2, 3)
    draw_counts(counts, found)
    draw_over(shifts, found, TRAINED, SHIFT)
    draw_over(rotations, found, TRAINED, ROTATION)
    draw_bars(flips, found, TRAINED, (CLEAN, MIRROR, UPSIDE_DOWN))
    draw_bars(permuted, found, ("mlp", "cnn"), (CLEAN, PERMUTED))
    # The wider marker first: where adaptive pooling changes nothing, both are seen.
    draw_over(sizes, found, ("adaptive", *TRAINED), SIZE)
    sizes.set_xticks(found.amounts(SIZE))
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
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    handles = [handle(network) for network in NAMES]
    made.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=9, frameon=False)
    made.suptitle(f"Test accuracy on {found.data}, {found.test:,} images", fontsize=12)
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


def draw_over(axes: Axes, found: Findings, networks: Sequence[str], change: str) -> None:
    """Over the amount of a change, beginning at none where that has an amount of 0."""
    for network in networks:
        points = [
            (amount, found.accuracy(network, change, amount)) for amount in found.amounts(change)
        ]
        if change != SIZE:
            points.insert(0, (0, found.accuracy(network, CLEAN)))
        taken = [(x, y) for x, y in points if y is not None]
        axes.add_line(handle(network, *zip(*taken, strict=True)))
    axes.autoscale()


def draw_bars(axes: Axes, found: Findings, networks: Sequence[str], changes: Sequence[str]) -> None:
    """A group a change, a bar a network, its per cent above it."""
    width = 0.8 / len(networks)
    for number, network in enumerate(networks):
        colour, _, hatch = LOOKS[network]
        values = [found.accuracy(network, change) for change in changes]
        places = [
            group + (number - (len(networks) - 1) / 2) * width for group in range(len(changes))
        ]
        drawn = axes.bar(places, values, width, color=colour, hatch=hatch, edgecolor="white")
        axes.bar_label(drawn, [f"{100 * value:.0f}" for value in values], fontsize=8, padding=1)
    axes.set_xticks(range(len(changes)), ["as it is" if c == CLEAN else c for c in changes])


def handle(network: str, x: Sequence[float] = (), y: Sequence[float] = ()) -> Line2D:
    """A network's line, for axes or for the legend."""
    colour, marker, _ = LOOKS[network]
    size = 8 if network == "adaptive" else 5
    return Line2D(
        x, y, color=colour, marker=marker, markersize=size, linewidth=1.4, label=NAMES[network]
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
