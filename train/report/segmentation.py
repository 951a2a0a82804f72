"""Segmentation's section of a report: figures per class; image, truth, prediction and errors."""

import zlib
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from train.data.batch import IGNORE
from train.data.source import About, Source
from train.metrics.confusion import f1, iou, over_seen, precision, recall, seen
from train.report.markup import drawing, percent, picture, render, shown
from train.report.names import called, places
from train.tasks.task import Summary

WORST = 12
TYPICAL = 6
IGNORED = (236, 236, 236)
WRONG = (214, 39, 40)


class Row(NamedTuple):
    """One class, or the mean."""

    name: str
    colour: str
    share: float
    iou: float | None
    """None, as the others, where the class neither occurs nor is predicted."""
    dice: float | None
    precision: float | None
    recall: float | None


class Panel(NamedTuple):
    """One example."""

    pictures: Markup
    name: str
    """Of its file, or its number."""
    place: str
    """Its file from the root of the data on; "" where it has none."""
    iou: float
    errors: float
    """Share of the pixels that count."""


def segmentation_part(summary: Summary, about: About, source: Source) -> Markup:
    """Sections from `tables`: "confusion" (C, C) pixels; "worst", examples from the lowest IoU on.

    An example is {"index", "iou", "pixel_accuracy", "shape", "mask"}, the mask a compressed uint8
    array of that shape; its picture and truth are `source[index]`'s.
    """
    matrix = np.asarray(summary.tables["confusion"])
    examples = summary.tables["worst"]
    columns = [iou(matrix), f1(matrix), precision(matrix), recall(matrix)]
    there, share = seen(matrix), matrix.sum(axis=1) / max(matrix.sum(), 1)
    colours = table(about)
    rows = [
        Row(
            name,
            "#{:02x}{:02x}{:02x}".format(*colours[c]),
            float(share[c]),
            *(float(column[c]) if there[c] else None for column in columns),
        )
        for c, name in enumerate(about.mask_classes)
    ]
    mean = Row("mean", "", 1.0, *(over_seen(column, matrix) for column in columns))
    files, count = places(source), min(TYPICAL, len(examples))
    typical = [examples[(2 * i + 1) * len(examples) // (2 * count)] for i in range(count)]
    return render(
        "segmentation.html",
        rows=rows,
        mean=mean,
        total=int(matrix.sum()),
        split=about.split,
        galleries=[
            (heading, words, [panel(one, about, source, files[one["index"]]) for one in some])
            for heading, words, some in (
                (
                    "Worst images",
                    "The images with the lowest mean IoU of their own, the worst first. Errors are "
                    "red; what does not count is nearly white.",
                    examples[:WORST],
                ),
                (
                    "Typical images",
                    "Evenly spaced in the order from the worst image to the best.",
                    typical,
                ),
            )
            if some
        ],
    )


def panel(one: dict[str, Any], about: About, source: Source, file: str | None) -> Panel:
    """The four pictures of an example, and what is said below."""
    pictures = shown(lambda: _pictures(one, about, source))
    name, errors = called(file, one["index"]), 1 - one["pixel_accuracy"]
    return Panel(pictures, name, file or "", one["iou"], errors)


def _pictures(one: dict[str, Any], about: About, source: Source) -> Markup:
    example = source[one["index"]]
    image, truth = np.asarray(example["image"]), np.asarray(example["mask"])
    guess = np.frombuffer(zlib.decompress(one["mask"]), np.uint8).reshape(one["shape"])
    counts = truth != IGNORE
    wrong = (truth != guess) & counts
    name = f"example {one['index']}"
    four = {
        "image": picture(image, name),
        "truth": drawing(painted(truth, about), f"{name}, the true classes"),
        "prediction": drawing(painted(guess, about), f"{name}, the predicted classes"),
        "errors": drawing(
            errors_over(image, wrong, counts),
            f"{name}, {percent(1 - one['pixel_accuracy'], 1)} wrong",
        ),
    }
    return render("four.html", four=four)


def table(about: About) -> np.ndarray:
    """(C, 3) uint8: the set's colours, or greys where it has none."""
    count = len(about.mask_classes)
    if about.colours:
        return np.asarray(about.colours, np.uint8)
    return np.repeat(np.linspace(0, 255, count).round()[:, None], 3, axis=1).astype(np.uint8)


def painted(mask: np.ndarray, about: About) -> np.ndarray:
    """(H, W) -> (H, W, 3): each class in its colour, what is ignored nearly white."""
    colours = np.empty((256, 3), np.uint8)
    colours[:] = IGNORED
    colours[: len(about.mask_classes)] = table(about)
    return colours[mask]


def errors_over(image: np.ndarray, wrong: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(H, W, 3): the image in pale grey, errors in red, what is ignored nearly white."""
    grey = image.astype(np.float64).mean(axis=-1, keepdims=True)
    pale = np.repeat(160 + 0.35 * np.clip(grey, 0, 255), 3, axis=-1).clip(0, 255)
    pale[wrong] = WRONG
    pale[~counts] = IGNORED
    return pale.astype(np.uint8)
