"""Shown: what a task predicts of one picture or signal: averaged, in words, in a row, drawn.

A task whose predictions are of another form is a `Shown` of its own here, and a row of `KINDS`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image

from train.data.source import About, is_signals
from train.data.windows import steps_ahead
from train.refusal import Refused
from train.report.figures import image as figure
from train.report.overlay import overlaid
from train.report.segmentation import table
from train.report.signals import draw_titled
from train.report.text import draw_text, extent
from train.tasks.detection import source_pixels
from train.tasks.segmentation import to_source

Kept = dict[str, Any]
"""What is kept of a run's predictions, with `matrix` and `size`; without the axis B on the host."""
SCORES = "scores"
"""(B, classes): predictions that are one array."""
TARGET = "target"
"""(B, targets): predictions of numbers."""
STRIP = 2**24
"""Numbers of a mean over runs that are worked on at once."""
DRAWN = 0.3
"""Score from which a detection is drawn and said; files have them all."""
LEGIBLE = 480
"""Pixels to which a small picture with boxes is enlarged, by a whole factor: names need room."""
WORDS = 18
"""Pixels of the line under a picture."""


class Shown(NamedTuple):
    """How predictions of one form are shown.

    Attributes:
        kept: (predictions, whether the run is alone) -> what goes to the host, with axis B; traced.
        joined: what is kept of one picture, of each run -> the prediction, in source pixels.
        row: (prediction, about) -> what a line of a file says of it; lists of classes are nested.
        words: (prediction, about, how many classes) -> a line for people.
        drawn: (image, prediction, about) -> a picture of the image's size, a little higher, or
            enlarged where the image is small; a signal, (l, C) without padding, in place of an
            image becomes its waveform.
        mask: (prediction, about) -> a palette's picture; None where it has none.
        averages: whether `joined` takes several runs.
        cells: (prediction, about) -> the lines of a CSV file; None where `row` is its one line.
    """

    kept: Callable[[Any, bool], Kept]
    joined: Callable[[Sequence[Kept]], Any]
    row: Callable[[Any, About], dict[str, Any]]
    words: Callable[[Any, About, int], str]
    drawn: Callable[[np.ndarray, Any, About], Image.Image]
    mask: Callable[[Any, About], Image.Image] | None = None
    averages: bool = True
    cells: Callable[[Any, About], list[dict[str, Any]]] | None = None


class Found(NamedTuple):
    """The detections of one picture, in its own pixels, the best first."""

    boxes: np.ndarray
    """(k, 4) float32: x0 y0 x1 y1."""
    scores: np.ndarray
    """(k,) float32."""
    labels: np.ndarray
    """(k,) int32."""
    size: tuple[int, int]
    """Height and width of the picture."""


def shown(predictions: Any) -> Shown:
    """How the predictions of a task are shown.

    Args:
        predictions: as the task's `predict` yields them, or their shapes.

    Raises:
        Refused: they are of a form that is not shown yet.
    """
    if not isinstance(predictions, Mapping):
        return CLASSES
    for key, kind in KINDS.items():
        if key in predictions:
            return kind
    raise Refused(f"a task that predicts {', '.join(predictions)} can't be shown yet")


def _mean_scores(kept: Sequence[Kept]) -> np.ndarray:
    return np.stack([one[SCORES] for one in kept]).mean(axis=0, dtype=np.float64)


def _row_of_scores(scores: np.ndarray, about: About) -> dict[str, Any]:
    best = int(np.argmax(scores))
    each = dict(zip(about.classes, map(float, scores), strict=True))
    return {"prediction": about.classes[best], "score": float(scores[best]), "scores": each}


def _words_of_scores(scores: np.ndarray, about: About, top: int) -> str:
    best = np.argsort(-scores, kind="stable")[:top]
    return "  ".join(f"{about.classes[c]} {scores[c]:.4f}" for c in best)


