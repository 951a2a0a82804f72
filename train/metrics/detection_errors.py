"""What is wrong with detections: errors by kind (after Hoiem et al. 2012), and which class is taken
for which.

Examples are those of `train.metrics.detection`.
"""

from collections.abc import Sequence

import numpy as np

from train.metrics.detection import FALSE, TRUE, Example, counts, iou, outcomes

KINDS = ("correct", "localisation", "class", "repeated", "background", "ignored")
"""What a detection is."""
CORRECT, LOCALISATION, CLASS, REPEATED, BACKGROUND, PASSED = range(len(KINDS))
NEAR = 0.1
"""IoU from which a box of the right class is a bad place and not background."""


def above(example: Example, least: float) -> Example:
    """The example with the detections of at least that score alone."""
    rows = example["scores"] >= least
    return {**example, **{name: example[name][rows] for name in ("boxes", "scores", "labels")}}


def kinds(example: Example, threshold: float = 0.5) -> np.ndarray:
    """(k,) int8 indices of `KINDS`: what each detection is.

    Of the false ones: "repeated" overlaps an object of its class by the threshold, which another
    found; "class" so overlaps an object of another class; "localisation" overlaps one of its class
    by `NEAR` or more; the rest is "background". "ignored" are those that count for nothing.
    """
    result, _ = outcomes(example, threshold)
    same = example["labels"][:, None] == example["true_labels"][None]
    overlap = iou(example["boxes"], example["true_boxes"])
    overlap = np.where(counts(example)[None], overlap, 0.0)
    found = np.full(len(result), PASSED, np.int8)
    false = result == FALSE
    found[false] = BACKGROUND
    found[false & (same & (overlap >= NEAR)).any(1)] = LOCALISATION
    found[false & (~same & (overlap >= threshold)).any(1)] = CLASS
    found[false & (same & (overlap >= threshold)).any(1)] = REPEATED
    found[result == TRUE] = CORRECT
    return found


def missed(example: Example, threshold: float = 0.5) -> np.ndarray:
    """(n,) bool: the objects to be found that no detection of their class found."""
    _, whose = outcomes(example, threshold)
    there = counts(example).copy()
    there[whose[whose >= 0]] = False
    return there


def confusion_table(
    examples: Sequence[Example], num_classes: int, threshold: float = 0.5
) -> np.ndarray:
    """(C + 1, C + 1) int64: how often which class was taken for which.

    Rows are the truth, the last one background: false detections. Columns are what was said, the
    last one nothing: missed objects. An object stands in one place: where a detection of its class
    found it, else where the best one of another class did that overlaps it by the threshold and
    found nothing else, else it is missed. So the rows of the classes add up to their objects.
    """
    table = np.zeros((num_classes + 1,) * 2, np.int64)
    for one in examples:
        result, whose = outcomes(one, threshold)
        labels, true = one["labels"], one["true_labels"]
        open_ = counts(one).copy()
        open_[whose[whose >= 0]] = False
        np.add.at(table, (true[whose[whose >= 0]], labels[whose >= 0]), 1)
        overlap = iou(one["boxes"], one["true_boxes"])
        for row in np.flatnonzero(result == FALSE):
            rest = np.where(open_, overlap[row], -1.0)
            best = int(rest.argmax()) if rest.size else -1
            if best >= 0 and rest[best] >= threshold and true[best] != labels[row]:
                table[true[best], labels[row]] += 1
                open_[best] = False
            else:
                table[num_classes, labels[row]] += 1
        np.add.at(table, (true[open_], num_classes), 1)
    return table
