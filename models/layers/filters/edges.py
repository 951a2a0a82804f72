"""Derivatives of a picture: Sobel, Scharr, Prewitt, and the Laplacian.

Derivatives by x run along the columns (to the right), by y along the rows (downwards), and are
positive where the picture grows brighter that way. Weights are the classical ones, not normalised,
as in `scipy.ndimage`: on a ramp that rises by 1 a pixel, Sobel gives 8, Prewitt 6, Scharr 32.
`skimage.filters` divides by half of that (by 4, 3 and 16), and its magnitudes also by sqrt(2).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from models.layers.conv import one_an_axis
from models.layers.filters.borders import Mode
from models.layers.filters.linear import correlate, gaussian_kernel, slide
from models.layers.filters.picture import picture, widened
from models.layers.pooling import mean_dtype

LAPLACIAN = np.array([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])
"""The second differences along both axes."""


class Gradient(NamedTuple):
    """Derivatives by x (to the right) and by y (downwards), each (B, H, W, C)."""

    x: jax.Array
    y: jax.Array


def sobel(x: jax.Array, *, mode: Mode = "reflect", cval: float = 0.0) -> Gradient:
    """Difference (-1, 0, 1) one way, smoothing (1, 2, 1) the other: (B, H, W, C) -> `Gradient`.

    Equal to `scipy.ndimage.sobel` along axes 1 and 0. As there, both passes have `cval` outside.
    """
    return gradient(x, (1, 2, 1), mode=mode, cval=cval, then=cval)


def scharr(x: jax.Array, *, mode: Mode = "reflect", cval: float = 0.0) -> Gradient:
    """`sobel` with (3, 10, 3), whose direction is truer: (B, H, W, C) -> `Gradient`.

    16 times `skimage.filters.scharr` along axes 1 and 0.
    """
    # SciPy has none. scikit-image runs the 3x3 kernel: the difference of a constant is 0.
    return gradient(x, (3, 10, 3), mode=mode, cval=cval, then=0.0)


def prewitt(x: jax.Array, *, mode: Mode = "reflect", cval: float = 0.0) -> Gradient:
    """`sobel` with (1, 1, 1): (B, H, W, C) -> `Gradient`. Equal to `scipy.ndimage.prewitt`."""
    return gradient(x, (1, 1, 1), mode=mode, cval=cval, then=cval)


def magnitude(gradient: Gradient) -> jax.Array:
    """sqrt(gx^2 + gy^2), (B, H, W, C); its own gradient is 0 where that is 0, not NaN."""
    gx, gy = widened(gradient.x), widened(gradient.y)
    square = gx * gx + gy * gy
    flat = square == 0
    root = jnp.where(flat, 0, jnp.sqrt(jnp.where(flat, 1, square)))
    return root.astype(mean_dtype(gradient.x))


def direction(gradient: Gradient) -> jax.Array:
    """Where brightness grows fastest: arctan2(gy, gx), radians in [-pi, pi], (B, H, W, C).

    0 is to the right and pi / 2 *down*: clockwise on the screen. Where the magnitude is 0, the
    direction is 0 and so is its gradient.
    """
    gx, gy = widened(gradient.x), widened(gradient.y)
    flat = gx * gx + gy * gy == 0
    angle = jnp.arctan2(jnp.where(flat, 0, gy), jnp.where(flat, 1, gx))
    return angle.astype(mean_dtype(gradient.x))


def laplacian(x: jax.Array, *, mode: Mode = "reflect", cval: float = 0.0) -> jax.Array:
    """f_xx + f_yy by the kernel `LAPLACIAN`: (B, H, W, C) -> the same.

    Equal to `scipy.ndimage.laplace`; `skimage.filters.laplace` has the opposite sign.
    """
    return correlate(x, LAPLACIAN, mode=mode, cval=cval)


def laplacian_of_gaussian(
    x: jax.Array,
    sigma: float | tuple[float, float],
    *,
    truncate: float = 4.0,
    mode: Mode = "reflect",
    cval: float = 0.0,
) -> jax.Array:
    """f_xx + f_yy of the blurred picture, by derivatives of the kernel: (B, H, W, C) -> the same.

    Equal to `scipy.ndimage.gaussian_laplace`, where both passes have `cval` outside. `sigma` is
    one number or (down, along), above 0; `truncate` as in `gaussian`. What is left under a large
    sigma is small beside the picture: in float32 it has 5 digits at 10 pixels, 4 at 40.
    """
    x = picture(x)
    wide = widened(x)
    sigmas = one_an_axis("sigma", sigma, 2)
    if any(s <= 1e-15 for s in sigmas):
        raise ValueError(f"sigma={sigma!r} must be above 0")
    down, along = (gaussian_kernel(s, truncate) for s in sigmas)
    down_twice, along_twice = (
        second_derivative(k, s) for k, s in zip((down, along), sigmas, strict=True)
    )

    def blurred(down: np.ndarray, along: np.ndarray) -> jax.Array:
        y = one_pass(wide, down, axis=1, mode=mode, cval=cval)
        return one_pass(y, along, axis=2, mode=mode, cval=cval)

    return (blurred(down_twice, along) + blurred(down, along_twice)).astype(mean_dtype(x))


def second_derivative(kernel: np.ndarray, sigma: float) -> np.ndarray:
    """Of a Gaussian's samples G: (x^2 / sigma^4 - 1 / sigma^2) G(x)."""
    reach = len(kernel) // 2
    at = np.arange(-reach, reach + 1) / sigma
    return (at**2 - 1) / sigma**2 * kernel


def gradient(
    x: jax.Array, smoothing: tuple[int, int, int], *, mode: Mode, cval: float, then: float
) -> Gradient:
    """Along each axis (-1, 0, 1), then `smoothing` along the other with `then` outside."""
    x = picture(x)
    wide, weights = widened(x), np.array(smoothing, float)

    def derivative(axis: int) -> jax.Array:
        y = one_pass(wide, np.array([-1.0, 0, 1]), axis=axis, mode=mode, cval=cval)
        y = one_pass(y, weights, axis=3 - axis, mode=mode, cval=then)
        return y.astype(mean_dtype(x))

    return Gradient(x=derivative(2), y=derivative(1))


def one_pass(x: jax.Array, kernel: np.ndarray, *, axis: int, mode: Mode, cval: float) -> jax.Array:
    """One pass of an odd kernel (k,) along an axis of (B, H, W, C)."""
    matrix = kernel.reshape((-1, 1) if axis == 1 else (1, -1))
    return slide(x, matrix, [n // 2 for n in matrix.shape], mode=mode, cval=cval)
