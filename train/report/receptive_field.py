"""Receptive fields as a picture: what counts for the middle of each map, in the box that can."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from train.report.figures import COLOURS, light
from train.report.figures import image as figure
from train.report.kernels import under

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WORDS = "what counts for the middle of each map: its gradient by the input"


class Field(NamedTuple):
    """Of the middle of one map.

    Attributes:
        size: positions of the theoretical field along each axis of the input.
        ends: first and last of them along each axis; they may lie in the padding.
        weights: name of the weights -> (H, W) or (L,), at least 0: how much each position counts.
    """

    size: tuple[int, ...]
    ends: tuple[tuple[int, int], ...]
    weights: Mapping[str, np.ndarray]


def drawn_fields(fields: Mapping[str, Field]) -> Image.Image:
    """A column a map; a row a set of weights. Of series a line a set of weights."""
    one = next(iter(fields.values()))
    if len(one.size) == 1:
        lines = [WORDS, "grey: the theoretical field"]
        return under(lines, figure(partial(draw_lines, fields)))
    box = "the box is the theoretical field"
    if any(map(beyond, fields.values())):
        box += "; sides that are not seen lie outside the image"
    lines = [WORDS, "its square root, dark to bright", box]
    return under(lines, figure(partial(draw_boxes, fields)))


def draw_boxes(fields: Mapping[str, Field]) -> "Figure":
    """Heat maps of the input's size, each under the box of the theoretical field."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    names = [*next(iter(fields.values())).weights]
    made = Figure(figsize=(2.3 * len(fields) + 0.5, 2.4 * len(names) + 0.4), layout="constrained")
    cells = made.subplots(len(names), len(fields), squeeze=False)
    for column, (stage, field) in zip(cells.T, fields.items(), strict=True):
        for axes, name in zip(column, names, strict=True):
            heat = np.sqrt(np.asarray(field.weights[name], np.float64))
            height, width = heat.shape
            axes.imshow(heat, cmap="inferno", interpolation="nearest", extent=(0, width, height, 0))
            (top, bottom), (left, right) = field.ends
            corner, size = (left, top), (right - left + 1, bottom - top + 1)
            axes.add_patch(Rectangle(corner, *size, fill=False, color="#56B4E9", linewidth=1.5))
            axes.set_xlim(-1, width + 1)
            axes.set_ylim(height + 1, -1)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
        column[0].set_title(f"{stage}: {sizes(field.size)}", fontsize=9, parse_math=False)
    for axes, name in zip(cells[:, 0], names, strict=True):
        axes.set_ylabel(name, fontsize=9)
    return made


def draw_lines(fields: Mapping[str, Field]) -> "Figure":
    """Lines over the steps of the input, each from 0 to its largest value."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(7.5, 1.2 * len(fields) + 0.7), layout="constrained")
    cells = made.subplots(len(fields), 1, squeeze=False, sharex=True)[:, 0]
    for axes, (stage, field) in zip(cells, fields.items(), strict=True):
        ((first, last),) = field.ends
        axes.axvspan(first - 0.5, last + 0.5, color="#E6E6E6")
        for (name, weights), colour in zip(field.weights.items(), COLOURS, strict=False):
            values = np.asarray(weights, np.float64)
            axes.plot(values / (values.max() or 1), color=colour, linewidth=1, label=name)
            axes.set_xlim(-0.5, len(values) - 0.5)
        light(axes)
        axes.grid(False)
        axes.set_yticks([])
        axes.set_title(f"{stage}: {sizes(field.size)} steps", fontsize=8, loc="left")
    cells[0].legend(fontsize=7, frameon=False, loc="upper right")
    made.supxlabel("steps of the input", fontsize=8)
    return made


def beyond(field: Field) -> bool:
    """Whether a field reaches into the padding."""
    shape = next(iter(field.weights.values())).shape
    return any(a < 0 or b >= n for (a, b), n in zip(field.ends, shape, strict=True))


def sizes(size: Sequence[int]) -> str:
    """Of a field in words."""
    return "x".join(map(str, size))
