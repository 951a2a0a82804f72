"""Projective maps of the plane as batches of 3x3 matrices (Hartley and Zisserman 2004, 2.3).

A point is (x, y, 1); a map gives (u, v, w), which stands for (u / w, v / w) and is in sight where
w > 0. Sums are written out: `matmul` rounds its factors on accelerators.
"""

import jax
import jax.numpy as jnp


def project(
    matrix: jax.Array, x: jax.Array, y: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Where points go: (x', y', whether they are in sight).

    Integer shifts, mirrors and quarter turns are exact.

    Args:
        matrix: (B, 3, 3).
        x, y: of one rank, the leading axis B or 1; they broadcast.
    """
    rows = matrix.reshape(matrix.shape[:1] + (1,) * (x.ndim - 1) + (3, 3))
    u, v, w = (rows[..., r, 0] * x + rows[..., r, 1] * y + rows[..., r, 2] for r in range(3))
    # Division is not exact on every device, not even by 1.
    return jnp.where(w == 1, u, u / w), jnp.where(w == 1, v, v / w), w > 0


def product(left: jax.Array, right: jax.Array) -> jax.Array:
    """(B, 3, 3), (B, 3, 3) -> (B, 3, 3): first `right`, then `left`."""
    return jnp.sum(left[:, :, :, None] * right[:, None, :, :], axis=2)


def inverse(matrix: jax.Array) -> jax.Array:
    """(B, 3, 3) -> (B, 3, 3): the inverse times |determinant|, the same map, without a division.

    The inverse of a singular matrix has no point in sight.
    """
    a, b, c = matrix[:, 0], matrix[:, 1], matrix[:, 2]
    adjugate = jnp.stack([jnp.cross(b, c), jnp.cross(c, a), jnp.cross(a, b)], axis=2)
    determinant = jnp.sum(a * adjugate[:, :, 0], axis=1)
    return jnp.sign(determinant)[:, None, None] * adjugate
