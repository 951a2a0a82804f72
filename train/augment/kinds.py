"""The kinds of augmentation: where pixels go, what they become, and which examples are mixed."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

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


class Paired(NamedTuple):
    """One random choice with a geometric and a pixel half, such as one operation of RandAugment.

    `chain` gives both halves the same key: what they draw from it alike is one choice.
    """

    geometric: Geometric
    pixel: Pixel


class Mixing(NamedTuple):
    """A blend of each example with its partner in the batch; labels become distributions.

    Attributes:
        share: (key, batch) -> (B, H, W) float32 in [0, 1], or (B, L) of a signal: how much of each
            place stays the example's own. The label's share is its mean, so that it is right
            whatever was clipped.
        num_classes: of the labels.
    """

    share: Callable[[jax.Array, Batch], jax.Array]
    num_classes: int


Stage = Geometric | Pixel | Paired | Mixing


def kind(name: str, stage: Any) -> Any:
    """Which of the four kinds a stage is of: the class, or `Pixel`.

    Raises:
        TypeError: of none: a number, or a function of other arguments, such as `flip` for `flip()`;
            names the argument.
    """
    if isinstance(stage, Geometric | Paired | Mixing):
        return type(stage)
    if not callable(stage):
        raise TypeError(f"{name}={stage!r} is no stage and no function")
    if not _takes_key_and_batch(stage):
        raise TypeError(
            f"{name}={stage!r} does not take (key, batch); a stage is what its constructor "
            f"returns: flip(), not flip"
        )
    return Pixel


def _takes_key_and_batch(stage: Pixel) -> bool:
    """Whether a function can be called with two arguments, as far as Python can tell."""
    try:
        signature = inspect.signature(stage)
    except ValueError:
        # Some compiled functions do not say.
        return True
    try:
        signature.bind(None, None)
    except TypeError:
        return False
    return True
