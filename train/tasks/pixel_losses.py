"""Losses of pixels: from logits and classes to one number, over the pixels that count.

loss = weighted((1.0, cross_entropy()), (0.5, soft_dice()))
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

PixelLoss = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""(logits (…, K) floats, classes (…) integers, counted (…) bool) -> () of the logits' type.

Classes of pixels that count are from 0 to K - 1 (sources see to it; it is not checked here); of
those that do not they may be anything. A batch in which none counts has loss 0 and gradients of 0.
"""


def cross_entropy(weights: Sequence[float] | None = None) -> PixelLoss:
    """-log p of the true class, averaged.

    Args:
        weights: of each class; a pixel weighs as much as its class does, and the sum is divided by
            the weights, as PyTorch's.

    Raises:
        ValueError: a weight is negative, not finite, or all are 0. Traced: they are not as many as
            the classes.
    """
    table = None if weights is None else checked(weights)

    def loss(logits: jax.Array, classes: jax.Array, counted: jax.Array) -> jax.Array:
        classes, losses = negative_log(logits, classes, counted)
        weight = counted.astype(losses.dtype)
        if table is not None:
            if len(table) != logits.shape[-1]:
                raise ValueError(f"weights={weights} for {logits.shape[-1]} classes")
            weight = weight * jnp.asarray(table, losses.dtype)[classes]
        return average(losses, weight)

    return loss


def focal(gamma: float = 2.0) -> PixelLoss:
    """-(1 - p)^gamma log p of the true class, averaged (Lin et al. 2017, eq. 4, for K classes).

    Raises:
        ValueError: `gamma` is negative or not finite.
    """
    if not 0 <= gamma < math.inf:
        raise ValueError(f"gamma={gamma} must be finite and at least 0")

    def loss(logits: jax.Array, classes: jax.Array, counted: jax.Array) -> jax.Array:
        _, losses = negative_log(logits, classes, counted)
        # 1 - p without the loss of digits near p = 1; a power's gradient at 0 would be NaN.
        missing = jnp.maximum(-jnp.expm1(-losses), jnp.finfo(losses.dtype).tiny)
        return average(missing**gamma * losses, counted.astype(losses.dtype))

    return loss


def soft_dice(smooth: float = 1.0) -> PixelLoss:
    """1 - (2 sum p t + smooth) / (sum p + sum t + smooth), averaged over classes.

    Milletari et al. 2016 (arXiv:1606.04797), with plain sums in the denominator, over all pixels of
    the batch together, for each class that occurs in it: of one that does not, nothing can overlap.

    Args:
        smooth: in pixels; keeps the quotient of a rare class steady.

    Raises:
        ValueError: `smooth` is negative or not finite.
    """
    if not 0 <= smooth < math.inf:
        raise ValueError(f"smooth={smooth} must be finite and at least 0")

    def loss(logits: jax.Array, classes: jax.Array, counted: jax.Array) -> jax.Array:
        import chex

        chex.assert_equal_shape([classes, counted])
        count = logits.shape[-1]
        weight = counted[..., None].astype(logits.dtype)
        safe = jnp.where(counted, classes, 0)
        truth = jax.nn.one_hot(safe, count, dtype=logits.dtype) * weight
        guess = jax.nn.softmax(logits) * weight
        axes = tuple(range(logits.ndim - 1))
        both, true, guessed = (jnp.sum(x, axes) for x in (truth * guess, truth, guess))
        occurs = true > 0
        sums = jnp.where(occurs, true + guessed + smooth, 1)
        dice = jnp.where(occurs, (2 * both + smooth) / sums, 0)
        classes_there = jnp.sum(occurs, dtype=logits.dtype)
        return (classes_there - jnp.sum(dice)) / jnp.maximum(classes_there, 1)

    return loss


def weighted(*terms: tuple[float, PixelLoss]) -> PixelLoss:
    """The sum of losses, each times its weight.

    Raises:
        ValueError: there are none, or a weight is negative, not finite.
    """
    if not terms or not all(0 <= weight < math.inf for weight, _ in terms):
        raise ValueError(f"weights {[w for w, _ in terms]} must be finite and at least 0")

    def loss(logits: jax.Array, classes: jax.Array, counted: jax.Array) -> jax.Array:
        values = [weight * one(logits, classes, counted) for weight, one in terms]
        return sum(values[1:], start=values[0])

    return loss


def negative_log(
    logits: jax.Array, classes: jax.Array, counted: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Classes, 0 where they do not count, and -log p of them, both (…)."""
    import chex

    chex.assert_equal_shape([classes, counted])
    chex.assert_equal_shape_prefix([logits, classes], classes.ndim)
    safe = jnp.where(counted, classes, 0).astype(jnp.int32)
    logs = jax.nn.log_softmax(logits)
    return safe, -jnp.take_along_axis(logs, safe[..., None], axis=-1)[..., 0]


def average(values: jax.Array, weight: jax.Array) -> jax.Array:
    """The weighted mean; 0 where nothing weighs."""
    total = jnp.sum(weight)
    return jnp.sum(jnp.where(weight > 0, values, 0) * weight) / jnp.where(total > 0, total, 1)


def checked(weights: Sequence[float]) -> np.ndarray:
    """Weights of classes as an array.

    Raises:
        ValueError: see `cross_entropy`.
    """
    table = np.asarray(weights, np.float64)
    if table.ndim != 1 or not (np.isfinite(table) & (table >= 0)).all() or not table.any():
        raise ValueError(f"weights={weights} must be finite, at least 0, and not all 0")
    return table
