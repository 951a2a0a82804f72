"""A network's first kernels as a picture: tiles of two axes, curves of one."""

import math
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from models.inspect.kernels import grid, tiles
from train.report.colours import mixed, signed
from train.report.figures import COLOURS, light
from train.report.figures import image as figure
from train.report.text import draw_text, extent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 100
"""Kernels, the first ones."""
SIDE = 720
"""Pixels of a row of kernels."""
GAP = 4
LINE = 18
"""Pixels of a line of words."""


def drawn_kernels(path: str, kernels: np.ndarray) -> Image.Image:
    """The kernels of a layer, (h, w, c, n) or (k, c, n), under a line that says what they are."""
    *window, channels, count = kernels.shape
    size = "x".join(map(str, (*window, channels)))
    some = kernels[..., :MOST]
    words = [f"{path}: {'the first ' if count > MOST else ''}{some.shape[-1]} kernels of {size}"]
    words[0] += f", of {count}" if count > MOST else ""
    if len(window) == 1:
        words.append("each by its own largest weight; the grey line is 0")
        return under(words, figure(partial(draw_curves, some)))
    found, across = tiles(some), round(math.sqrt(some.shape[-1] * 1.6))
    columns = across if channels in (1, 3) else channels * max(across // channels, 1)
    factor = max(SIDE // (columns * max(window)), 1)
    whole = grid(found.repeat(factor, axis=1).repeat(factor, axis=2), columns, GAP)
    if channels == 3:
        words.append("grey is 0; each by its own largest weight")
        return under(words, Image.fromarray(mixed(whole)))
    words.append("blue below 0, red above; each by its own largest weight")
    if channels > 1:
        words.append(f"the {channels} channels of a kernel side by side")
    return under(words, Image.fromarray(signed(whole)))


def draw_curves(kernels: np.ndarray) -> "Figure":
    """(k, c, n): an axes a kernel, a line a channel, 0 in grey; each by its own largest weight."""
    from matplotlib.figure import Figure

    steps, channels, count = kernels.shape
    across = min(10, count)
    down = -(-count // across)
    made = Figure(figsize=(10, 0.8 * down + 0.1), layout="constrained")
    cells = made.subplots(down, across, squeeze=False, sharex=True)
    for axes in cells.flat[count:]:
        axes.set_visible(False)
    for axes, kernel in zip(cells.flat, np.moveaxis(kernels, -1, 0), strict=False):
        axes.axhline(0, color="#BBBBBB", linewidth=0.8)
        for channel in range(min(channels, len(COLOURS))):
            marker = "." if steps <= 16 else None
            axes.plot(kernel[:, channel], color=COLOURS[channel], linewidth=1, marker=marker)
        reach = np.abs(kernel).max() or 1
        axes.set_ylim(-1.15 * reach, 1.15 * reach)
        light(axes)
        axes.grid(False)
        axes.set_xticks([])
        axes.set_yticks([])
    return made


def under(words: list[str], picture: Image.Image, margin: int = 6) -> Image.Image:
    """A picture under lines of words."""
    width = max(picture.width, *(math.ceil(extent(line)[0]) for line in words)) + 2 * margin
    top = LINE * len(words) + margin
    whole = Image.new("RGB", (width, picture.height + top + margin), "white")
    for number, line in enumerate(words):
        draw_text(whole, (margin, margin // 2 + LINE * number), line)
    whole.paste(picture, (margin, top))
    return whole
