"""Regression's section of a report: figures per target, predictions over truth, what is far off."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from markupsafe import Markup

from train.data.source import About, Source
from train.legible import legible
from train.metrics.quantities import ordered, readable
from train.report.figures import COLOURS, light
from train.report.markup import figure, number, picture, render, shown
from train.report.names import called, places
from train.report.signals import wave
from train.tasks.task import Summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES = 12
"""Examples that are shown."""
PANELS = 6
"""Targets that are drawn: the first ones and, of more, evenly spaced ones up to the last."""
NUMBERS = 4
"""Targets whose numbers stand below an example."""
POINTS = 2000
"""Of a panel; of more examples evenly spaced ones are drawn."""


class Example(NamedTuple):
    """One of those that are off the most."""

    image: Markup
    name: str
    """Of its file, or its number."""
    place: str
    """Its file from the root of the data on; "" where it has none."""
    numbers: list[tuple[str, str, str]]
    """Target, truth, prediction."""


def regression_part(summary: Summary, about: About, source: Source) -> Markup:
    """Sections from `tables`: "targets", a row of figures each; "worst", examples, the worst first.

    An example is {"index", "target", "predicted"}, the last two (K,); its picture is
    `source[index]["image"]`, or the waveform of its "signal".
    """
    rows, examples = summary.tables["targets"], summary.tables["worst"]
    names = [row["name"] for row in rows]
    figures = ordered(name for name in rows[0] if name != "name")
    files, some = places(source), spaced(len(names))
    truth, guess = (
        np.array([one[key] for one in examples]).reshape(len(examples), len(names))
        for key in ("target", "predicted")
    )
    return render(
        "regression.html",
        heads=[readable(name) for name in figures],
        rows=[(row["name"], [row[name] for name in figures]) for row in rows],
        drawn=[names[k] for k in some] if len(some) < len(names) else [],
        scatter=figure(
            partial(draw_scatter, truth[:, some], guess[:, some], [names[k] for k in some]),
            f"Predictions over truth of {len(examples):,} examples",
        )
        if examples
        else "",
        count=len(examples),
        examples=[
            _example(one, names, about, source, files[one["index"]]) for one in examples[:PICTURES]
        ],
        split=about.split,
    )


def spaced(count: int) -> list[int]:
    """At most `PANELS` of them, the first and the last among these."""
    return sorted({round(k) for k in np.linspace(0, count - 1, min(count, PANELS))})


def draw_scatter(truth: np.ndarray, guess: np.ndarray, names: Sequence[str]) -> "Figure":
    """A panel a target, (N, K): a point an example; on the line the two agree."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    across = min(3, len(names))
    down = -(-len(names) // across)
    drawn = Figure(figsize=(3.4 * across, 3.4 * down), layout="constrained")
    panels = [*drawn.subplots(down, across, squeeze=False).flat]
    order = np.linspace(0, len(truth) - 1, min(len(truth), POINTS)).round().astype(int)
    for axes, name, x, y in zip(panels, names, truth[order].T, guess[order].T, strict=False):
        there = np.concatenate([x, y])
        there = there[np.isfinite(there)]
        low, high = (there.min(), there.max()) if len(there) else (0.0, 1.0)
        edge = 0.05 * (high - low) or 1.0
        ends = (low - edge, high + edge)
        axes.plot(ends, ends, color="#888888", linewidth=1)
        axes.plot(x, y, ".", color=COLOURS[0], markersize=4, alpha=0.5, markeredgewidth=0)
        axes.set(xlim=ends, ylim=ends, aspect="equal")
        axes.set_title(legible(name), fontsize=9, parse_math=False)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(4))
        light(axes)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    drawn.supxlabel("truth", fontsize=9)
    drawn.supylabel("prediction", fontsize=9)
    return drawn


def _example(
    one: dict[str, Any], names: Sequence[str], about: About, source: Source, file: str | None
) -> Example:
    name = called(file, one["index"])
    image = shown(lambda: _picture(source[one["index"]], about, name))
    numbers = [
        (names[k], number(float(one["target"][k])), number(float(one["predicted"][k])))
        for k in spaced(len(names))[:NUMBERS]
    ]
    return Example(image, name, file or "", numbers)


def _picture(example: dict[str, Any], about: About, alt: str) -> Markup:
    """Of an image or a signal; of anything else there is none."""
    if "image" in example:
        return picture(np.asarray(example["image"]), alt)
    return wave(example, about, alt) if "signal" in example else Markup()
