"""Stretch: a rectangle of the source over a rectangle of the image, with all that belongs to it.

Pixels are read once: bilinear, the window widened where they shrink, so that none is left out;
masks by the nearest. Boxes go by the rule of `train.augment.coordinates`.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image

from train.augment.coordinates import VISIBLE
from train.augment.kinds import Shape
from train.data.batch import COORDINATES, IGNORE, KEYS, rows_of
from train.data.source import Example
from train.refusal import Refused

GAP = 3.0
"""Pixels are averaged in blocks first where these leave so many times the wanted size: beyond a
factor of 3 the difference can't be seen (Pillow's `reducing_gap`), and large pictures take a
fraction of the time."""


class Piece(NamedTuple):
    """Which rectangle of the source lies where in the image; x0 y0 x1 y1 both."""

    source: tuple[float, float, float, float]
    image: tuple[int, int, int, int]
    alone: bool = False
    """Whether no pixel beside the rectangle has a part in those at its edges; it is then whole."""


def bring(
    example: Example, shape: Shape, piece: Piece, fill: float | tuple[float, ...] = 0.0
) -> Example:
    """The example whose image is `piece.source`, stretched to `piece.image`, `fill` around it.

    `matrix` (3, 3) float32 and `size` (2,) int32 come beside what was there.

    Args:
        example: `image` (H, W, C) uint8 or float32; what else a batch may hold of an example, its
            boxes with `box_valid`, its proposals with `proposal_valid`.
        shape: height and width of the new image.
        piece: not empty.
        fill: one value or one a channel; a mask is `IGNORE` there.

    Raises:
        Refused: the pixels are of another type.
    """
    image = example["image"]
    if image.dtype not in (np.uint8, np.float32):
        raise Refused(f"image of type {image.dtype}: a host stage takes uint8 or float32")
    (x0, y0, x1, y1), (left, top, right, bottom), _ = piece
    x, y = (right - left) / (x1 - x0), (bottom - top) / (y1 - y0)
    matrix = np.array([[x, 0, left - x * x0], [0, y, top - y * y0], [0, 0, 1]], np.float32)
    new = dict(example, matrix=matrix, size=np.array(image.shape[:2], np.int32))
    new["image"] = _stretched(image, shape, piece, fill, Image.Resampling.BILINEAR)
    if "mask" in example:
        mask = example["mask"][..., None]
        new["mask"] = _stretched(mask, shape, piece, IGNORE, Image.Resampling.NEAREST)[..., 0]
    for key in COORDINATES:
        if key in example:
            new[key], kept = _moved(example[key], matrix, shape)
            kept &= example[KEYS[key].valid]
            # A row that is no box any longer is 0 and False in all that tells of it.
            for name in rows_of(key, new):
                new[name] = np.where(_rows(kept, new[name]), new[name], new[name].dtype.type(0))
    return new


def _moved(boxes: np.ndarray, matrix: np.ndarray, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """`train.augment.coordinates.move_boxes` of a map that keeps axes: (N, 4), (N,) bool."""
    scale, shift = np.diag(matrix)[:2], matrix[:2, 2]
    corners = boxes.reshape(-1, 2, 2) * scale + shift
    clipped = corners.clip(0, np.array(shape[::-1], np.float32))
    whole, inside = (np.prod(c[:, 1] - c[:, 0], axis=1) for c in (corners, clipped))
    own = (boxes[:, 2:] > boxes[:, :2]).all(1)
    return clipped.reshape(-1, 4), own & (inside > 0) & (inside >= VISIBLE * whole)


def _rows(kept: np.ndarray, values: np.ndarray) -> np.ndarray:
    return kept.reshape(kept.shape + (1,) * (values.ndim - 1))


def _stretched(
    pixels: np.ndarray,
    shape: Shape,
    piece: Piece,
    fill: float | tuple[float, ...],
    how: Image.Resampling,
) -> np.ndarray:
    left, top, right, bottom = piece.image
    box = piece.source
    if piece.alone:
        x0, y0, x1, y1 = map(int, box)
        pixels, box = pixels[y0:y1, x0:x1], (0, 0, x1 - x0, y1 - y0)
    inside = _resized(pixels, (right - left, bottom - top), box, how)
    if inside.shape[:2] == shape:
        return inside
    channels = pixels.shape[2]
    border = np.rint(fill) if pixels.dtype == np.uint8 else np.asarray(fill)
    new = np.empty((*shape, channels), pixels.dtype)
    new[...] = np.broadcast_to(border, (channels,)).astype(pixels.dtype)
    new[top:bottom, left:right] = inside
    return new


def _resized(
    pixels: np.ndarray,
    size: tuple[int, int],
    box: tuple[float, float, float, float],
    how: Image.Resampling,
) -> np.ndarray:
    """(H, W, C) -> (height, width, C) of the (width, height) that is asked."""
    height, width, channels = pixels.shape
    if box == (0, 0, width, height) and size == (width, height):
        return pixels
    # Colour in one pass; other channels each alone, since Pillow would weigh colour by opacity.
    together = channels == 3 and pixels.dtype == np.uint8
    planes = [pixels] if together else [pixels[..., c] for c in range(channels)]
    new = [
        np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize(size, how, box, GAP))
        for plane in planes
    ]
    return new[0] if together else np.stack(new, axis=-1)
