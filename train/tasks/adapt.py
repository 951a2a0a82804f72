"""Adapt: from the pixels of a batch to images of the size and the channels that a network takes.

A task's `inputs` does it, on the device, so that training, evaluation and prediction all do.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Adapt = Callable[[jax.Array], jax.Array]
"""(B, H, W, C) float32 pixels 0..255 -> the same, of another size or other channels; or (B, L, C)
signals, whose steps may come in another order."""


def as_it_is(images: jax.Array) -> jax.Array:
    """Changes nothing."""
    return images


def resized(height: int, width: int) -> Adapt:
    """Bilinear, its window widened where the image shrinks, so that no pixel is left out.

    Pixels are areas: the corners of the image stay its corners. Images of this size are unchanged.
    """

    def adapt(images: jax.Array) -> jax.Array:
        count, *size, channels = images.shape
        if size == [height, width]:
            return images
        return jax.image.resize(images, (count, height, width, channels), "linear")

    return adapt


def padded(height: int, width: int) -> Adapt:
    """Black around the image, as much on each side; an odd row or column goes below or right.

    As LeCun et al. 1998 (section II.B) centre digits of 28x28 in 32x32.

    Raises:
        ValueError: traced, the images are larger.
    """

    def adapt(images: jax.Array) -> jax.Array:
        missing = [
            wanted - size for wanted, size in zip((height, width), images.shape[1:3], strict=True)
        ]
        if min(missing) < 0:
            raise ValueError(f"images of shape {images.shape} are larger than {height}x{width}")
        around = [(more // 2, more - more // 2) for more in missing]
        return jnp.pad(images, [(0, 0), *around, (0, 0)])

    return adapt


def coloured(images: jax.Array) -> jax.Array:
    """Three equal channels of one; three stay.

    Raises:
        ValueError: traced, there are neither one nor three.
    """
    if images.shape[-1] not in (1, 3):
        raise ValueError(f"images of shape {images.shape} are neither grey nor of three colours")
    return jnp.broadcast_to(images, (*images.shape[:-1], 3))


def both(first: Adapt, second: Adapt) -> Adapt:
    """The first, then the second."""
    return lambda images: second(first(images))
