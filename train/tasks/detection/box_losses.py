"""Losses of boxes and of what is in them: sums over what counts, in at least float32.

What does not count may hold anything, also NaN: it adds 0 and gets a gradient of 0. Who calls
divides, by positive anchors or by what the paper says.
"""

import jax
import jax.numpy as jnp

from models.detection.boxes import paired_giou, wide


def smooth_l1(
    predicted: jax.Array, target: jax.Array, counted: jax.Array, *, beta: float = 1.0
) -> jax.Array:
    """d² / (2 beta) for |d| < beta, else |d| - beta / 2, summed.

    Girshick 2015 (arXiv:1504.08083), eq. 3, where beta is 1. Faster R-CNN's proposals take 1/9.

    Args:
        predicted: (…, K).
        target: (…, K).
        counted: (…) bool.
        beta: where the curve becomes a line; 0 is the absolute difference.

    Raises:
        ValueError: `beta` is negative.
    """
    if not beta >= 0:
        raise ValueError(f"beta={beta} must be at least 0")
    predicted, target = safe(predicted, counted), safe(target, counted)
    distance = jnp.abs(predicted - target)
    if beta == 0:
        return jnp.sum(distance)
    near = jnp.minimum(distance, beta)
    return jnp.sum(near * near / (2 * beta) + (distance - near))


def giou_loss(predicted: jax.Array, target: jax.Array, counted: jax.Array) -> jax.Array:
    """1 - GIoU of two boxes, summed (Rezatofighi et al. 2019).

    Args:
        predicted: (…, 4), x0 y0 x1 y1.
        target: (…, 4).
        counted: (…) bool.
    """
    losses = 1 - paired_giou(safe(predicted, counted), safe(target, counted))
    return jnp.sum(jnp.where(counted, losses, 0))


def sigmoid_focal(
    logits: jax.Array,
    target: jax.Array,
    counted: jax.Array,
    *,
    alpha: float = 0.25,
    gamma: float = 2.0,
) -> jax.Array:
    """-alpha_t (1 - p_t)^gamma log p_t of K yes-or-no questions, summed.

    Lin et al. 2017 (arXiv:1708.02002), eq. 5; torchvision's `sigmoid_focal_loss`.

    Args:
        logits: (…, K).
        target: (…, K), from 0 to 1.
        counted: (…) bool.
        alpha: weight of yes; no weighs 1 - alpha.
        gamma: how little what is nearly certain weighs.

    Raises:
        ValueError: `alpha` is not from 0 to 1, `gamma` is negative.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha={alpha} must be from 0 to 1")
    if not gamma >= 0:
        raise ValueError(f"gamma={gamma} must be at least 0")
    logits, target = safe(logits, counted), safe(target, counted)
    losses = target * jax.nn.softplus(-logits) + (1 - target) * jax.nn.softplus(logits)
    # 1 - p_t without the loss of digits near p_t = 1; a power's gradient at 0 may be NaN.
    missing = target * jax.nn.sigmoid(-logits) + (1 - target) * jax.nn.sigmoid(logits)
    missing = jnp.maximum(missing, jnp.finfo(missing.dtype).tiny)
    weight = alpha * target + (1 - alpha) * (1 - target)
    return jnp.sum(jnp.where(counted[..., None], weight * missing**gamma * losses, 0))


def safe(values: jax.Array, counted: jax.Array) -> jax.Array:
    """(…, K) with 0 where (…) does not count, at least float32."""
    return jnp.where(counted[..., None], wide(values), 0)
