"""Curves of a run, from the lines of `metrics.jsonl`: one small chart a quantity."""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from train.logs import RESERVED
from train.metrics.quantities import COUNT, SHARE, ordered, quantity, readable
from train.report.figures import COLOURS, light

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LONG = 2000
"""Points from which on a curve is drawn as pixels, which bounds the size of the page."""


class Series(NamedTuple):
    """One curve."""

    label: str
    steps: np.ndarray
    """(n,) int64."""
    values: np.ndarray
    """(n,) float64; NaN where what was logged was not finite."""
    group: int
    """Curves of a group (the seeds of one split) share a colour and a label."""


class Chart(NamedTuple):
    """Curves that share their axes."""

    title: str
    series: list[Series]
    share: bool
    """Drawn in per cent."""


def charts(lines: Sequence[dict[str, Any]]) -> list[Chart]:
    """What there is to draw, of the lines that `read_metrics` gives.

    One chart a quantity of training, with the evaluations of the same name on it; one for the
    shares that evaluations alone measure (precision, recall, …), of the split that came first;
    one for each that is left.
    """
    train = [line for line in lines if line["kind"] == "train"]
    evaluations = [line for line in lines if line["kind"] == "evaluation"]
    splits = list(dict.fromkeys(line["split"] for line in evaluations))
    trained, measured = _quantities(train), _quantities(evaluations)

    def of(name: str, label: str, source: Iterable[dict], group: int) -> list[Series]:
        having = [line for line in source if name in line]
        seeds = list(dict.fromkeys(line.get("seed") for line in having))
        return [_series(name, label, having, seed, group) for seed in seeds]

    def evaluated(name: str) -> list[Series]:
        return [
            series
            for i, split in enumerate(splits)
            for series in of(name, split, (e for e in evaluations if e["split"] == split), 1 + i)
        ]

    drawn = [
        Chart(readable(name), of(name, "train", train, 0) + evaluated(name), _share(name))
        for name in trained
    ]
    alone = [name for name in measured if name not in trained and quantity(name).unit != COUNT]
    shares = [name for name in alone if _share(name)]
    if shares:
        first = [line for line in evaluations if line["split"] == splits[0]]
        together = [
            series
            for i, name in enumerate(shares)
            for series in of(name, readable(name), first, 1 + i)
        ]
        drawn.insert(2, Chart(f"{splits[0]} scores", together, True))
    others = [name for name in alone if not _share(name)]
    return drawn + [Chart(readable(name), evaluated(name), False) for name in others]


def draw(chart: Chart) -> "Figure":
    """Value over step; where it was not finite the curve breaks, and a cross marks the step."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(4.0, 2.7), layout="constrained")
    axes = drawn.subplots()
    seen: set[int] = set()
    lost: list[np.ndarray] = []
    for series in chart.series:
        label = None if series.group in seen else series.label
        seen.add(series.group)
        _curve(axes, series, label)
        lost.append(series.steps[~np.isfinite(series.values)])
    broken = np.unique(np.concatenate(lost)) if lost else np.zeros(0)
    if len(broken):
        axes.plot(
            broken,
            np.full(len(broken), 0.02),
            linestyle="none",
            marker="x",
            color="#B00020",
            label="not finite",
            transform=axes.get_xaxis_transform(),
            clip_on=False,
        )
    _dress(axes, chart, marked=bool(len(broken)))
    return drawn


def _curve(axes: "Axes", series: Series, label: str | None) -> None:
    colour = COLOURS[series.group % len(COLOURS)]
    finite = np.isfinite(series.values)
    # A point without neighbours is no line: it shows only as a dot.
    alone = finite & ~np.r_[False, finite[:-1]] & ~np.r_[finite[1:], False]
    sparse = len(series.steps) <= 40
    (line,) = axes.plot(
        series.steps,
        series.values,
        color=colour,
        linewidth=1.4,
        label=label,
        marker="o" if sparse or alone.any() else None,
        markersize=3,
        markevery=None if sparse else np.flatnonzero(alone).tolist(),
    )
    line.set_rasterized(len(series.steps) > LONG)


def _dress(axes: "Axes", chart: Chart, *, marked: bool) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

    values = [series.values[np.isfinite(series.values)] for series in chart.series]
    every = np.concatenate(values) if values else np.zeros(0)
    if chart.share:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    elif len(every) and np.min(every) > 0 and np.max(every) / np.min(every) > 20:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda y, _: ""))
    else:
        axes.ticklabel_format(axis="y", useOffset=False)
    axes.set_xlabel("step", fontsize=9)
    axes.set_ylabel(chart.title, fontsize=9, parse_math=False)
    left, right = axes.get_xlim()
    if right - left < 2:  # one point: its step alone is marked
        axes.set_xlim((left + right) / 2 - 1, (left + right) / 2 + 1)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    light(axes)
    if len({series.group for series in chart.series}) > 1 or marked:
        legend = axes.legend(fontsize=8, framealpha=0.8, edgecolor="none", handlelength=1.4)
        for text in legend.get_texts():
            text.set_parse_math(False)


def _share(name: str) -> bool:
    return quantity(name).unit == SHARE


def _quantities(lines: Iterable[dict[str, Any]]) -> list[str]:
    return ordered(dict.fromkeys(key for line in lines for key in line if key not in RESERVED))


def _series(name: str, label: str, lines: list[dict], seed: Any, group: int) -> Series:
    mine = [line for line in lines if line.get("seed") == seed]
    values = [math.nan if line[name] is None else float(line[name]) for line in mine]
    steps = np.asarray([line["step"] for line in mine], np.int64)
    return Series(label, steps, np.asarray(values, np.float64), group)
