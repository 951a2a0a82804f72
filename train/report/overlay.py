"""An example as people look at it: its picture, the mask over it, boxes around what is in it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from train.data.batch import IGNORE
from train.data.source import About
from train.report.segmentation import table
from train.report.text import draw_text, extent

OPACITY = 0.5
"""Of the mask."""
LINES = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233))
"""Colours of boxes by class, in turns: Okabe and Ito's (2008), without black and yellow."""


def overlaid(example: Mapping[str, Any], about: About, *, scale: int = 1) -> Image.Image:
    """The picture of an example, in RGB.

    Args:
        example: `image` (H, W, C), uint8 or float 0..255, of one channel, or three or more, of
            which the first three are colour; `mask` (H, W), `boxes` (N, 4) with `box_label`,
            `scores` where they were found and, where rows may be none, `box_valid`, as far as it
            has them.
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
        boxes = np.asarray(example["boxes"])
        valid = np.asarray(example.get("box_valid", np.ones(len(boxes), bool)))
        labels = np.asarray(example.get("box_label", np.zeros(len(boxes), int)))
        scores = example.get("scores")
        for row in np.flatnonzero(valid):
            label = labels[row]
            name = about.classes[label] if about.classes else ""
            name = name if scores is None else f"{name} {scores[row]:.2f}"
            outline(picture, boxes[row] * scale, name, LINES[label % len(LINES)])
    return picture


def outline(picture: Image.Image, box: np.ndarray, name: str, colour: tuple[int, int, int]) -> None:
    """Draw a box, x0 y0 x1 y1 in pixels of the picture, with its name at the upper left."""
    draw = ImageDraw.Draw(picture)
    x0, y0, x1, y1 = (float(n) for n in box)
    # The last pixel inside: a box's ends are the far edges of its pixels.
    draw.rectangle((x0, y0, max(x1 - 1, x0), max(y1 - 1, y0)), outline=colour, width=2)
    if name:
        width, height = extent(name)
        width += 6
        at = (min(x0, max(picture.width - width, 0)), y0 - height if y0 >= height else y0)
        draw.rectangle((at[0], at[1], at[0] + width, at[1] + height), fill=colour)
        draw_text(picture, (at[0] + 3, at[1]), name, fill="white")
