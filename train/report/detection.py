"""Detection's section of a report: figures per class, curves, errors by kind, images with boxes."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from markupsafe import Markup
from PIL import Image

from train.data.source import About, Source
from train.legible import legible
from train.metrics.detection import Curve, Example, area, counts
from train.metrics.detection_errors import KINDS, above, confusion_table, kinds, missed
from train.report.figures import COLOURS, light
from train.report.markup import drawing, figure, render, shown
from train.report.names import called, places
from train.report.overlay import overlaid
from train.tasks.task import Summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WORST, TYPICAL = 12, 6
CURVES = 12
"""Up to so many classes have a curve of their own in the figure: those with the most objects."""
COUNTED = 20
"""Up to so many classes are told apart in the table of confusions."""
LONGEST = 384
"""Longest side in pixels of a picture with boxes; small images are enlarged by a whole number, to
at least half of it."""


class Row(NamedTuple):
    """One class."""

    name: str
    ap: float | None
    """None, as recall, where there is no object."""
    recall: float | None
    precision: float | None
    """None where nothing of it is found at the chosen score."""
    objects: int


class Panel(NamedTuple):
    """One example."""

    pictures: Markup
    name: str
    """Of its file, or its number."""
    place: str
    """Its file from the root of the data on; "" where it has none."""
    words: str


def detection_part(summary: Summary, about: About, source: Source) -> Markup:
    """Sections from `tables`: "detections", an example each, and "curves", a `Curve` a class.

    An example is as `train.tasks.detection.task.scored` keeps it; its picture is `source[index]`'s.
    Curves and AP are of all detections. What has to choose, errors and pictures, takes those from
    the score on at which F1 over all classes is best.
    """
    by_class: list[Curve] = summary.tables["curves"]
    examples: list[Example] = summary.tables["detections"]
    least = best_score(by_class)
    chosen = [above(one, least) for one in examples]
    found = [kinds(one) for one in chosen]
    lost = [int(missed(one).sum()) for one in chosen]
    totals = {name: sum(int((each == k).sum()) for each in found) for k, name in enumerate(KINDS)}
    totals["missed"] = sum(lost)
    errors = [
        int(((each > 0) & (each < len(KINDS) - 1)).sum()) + none
        for each, none in zip(found, lost, strict=True)
    ]
    table = confusion_table(chosen, len(about.classes))
    files = places(source)
    worst = sorted(range(len(examples)), key=lambda i: -errors[i])
    count = min(TYPICAL, len(examples))
    typical = [worst[(2 * i + 1) * len(worst) // (2 * count)] for i in range(count)]

    def panels(some: Sequence[int]) -> list[Panel]:
        return [
            panel(chosen[i], found[i], lost[i], about, source, files[examples[i]["index"]])
            for i in some
        ]

    bad = [i for i in worst[:WORST] if errors[i]]
    several = len(about.classes) <= COUNTED
    return render(
        "detection.html",
        split=about.split,
        rows=[row(name, curve, least) for name, curve in zip(about.classes, by_class, strict=True)],
        curves=figure(
            partial(draw_curves, by_class, about.classes), "Precision by recall, a line a class"
        ),
        least=least,
        totals=totals,
        objects=sum(int(counts(one).sum()) for one in examples),
        table=figure(
            partial(draw_table, table, about.classes),
            f"Confusion table of {len(about.classes)} classes",
        )
        if several
        else None,
        galleries=[
            (heading, words, panels(some))
            for heading, words, some in (
                ("Worst images", "Those with the most errors, the worst first.", bad),
                (
                    "Typical images",
                    "Evenly spaced in the order from the most errors to the fewest.",
                    typical,
                ),
            )
            if some
        ],
    )


def best_score(by_class: Sequence[Curve]) -> float:
    """The score from which on detections of all classes have the best F1; 0 without any right."""
    scores = np.concatenate([np.zeros(0), *(curve.scores for curve in by_class)])
    gained = [np.diff(curve.found, prepend=0) for curve in by_class]
    right = np.concatenate([np.zeros(0), *gained])
    positives = sum(curve.positives for curve in by_class)
    if not len(scores) or not right.any():
        return 0.0
    order = np.argsort(-scores, kind="stable")
    f1 = 2 * np.cumsum(right[order]) / (np.arange(1, len(order) + 1) + positives)
    # Of equal scores all count, or none.
    last = np.append(np.diff(scores[order]) != 0, True)
    return float(scores[order][np.argmax(np.where(last, f1, -1))])


def row(name: str, curve: Curve, least: float) -> Row:
    """What is known of a class: AP of all its detections, the rest of those from a score on."""
    kept = int((curve.scores >= least).sum())
    found = int(curve.found[kept - 1]) if kept else 0
    there = curve.positives
    return Row(
        name,
        area(curve) if there else None,
        found / there if there else None,
        found / kept if kept else None,
        there,
    )


def draw_curves(by_class: Sequence[Curve], classes: Sequence[str]) -> "Figure":
    """Precision by recall; a dot ends each line, where the last detection was counted."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    there = [c for c, curve in enumerate(by_class) if curve.positives]
    most = sorted(there, key=lambda c: -by_class[c].positives)[:CURVES]
    drawn = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = drawn.subplots()
    for place, c in enumerate(sorted(most)):
        curve = by_class[c]
        style = ("-", "--")[place // len(COLOURS)]
        name = legible(classes[c])
        label = f"{name if len(name) <= 18 else name[:17] + '…'} {100 * area(curve):.1f}"
        axes.plot(
            curve.recall,
            curve.precision,
            style,
            color=COLOURS[place % len(COLOURS)],
            linewidth=1.4,
            label=label,
            drawstyle="steps-pre",
        )
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlim(0, 1.01)
    axes.set_ylim(0, 1.03)
    axes.set_xlabel("recall", fontsize=10)
    axes.set_ylabel("precision", fontsize=10)
    light(axes)
    if most:
        legend = axes.legend(
            fontsize=8, frameon=False, title="AP, %", loc="center left", bbox_to_anchor=(1.0, 0.5)
        )
        legend.get_title().set_fontsize(8)
        for text in legend.get_texts():
            text.set_parse_math(False)
    return drawn


def draw_table(table: np.ndarray, classes: Sequence[str]) -> "Figure":
    """Truth down, prediction across; "missed" is a column, "background" a row: false detections."""
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    count = len(table)
    side = float(np.clip(0.55 * count, 3.4, 9.0))
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    drawn = Figure(figsize=(side + 1.0, side), layout="constrained")
    axes = drawn.subplots()
    axes.imshow(share, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1))
    names = [name if len(name) <= 18 else name[:17] + "…" for name in map(legible, classes)]
    across = 0 if max(map(len, names), default=0) <= 3 and count < 8 else 90
    at = np.arange(count)
    axes.set_xticks(at, [*names, "missed"], fontsize=9, rotation=across, parse_math=False)
    axes.set_yticks(at, [*names, "background"], fontsize=9, parse_math=False)
    axes.set_xlabel("prediction", fontsize=10)
    axes.set_ylabel("truth", fontsize=10)
    axes.tick_params(length=0)
    axes.spines[:].set_color("#BBBBBB")
    for edge in (axes.axhline, axes.axvline):
        edge(count - 1.5, color="#888888", linewidth=0.8)
    for t, p in np.argwhere(table > 0):
        ink = "white" if share[t, p] > 0.35 else "#222222"
        axes.text(p, t, f"{table[t, p]}", ha="center", va="center", fontsize=8, color=ink)
    return drawn


