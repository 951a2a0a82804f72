"""Geometric stages that keep the image's shape: shift, rotation, scale, shear, perspective."""

import jax
import jax.numpy as jnp

from train.augment.kinds import Geometric
from train.augment.matrices import centred, quadrilaterals, shears, shifts, turns, zooms
from train.augment.ranges import Range, drawn, limits, probability
from train.data.batch import Batch


def shift(x: Range, y: Range | None = None) -> Geometric:
    """To the right by a share `x` of the width, and down by a share `y` of the height.

    Not whole pixels: `pad_and_crop` shifts by these.

    Args:
        x, y: ranges, in images; `y` is as `x` where it is not said.

    Raises:
        ValueError: a range is none.
    """
    x_range, y_range = limits("x", x), limits("y", x if y is None else y)

    def draw(key: jax.Array, batch: Batch) -> jax.Array:
        size, height, width, _ = batch["image"].shape
        right, down = drawn(key, size, x_range, y_range)
        return shifts(size, right * width, down * height)

    return Geometric(draw)


def rotation(degrees: Range) -> Geometric:
    """About the image's centre, counter-clockwise; multiples of 90 are exact.

    Raises:
        ValueError: `degrees` is no range.
    """
    allowed = limits("degrees", degrees)

    def draw(key: jax.Array, batch: Batch) -> jax.Array:
        size, height, width, _ = batch["image"].shape
        (angle,) = drawn(key, size, allowed)
        return centred(turns(size, angle), (height, width))

    return Geometric(draw)


def quarter_turns() -> Geometric:
    """By 0, 90, 180 or 270 degrees, equally likely, of a square image; exact.

    Raises:
        ValueError: once traced, the image is not square.
    """

    def draw(key: jax.Array, batch: Batch) -> jax.Array:
        size, height, width, _ = batch["image"].shape
        if height != width:
            raise ValueError(f"quarter_turns of an image {height}x{width}, which is not square")
        quarters = jax.random.randint(key, (size,), 0, 4, jnp.int32).astype(jnp.float32)
        return centred(turns(size, 90 * quarters), (height, width))

    return Geometric(draw)


def scale(low: float, high: float) -> Geometric:
    """Larger by a factor, drawn uniformly from `low`..`high`, about the image's centre.

    Raises:
        ValueError: a factor is not positive, or `low` above `high`.
    """
    if low <= 0:
        raise ValueError(f"low={low} is not positive")
    allowed = limits("(low, high)", (low, high))

    def draw(key: jax.Array, batch: Batch) -> jax.Array:
        size, height, width, _ = batch["image"].shape
        (factor,) = drawn(key, size, allowed)
        return centred(zooms(size, factor, factor), (height, width))

    return Geometric(draw)


def shear(x: Range, y: Range = 0.0) -> Geometric:
    """Upright lines lean by `x` degrees, level ones by `y`, about the image's centre.

    What is below the centre goes to the right, what is to the right of it down; first along y, then
    along x.

    Raises:
        ValueError: a range is none, or reaches 90 degrees.
    """
    x_range, y_range = limits("x", x), limits("y", y)
    for name, (low, high) in {"x": x_range, "y": y_range}.items():
        if low <= -90 or high >= 90:
            raise ValueError(f"{name}={(low, high)} reaches 90 degrees")

    def draw(key: jax.Array, batch: Batch) -> jax.Array:
        size, height, width, _ = batch["image"].shape
        lean_x, lean_y = (
            jnp.tan(jnp.deg2rad(angle)) for angle in drawn(key, size, x_range, y_range)
        )
        return centred(shears(size, lean_x, lean_y), (height, width))

    return Geometric(draw)


def perspective(distortion_scale: float = 0.5) -> Geometric:
    """Each corner moves inwards, by up to a share of half the width and of half the height.

    As torchvision's RandomPerspective, always (see `maybe`) and not by whole pixels. Above 2/3 a
    corner may pass the line through its neighbours: what is then beyond the horizon is `fill`.

    Raises:
        ValueError: `distortion_scale` is not in 0..1.
    """
    probability("distortion_scale", distortion_scale)

    def draw(key: jax.Array, batch: Batch) -> jax.Array:
        size, height, width, _ = batch["image"].shape
        inwards = jax.random.uniform(key, (size, 4, 2), jnp.float32) * distortion_scale / 2
        signs = jnp.array([[[1, 1], [-1, 1], [-1, -1], [1, -1]]], jnp.float32)
        corners = jnp.array([[[0, 0], [1, 0], [1, 1], [0, 1]]], jnp.float32)
        extent = jnp.array([[[width, height]]], jnp.float32)
        return quadrilaterals((corners + signs * inwards) * extent, (height, width))

    return Geometric(draw)
