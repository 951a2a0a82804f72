"""Losses of residuals: from how far a prediction is off to what that costs.

loss = huber(1.0)
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

ResidualLoss = Callable[[jax.Array], jax.Array]
"""(…) prediction minus target -> (…) of the same type, at least 0; differentiable at 0 too."""


def squared(residual: jax.Array) -> jax.Array:
    """r^2: the best constant is the mean."""
    return residual * residual


def absolute(residual: jax.Array) -> jax.Array:
    """|r|: the best constant is the median. Its slope at 0 is 0, of `jnp.abs` it is 1."""
    return residual * jnp.sign(residual)


def huber(delta: float = 1.0) -> ResidualLoss:
    """r^2 / 2 up to delta, then delta (|r| - delta / 2) (Huber 1964), as PyTorch's.

    Args:
        delta: in the unit of the residuals, which a task takes of standardised targets.

    Raises:
        ValueError: it is not positive and finite.
    """
    if not 0 < delta < math.inf:
        raise ValueError(f"delta={delta} is not positive and finite")

    def loss(residual: jax.Array) -> jax.Array:
        # Of the part inside alone, so that the square of what is far off can't overflow.
        size = jnp.abs(residual)
        inside = jnp.minimum(size, delta)
        return inside * (size - inside / 2)

    return loss
