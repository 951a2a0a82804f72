"""Grad-CAM as a picture: the heat over images, or behind signals."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from train.report.colours import enlarged, heated, in_colour, scaled
from train.report.figures import image as figure
from train.report.figures import light
from train.report.kernels import LINE
from train.report.signals import ACROSS, RIGHT, WRONG, draw_signal, legible_lines
from train.report.text import draw_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEAT = "grey: nothing speaks for it; then green, yellow, red: more and more; each for itself"
HEAT_OF_SIGNALS = "the redder, the more speaks for it; each for itself"
SIDE = 224
GAP = 6
COLOUR = {None: "black", True: RIGHT, False: WRONG}


class Seen(NamedTuple):
    """One example.

    Attributes:
        values: (H, W, C) uint8, or (L, C) of a signal.
        heat: (H, W) or (L,), at least 0.
        name: of its file.
        words: what it is said to be.
        right: whether it is; None where nobody knows.
    """

    values: np.ndarray
    heat: np.ndarray
    name: str
    words: str
    right: bool | None = None


def drawn_pairs(seen: Sequence[Seen]) -> Image.Image:
    """Images as they are and, beside each, under its heat; words are green where they are right."""
    across = 1 if len(seen) < 3 else 2
    cells = [cell for one in seen for cell in pair(one)]
    width, height = (
        max(size) for size in zip(*(picture.size for picture, *_ in cells), strict=True)
    )
    down = -(-len(seen) // across)
    whole = Image.new(
        "RGB", (2 * across * (width + GAP) - GAP, down * (height + LINE + GAP) - GAP), "white"
    )
    for at, (picture, words, colour) in enumerate(cells):
        x, y = at % (2 * across) * (width + GAP), at // (2 * across) * (height + LINE + GAP)
        whole.paste(picture, (x, y))
        draw_text(whole, (x, y + height + 1), words, fill=colour, width=width)
    return whole


def pair(one: Seen) -> list[tuple[Image.Image, str, str]]:
    """Pictures of an image and of its heat, the words below each and their colours."""
    picture = in_colour(one.values)
    hot = heated(picture, scaled(np.asarray(one.heat, np.float64)))
    return [
        (enlarged(picture, SIDE), one.name, "black"),
        (enlarged(hot, SIDE), one.words, COLOUR[one.right]),
    ]


def drawn_signals(seen: Sequence[Seen], rate: int | None) -> Image.Image:
    """Signals, each before its heat."""
    return figure(partial(draw_heat, seen, rate))


def draw_heat(seen: Sequence[Seen], rate: int | None) -> "Figure":
    """Signals before their heat, the redder the more; words are green where they are right."""
    from matplotlib.figure import Figure

    across = min(ACROSS, len(seen))
    down = -(-len(seen) // across)
    made = Figure(figsize=(2.6 * across + 0.4, 1.9 * down + 0.4), layout="constrained")
    cells = made.subplots(down, across, squeeze=False)
    for axes in cells.flat[len(seen) :]:
        axes.set_visible(False)
    for axes, one in zip(cells.flat, seen, strict=False):
        draw_signal(axes, one.values, rate)
        light(axes)
        axes.grid(False)
        axes.imshow(
            scaled(np.asarray(one.heat, np.float64))[None],
            aspect="auto",
            cmap="Reds",
            alpha=0.7,
            vmin=0,
            vmax=1.3,
            extent=(-0.5 / (rate or 1), (len(one.values) - 0.5) / (rate or 1), *axes.get_ylim()),
            zorder=0,
        )
        words = legible_lines(f"{one.words}\n{one.name}")
        axes.set_title(words, fontsize=8, color=COLOUR[one.right], parse_math=False)
        axes.tick_params(labelsize=7)
    made.supxlabel("seconds" if rate else "steps", fontsize=8)
    return made
