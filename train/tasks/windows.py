"""Large images: predicted window by window, overlapping, on the host around one jitted function."""

import math
from collections.abc import Callable

import numpy as np


def sliding(
    predict: Callable[[np.ndarray], np.ndarray],
    image: np.ndarray,
    *,
    window: tuple[int, int],
    overlap: float = 0.5,
    context: int = 0,
    batch_size: int = 1,
) -> np.ndarray:
    """Probabilities of every pixel: the weighted mean over all windows that hold it.

    Weights fall off linearly from a window's middle to its border, where a network sees least of
    what is around. All windows have one shape, so that `predict` is compiled once; they stand
    evenly, from one edge to the other, and an image smaller than a window is mirrored to its size.

        predict = jax.jit(lambda x: task.predict(variables, x)["probabilities"])
        x = task.inputs({"image": image[None]})[0]  # what it takes from the image, from all of it
        sliding(predict, np.asarray(x), window=(512, 512), batch_size=4)

    Args:
        predict: (batch_size, h, w, C) -> (batch_size, h, w, K), such as the `probabilities` of a
            segmentation task's `predict`; h and w are those of a window and `context` around it.
        image: (H, W, C), as `predict` takes it.
        window: height and width in pixels.
        overlap: the least of neighbouring windows, as a share of their size, from 0 to below 1.
        context: pixels that `predict` sees on each side of a window, and whose result is dropped:
            the image's own, mirrored beyond its edges. With as many as a network without padding
            takes away (U-Net's `margin`), no window has less around it than the whole image would
            have (the overlap-tile strategy of Ronneberger et al. 2015, fig. 2).
        batch_size: windows at a time.

    Returns:
        (H, W, K) float32.

    Raises:
        ValueError: the image has other axes; `window` or `batch_size` is below 1, `overlap` out of
            its range, `context` below 0; or `predict` yields another height or width.
    """
    if image.ndim != 3 or 0 in image.shape:
        raise ValueError(f"image of shape {image.shape}: expected (H, W, C)")
    if min(*window, batch_size) < 1 or not 0 <= overlap < 1 or context < 0:
        raise ValueError(f"{window=}, {overlap=}, {context=}, {batch_size=}")
    height, width = image.shape[:2]
    missing = [max(w - n, 0) for w, n in zip(window, (height, width), strict=True)]
    around = [(m // 2, m - m // 2) for m in missing]
    (above, _), (before, _) = around
    border = [(first + context, second + context) for first, second in around]
    image = np.pad(image, [*border, (0, 0)], mode="reflect")
    rows, columns = height + missing[0], width + missing[1]
    seen = (window[0] + 2 * context, window[1] + 2 * context)
    inside = (slice(context, context + window[0]), slice(context, context + window[1]))
    tent = np.minimum.outer(*(ramp(size) for size in window)).astype(np.float32)[..., None]
    places = [
        (top, left)
        for top in starts(rows, window[0], overlap)
        for left in starts(columns, window[1], overlap)
    ]
    total: np.ndarray | None = None
    weight = np.zeros((rows, columns, 1), np.float32)
    for begin in range(0, len(places), batch_size):
        some = places[begin : begin + batch_size]
        # The last batch is filled up: another size would be compiled anew.
        filled = some + some[:1] * (batch_size - len(some))
        views = [image[t : t + seen[0], left : left + seen[1]] for t, left in filled]
        values = np.asarray(predict(np.stack(views)), np.float32)
        if values.ndim != 4 or values.shape[:3] != (batch_size, *seen):
            raise ValueError(f"predict yields {values.shape} for {batch_size} views of {seen}")
        if total is None:
            total = np.zeros((rows, columns, values.shape[-1]), np.float32)
        for (top, left), value in zip(some, values, strict=False):
            there = (slice(top, top + window[0]), slice(left, left + window[1]))
            total[there] += tent * value[inside]
            weight[there] += tent
    assert total is not None
    return (total / weight)[above : above + height, before : before + width]


def starts(size: int, window: int, overlap: float) -> list[int]:
    """Where windows begin along an axis: evenly, the first at 0, the last at its end."""
    stride = max(math.floor(window * (1 - overlap) + 1e-9), 1)  # 1 - 0.9 is a little below 0.1
    count = -(-(size - window) // stride) + 1
    return [round(i * (size - window) / max(count - 1, 1)) for i in range(count)]


def ramp(size: int) -> np.ndarray:
    """(size,) from 1 at both ends up to the middle, by ones: never 0."""
    places = np.arange(size)
    return np.minimum(places, places[::-1]) + 1.0
