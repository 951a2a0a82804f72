"""Quantities: what a run measures, how people read it, and which way is better.

One table for the terminal, the curves, the report and a run's last line. A file (`metrics.jsonl`,
`summary.json`) keeps every number as it was measured: an accuracy of 0.9915, not 99.15 %.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from train.metrics.spread import spread

SHARE = "%"
"""Unit of a number from 0 to 1 that people read in per cent."""
COUNT = "n"
"""Unit of a number of things, which is whole."""
RATE = "/s"

EARLIER = {"images_per_second": "examples_per_second"}
"""Names that older runs have in their files -> what they are called now."""


class Quantity(NamedTuple):
    """One row of the table."""

    words: str
    """In tables, on axes: "top-5 accuracy"."""
    unit: str = ""
    """`SHARE`, `COUNT`, `RATE`, or none."""
    better: int = 0
    """1 where more is better, -1 where less is, 0 where neither is."""
    order: int = 500
    """Place among others; those of one place stay in the order in which they came."""
    short: str = ""
    """On the line of training; what has none isn't shown there."""


def _rows(order: int, unit: str, better: int, **rows: str | tuple[str, str]) -> dict[str, Quantity]:
    """Name = words, or (words, short), of quantities that stand next to each other."""
    made = {}
    for place, (name, said) in enumerate(rows.items(), order):
        words, short = said if isinstance(said, tuple) else (said, "")
        made[name] = Quantity(words, unit, better, place, short)
    return made


QUANTITIES: dict[str, Quantity] = {
    # What ranks comes first, then the loss, then what else is measured; counts come last.
    **_rows(
        0,
        SHARE,
        1,
        accuracy=("accuracy", "acc"),
        miou="mean IoU",
        iou="IoU",
        map="mAP",
        map50="mAP at IoU 0.5",
        map50_11="mAP at IoU 0.5, 11 points",
        ap="AP",
        ap50="AP50",
        ap75="AP75",
        ap_small="AP, small",
        ap_medium="AP, medium",
        ap_large="AP, large",
        ar="AR",
        ar1="AR, 1 detection",
        ar10="AR, 10 detections",
        ar100="AR, 100 detections",
    ),
    **_rows(30, "", -1, mase="MASE", rmse=("RMSE", "RMSE"), mae=("MAE", "MAE"), mse="MSE"),
    **_rows(40, "", 1, r2="R²"),
    **_rows(100, "", -1, loss=("loss", "loss")),
    **_rows(
        110,
        SHARE,
        1,
        balanced_accuracy="balanced accuracy",
        top5="top-5 accuracy",
        precision="macro precision",
        recall="macro recall",
        f1="macro F1",
        dice="mean Dice",
        pixel_accuracy=("pixel accuracy", "pixel acc"),
        frequency_weighted_iou="frequency-weighted IoU",
        recall_50="proposals' recall at IoU 0.5",
        recall_70="proposals' recall at IoU 0.7",
    ),
    **_rows(130, "", 1, roc_auc="ROC-AUC"),
    **_rows(140, "", -1, auxiliary_loss="auxiliary loss"),
    **_rows(200, "", 0, learning_rate=("learning rate", "lr"), gradient_norm="gradient norm"),
    **_rows(210, RATE, 1, examples_per_second=("examples / s", "ex/s")),
    **_rows(
        220, "", -1, seconds_per_image="seconds / image", proposal_seconds="of these, proposals"
    ),
    **_rows(900, COUNT, 0, count="examples"),
    **_rows(901, COUNT, -1, unreadable="unreadable"),
    **_rows(902, COUNT, 0, at_cap="images with as many detections as there may be"),
}


def quantity(name: str) -> Quantity:
    """What is known of it, in whatever case it is written; of an unknown one, its name in words.

    What follows in parentheses tells several of one kind apart: "accuracy (mlp, shift 4)".
    """
    kind, several, _ = name.partition(" (")
    known = QUANTITIES.get(kind) or QUANTITIES.get(kind.lower())
    if known is None:
        return Quantity(name.replace("_", " "))
    return known._replace(words=known.words + name[len(kind) :]) if several else known


def readable(name: str) -> str:
    """learning_rate -> learning rate; the means over classes are named as what they are."""
    return quantity(name).words


def ordered(names: Iterable[str]) -> list[str]:
    """Those that people look for first come first."""
    return sorted(names, key=lambda name: quantity(name).order)


def ranking(rank: str) -> tuple[str, int]:
    """What ranks checkpoints and runs: its name, and 1 where more is better, -1 where less is.

    >>> ranking("accuracy"), ranking("-rmse")
    (('accuracy', 1), ('rmse', -1))

    Raises:
        ValueError: it names nothing, or the sign says the opposite of the table.
    """
    name, better = (rank[1:], -1) if rank.startswith("-") else (rank, 1)
    if not name:
        raise ValueError(f"rank={rank!r} names no quantity")
    if quantity(name).better == -better:
        less, other = ("less", f"-{name}") if better > 0 else ("more", name)
        raise ValueError(f"rank={rank!r}, but {less} is better: {other!r}")
    return name, better


def show(name: str, value: float | Sequence[float | None], *, digits: int = 4) -> str:
    """A number as people read it: `digits` significant, in per cent where that is the unit.

    Seeds become "mean±standard deviation" over those that are finite, the mean alone where all are
    equal, and the count of those that are not finite.
    """
    many = list(value) if isinstance(value, Sequence) else [value]
    unit = quantity(name).unit
    scale = 100.0 if unit == SHARE else 1.0
    found = spread(many, scale)
    if not found.n:
        return "not finite"
    mean, deviation = found.mean, found.std if found.std else None
    if unit == SHARE:
        text = f"{mean:.{digits - 2}f}"
        around = "" if deviation is None else f"±{deviation:.{digits - 2}f}"
    else:
        # Not 1e+04 where there are more digits, or come to be by rounding.
        whole = abs(mean) >= 10**digits - 0.5 and abs(mean) < 1e15
        whole |= unit == COUNT and mean == math.floor(mean)
        text = f"{mean:.0f}" if whole else f"{mean:.{digits}g}"
        around = "" if deviation is None else f"±{deviation:.2g}"
    lost = f" ({found.lost} of {len(many)} not finite)" if found.lost else ""
    return f"{text}{around}{'%' if unit == SHARE else ''}{lost}"
