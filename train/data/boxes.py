"""Boxes as files have them: whether they lie in their image, and in which form they are kept."""

from typing import Any

import numpy as np

SLOP = 1.0
"""Pixels by which a file's box may leave its image: it is clipped. COCO's own boxes do."""
SHARE = 0.01
"""Of a side of the image, by which a box may leave it beyond that side, if that is more."""


def boxes(rows: np.ndarray, height: int, width: int) -> np.ndarray:
    """The boxes of one image, clipped to it.

    Args:
        rows: (n, 4), x0 y0 x1 y1 in pixels; pixel (r, c) covers [c, c + 1) x [r, r + 1).
        height, width: of the image.

    Returns:
        (n, 4) float32; those without an area too, see `solid`.

    Raises:
        ValueError: a box is not finite, leaves the image by more than `SLOP` and `SHARE`, or ends
            before it begins; names its row and the box.
    """
    given = np.asarray(rows, np.float64).reshape(-1, 4)
    kept = _clipped(given, height, width)
    beyond = np.maximum(SLOP, SHARE * np.array([width, height, width, height]))
    with np.errstate(invalid="ignore"):
        outside = ~(np.abs(given - kept) <= beyond).all(1)
    kept = kept.astype(np.float32)
    turned = (given[:, 2:] < given[:, :2]).any(1)
    for fault, said in ((outside, "lies outside its image"), (turned, "has no area")):
        if fault.any():
            row = int(np.argmax(fault))
            corners = ", ".join(f"{value:g}" for value in given[row])
            raise ValueError(f"box {row}, x0 y0 x1 y1 = {corners}, {said} (image {width}x{height})")
    return kept


def solid(kept: np.ndarray) -> np.ndarray:
    """(n, 4) -> (n,) bool: the boxes of some area. Others are no objects: a source drops them."""
    return np.all(kept[:, 2:] > kept[:, :2], axis=1)


def leaving(rows: np.ndarray, height: int, width: int) -> int:
    """How many of the boxes that `boxes` takes it clips.

    Args:
        rows, height, width: as of `boxes`.
    """
    given = np.asarray(rows, np.float64).reshape(-1, 4)
    return int((given != _clipped(given, height, width)).any(1).sum())


def clipped_said(source: Any) -> str:
    """How many boxes were clipped, of the examples that were read here, in a line; "" if none.

    Args:
        source: where it counts them, `clipped` says of an example's index how many of its boxes.
    """
    beyond = f"beyond the image by at most {SLOP:g} pixel or {100 * SHARE:g} % of its side"
    return _said(source, "clipped", beyond)


def empty_said(source: Any) -> str:
    """How many boxes were dropped, as `clipped_said`.

    Args:
        source: where it counts them, `empty` says of an example's index how many of its boxes had
            no area.
    """
    return _said(source, "empty", "which have no area and are dropped")


def _said(source: Any, counted: str, what: str) -> str:
    counts = dict(getattr(source, counted, {}))  # others may read on
    if not counts:
        return ""
    count, first = sum(counts.values()), min(counts)
    known = getattr(source, "name", None)
    where = f" ({known(first)})" if known is not None and known(first) else ""
    return (
        f"{counted.capitalize()}: {count} {'box' if count == 1 else 'boxes'} in {len(counts)} of "
        f"the examples read, {what}; the first is in example {first}{where}."
    )


def _clipped(rows: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.clip(rows, 0, np.array([width, height, width, height], np.float64))
