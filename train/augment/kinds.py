"""The two kinds of augmentation: one says where pixels go, the other what they become."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from train.data.batch import Batch, Transform

Shape = tuple[int, int]
"""Height and width in pixels."""

Pixel = Transform
"""(key, batch) -> batch: changes values, moves nothing."""


def unchanged(shape: Shape) -> Shape:
    """The output shape of a stage that keeps the input's."""
    return shape


class Geometric(NamedTuple):
    """A random projective map of the image plane, drawn for each example of a batch.

    Attributes:
        draw: (key, batch) -> (B, 3, 3) float32, each of which maps the current image's (x, y, 1) to
            the new image's; x runs to the right, y down, and pixel (r, c) covers [c, c+1) x
            [r, r+1). Coordinates in `batch` are those of the current image; its `image` has a shape
            and a type but no pixels, since these are read once, after the last map is drawn. A
            random number belongs to an example: its place in the global batch and the key say what
            it is. Draw with explicit 32-bit types, so that a run in float64 draws the same.
        shape: (height, width) of the current image -> of the new one.
    """

    draw: Callable[[jax.Array, Batch], jax.Array]
    shape: Callable[[Shape], Shape] = unchanged
