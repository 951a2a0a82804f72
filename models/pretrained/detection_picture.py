"""Pictures as torchvision's published detectors want them (its `GeneralizedRCNNTransform`).

    images, sizes = detection_pictures([first, second])
    found = network.apply(variables, *images, method="detect")
    boxes = in_picture(found.boxes, images.extent, sizes)

Normalised first, resized then: bilinear without antialiasing, as far as both the shorter side's and
the longer side's sizes allow. Pictures of a batch lie at the top left of images of one size, which
a number divides, with zeros at the right and below.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from PIL import Image

from models.detection.detections import Images
from models.layers.conv import at_least_one
from models.pretrained.preprocess import normalise, rgb


def detection_pictures(
    pictures: Sequence[np.ndarray | Image.Image],
    *,
    min_size: int = 800,
    max_size: int = 1333,
    divisor: int = 32,
) -> tuple[Images, np.ndarray]:
    """Pictures of any sizes as one batch for a detector, and their sizes.

    Args:
        pictures: as in `models.pretrained.preprocess.resize_and_crop`, upright in RGB first.
        min_size: shorter side after resizing, unless the longer would exceed `max_size`, pixels.
        max_size: longer side at most.
        divisor: of the height and width of what comes out.

    Returns:
        (B, H, W, 3) float32 with the extents of the pictures in it, and (B, 2) int32: heights and
        widths of the pictures as they were given.

    Raises:
        ValueError: there are no pictures; a size is no whole number above 0; a picture is refused
            as in `resize_and_crop`, or so long that nothing is left of its shorter side.
    """
    sizes = {"min_size": min_size, "max_size": max_size, "divisor": divisor}
    for name, size in sizes.items():
        at_least_one(name, size)
    if not len(pictures):
        raise ValueError("pictures=[] are none: expected at least one")
    given = [np.asarray(rgb(picture)) for picture in pictures]
    ready = []
    for pixels in given:
        height, width = resized(pixels.shape[:2], min_size, max_size)
        ready.append(bilinear(normalise(pixels), height, width))
    most = (math.ceil(max(one.shape[axis] for one in ready) / divisor) * divisor for axis in (0, 1))
    image = np.zeros((len(ready), *most, 3), np.float32)
    extent = np.zeros((len(ready), 4), np.float32)
    for number, one in enumerate(ready):
        height, width = one.shape[:2]
        image[number, :height, :width] = one
        extent[number, 2:] = width, height
    images = Images(jnp.asarray(image), jnp.asarray(extent))
    return images, np.array([pixels.shape[:2] for pixels in given], np.int32)


def in_picture(boxes: Any, extent: Any, sizes: Any) -> Any:
    """Boxes in pixels of the pictures that `detection_pictures` was given: (B, N, 4) float32.

    Args:
        boxes: (B, N, 4), in pixels of the images.
        extent: (B, 4), the images' own.
        sizes: (B, 2), heights and widths of the pictures.
    """
    factor = sizes[:, ::-1].astype(np.float32) / extent[:, 2:]
    return boxes * jnp.tile(factor, 2)[:, None]


def resized(size: tuple[int, ...], min_size: int, max_size: int) -> tuple[int, int]:
    """Height and width after resizing, in float64 and rounded down as torchvision has them."""
    scale = min(min_size / min(size), max_size / max(size))
    height, width = (int(side * scale) for side in size)
    if min(height, width) < 1:
        raise ValueError(
            f"picture of {size[0]}x{size[1]} pixels in max_size={max_size}: nothing is left of it"
        )
    return height, width


def bilinear(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """(h, w, C) float32 -> (height, width, C): PyTorch's, with `align_corners=False`."""
    for axis, size in ((0, height), (1, width)):
        length = x.shape[axis]
        # In float32 as PyTorch's; the sizes' own quotient, not the scale that led to them.
        scale = np.float32(length) / np.float32(size)
        at = scale * (np.arange(size, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5)
        at = np.maximum(at, 0)
        low = np.minimum(at.astype(np.int32), length - 1)
        weight = (at - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        after = np.take(x, np.minimum(low + 1, length - 1), axis)
        x = np.take(x, low, axis) * (1 - weight) + after * weight
    return x
