"""Anchors and centres on the grids of feature maps: constants, made of static shapes.

The order is everywhere (level, y, x, anchor), as a map (H, W, A * k) has it when it is reshaped to
(H * W * A, k).
"""

import math
from collections.abc import Sequence

import numpy as np

Size = tuple[int, int]
"""Height and width."""
PADDED = 32
"""torchvision's detectors pad the sides of images to multiples of that."""


def grid_anchors(
    image: Size,
    maps: Sequence[Size],
    sizes: Sequence[Sequence[float]],
    ratios: Sequence[Sequence[float]],
) -> tuple[np.ndarray, ...]:
    """Anchors of each level, as torchvision's `AnchorGenerator` makes them.

    Args:
        image: that all maps are of, padding included. The stride of a level is the image's size
            divided by the map's, rounded down.
        maps: one a level.
        sizes: of each level: square roots of the anchors' areas in pixels.
        ratios: of each level: height by width.

    Returns:
        For each level (H * W * A, 4) float32, x0 y0 x1 y1; A as `base_anchors`. Some reach beyond
        the image.

    Raises:
        ValueError: there are not as many `sizes` or `ratios` as `maps`; a map is empty or larger
            than the image; see `base_anchors`.
    """
    if not len(maps) == len(sizes) == len(ratios):
        raise ValueError(
            f"{len(maps)} maps, {len(sizes)} levels of sizes and {len(ratios)} of ratios"
        )
    levels = []
    for size, scales, shapes in zip(maps, sizes, ratios, strict=True):
        corners = centres(size, strides(image, size), offset=0)
        moved = np.tile(corners, 2)[:, None] + base_anchors(scales, shapes)
        levels.append(moved.reshape(-1, 4))
    return tuple(levels)


def anchors_of(
    image: Size,
    maps: Sequence[Size],
    strides: Sequence[int],
    sizes: Sequence[Sequence[float]],
    ratios: Sequence[float],
) -> tuple[np.ndarray, ...]:
    """`grid_anchors` of a pyramid on an image that need not be padded as torchvision's are.

    Places are a level's stride apart, but on a level that halves an odd number of them: there
    torchvision, whose images come padded to multiples of 32, has floor(side / places). Sides of
    other images count as if they were padded.

    Args:
        image: its height and width, padding included.
        maps: of each level.
        strides: of each level.
        sizes: of each level, as in `grid_anchors`.
        ratios: height by width, of each size.
    """
    height, width = (-(-side // PADDED) * PADDED for side in image)
    levels: list[np.ndarray] = []
    for (rows, columns), stride, own in zip(maps, strides, sizes, strict=True):
        whole = rows * min(stride, height // rows), columns * min(stride, width // columns)
        levels += grid_anchors(whole, [(rows, columns)], [own], [ratios])
    return tuple(levels)


def base_anchors(sizes: Sequence[float], ratios: Sequence[float]) -> np.ndarray:
    """Anchors around (0, 0), their corners on whole pixels.

    Args:
        sizes: square roots of their areas in pixels.
        ratios: height by width.

    Returns:
        (A, 4) float32, A = len(ratios) * len(sizes): all sizes of the first ratio come first.

    Raises:
        ValueError: there is none, or one is not finite and above 0.
    """
    for name, values in (("sizes", sizes), ("ratios", ratios)):
        if not len(values) or not all(0 < value < math.inf for value in values):
            raise ValueError(f"{name}={values} must be finite and above 0, and one at least")
    heights = np.sqrt(np.asarray(ratios, np.float32))
    widths = np.float32(1) / heights
    w, h = (np.outer(way, np.asarray(sizes, np.float32)).ravel() for way in (widths, heights))
    return np.round(np.stack([-w, -h, w, h], axis=1) / np.float32(2))


def centres(size: Size, stride: Size, offset: float = 0.5) -> np.ndarray:
    """The point of each cell of a map, in pixels of the image, rows first.

    Args:
        size: of the map.
        stride: from cell to cell, along y and x, in pixels.
        offset: where in a cell, in cells: 0.5 is its centre, 0 its upper left corner.

    Returns:
        (H * W, 2) float32, x and y.
    """
    y, x = (
        (np.arange(n, dtype=np.float32) + np.float32(offset)) * np.float32(s)
        for n, s in zip(size, stride, strict=True)
    )
    return np.stack([np.tile(x, size[0]), np.repeat(y, size[1])], axis=1)


def strides(image: Size, size: Size) -> Size:
    """Pixels from cell to cell of a map of that size, along y and x, rounded down.

    Raises:
        ValueError: the map is empty or larger than the image.
    """
    if not all(0 < n <= whole for n, whole in zip(size, image, strict=True)):
        raise ValueError(f"map of {size} for an image of {image}")
    return image[0] // size[0], image[1] // size[1]
