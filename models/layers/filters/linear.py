"""Kernels chosen by hand that slide over a picture: any kernel, blurs, sharpening, relief.

Cross-correlation lays the kernel on the picture as it is, convolution turns it by 180 degrees. The
named filters below correlate, which matters for `emboss` and for an even `box` alone.

A kernel is a matrix (h, w), or a tuple of two vectors (down the rows, along the columns), which is
the matrix v h^T run as two 1-D passes: h + w products for each pixel, not h w. A product is a
multiplication of shifted pictures, so that no accelerator rounds its factors.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from models.layers.conv import at_least_one, one_an_axis
from models.layers.filters.borders import Mode, extend
from models.layers.filters.picture import picture, widened
from models.layers.pooling import mean_dtype

SHARPEN = np.array([[0.0, -1, 0], [-1, 5, -1], [0, -1, 0]])
"""The picture less its Laplacian."""
EMBOSS = np.array([[-2.0, -1, 0], [-1, 1, 1], [0, 1, 2]])
"""The picture plus its slope towards the lower right."""


def correlate(x: jax.Array, kernel: Any, *, mode: Mode = "reflect", cval: float = 0.0) -> jax.Array:
    """Cross-correlation: g[i, j] = sum_mn k[m, n] f[i + m - h // 2, j + n - w // 2].

    Equal to `scipy.ndimage.correlate` for each example and channel, even sizes included.

    Args:
        x: (B, H, W, C); the result has its shape, and its dtype or float32 for integers.
        kernel: (h, w), or a tuple of two vectors (h,), (w,). Gradients pass through it too.
        mode, cval: see `borders`.

    Raises:
        ValueError: x is no picture, the kernel no such array, the mode unknown.
    """
    x = picture(x)
    y = widened(x)
    for part, outside in parts(kernel, y.dtype, cval):
        y = slide(y, part, [size // 2 for size in part.shape], mode=mode, cval=outside)
    return y.astype(mean_dtype(x))


def convolve(x: jax.Array, kernel: Any, *, mode: Mode = "reflect", cval: float = 0.0) -> jax.Array:
    """True convolution: g[i, j] = sum_mn k[m, n] f[i - m + h // 2, j - n + w // 2].

    Equal to `scipy.ndimage.convolve`; a single bright point becomes a picture of the kernel.
    Arguments, result and errors are those of `correlate`.
    """
    x = picture(x)
    y = widened(x)
    for part, outside in parts(kernel, y.dtype, cval):
        before = [(size - 1) // 2 for size in part.shape]
        y = slide(y, part[::-1, ::-1], before, mode=mode, cval=outside)
    return y.astype(mean_dtype(x))


def box(
    x: jax.Array, size: int | tuple[int, int], *, mode: Mode = "reflect", cval: float = 0.0
) -> jax.Array:
    """Moving average: the mean of each window of `size` (or (h, w)), (B, H, W, C) -> the same.

    Equal to `scipy.ndimage.uniform_filter`: an even window reaches one pixel further up and left.
    """
    height, width = (at_least_one("size", n) for n in one_an_axis("size", size, 2))
    kernel = np.full(height, 1 / height), np.full(width, 1 / width)
    return correlate(x, kernel, mode=mode, cval=cval)


def gaussian(
    x: jax.Array,
    sigma: float | tuple[float, float],
    *,
    truncate: float = 4.0,
    mode: Mode = "reflect",
    cval: float = 0.0,
) -> jax.Array:
    """Blur by exp(-r^2 / 2 sigma^2), sampled and normalised: (B, H, W, C) -> the same.

    Equal to `scipy.ndimage.gaussian_filter`. `sigma`, in pixels, is one number or (down, along);
    0 leaves that axis alone. The kernel reaches int(truncate * sigma + 0.5) pixels each way.
    """
    down, along = one_an_axis("sigma", sigma, 2)
    kernel = gaussian_kernel(down, truncate), gaussian_kernel(along, truncate)
    return correlate(x, kernel, mode=mode, cval=cval)


def sharpen(x: jax.Array, *, mode: Mode = "reflect", cval: float = 0.0) -> jax.Array:
    """f - laplacian(f), by the kernel `SHARPEN`, whose sum is 1: (B, H, W, C) -> the same.

    Edges overshoot: the result may leave black..white.
    """
    return correlate(x, SHARPEN, mode=mode, cval=cval)


def emboss(x: jax.Array, *, mode: Mode = "reflect", cval: float = 0.0) -> jax.Array:
    """Relief lit from the upper left, by the kernel `EMBOSS`: (B, H, W, C) -> the same.

    The kernel's sum is 1: flat regions keep their value. The result may leave black..white. The
    relief alone is emboss(x) - x, around 0: add a grey to show it.
    """
    return correlate(x, EMBOSS, mode=mode, cval=cval)


def unsharp_mask(
    x: jax.Array,
    sigma: float | tuple[float, float] = 1.0,
    amount: float = 1.0,
    *,
    truncate: float = 4.0,
    mode: Mode = "reflect",
    cval: float = 0.0,
) -> jax.Array:
    """f + amount (f - gaussian(f, sigma)): (B, H, W, C) -> the same, not clipped.

    Equal to `skimage.filters.unsharp_mask(radius=sigma, preserve_range=True)`.
    """
    x = picture(x)
    wide = widened(x)
    blurred = gaussian(wide, sigma, truncate=truncate, mode=mode, cval=cval)
    return (wide + amount * (wide - blurred)).astype(mean_dtype(x))


def gaussian_kernel(sigma: float, truncate: float) -> np.ndarray:
    """exp(-x^2 / 2 sigma^2) for |x| <= int(truncate * sigma + 0.5), float64, of sum 1.

    Raises:
        ValueError: `sigma` or `truncate` is negative or not finite.
    """
    for name, value in (("sigma", sigma), ("truncate", truncate)):
        if not 0 <= value < np.inf:
            raise ValueError(f"{name}={value!r} must be a finite number, at least 0")
    if sigma <= 1e-15:  # SciPy's zero
        return np.ones(1)
    reach = int(truncate * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return weights / weights.sum()


def parts(kernel: Any, dtype: Any, cval: Any) -> Iterator[tuple[jax.Array, Any]]:
    """The matrices to run one after another, each with the constant outside its own input."""
    ranks = (1, 1) if isinstance(kernel, tuple) else (2,)
    arrays = [jnp.asarray(a, dtype) for a in (kernel if isinstance(kernel, tuple) else (kernel,))]
    shapes = [a.shape for a in arrays]
    if isinstance(kernel, list) and any(hasattr(row, "shape") for row in kernel):
        raise ValueError(
            "kernel is a list of arrays: a separable pair is a tuple, a matrix an array"
        )
    if tuple(map(len, shapes)) != ranks or any(0 in shape for shape in shapes):
        raise ValueError(f"kernel of shape {shapes} is neither a matrix nor a tuple of two vectors")
    if len(arrays) == 1:
        yield arrays[0], cval
        return
    down, along = arrays
    yield down[:, None], cval
    # Outside, the first pass has made this of the constant.
    yield along[None, :], cval * down.sum()


def slide(x: jax.Array, kernel: Any, before: Any, *, mode: Mode, cval: Any) -> jax.Array:
    """sum_mn k[m, n] f[i + m - before[0], j + n - before[1]] in x's dtype, x being (B, H, W, C)."""
    sizes = zip(kernel.shape, before, strict=True)
    top_bottom, left_right = ((start, size - 1 - start) for size, start in sizes)
    extended = extend(x, (top_bottom, left_right), mode=mode, cval=cval)
    return sum_of_shifts(extended, jnp.asarray(kernel, x.dtype))


@jax.jit
def sum_of_shifts(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """(B, H + h - 1, W + w - 1, C) under a kernel (h, w) -> (B, H, W, C), one tap after another.

    On a CPU, 10 to 40 times as fast as a depthwise `lax.conv_general_dilated`.
    """
    (batch, height, width, channels), (h, w) = x.shape, kernel.shape
    shape = batch, height - h + 1, width - w + 1, channels

    def add(total, tap):
        row, column, weight = tap
        shifted = lax.dynamic_slice(x, (none, row, column, none), shape)
        return total + weight * shifted, None

    none = np.int32(0)
    rows, columns = np.indices((h, w), np.int32).reshape(2, -1)
    taps = rows, columns, kernel.reshape(-1)
    # Nine products in one pass over memory; unrolled in full, large kernels compile for seconds.
    return lax.scan(add, jnp.zeros(shape, x.dtype), taps, unroll=9)[0]
