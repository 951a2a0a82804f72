"""The figure of `mlp_vs_cnn.py`: parameters, and accuracy after every change."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, PercentFormatter

from experiments.mlp_vs_cnn_findings import (
    CLEAN,
    MIRROR,
    NAMES,
    PERMUTED,
    ROTATION,
    SHIFT,
    SIZE,
    TRAINED,
    UPSIDE_DOWN,
    Findings,
)

LOOKS = {
    "mlp": ("#D55E00", "s", "//"),
    "cnn": ("#0072B2", "o", ""),
    "flatten": ("#009E73", "^", ".."),
    "adaptive": ("#CC79A7", "D", "xx"),
    "half": ("#000000", "x", ""),
}
"""Okabe and Ito's colours, distinct to colour-blind readers; a marker and a hatch besides."""


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
