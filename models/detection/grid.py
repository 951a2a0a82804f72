"""The grid that a network lays over an image: a cell is one pixel of a map."""

import jax
import jax.numpy as jnp

from models.detection.anchors import centres


def corners(output: jax.Array, stride: int) -> jax.Array:
    """x y in pixels of each cell's upper left corner: (B, h, w, …) -> (1, h, w, 2) of its type."""
    rows, columns = output.shape[1:3]
    each = centres((rows, columns), (stride, stride), offset=0).reshape(1, rows, columns, 2)
    return jnp.asarray(each, output.dtype)


def check_multiple(x: jax.Array, stride: int) -> None:
    """Refuses an image whose height or width is no multiple of a network's coarsest stride.

    Raises:
        ValueError: names the shape, and the next larger one that fits.
    """
    height, width = x.shape[1:3]
    if height % stride or width % stride:
        raise ValueError(
            f"image of shape {x.shape}: height and width must be multiples of {stride}, such as "
            f"{least_multiple(height, stride)}x{least_multiple(width, stride)}"
        )


def least_multiple(size: int, stride: int) -> int:
    """The least multiple of `stride` that is no less than `size`, and above 0."""
    return max(-(-size // stride), 1) * stride
