"""Numbers from counts."""

FRACTIONS = frozenset(
    {
        *("accuracy", "balanced_accuracy", "top5", "precision", "recall", "f1"),
        *("miou", "dice", "pixel_accuracy", "frequency_weighted_iou"),
    }
)
"""Quantities between 0 and 1 that people read in per cent: on the terminal and in the report."""
