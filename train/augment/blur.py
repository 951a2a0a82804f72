"""Blur: the neighbours of a pixel mixed into it, or taken out of it."""

import jax
import jax.numpy as jnp
import numpy as np

from models.layers.filters.linear import sum_of_shifts
from train.augment.amounts import Amount, Span, clipped, factors, real, rows, span, stage
from train.augment.kinds import Pixel

TRUNCATE = 4.0
"""How many standard deviations of the widest blur the kernel reaches, as in SciPy."""


def gaussian_blur(sigma: Span) -> Pixel:
    """Mixed by exp(-r^2 / 2 sigma^2); outside is the image mirrored, its edge not repeated.

    Args:
        sigma: in pixels, or (low, high); 0 is the image.

    Raises:
        ValueError: `sigma` is no number and no range from 0 on.
    """
    low, high = span("sigma", sigma, 0)
    reach = int(TRUNCATE * high + 0.5)

    def change(image: jax.Array, sigma: Amount) -> jax.Array:
        return blurred(image, sigma, reach)

    return stage(change, (low, high))


def sharpness(factor: Span) -> Pixel:
    """Away from a smoothed image by a factor: 0 is smooth, 1 the image, 2 sharp.

    Args:
        factor: (low, high), or a number for 1 - number..1 + number.

    Raises:
        ValueError: `factor` is no range from 0 on.
    """
    return stage(sharpened, factors("factor", factor))


def blurred(image: jax.Array, sigma: Amount, reach: int) -> jax.Array:
    """See `gaussian_blur`: by a kernel, of sum 1, that reaches `reach` pixels each way.

    torchvision's `gaussian_blur` with `kernel_size` = 2 reach + 1, and of any size of image.
    """
    x = real(image)
    at = jnp.arange(-reach, reach + 1, dtype=x.dtype)[None, :]
    width = jnp.broadcast_to(jnp.asarray(sigma, x.dtype).reshape(-1, 1), (x.shape[0], 1))
    sharp = width == 0
    weight = jnp.where(
        sharp, (at == 0).astype(x.dtype), jnp.exp(-0.5 * (at / jnp.where(sharp, 1, width)) ** 2)
    )
    weight = weight / jnp.sum(weight, axis=1, keepdims=True)
    slide = jax.vmap(lambda one, kernel: sum_of_shifts(one[None], kernel)[0])
    x = slide(_mirrored(x, 1, reach), weight[:, :, None])
    return clipped(slide(_mirrored(x, 2, reach), weight[:, None, :]))


def sharpened(image: jax.Array, factor: Amount) -> jax.Array:
    """See `sharpness`, as Pillow's and torchvision's: smoothed by 1 1 1 / 1 5 1 / 1 1 1, over 13.

    The outermost pixels stay, and so does an image that has no others.
    """
    x = real(image)
    if min(x.shape[1:3]) < 3:
        return clipped(x)
    # Not a sum of slices: XLA would compute what x comes from nine times on a CPU.
    none = jnp.zeros((), x.dtype)
    around = jax.lax.reduce_window(x, none, jax.lax.add, (1, 3, 3, 1), (1, 1, 1, 1), "VALID")
    inner = x[:, 1:-1, 1:-1]
    smooth = (around + 4 * inner) / 13
    sharp = inner + (1 - rows(factor, x)) * (smooth - inner)
    return clipped(jax.lax.dynamic_update_slice(x, sharp, (0, 1, 1, 0)))


def _mirrored(x: jax.Array, axis: int, reach: int) -> jax.Array:
    """`reach` more on either side of an axis: cb|abcd|cb, and so on beyond that."""
    size = x.shape[axis]
    place = np.pad(np.arange(size, dtype=np.int32), reach, "reflect" if size > 1 else "edge")
    head, tail = (x.take(part, axis=axis) for part in (place[:reach], place[reach + size :]))
    return jnp.concatenate([head, x, tail], axis=axis)
