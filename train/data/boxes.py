"""Boxes as files have them: whether they lie in their image, and in which form they are kept."""

import numpy as np

SLOP = 1.0
"""Pixels by which a file's box may leave its image: it is clipped. COCO's own boxes do."""


def boxes(rows: np.ndarray, height: int, width: int, slop: float = SLOP) -> np.ndarray:
    """The boxes of one image, clipped to it.

    Args:
        rows: (n, 4), x0 y0 x1 y1 in pixels; pixel (r, c) covers [c, c + 1) x [r, r + 1).
        height, width: of the image.
        slop: pixels by which a box may leave it.

    Returns:
        (n, 4) float32.

    Raises:
        ValueError: a box is not finite, leaves the image by more, or has no area; names its row
            and the box.
    """
    given = np.asarray(rows, np.float64).reshape(-1, 4)
    low, high = np.zeros(4), np.array([width, height, width, height], np.float64)
    kept = np.clip(given, low, high).astype(np.float32)
    with np.errstate(invalid="ignore"):
        outside = ~(np.abs(given - np.clip(given, low, high)) <= slop).all(1)
    empty = ~((given[:, 2:] > given[:, :2]) & (kept[:, 2:] > kept[:, :2])).all(1)
    for fault, said in ((outside, "lies outside its image"), (empty, "has no area")):
        if fault.any():
            row = int(np.argmax(fault))
            corners = ", ".join(f"{value:g}" for value in given[row])
            raise ValueError(f"box {row}, x0 y0 x1 y1 = {corners}, {said} (image {width}x{height})")
    return kept
