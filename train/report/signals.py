"""Waveforms: signals of a split with what they are and what the network says; forecasts go on."""

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from markupsafe import Markup

from train.data.source import About, Example, Source
from train.legible import legible
from train.report.figures import COLOURS, light
from train.report.markup import figure, percent, render, shown
from train.report.names import called, places
from train.tasks.task import Predictions, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EXAMPLES = 12
ACROSS = 4
BINS = 400
"""Of a line of more than two steps a bin the least and the greatest of each are drawn."""
CHANNELS = 4
"""So many are drawn, the first ones."""
RIGHT, WRONG = "#1B7837", "#B2182B"


class Drawn(NamedTuple):
    """One of several signals side by side."""

    example: Example
    words: str
    right: bool


def signals_part(summary: Summary, about: About, source: Source) -> Markup:
    """A section of waveforms with their true and predicted class, from `tables["predictions"]`.

    Examples of all classes in turn, so that as many as there is room for are seen.
    """
    found: Predictions = summary.tables["predictions"]
    rows = in_turn(np.asarray(found.columns["truth"]), EXAMPLES)
    files = places(source)

    def drawn(row: int) -> Drawn:
        index = int(found.indices[row])
        truth, said = (int(found.columns[name][row]) for name in ("truth", "prediction"))
        share = percent(found.columns["score"][row], 0)
        words = f"{about.classes[truth]}, said {about.classes[said]} ({share})"
        return Drawn(source[index], f"{words}\n{called(files[index], index)}", truth == said)

    return render(
        "signals.html",
        image=shown(
            lambda: figure(
                partial(draw_waveforms, [drawn(row) for row in rows], about),
                f"{len(rows)} waveforms with their true and predicted classes",
            )
        ),
        count=len(rows),
        total=len(found.indices),
        split=about.split,
    )


def in_turn(labels: np.ndarray, most: int) -> list[int]:
    """Places of at most so many examples: the first of each class, then the second of each, …"""
    rank = np.zeros(len(labels), np.int64)
    for c in np.unique(labels):
        rank[labels == c] = np.arange(np.sum(labels == c))
    return np.lexsort((labels, rank))[:most].tolist()


def draw_waveforms(drawn: list[Drawn], about: About) -> "Figure":
    """Signals on axes of their own, under words that are green where they are right."""
    from matplotlib.figure import Figure

    down = -(-len(drawn) // ACROSS)
    made = Figure(figsize=(10.5, 1.75 * down + 0.3), layout="constrained")
    grid = made.subplots(max(down, 1), ACROSS, squeeze=False)
    for axes in grid.flat[len(drawn) :]:
        axes.set_visible(False)
    for axes, (example, words, right) in zip(grid.flat, drawn, strict=False):
        draw_signal(axes, steps_of(example), about.rate)
        light(axes)
        axes.tick_params(labelsize=7)
        colour = RIGHT if right else WRONG
        axes.set_title(legible_lines(words), fontsize=8, color=colour, parse_math=False)
    made.supxlabel("seconds" if about.rate else "steps", fontsize=8)
    return made


def wave(example: Example, about: About, alt: str) -> Markup:
    """An `<img>` of one signal, small and without numbers."""
    return figure(partial(draw_wave, steps_of(example), about.rate), alt)


def draw_wave(
    signal: np.ndarray,
    rate: int | None,
    inches: tuple[float, float] = (1.8, 1.8),
    limits: tuple[float, float] | None = None,
) -> "Figure":
    """(l, C) without numbers, between the limits where they are given."""
    from matplotlib.figure import Figure

    made = Figure(figsize=inches, layout="constrained")
    axes = made.subplots()
    draw_signal(axes, signal, rate)
    if limits is not None and limits[0] < limits[1]:
        axes.set_ylim(*limits)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color("#BBBBBB")
    return made


def draw_titled(
    signal: np.ndarray, words: str, rate: int | None, ahead: np.ndarray | None = None
) -> "Figure":
    """(l, C) under a line of words; (K,) `ahead`, what is forecast of it, goes on behind it."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(6.4, 2.6), layout="constrained")
    axes = made.subplots()
    draw_signal(axes, signal, rate)
    if ahead is not None:
        at = (len(signal) + np.arange(len(ahead))) / (rate or 1)
        axes.plot(at, ahead, color=COLOURS[1], marker=".", linewidth=1.2)
    light(axes)
    axes.set_xlabel("seconds" if rate else "steps", fontsize=8)
    axes.set_title(legible(words), fontsize=9, parse_math=False)
    return made


def draw_signal(axes: "Axes", signal: np.ndarray, rate: int | None) -> None:
    """A line a channel; of a long one its envelope, from the least to the greatest."""
    for channel in range(min(signal.shape[1], CHANNELS)):
        colour = COLOURS[channel % len(COLOURS)]
        at, values = outline(signal[:, channel])
        at = at / (rate or 1)
        if len(signal) <= 2 * BINS:
            axes.plot(at, values, color=colour, linewidth=0.9)
            continue
        # In one line the two ends would be a solid bar.
        at, low, high = at[::2], values[::2], values[1::2]
        axes.fill_between(at, low, high, color=colour, alpha=0.35, linewidth=0)
        for edge in (low, high):
            axes.plot(at, edge, color=colour, linewidth=0.4)
    axes.margins(x=0.01)


def outline(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places and values of (l,) values; of long ones the least and the greatest of each bin, in
    turn."""
    if len(values) <= 2 * BINS:
        return np.arange(len(values)), values
    edges = np.linspace(0, len(values), BINS + 1).astype(int)[:-1]
    low, high = np.minimum.reduceat(values, edges), np.maximum.reduceat(values, edges)
    return np.repeat(edges, 2), np.stack([low, high], axis=1).ravel()


def steps_of(example: dict[str, Any]) -> np.ndarray:
    """(l, C): the signal of an example without its padding."""
    signal = np.asarray(example["signal"])
    return signal[: int(example.get("length", len(signal)))]


def legible_lines(words: str) -> str:
    """Lines of a title, none of them long."""
    lines = [legible(line) for line in words.split("\n")]
    return "\n".join(line if len(line) <= 34 else f"{line[:33]}…" for line in lines)