def _titled(image: np.ndarray, scores: np.ndarray, about: About) -> Image.Image:
    """The picture above its class and score; a waveform below them."""
    text = _words_of_scores(scores, about, 1)
    if is_signals(about):
        return _waveform(image, text, about)
    return _above(overlaid({"image": image}, about), text)


def _waveform(
    signal: np.ndarray, text: str, about: About, ahead: np.ndarray | None = None
) -> Image.Image:
    return figure(partial(draw_titled, signal, text, about.rate, ahead))


def _above(picture: Image.Image, text: str) -> Image.Image:
    """A picture above a line."""
    width = max(picture.width, int(extent(text)[0]) + 8)
    whole = Image.new("RGB", (width, picture.height + WORDS), "white")
    whole.paste(picture, ((width - picture.width) // 2, 0))
    draw_text(whole, (4, picture.height + 2), text)
    return whole


def _kept_numbers(predictions: Mapping[str, jax.Array], alone: bool) -> Kept:
    del alone
    return {TARGET: predictions[TARGET]}


def _mean_numbers(kept: Sequence[Kept]) -> np.ndarray:
    return np.stack([one[TARGET] for one in kept]).mean(axis=0, dtype=np.float64)


def _row_of_numbers(numbers: np.ndarray, about: About) -> dict[str, Any]:
    return dict(zip(about.targets, map(float, numbers), strict=True))


def _words_of_numbers(numbers: np.ndarray, about: About, top: int) -> str:
    rest = [f"and {len(numbers) - top} more"] if len(numbers) > top else []
    some = [f"{name} {value:.4g}" for name, value in _row_of_numbers(numbers, about).items()]
    return "  ".join(some[:top] + rest)


def _forecast(image: np.ndarray, numbers: np.ndarray, about: About) -> Image.Image:
    """The picture above its numbers; a waveform below them, which goes on where they are steps."""
    text = _words_of_numbers(numbers, about, 3)
    if not is_signals(about):
        return _above(overlaid({"image": image}, about), text)
    steps = about.targets == steps_ahead(len(numbers))
    return _waveform(image, text, about, numbers if steps else None)


def _kept_masks(predictions: Mapping[str, jax.Array], alone: bool) -> Kept:
    # Classes alone are a small part of what all their probabilities are.
    name = "mask" if alone else "probabilities"
    return {name: predictions[name]}


def _mean_mask(kept: Sequence[Kept]) -> np.ndarray:
    """(H, W) uint8 in the pixels of the source: of one run its mask, else the likeliest on average.

    A strip of rows at a time, since the probabilities of a large picture fill the memory.
    """
    first = kept[0]
    if "mask" in first:
        return to_source(first["mask"], first["matrix"], first["size"])
    height, width = (int(n) for n in first["size"])
    found = np.empty((height, width), np.uint8)
    rows = max(STRIP // (width * first["probabilities"].shape[-1]), 1)
    for top in range(0, height, rows):
        down = np.array([[1, 0, 0], [0, 1, top], [0, 0, 1]], np.float64)
        size = np.array([min(rows, height - top), width])
        total = sum(
            to_source(one["probabilities"], np.asarray(one["matrix"], np.float64) @ down, size)
            for one in kept
        )
        found[top : top + rows] = np.argmax(total, axis=-1)
    return found


def shares(mask: np.ndarray, about: About) -> dict[str, float]:
    """Class -> its share of the pixels."""
    count = np.bincount(mask.ravel(), minlength=len(about.mask_classes))
    return dict(zip(about.mask_classes, (count / mask.size).tolist(), strict=True))


def _row_of_mask(mask: np.ndarray, about: About) -> dict[str, Any]:
    return {"height": mask.shape[0], "width": mask.shape[1], "shares": shares(mask, about)}


def _words_of_mask(mask: np.ndarray, about: About, top: int) -> str:
    ranked = sorted(shares(mask, about).items(), key=lambda one: -one[1])[:top]
    return "  ".join(f"{name} {100 * share:.1f} %" for name, share in ranked if share)


def _painted(image: np.ndarray, mask: np.ndarray, about: About) -> Image.Image:
    return overlaid({"image": image, "mask": mask}, about)


def _indexed(mask: np.ndarray, about: About) -> Image.Image:
    """Classes as a palette's indices, as Pascal VOC has its masks."""
    picture = Image.fromarray(mask).convert("L")
    picture.putpalette(table(about).ravel().tolist())
    return picture


def _kept_boxes(predictions: Mapping[str, jax.Array], alone: bool) -> Kept:
    del alone
    return {name: predictions[name] for name in ("boxes", "scores", "labels", "valid")}


def _found(kept: Sequence[Kept]) -> Found:
    (one,) = kept
    good = one["valid"] & np.isfinite(one["boxes"]).all(-1) & np.isfinite(one["scores"])
    rows = np.flatnonzero(good)
    rows = rows[np.argsort(-one["scores"][rows], kind="stable")]
    boxes = source_pixels.to_source(one["boxes"][rows], one["matrix"], one["size"])
    height, width = (int(n) for n in one["size"])
    return Found(boxes, one["scores"][rows], one["labels"][rows], (height, width))


def _row_of_boxes(found: Found, about: About) -> dict[str, Any]:
    rows = zip(found.labels.tolist(), found.scores.tolist(), found.boxes.tolist(), strict=True)
    detections = [
        {"class": about.classes[label], "score": score, "box": box} for label, score, box in rows
    ]
    return {"height": found.size[0], "width": found.size[1], "detections": detections}


def _cells_of_boxes(found: Found, about: About) -> list[dict[str, Any]]:
    """A line a detection; one of empty cells where there is none."""
    corners = ("x0", "y0", "x1", "y1")
    rows = [
        {
            "class": one["class"],
            "score": one["score"],
            **dict(zip(corners, one["box"], strict=True)),
        }
        for one in _row_of_boxes(found, about)["detections"]
    ]
    return rows or [dict.fromkeys(("class", "score", *corners), "")]


def _words_of_boxes(found: Found, about: About, top: int) -> str:
    count = int((found.scores >= DRAWN).sum())
    some = [
        f"{about.classes[label]} {score:.2f}"
        for label, score in zip(found.labels[:count], found.scores[:count], strict=True)
    ]
    more = [f"and {count - top} more"] if count > top else []
    return "  ".join(some[:top] + more) or f"no box with a score of {DRAWN} or more"


def _outlined(image: np.ndarray, found: Found, about: About) -> Image.Image:
    rows = np.flatnonzero(found.scores >= DRAWN)
    boxes, scores, labels = (part[rows] for part in found[:3])
    example = {"image": image, "boxes": boxes, "box_label": labels, "scores": scores}
    return overlaid(example, about, scale=max(LEGIBLE // max(image.shape[:2]), 1))


CLASSES = Shown(
    kept=lambda predictions, alone: {SCORES: predictions},
    joined=_mean_scores,
    row=_row_of_scores,
    words=_words_of_scores,
    drawn=_titled,
)
MASKS = Shown(
    kept=_kept_masks,
    joined=_mean_mask,
    row=_row_of_mask,
    words=_words_of_mask,
    drawn=_painted,
    mask=_indexed,
)
NUMBERS = Shown(
    kept=_kept_numbers,
    joined=_mean_numbers,
    row=_row_of_numbers,
    words=_words_of_numbers,
    drawn=_forecast,
)
BOXES = Shown(
    kept=_kept_boxes,
    joined=_found,
    row=_row_of_boxes,
    words=_words_of_boxes,
    drawn=_outlined,
    averages=False,
    cells=_cells_of_boxes,
)
KINDS: dict[str, Shown] = {"mask": MASKS, "labels": BOXES, TARGET: NUMBERS}
"""A key of predictions that are several arrays -> how they are shown; the first counts."""
