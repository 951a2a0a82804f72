"""What a detector found: precision and recall by falling score, and Pascal VOC's averages of them.

An example is a mapping of what was found and what is there, as `train.tasks.detection` keeps it:
`boxes` (k, 4), `scores` (k,) falling, `labels` (k,); `true_boxes` (n, 4), `true_labels`, `crowd`,
`difficult` (n,). Boxes are x0 y0 x1 y1, continuous: nothing is added to a width.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Example = Mapping[str, Any]

TRUE, FALSE, IGNORED = 1, 0, -1
"""Outcomes of a detection."""


class Curve(NamedTuple):
    """Of one class, a place a detection that counts, by falling score."""

    found: np.ndarray
    """(K,) int: objects found so far."""
    precision: np.ndarray
    """(K,) float64: of the detections so far, the share that is right."""
    scores: np.ndarray
    """(K,)."""
    positives: int
    """Objects to be found."""

    @property
    def recall(self) -> np.ndarray:
        """(K,) float64: of the objects, the share found so far; NaN where there is none."""
        with np.errstate(invalid="ignore"):
            return np.divide(self.found, self.positives)


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(k, 4), (n, 4) -> (k, n) float64; 0 for boxes without an area."""
    inside, of_a, of_b = _areas(a, b)
    union = of_a[:, None] + of_b[None] - inside
    return np.divide(inside, union, out=np.zeros_like(inside), where=union > 0)


def covered(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(k, 4), (n, 4) -> (k, n) float64: the share of each of `a` that lies in each of `b`."""
    inside, of_a, _ = _areas(a, b)
    whole = np.broadcast_to(of_a[:, None], inside.shape)
    return np.divide(inside, whole, out=np.zeros_like(inside), where=whole > 0)


def counts(example: Example) -> np.ndarray:
    """(n,) bool: the objects that are to be found: no crowd, not difficult."""
    return ~(example["crowd"] | example["difficult"])


def outcomes(example: Example, threshold: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """What became of each detection: `TRUE`, `FALSE` or `IGNORED`; and whose object it found.

    As in VOC's development kit: a detection looks at the object of its class that it overlaps most,
    taken or not. It finds it where the IoU is at least the threshold and nothing of a higher score
    found it: a second one is false. One that looks at a difficult object is ignored; so is, as in
    COCO, one that is otherwise false and lies in a crowd of its class by that share of its area.

    Returns:
        (k,) int8, and (k,) int: the row of the object found, else -1.
    """
    labels, crowd = example["labels"], example["crowd"]
    same = labels[:, None] == example["true_labels"][None]
    result = np.full(len(labels), FALSE, np.int8)
    whose = np.full(len(labels), -1)
    overlap = np.where(same & ~crowd[None], iou(example["boxes"], example["true_boxes"]), -1.0)
    if overlap.size:
        best = overlap.argmax(1)
        near = overlap[np.arange(len(labels)), best] >= threshold
        hard = near & example["difficult"][best]
        result[hard] = IGNORED
        rows = np.flatnonzero(near & ~hard)
        _, first = np.unique(best[rows], return_index=True)
        result[rows[first]] = TRUE
        whose[rows[first]] = best[rows[first]]
        if crowd.any():
            within = covered(example["boxes"], example["true_boxes"]) >= threshold
            lies = (within & same & crowd[None]).any(1)
            result[lies & (result == FALSE)] = IGNORED
    return result, whose


def curves(examples: Sequence[Example], num_classes: int, threshold: float = 0.5) -> list[Curve]:
    """A curve a class; equal scores of several examples stay in the order of the examples."""
    if examples:
        result = np.concatenate([outcomes(one, threshold)[0] for one in examples])
        scores, labels = (np.concatenate([x[k] for x in examples]) for k in ("scores", "labels"))
        there = np.concatenate([one["true_labels"][counts(one)] for one in examples])
    else:
        result, scores, labels, there = np.zeros((4, 0), np.int64)
    order = np.argsort(-scores, kind="stable")
    order = order[result[order] != IGNORED]
    positives = np.bincount(there.astype(np.int64), minlength=num_classes)
    found = []
    for c in range(num_classes):
        rows = order[labels[order] == c]
        right = np.cumsum(result[rows] == TRUE)
        precision = right / np.arange(1, len(rows) + 1)
        found.append(Curve(right, precision, scores[rows], int(positives[c])))
    return found


def area(curve: Curve) -> float:
    """VOC 2010's average precision: the area under the curve, made to fall (Everingham 2015, 3.4).

    At each recall counts the best precision at that recall or a higher one. NaN where there is no
    object.
    """
    if not curve.positives:
        return np.nan
    falling = np.maximum.accumulate(curve.precision[::-1])[::-1]
    gained = np.diff(curve.found, prepend=0)
    return float(np.sum(falling * gained) / curve.positives)


def eleven_points(curve: Curve) -> float:
    """VOC 2007's average precision (Everingham 2010, eq. 1): at recalls 0, 0.1, …, 1 the best
    precision at that recall or a higher one, 0 where none is reached; their mean.

    Recalls are compared as whole numbers: 3 of 10 objects are a recall of 0.3, where 3 * 0.1 is
    more in floating point. NaN where there is no object.
    """
    if not curve.positives:
        return np.nan
    reached = [curve.precision[10 * curve.found >= tenth * curve.positives] for tenth in range(11)]
    return float(np.sum([part.max(initial=0.0) for part in reached]) / 11)


def over_classes(values: Sequence[float]) -> float:
    """The mean over the classes that have an object; NaN where none has."""
    there = [value for value in values if not np.isnan(value)]
    return float(np.mean(there)) if there else np.nan


def _areas(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(k, n) of the intersections, (k,) and (n,) of the boxes, float64."""
    a, b = (np.asarray(boxes, np.float64).reshape(-1, 4) for boxes in (a, b))
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    of_a, of_b = (np.prod((x[:, 2:] - x[:, :2]).clip(0), axis=-1) for x in (a, b))
    return np.prod((high - low).clip(0), axis=-1), of_a, of_b
