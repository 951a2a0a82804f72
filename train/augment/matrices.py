"""Matrices: shifts, turns and other maps of the plane, one an example, as (B, 3, 3) float32.

x runs to the right and y down, in pixels; pixel (r, c) covers [c, c+1) x [r, r+1). Amounts are (B,)
float32, or numbers that are the same for all examples. Whole shifts, mirrors and quarter turns come
out exact.
"""

import jax
import jax.numpy as jnp

from train.augment.homography import product
from train.augment.kinds import Shape

Amount = jax.Array | float


def identities(size: int) -> jax.Array:
    """(size, 3, 3): the map that moves nothing."""
    return jnp.broadcast_to(jnp.eye(3, dtype=jnp.float32), (size, 3, 3))


def matrices(size: int, *entries: Amount) -> jax.Array:
    """(size, 3, 3) from the nine entries, row after row, or from the first six of an affine map."""
    if len(entries) == 6:
        entries = (*entries, 0, 0, 1)
    columns = [jnp.broadcast_to(jnp.asarray(entry, jnp.float32), (size,)) for entry in entries]
    return jnp.stack(columns, axis=-1).reshape(size, 3, 3)


def shifts(size: int, x: Amount, y: Amount) -> jax.Array:
    """x pixels to the right, y down."""
    return matrices(size, 1, 0, x, 0, 1, y)


def zooms(size: int, x: Amount, y: Amount) -> jax.Array:
    """x times as wide and y times as high; the origin stays. -1 mirrors."""
    return matrices(size, x, 0, 0, 0, y, 0)


def shears(size: int, x: Amount, y: Amount) -> jax.Array:
    """Each row moves x pixels to the right a pixel down; before that, each column y pixels down."""
    along_y = matrices(size, 1, 0, 0, y, 1, 0)
    return product(matrices(size, 1, x, 0, 0, 1, 0), along_y)


def turns(size: int, degrees: Amount) -> jax.Array:
    """About the origin, counter-clockwise as one sees it, like `numpy.rot90`; 90 is exact."""
    degrees = jnp.asarray(degrees, jnp.float32)
    quarters = jnp.round(degrees / 90)
    rest = jnp.deg2rad(degrees - 90 * quarters)
    cos, sin = jnp.cos(rest), jnp.sin(rest)
    quarters = quarters.astype(jnp.int32) % 4
    odd, negative = quarters % 2 == 1, quarters >= 2
    cos, sin = jnp.where(odd, -sin, cos), jnp.where(odd, cos, sin)
    cos, sin = jnp.where(negative, -cos, cos), jnp.where(negative, -sin, sin)
    return matrices(size, cos, sin, 0, -sin, cos, 0)


def centred(matrix: jax.Array, shape: Shape) -> jax.Array:
    """The map with the centre of an image of (height, width) for its origin."""
    size, (height, width) = matrix.shape[0], shape
    back = product(matrix, shifts(size, -width / 2, -height / 2))
    return product(shifts(size, width / 2, height / 2), back)


def quadrilaterals(corners: jax.Array, shape: Shape) -> jax.Array:
    """The map of an image's corners to four points (Heckbert 1989, section 2.2.3).

    Args:
        corners: (B, 4, 2) float32: x and y of where the upper left, upper right, lower right and
            lower left corner go.
        shape: height and width of the image.
    """
    height, width = shape
    x0, x1, x2, x3 = jnp.unstack(corners[..., 0], axis=1)
    y0, y1, y2, y3 = jnp.unstack(corners[..., 1], axis=1)
    right_x, lower_x, sum_x = x1 - x2, x3 - x2, x0 - x1 + x2 - x3
    right_y, lower_y, sum_y = y1 - y2, y3 - y2, y0 - y1 + y2 - y3
    area = right_x * lower_y - lower_x * right_y
    g = (sum_x * lower_y - lower_x * sum_y) / area
    h = (right_x * sum_y - sum_x * right_y) / area
    return matrices(
        corners.shape[0],
        *((x1 - x0 + g * x1) / width, (x3 - x0 + h * x3) / height, x0),
        *((y1 - y0 + g * y1) / width, (y3 - y0 + h * y3) / height, y0),
        *(g / width, h / height, 1),
    )
