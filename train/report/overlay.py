"""An example as people look at it: its picture, the mask over it, boxes around what is in it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from train.data.batch import IGNORE
from train.data.source import About
from train.metrics.detection import covered
from train.report.segmentation import table
from train.report.text import SIZE, draw_text, extent

OPACITY = 0.5
"""Of the mask."""
LINES = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233))
"""Colours of boxes by class, in turns: Okabe and Ito's (2008), without black and yellow."""

LUMA = (0.299, 0.587, 0.114)
"""Of red, green and blue (ITU-R BT.601)."""
LETTERS = 64
"""Lines of text to a picture's longest side, where they would be smaller than in small pictures."""


def overlaid(example: Mapping[str, Any], about: About, *, scale: int = 1) -> Image.Image:
    """The picture of an example, in RGB.

    Args:
        example: `image` (H, W, C), uint8 or float 0..255, of one channel, or three or more, of
            which the first three are colour; `mask` (H, W), `boxes` (N, 4) with `box_label`,
            `scores` where they were found and, where rows may be none, `box_valid`, as far as it
            has them. The first boxes lie on top, and their names have the best places.
        about: names and colours of the classes.
        scale: pixels of the picture to one of the image.
    """
    image = np.nan_to_num(np.asarray(example["image"]).astype(np.float64))
    colour = image[..., :3] if image.shape[-1] >= 3 else image[..., :1].repeat(3, axis=-1)
    if "mask" in example:
        mask = np.asarray(example["mask"])
        shown = (mask != IGNORE) & (mask != 0) if len(about.mask_classes) > 1 else mask != IGNORE
        painted = table(about)[np.minimum(mask, len(about.mask_classes) - 1)]
        mixed = (1 - OPACITY) * colour + OPACITY * painted
        colour = np.where(shown[..., None], mixed, colour)
        stripes = (np.indices(mask.shape).sum(0) % 4 < 2) & (mask == IGNORE)
        colour = np.where(stripes[..., None], 0.6 * colour + 0.4 * 255, colour)
    pixels = np.clip(np.rint(colour), 0, 255).astype(np.uint8)
    picture = Image.fromarray(pixels.repeat(scale, axis=0).repeat(scale, axis=1))
    if "boxes" in example:
        boxes = np.asarray(example["boxes"], np.float64).reshape(-1, 4)
        valid = np.asarray(example.get("box_valid", np.ones(len(boxes), bool)))
        labels = np.asarray(example.get("box_label", np.zeros(len(boxes), int)))[valid]
        names = [about.classes[label] if about.classes else "" for label in labels]
        if "scores" in example:
            scores = np.asarray(example["scores"])[valid]
            names = [f"{name} {score:.2f}" for name, score in zip(names, scores, strict=True)]
        outline(picture, boxes[valid] * scale, names, [LINES[n % len(LINES)] for n in labels])
    return picture


def outline(
    picture: Image.Image,
    boxes: np.ndarray,
    names: Sequence[str],
    colours: Sequence[tuple[int, int, int]],
) -> None:
    """Draw boxes with their names beside them, as large as is legible on the whole picture.

    Args:
        picture: is drawn on.
        boxes: (N, 4) x0 y0 x1 y1 in its pixels, the first on top.
        names: of each; "" for none.
        colours: of each.
    """
    draw, longest = ImageDraw.Draw(picture), max(picture.size)
    size = max(SIZE, longest // LETTERS)
    for (x0, y0, x1, y1), colour in list(zip(boxes.tolist(), colours, strict=True))[::-1]:
        # The last pixel inside: a box's ends are the far edges of its pixels.
        ends = (x0, y0, max(x1 - 1, x0), max(y1 - 1, y0))
        draw.rectangle(ends, outline=colour, width=max(2, size // 6))
    margin = size // 4
    sizes = [
        (extent(name, size=size)[0] + 2 * margin, extent(name, size=size)[1]) for name in names
    ]
    taken = np.zeros((0, 4))
    for row, (name, colour) in enumerate(zip(names, colours, strict=True)):
        if name:
            at = place(boxes, row, sizes[row], picture.size, taken)
            draw.rectangle((at[0], at[1], at[2] - 1, at[3] - 1), fill=colour)
            ink = "black" if np.dot(colour, LUMA) > 140 else "white"
            draw_text(picture, (at[0] + margin, at[1]), name, fill=ink, size=size)
            taken = np.concatenate([taken, at[None]])


def place(
    boxes: np.ndarray,
    row: int,
    size: tuple[float, float],
    within: tuple[int, int],
    taken: np.ndarray,
) -> np.ndarray:
    """(4,) x0 y0 x1 y1 of a box's name: inside the picture, and over as little as can be.

    Above the box where that is free; else below, at a side, or in a corner. Another name counts for
    ten times as much as what is in a box.

    Args:
        boxes: (N, 4) of the picture.
        row: which of them.
        size: width and height of the name.
        within: width and height of the picture.
        taken: (n, 4) of the names that stand already.
    """
    (x0, y0, x1, y1), (width, height) = boxes[row], size
    right, low = x1 - width, y1 - height
    corners = np.array(
        [
            (x0, y0 - height),
            (right, y0 - height),
            (x0, y1),
            (right, y1),
            (x1, y0),
            (x0 - width, y0),
            (x1, low),
            (x0 - width, low),
            (x0, y0),
            (right, low),
        ]
    )
    room = np.maximum(np.subtract(within, size), 0)
    corners = np.rint(np.clip(corners, 0, room))
    names = np.concatenate([corners, corners + np.ceil(size)], axis=1)
    over = 10 * covered(names, taken).sum(1) + covered(names, boxes).sum(1)
    return names[np.argmin(over + 1e-3 * np.arange(len(names)))]
