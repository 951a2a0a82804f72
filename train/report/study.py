"""A page for several runs of one question: seeds of a recipe, stages, ablations."""

import math
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

import numpy as np

from train.files import write
from train.legible import legible
from train.metrics.quantities import COUNT, SHARE, ordered, quantity, show
from train.metrics.spread import Spread, spread
from train.report.figures import COLOURS, light
from train.report.markup import figure, render, score, written
from train.report.page import REPORT, attempted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACROSS = 3
"""Panels of the figure in a row."""
NAMED = 12
"""Up to so many runs the figure names each; more are numbered from 0."""
ARROWS = {1: "\N{NO-BREAK SPACE}↑", -1: "\N{NO-BREAK SPACE}↓", 0: ""}
LOST = "#B00020"

Runs = Mapping[str, Mapping[str, float | None]]
"""Name of a run, such as "seed 0" -> its scalars; None for what is not finite."""


class Cell(NamedTuple):
    """One value of one run, or what all come to."""

    text: str
    note: str = ""
    best: bool = False


class Row(NamedTuple):
    """One run."""

    name: str
    link: str
    lost: str
    """In place of its values, where it has none."""
    cells: list[Cell]


def write_study(
    workdir: str | os.PathLike,
    title: str,
    runs: Runs,
    *,
    links: Mapping[str, str],
    facts: Mapping[str, str] | None = None,
    lead: str = "",
    alike: bool = True,
    say: Callable[[str], None] = print,
) -> pathlib.Path:
    """Writes `report.html`: every value of every run, mean and standard deviation, one figure.

    A figure that can't be drawn is named in its place, as on the page of a run.

    Args:
        workdir: of the study.
        title: what was run, in words.
        runs: in the order of the page. A run without a finite value has diverged.
        links: name of a run -> path of its own page from `workdir` on; of none that has no page.
        facts: what all runs have in common, such as "Data" and "Model".
        lead: a paragraph under the title.
        alike: whether the runs are of one recipe; else, as of stages, neither a mean nor the figure
            says anything of them.
        say: takes a line for the user.

    Returns:
        Its path.

    Raises:
        train.files.WriteFailed: it can't be written; what stood there before stays.
    """
    names = ordered(dict.fromkeys(name for scalars in runs.values() for name in scalars))
    found = {name: spread(finite(runs, name).values()) for name in names}
    drawn = [name for name in names if quantity(name).unit != COUNT and found[name].n]
    measured = {spreads.n for spreads in found.values()}
    plot = partial(figure, partial(draw, runs, drawn, found), f"{title}: every run")
    page = render(
        "study.html",
        title=title,
        lead=lead,
        facts=render("facts.html", rows=[*facts.items()]) if facts else "",
        heads=[quantity(name).words + ARROWS[quantity(name).better] for name in names],
        rows=[row(runs, name, names, quote(links.get(name, ""))) for name in runs],
        overall=[overall(runs, name, found[name], len(measured) > 1) for name in names],
        of=f", n = {max(measured)}" if len(measured) == 1 and {len(runs)} != measured else "",
        several=len(runs) > 1,
        alike=alike,
        lost=sum(not any(map(is_finite, scalars.values())) for scalars in runs.values()),
        count=len(runs),
        figure=attempted(say, "the figure", plot) if drawn and alike else "",
    )
    path = pathlib.Path(workdir) / REPORT
    write(path, written(page))
    return path


def row(runs: Runs, run: str, names: Sequence[str], link: str) -> Row:
    """A run's values; the best of a column are marked where the quantity says what is better."""
    scalars = runs[run]
    if not any(map(is_finite, scalars.values())):
        return Row(run, link, "diverged", [])
    cells = []
    for name in names:
        value = scalars.get(name)
        if value is None or not math.isfinite(value):
            cells.append(Cell("not finite" if name in scalars else "–"))
            continue
        others = {v for v in finite(runs, name).values() if v is not None}
        better = quantity(name).better
        best = better and len(others) > 1 and better * value == max(better * v for v in others)
        cells.append(Cell(score(name, value), best=bool(best)))
    return Row(run, link, "", cells)


def overall(runs: Runs, name: str, found: Spread, noted: bool) -> Cell:
    """Mean and standard deviation of a quantity; noted, of how many where some have no value."""
    values = [value for value in finite(runs, name).values() if value is not None]
    note = f"(n = {found.n})" if noted and 0 < found.n < len(runs) else ""
    text = show(name, values) if values else "–"
    return Cell(text.replace("±", " ± ").replace("%", "\N{NARROW NO-BREAK SPACE}%"), note)


def finite(runs: Runs, name: str) -> dict[str, float | None]:
    """Run -> its value; None where it is not finite. Runs that don't know the quantity are out."""
    return {
        run: scalars[name] if is_finite(scalars[name]) else None
        for run, scalars in runs.items()
        if name in scalars
    }


def is_finite(value: float | None) -> bool:
    """Whether a run has a value."""
    return value is not None and math.isfinite(value)


def draw(runs: Runs, names: Sequence[str], found: Mapping[str, Spread]) -> "Figure":
    """A panel a quantity, a point a run, the mean as a line in a band of one deviation each way."""
    from matplotlib.figure import Figure

    across = min(ACROSS, len(names))
    down = -(-len(names) // across)
    height = 0.9 + 0.22 * max(min(len(runs), NAMED), 3)
    drawn = Figure(figsize=(3.6 * across, height * down), layout="constrained")
    panels = [*drawn.subplots(down, across, squeeze=False, sharey=True).flat]
    for axes, name in zip(panels, names, strict=False):
        panel(axes, runs, name, found[name])
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    return drawn


def panel(axes: "Axes", runs: Runs, name: str, found: Spread) -> None:
    """One quantity; a cross at the left for a run that has no finite value."""
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    values = finite(runs, name)
    places = {run: place for place, run in enumerate(runs)}
    if found.std is not None:
        low, high = found.mean - found.std, found.mean + found.std
        axes.axvspan(low, high, color="#888888", alpha=0.15, linewidth=0)
    axes.axvline(found.mean, color="#888888", linewidth=1)
    there = {run: value for run, value in values.items() if value is not None}
    axes.plot(
        np.asarray([*there.values()], np.float64),
        [places[run] for run in there],
        linestyle="none",
        marker="o",
        markersize=5,
        color=COLOURS[0],
    )
    axes.plot(
        np.full(len(values) - len(there), 0.03),
        [places[run] for run, value in values.items() if value is None],
        linestyle="none",
        marker="x",
        color=LOST,
        transform=axes.get_yaxis_transform(),
    )
    known = quantity(name)
    axes.set_title(known.words + ARROWS[known.better], fontsize=9, parse_math=False)
    light(axes)
    axes.set_ylim(len(runs) - 0.4, -0.6)
    if len(runs) <= NAMED:
        axes.set_yticks(range(len(runs)), [*map(legible, runs)], fontsize=8, parse_math=False)
    else:
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    if known.unit == SHARE:
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
