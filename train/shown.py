"""Shown: what a task predicts of one picture: averaged over runs, in words, in a row, as a picture.

A task whose predictions are of another form is a `Shown` of its own here, and a row of `KINDS`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image

from train.data.source import About
from train.refusal import Refused
from train.report.overlay import overlaid
from train.report.segmentation import table
from train.report.text import draw_text, extent
from train.tasks.segmentation import to_source

Kept = dict[str, Any]
"""What is kept of a run's predictions, with `matrix` and `size`; without the axis B on the host."""
SCORES = "scores"
"""(B, classes): predictions that are one array."""
STRIP = 2**24
"""Numbers of a mean over runs that are worked on at once."""
WORDS = 18
"""Pixels of the line under a picture."""


class Shown(NamedTuple):
    """How predictions of one form are shown.

    Attributes:
        kept: (predictions, whether the run is alone) -> what goes to the host, with axis B; traced.
        joined: what is kept of one picture, of each run -> the prediction, in source pixels.
        row: (prediction, about) -> what a line of a file says of it; lists of classes are nested.
        words: (prediction, about, how many classes) -> a line for people.
        drawn: (image, prediction, about) -> a picture of the image's size or a little higher.
        mask: (prediction, about) -> a palette's picture; None where it has none.
    """

    kept: Callable[[Any, bool], Kept]
    joined: Callable[[Sequence[Kept]], np.ndarray]
    row: Callable[[np.ndarray, About], dict[str, Any]]
    words: Callable[[np.ndarray, About, int], str]
    drawn: Callable[[np.ndarray, np.ndarray, About], Image.Image]
    mask: Callable[[np.ndarray, About], Image.Image] | None = None


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
    """The picture above its class and score."""
    picture = overlaid({"image": image}, about)
    text = _words_of_scores(scores, about, 1)
    width = max(picture.width, int(extent(text)[0]) + 8)
    whole = Image.new("RGB", (width, picture.height + WORDS), "white")
    whole.paste(picture, ((width - picture.width) // 2, 0))
    draw_text(whole, (4, picture.height + 2), text)
    return whole


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
KINDS: dict[str, Shown] = {"mask": MASKS}
"""A key of predictions that are several arrays -> how they are shown; the first counts."""