def panel(
    one: Example, found: np.ndarray, lost: int, about: About, source: Source, file: str | None
) -> Panel:
    """Truth and what was found of an example, beside each other, and its errors in words."""
    said = [
        f"{int((found == k).sum())} {name}"
        for k, name in enumerate(KINDS)
        if name != "ignored" and (found == k).any()
    ]
    said += [f"{lost} missed"] if lost else []
    pictures = shown(lambda: _pictures(one, about, source))
    words = ", ".join(said) or "no object and no detection"
    return Panel(pictures, called(file, one["index"]), file or "", words)


def _pictures(one: Example, about: About, source: Source) -> Markup:
    image = np.asarray(source[one["index"]]["image"])
    name, longest = f"example {one['index']}", max(image.shape[:2])
    # Drawn at about the size at which they are shown: names on a shrunk picture can't be read.
    image, factor = (
        (shrunk(image), LONGEST / longest)
        if longest > LONGEST
        else (image, max(LONGEST // (2 * longest), 1))
    )
    whole = int(max(factor, 1))
    factor = min(factor, 1)
    truth = {"boxes": one["true_boxes"] * factor, "box_label": one["true_labels"]}
    found = {
        "boxes": one["boxes"] * factor,
        "box_label": one["labels"],
        "scores": one["scores"],
    }
    two = {
        words: drawing(
            np.asarray(overlaid({"image": image} | each, about, scale=whole)),
            f"{name}, {words}",
            longest=LONGEST,
        )
        for words, each in (("truth", truth), ("found", found))
    }
    return render("two.html", two=two)


def shrunk(image: np.ndarray) -> np.ndarray:
    """(H, W, C) -> (h, w, c) uint8, its longest side `LONGEST`."""
    factor = LONGEST / max(image.shape[:2])
    height, width = (max(round(n * factor), 1) for n in image.shape[:2])
    pixels = np.clip(np.rint(np.nan_to_num(image.astype(np.float64))), 0, 255).astype(np.uint8)
    picture = Image.fromarray(pixels[..., :3] if pixels.shape[-1] >= 3 else pixels[..., 0])
    return np.asarray(picture.resize((width, height))).reshape(height, width, -1)
