"""Classification's section of a report: confusion, figures per class, the surest mistakes."""

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from markupsafe import Markup

from train.data.source import About, Source
from train.legible import legible
from train.metrics.confusion import f1, macro, micro, occurs, precision, recall, weighted
from train.report.markup import figure, percent, picture, render, shown
from train.report.names import called, places
from train.report.signals import wave
from train.tasks.task import Summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES = 24
CONFUSIONS = 10
COUNTED = 20
"""Up to so many classes the cells of the matrix show their counts."""
NAMED = 120
"""Up to so many classes the axes name every class."""


class Row(NamedTuple):
    """One class, or an average over all."""

    name: str
    precision: float | None
    """None, as the others, of a class that has no example."""
    recall: float | None
    f1: float | None
    support: int


class Confusion(NamedTuple):
    """Examples of one class taken for another."""

    truth: str
    predicted: str
    examples: int
    share: float
    """Of all examples of the true class."""


class Mistake(NamedTuple):
    """One example that was misjudged."""

    image: Markup
    name: str
    """Of its file, or its number."""
    place: str
    """Its file from the root of the data on; "" where it has none."""
    truth: str
    predicted: str
    confidence: float


def classification_part(summary: Summary, about: About, source: Source) -> Markup:
    """Sections from `tables`: "confusion" (C, C) counts, rows = truth; "mistakes", surest first.

    A mistake is {"index", "label", "predicted", "confidence"}; its picture is
    `source[index]["image"]`, (H, W, C), or the waveform of `source[index]["signal"]`, (L, C).
    """
    matrix = np.asarray(summary.tables["confusion"])
    three = [precision(matrix), recall(matrix), f1(matrix)]
    there, support = occurs(matrix), matrix.sum(axis=1)
    rows = []
    for c, name in enumerate(about.classes):
        p, r, f = (float(values[c]) if there[c] else None for values in three)
        rows.append(Row(name, p, r, f, int(support[c])))
    right, total = int(np.trace(matrix)), int(matrix.sum())
    averages = [
        Row(f"{name} average", p, r, f, total)
        for name, (p, r, f) in (
            ("macro", [macro(values, matrix) for values in three]),
            ("micro", [micro(matrix)] * 3),
            ("weighted", [weighted(values, matrix) for values in three]),
        )
    ]
    mistakes, files = summary.tables["mistakes"][:PICTURES], places(source)
    return render(
        "classification.html",
        matrix=figure(
            partial(draw_confusion, matrix, about.classes),
            f"Confusion matrix of {len(rows)} classes: {right:,} of {total:,} on the diagonal",
        ),
        wide=len(rows) > COUNTED,
        confusions=confusions(matrix, about.classes),
        rows=rows,
        averages=averages,
        absent=len(rows) - int(there.sum()),
        mistakes=[_mistake(one, about, source, files[one["index"]]) for one in mistakes],
        wrong=total - right,
        total=total,
        split=about.split,
    )


def confusions(matrix: np.ndarray, classes: tuple[str, ...]) -> list[Confusion]:
    """The most frequent ones, at most `CONFUSIONS`; equal ones in the order of the classes."""
    wrong = matrix - np.diag(np.diag(matrix))
    ranked = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS]
    support = matrix.sum(axis=1)
    return [
        Confusion(classes[t], classes[p], int(wrong[t, p]), float(wrong[t, p] / support[t]))
        for t, p in zip(*np.unravel_index(ranked, wrong.shape), strict=True)
        if wrong[t, p] > 0
    ]


def draw_confusion(matrix: np.ndarray, classes: tuple[str, ...]) -> "Figure":
    """Truth down, prediction across; colour is the share of the true class, drawn by its root.

    By its root, so that a few per cent of errors can be told from none.
    """
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    count = len(classes)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(0.52 * count, 4.6, 7.0)) if count <= COUNTED else 11.0
    drawn = Figure(figsize=(side + 1.1, side), layout="constrained")
    axes = drawn.subplots()
    image = axes.imshow(share, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1))
    bar = drawn.colorbar(image, ax=axes, shrink=0.6, pad=0.02, aspect=30)
    bar.set_ticks([0, 0.01, 0.05, 0.1, 0.25, 0.5, 1])
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    bar.ax.tick_params(labelsize=8, length=2)
    bar.outline.set_visible(False)
    bar.set_label("share of the true class", fontsize=9)
    axes.set_xlabel("prediction", fontsize=10)
    axes.set_ylabel("truth", fontsize=10)
    axes.tick_params(length=0, labelsize=9)
    axes.spines[:].set_color("#BBBBBB")
    if count <= NAMED:
        names = map(legible, classes)
        short = [name if len(name) <= 18 else name[:17] + "…" for name in names]
        size = 9 if count <= COUNTED else max(4.5, min(9, 500 / count))
        across = 0 if count <= COUNTED and max(map(len, short)) <= 3 else 90
        places = np.arange(count)
        axes.set_xticks(places, short, fontsize=size, rotation=across, parse_math=False)
        axes.set_yticks(places, short, fontsize=size, parse_math=False)
    if count <= COUNTED:
        for t, p in np.argwhere(matrix > 0):
            ink = "white" if share[t, p] > 0.35 else "#222222"
            axes.text(p, t, f"{matrix[t, p]}", ha="center", va="center", fontsize=9, color=ink)
    return drawn


def _mistake(one: dict[str, Any], about: About, source: Source, file: str | None) -> Mistake:
    truth, predicted = about.classes[one["label"]], about.classes[one["predicted"]]
    alt = f"{truth}, taken for {predicted} with {percent(one['confidence'], 1)}"
    image = shown(lambda: _picture(source[one["index"]], about, alt))
    name = called(file, one["index"])
    return Mistake(image, name, file or "", truth, predicted, one["confidence"])


def _picture(example: dict[str, Any], about: About, alt: str) -> Markup:
    """Of an image or a signal; of anything else there is none."""
    if "image" in example:
        return picture(np.asarray(example["image"]), alt)
    return wave(example, about, alt) if "signal" in example else Markup()
