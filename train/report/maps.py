"""Feature maps as pictures: the channels of a stage, for each example; of signals a heat map."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from models.inspect.kernels import grid
from train.report.colours import coloured, enlarged, in_colour, scaled
from train.report.figures import image as figure
from train.report.figures import light
from train.report.kernels import under
from train.report.signals import draw_signal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 64
"""Channels of all examples together, the first ones of each, in whole rows."""
SIDE = 60
"""Pixels of a map, at least."""
GAP = 8
SCALE = "from dark (0, or its least value if that is below 0) to bright (its largest)"


def drawn_maps(words: str, maps: np.ndarray, pixels: np.ndarray) -> Image.Image:
    """Maps (B, h, w, c) beside the images (B, H, W, C) uint8, under a line of words."""
    across = 8 if len(maps) == 1 else 16
    count = min(maps.shape[-1], max(MOST // len(maps) // across, 1) * across)
    blocks = []
    for one, image in zip(np.asarray(maps, np.float64), pixels, strict=True):
        shown = np.stack([scaled(one[..., channel]) for channel in range(count)])
        factor = max(round(SIDE / max(shown.shape[1:])), 1)
        shown = shown.repeat(factor, axis=1).repeat(factor, axis=2)
        right = Image.fromarray(coloured(grid(shown, across, gap=2), "viridis"))
        left = enlarged(in_colour(image), min(right.height, 3 * SIDE))
        block = Image.new(
            "RGB", (left.width + GAP + right.width, max(left.height, right.height)), "white"
        )
        block.paste(left, (0, 0))
        block.paste(right, (left.width + GAP, 0))
        blocks.append(block)
    whole = Image.new(
        "RGB",
        (max(one.width for one in blocks), sum(one.height + GAP for one in blocks) - GAP),
        "white",
    )
    top = 0
    for block in blocks:
        whole.paste(block, (0, top))
        top += block.height + GAP
    return under([words, said(count, maps.shape[-1])], whole)


def said(count: int, channels: int) -> str:
    """What of the channels is drawn, and how."""
    some = f"the first {count} of {channels} channels" if count < channels else "all channels"
    return f"{some}, each {SCALE}"


def drawn_series(
    words: str, maps: Sequence[np.ndarray], signals: Sequence[np.ndarray], rate: int | None
) -> Image.Image:
    """Maps (l, c) under the signals (L, C) that they are of, both without padding."""
    lines = [words, f"each channel {SCALE}"]
    return under(lines, figure(partial(draw_series, maps, signals, rate)))


def draw_series(
    maps: Sequence[np.ndarray], signals: Sequence[np.ndarray], rate: int | None
) -> "Figure":
    """A column an example: the signal, and below it a row a channel, bright where it is large."""
    from matplotlib.figure import Figure

    count, channels = len(maps), maps[0].shape[-1]
    made = Figure(figsize=(2.8 * count + 1, 4.4), layout="constrained")
    cells = made.subplots(2, count, squeeze=False, sharex="col", height_ratios=(1, 2))
    for (top, low), one, signal in zip(cells.T, maps, signals, strict=True):
        draw_signal(top, signal, rate)
        light(top)
        ends = (-0.5 / (rate or 1), (len(signal) - 0.5) / (rate or 1))
        low.imshow(
            np.stack([scaled(channel) for channel in np.asarray(one, np.float64).T]),
            aspect="auto",
            interpolation="nearest",
            extent=(*ends, channels, 0),
            cmap="viridis",
        )
        low.tick_params(labelsize=7)
    cells[1, 0].set_ylabel(f"{channels} channels", fontsize=8)
    made.supxlabel("seconds" if rate else "steps", fontsize=8)
    return made
