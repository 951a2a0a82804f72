"""Max, average, adaptive and global average pooling.

x is (B, L, C) with a window (k,), or (B, H, W, C) with (k, k).

Padding never wins and never makes a NaN: a maximum is of real values alone, and a padding that
would leave a window with none of them is refused.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from models.layers.conv import Pads, at_least_one, one_an_axis, output_size, pad_width


def max_pool(
    x: jax.Array, window: Sequence[int], *, strides: int | Sequence[int], padding: Pads = "VALID"
) -> jax.Array:
    """The largest value in each window; NaN where it holds one.

    Args:
        x: (B, spatial…, C), any real dtype, which is the output's too.
        window: its size on each spatial axis.
        strides: from one window to the next.
        padding: see `Pads`; padded positions count as lower than any value.

    Raises:
        ValueError: `x`, `strides` or `padding` has other axes than `window`; a size or a stride is
            no whole number above 0; a padding is no form, or a window would hold it alone.
    """
    lowest = np.asarray(-np.inf if is_float(x) else np.iinfo(x.dtype).min, x.dtype)
    moves = along_axes(x, window, strides, padding)
    empty = any(size + sum(p) < k for size, (k, _, p) in zip(x.shape[1:], moves, strict=False))
    if max(window) > LONGEST or empty:
        every = [(1, 1, (0, 0)), *moves, (1, 1, (0, 0))]
        return lax.reduce_window(x, lowest, lax.max, *zip(*every, strict=True))
    for axis, (kernel, stride, pads) in reversed([*enumerate(moves, start=1)]):
        x = lax.pad(x, lowest, [(*pads, 0) if a == axis else (0, 0, 0) for a in range(x.ndim)])
        reach = x.shape[axis] - kernel + 1
        x = functools.reduce(
            larger, (lax.slice_in_dim(x, tap, tap + reach, stride, axis) for tap in range(kernel))
        )
    return x


LONGEST = 16
"""Window up to which a maximum is taken tap by tap."""


def larger(first: jax.Array, second: jax.Array) -> jax.Array:
    """The larger of two, elementwise, or the first of equals; NaN where either is one.

    So a gradient goes to the first of the largest in a window, as XLA's own would send it, by a
    search that takes 3 to 18 times as long on a CPU.
    """
    stays = first >= second
    return jnp.where(stays | jnp.isnan(first) if is_float(first) else stays, first, second)


def average_pool(
    x: jax.Array,
    window: Sequence[int],
    *,
    strides: int | Sequence[int],
    padding: Pads = "VALID",
    count_include_pad: bool = True,
) -> jax.Array:
    """The mean of each window, summed in at least float32.

    Args:
        x, window, strides, padding: as in `max_pool`; padded positions are 0.
        count_include_pad: divide by the window's size, as PyTorch and Flax do (a convolution by
            1/size); else by the number of real values in the window, as TensorFlow does.

    Returns:
        (B, spatial…, C) of x's dtype; float32 for integers.

    Raises:
        ValueError: as `max_pool`.
    """
    wide = summing_dtype(x)
    axes = along_axes(x, window, strides, padding)
    moves = [(1, 1, (0, 0)), *axes, (1, 1, (0, 0))]
    total = lax.reduce_window(
        x.astype(wide), np.zeros((), wide), lax.add, *zip(*moves, strict=True)
    )
    count = np.ones((1,) * x.ndim, wide)
    for axis, (kernel, stride, pads) in enumerate(axes, start=1):
        size = x.shape[axis]
        starts = np.arange(output_size(size, kernel, stride, pads)) * stride - pads[0]
        real = np.minimum(starts + kernel, size) - np.maximum(starts, 0)
        along = np.full_like(real, kernel) if count_include_pad else real
        count = count * np.expand_dims(
            along.astype(wide), tuple(a for a in range(x.ndim) if a != axis)
        )
    return (total / count).astype(mean_dtype(x))


def global_average_pool(x: jax.Array) -> jax.Array:
    """The mean over all positions: (B, spatial…, C) -> (B, C), dtypes as in `average_pool`.

    Raises:
        ValueError: there is no spatial axis, or no position on it.
    """
    if x.ndim < 3 or 0 in x.shape[1:-1]:
        raise ValueError(f"x of shape {x.shape} has no positions to average over")
    mean = jnp.mean(x, axis=tuple(range(1, x.ndim - 1)), dtype=summing_dtype(x))
    return mean.astype(mean_dtype(x))


def adaptive_average_pool(x: jax.Array, sizes: Sequence[int]) -> jax.Array:
    """Means over as many windows as are asked for, whatever the size: PyTorch's.

    Window i of n along an axis of L positions is [floor(i L / n), ceil((i + 1) L / n)): all equal
    where n divides L, overlapping where it does not, repeated where L < n.

    Args:
        x: (B, spatial…, C).
        sizes: windows, n, along each spatial axis.

    Returns:
        (B, sizes…, C), dtypes as in `average_pool`.

    Raises:
        ValueError: `x` has other axes than `sizes`, or no position on one; a size is no whole
            number above 0.
    """
    if x.ndim != len(sizes) + 2 or 0 in x.shape[1:-1]:
        raise ValueError(
            f"x of shape {x.shape} to sizes={tuple(sizes)}: expected {len(sizes) + 2} axes, "
            f"each with a position"
        )
    y = x.astype(summing_dtype(x))
    for axis, size in enumerate((at_least_one("sizes", size) for size in sizes), start=1):
        length = x.shape[axis]
        windows = [(i * length // size, -(-(i + 1) * length // size)) for i in range(size)]
        y = jnp.stack([lax.slice_in_dim(y, *w, axis=axis).mean(axis) for w in windows], axis)
    return y.astype(mean_dtype(x))


def along_axes(
    x: jax.Array, window: Sequence[int], strides: int | Sequence[int], padding: Pads
) -> list[tuple[int, int, tuple[int, int]]]:
    """For each spatial axis of x: window, stride, and padding before and after."""
    rank = len(window)
    if x.ndim != rank + 2:
        raise ValueError(
            f"x of shape {x.shape} under a window of {tuple(window)}: expected {rank + 2} axes"
        )
    kernels = [at_least_one("window", kernel) for kernel in window]
    steps = [at_least_one("strides", stride) for stride in one_an_axis("strides", strides, rank)]
    forms = one_an_axis("padding", padding, rank)
    axes = []
    for size, kernel, stride, form in zip(x.shape[1:-1], kernels, steps, forms, strict=True):
        if isinstance(form, str) and form in ("CIRCULAR", "REFLECT"):
            raise ValueError(f"padding={form!r} is not a form of padding for pooling")
        pads = pad_width(size, kernel, stride, form)
        if max(pads) >= kernel:
            raise ValueError(f"padding={form} leaves a window of {kernel} with padding alone")
        axes.append((kernel, stride, pads))
    return axes


def summing_dtype(x: jax.Array) -> np.dtype:
    """At least float32; float32 for integers, whose own sums would overflow."""
    return np.promote_types(x.dtype, np.float32) if is_float(x) else np.dtype(np.float32)


def mean_dtype(x: jax.Array) -> np.dtype:
    """x's own; float32 for integers."""
    return x.dtype if is_float(x) else np.dtype(np.float32)


def is_float(x: jax.Array) -> bool:
    """Whether x holds floating-point numbers, bfloat16 included."""
    return bool(jnp.issubdtype(x.dtype, jnp.floating))
