"""Mixing: each example blended with its neighbour in the batch; labels become distributions."""

import math

import jax
import jax.numpy as jnp

from train.augment.amounts import real
from train.augment.kinds import Mixing
from train.augment.once import once
from train.augment.rectangles import anywhere, around, changed, places, sides
from train.data.batch import KEYS, Batch

UNMIXABLE = {
    **{
        key: "what is where has no meaning in a mixture"
        for key, row in KEYS.items()
        if row.moves and key != "image"
    },
    "target": "labels alone become distributions",
    "length": "the longer signal would go on in the padding of the shorter",
}
"""Keys that a mixture can't have, and why."""


def mixup(alpha: float, num_classes: int) -> Mixing:
    """Everywhere the same share, Beta(alpha, alpha), drawn for each example.

    Zhang et al. 2017, section 2, and torchvision draw one share for the batch.

    Args:
        alpha: near 0 one of the two prevails; 1 is uniform.
        num_classes: of the labels.

    Raises:
        ValueError: `alpha` is not positive and finite, or `num_classes` not positive.
    """
    _check(alpha, num_classes)

    def share(key: jax.Array, batch: Batch) -> jax.Array:
        count, *shape = places(batch)
        own = _beta(key, alpha, count).reshape((-1,) + (1,) * len(shape))
        return jnp.broadcast_to(own, (count, *shape))

    return Mixing(share, num_classes)


def cutmix(alpha: float, num_classes: int) -> Mixing:
    """The neighbour's in a rectangle of the image's shape, whose area is 1 - Beta(alpha, alpha).

    Yun et al. 2019, section 3.1, where the share is the batch's; here it is each example's. The
    centre is anywhere, so that a part of the rectangle may be outside; labels go by what is inside.
    Of a signal: a span.

    Args:
        alpha: 1 is uniform.
        num_classes: of the labels.

    Raises:
        ValueError: `alpha` is not positive and finite, or `num_classes` not positive.
    """
    _check(alpha, num_classes)

    def share(key: jax.Array, batch: Batch) -> jax.Array:
        count, *shape = places(batch)
        for_area, for_place = jax.random.split(key)
        area = 1 - _beta(for_area, alpha, count)
        side = area ** (1 / len(shape))
        extent = jnp.floor(side[:, None] * jnp.array([shape], jnp.float32)).astype(jnp.int32)
        return patched(shape, anywhere(for_place, count, sides(batch)), extent)

    return Mixing(share, num_classes)


def patched(shape: list[int] | tuple[int, ...], centre: jax.Array, extent: jax.Array) -> jax.Array:
    """0 in the rectangle about `centre`, begun extent // 2 before it, 1 outside: a share map.

    Args:
        shape: (H, W) or (L,): n axes.
        centre, extent: (B, n) int32, in whole places.

    Returns:
        (B, *shape) float32.
    """
    return 1 - around(shape, centre, extent).astype(jnp.float32)


def mixed(stage: Mixing, key: jax.Array, batch: Batch) -> Batch:
    """The batch, its image (else its signal) and labels blended as `stage` says.

    The partner is the example before, of the first the last: of four devices each needs one example
    of another. A batch of 1 is its own. `label` becomes (B, num_classes) float32, the share's mean
    its own weight; `index`, `matrix` and what else there is stay the example's own.

    Args:
        batch: `label` (B,) integers, or (B, num_classes) floats, as after other mixing.

    Raises:
        ValueError: traced, there is none of `image` and `signal`, or both; boxes, proposals,
            a mask, a target or a length; no label, or one of another shape.
    """
    for name, why in UNMIXABLE.items():
        if name in batch:
            raise ValueError(f"{name!r} in the batch: {why}")
    if "image" in batch and "signal" in batch:
        raise ValueError("'image' and 'signal' in the batch: one share map does not fit both")
    name = changed(batch)
    labels = _distributions(batch, stage.num_classes)
    share = stage.share(key, batch)
    if share.shape != places(batch):
        raise ValueError(f"share has shape {share.shape}, {name} {batch[name].shape}")
    x = once(key, batch[name])
    x = real(x) if name == "image" else x
    weight = jnp.mean(share, axis=tuple(range(1, share.ndim)))[:, None]
    return {**batch, name: _blended(x, share[..., None]), "label": _blended(labels, weight)}


def _blended(own: jax.Array, share: jax.Array) -> jax.Array:
    share = share.astype(own.dtype)
    return share * own + (1 - share) * jnp.roll(own, 1, axis=0)


def _distributions(batch: Batch, num_classes: int) -> jax.Array:
    """(B, num_classes) float32 of the batch's labels."""
    if "label" not in batch:
        raise ValueError(f"no 'label' in the batch to mix, only {sorted(batch)}")
    label = batch["label"]
    if label.ndim == 1 and jnp.issubdtype(label.dtype, jnp.integer):
        return jax.nn.one_hot(label, num_classes, dtype=jnp.float32)
    if label.ndim == 2 and label.shape[1] == num_classes:
        return label.astype(jnp.float32)
    raise ValueError(
        f"label is {label.dtype}{label.shape}, neither (B,) integers nor (B, {num_classes})"
    )


def _beta(key: jax.Array, alpha: float, count: int) -> jax.Array:
    """(count,) float32 in 0..1 of Beta(alpha, alpha).

    (1 + t / sqrt(n + t^2)) / 2, with t of Student's distribution with n = 2 alpha degrees of
    freedom, which is sqrt(n (u^(-2 / n) - 1)) cos(2 pi v) for uniform u and v (Bailey 1994, "Polar
    generation of random variates with the t-distribution"; Devroye 1996, "Random variate generation
    in one line of code"). `jax.random.beta` draws until the last example accepts, and each time
    asks all devices.
    """
    share = jax.random.uniform(key, (count, 2), jnp.float32)
    logarithm = jnp.log(share[:, 0]) / alpha
    cosine = jnp.cos(2 * math.pi * share[:, 1])
    # t^2 / n = square / rest; the lesser of the two shares, which a difference would round to 0.
    square, rest = -jnp.expm1(logarithm) * cosine**2, jnp.exp(logarithm)
    whole = jnp.maximum(square + rest, 1e-37)
    lesser = rest / whole / (1 + jnp.sqrt(square / whole)) / 2
    return jnp.where(cosine < 0, lesser, 1 - lesser)


def _check(alpha: float, num_classes: int) -> None:
    if not 0 < alpha < math.inf:
        raise ValueError(f"alpha={alpha} is not positive and finite")
    if num_classes < 1:
        raise ValueError(f"num_classes={num_classes} is not positive")
