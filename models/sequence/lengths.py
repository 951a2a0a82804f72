"""Series of different lengths in one batch: each gives what it gives alone.

x is (B, L, C); `length` (B,) of integers says how many steps of each are no padding, which stands
at the end; None says that none is. Three rules make a padded series that without padding:

- before a convolution what is beyond a series' end is 0, as padding is (`convolved`);
- a convolution is padded by numbers, never by "SAME": with a stride, that depends on L;
- statistics and pooling read valid steps alone (`mask`, `masked_mean`, `last_step`).
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from models.layers.conv import before_and_after
from models.layers.pooling import global_average_pool, mean_dtype, summing_dtype


def mask(length: jax.Array | None, steps: int) -> jax.Array | None:
    """Which steps are no padding: (B,) -> (B, steps) bool; None for None."""
    if length is None:
        return None
    return jnp.arange(steps, dtype=length.dtype)[None] < length[:, None]


def zeroed(x: jax.Array, length: jax.Array | None) -> jax.Array:
    """x (B, L, C), 0 beyond each series' end."""
    valid = mask(length, x.shape[1])
    return x if valid is None else jnp.where(valid[..., None], x, jnp.zeros((), x.dtype))


def output_length(
    length: jax.Array | None,
    kernel: int,
    stride: int = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int = 1,
) -> jax.Array | None:
    """Windows that fit on each series: floor((L + 2p - d (k - 1) - 1) / s) + 1, at least 0.

    As `models.layers.conv.output_size` for a size that is known; p are zeros on each side, or those
    before and after. None for None.

    Raises:
        ValueError: `padding` is not of numbers.
    """
    before, after = before_and_after(padding)
    if length is None:
        return None
    room = length + (before + after - dilation * (kernel - 1) - 1)
    return jnp.maximum(room // stride + 1, 0)


def convolved(
    conv: nn.Conv, x: jax.Array, length: jax.Array | None
) -> tuple[jax.Array, jax.Array | None]:
    """A convolution of each series as if it were alone, and the lengths of what comes out.

    Args:
        conv: a module over one axis, padded by a number or a pair.
        x: (B, L, C).
        length: (B,) or None.

    Returns:
        (B, l, features), of which steps beyond their length are meaningless; (B,) or None.
    """
    kernel, stride, padding, dilation = map(
        of_the_axis, (conv.kernel_size, conv.strides, conv.padding, conv.kernel_dilation)
    )
    return conv(zeroed(x, length)), output_length(length, kernel, stride, padding, dilation)


def of_the_axis(value: Any) -> Any:
    """What is given for one axis, as itself or in a list of one; 1 for None."""
    while isinstance(value, tuple | list) and len(value) == 1:
        (value,) = value
    return 1 if value is None else value


def wrapped(
    x: jax.Array, length: jax.Array | None, before: int, after: int
) -> tuple[jax.Array, jax.Array | None]:
    """Each series between its own other ends: circular padding.

    (B, L, C) -> (B, before + L + after, C), and the lengths, greater by both. Where both exceed a
    series, it goes round again.
    """
    if length is None:
        return jnp.pad(x, [(0, 0), (before, after), (0, 0)], mode="wrap"), None
    steps = jnp.arange(-before, x.shape[1] + after, dtype=length.dtype)[None]
    at = jnp.clip(steps % jnp.maximum(length, 1)[:, None], 0, x.shape[1] - 1)
    whole = jnp.take_along_axis(x, at[..., None], axis=1)
    longer = jnp.where(length > 0, length + (before + after), 0)
    return zeroed(whole, longer), longer


def masked_mean(x: jax.Array, length: jax.Array | None) -> jax.Array:
    """The mean over each series' steps: (B, L, C) -> (B, C); of a series of length 0 it is 0.

    Summed in at least float32; the result has x's dtype.
    """
    if length is None:
        return global_average_pool(x)
    total = jnp.sum(zeroed(x, length), axis=1, dtype=summing_dtype(x))
    count = jnp.clip(length, 1, max(x.shape[1], 1)).astype(total.dtype)
    return (total / count[:, None]).astype(mean_dtype(x))


def last_step(x: jax.Array, length: jax.Array | None) -> jax.Array:
    """The last step of each series: (B, L, C) -> (B, C); of a series of length 0 it is 0."""
    if length is None:
        return x[:, -1]
    at = jnp.clip(length - 1, 0, x.shape[1] - 1)
    last = jnp.take_along_axis(x, at[:, None, None], axis=1)[:, 0]
    return jnp.where(length[:, None] > 0, last, jnp.zeros((), x.dtype))
