"""What a network asks of the images that it is given."""

from collections.abc import Iterable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def check_image(x: jax.Array, *, smallest: int = 1) -> None:
    """Refuses what is no batch of images (B, H, W, C) of floats, before any layer meets it.

    Args:
        x: what a network was called with; its values are never read, so it may be traced.
        smallest: height and width that the network needs at least, in pixels.

    Raises:
        ValueError: `x` has not 4 axes, is not floating, or is lower or narrower than `smallest`.
    """
    if x.ndim != 4:
        raise ValueError(f"image of shape {x.shape}: expected 4 axes, (B, H, W, C)")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"image of dtype {x.dtype}: expected normalised floats")
    height, width, channels = x.shape[1:]
    if channels < 1:
        raise ValueError(f"image of shape {x.shape}: has no channels")
    if min(height, width) < smallest:
        raise ValueError(
            f"image of shape {x.shape}: {height}x{width} pixels are too few, "
            f"the smallest that this network takes is {smallest}x{smallest}"
        )


def check_channels(x: jax.Array, module: nn.Module, *first: str) -> None:
    """Refuses an image of other channels than a network's first weights are for.

    Args:
        x: (B, H, W, C).
        module: bound; without its weights (in `init`) nothing is refused.
        first: path, from the module, of the first convolution, whose `kernel` is (h, w, C, F).

    Raises:
        ValueError: names the image's shape, the convolution and both numbers of channels.
    """
    found: Any = module.get_variable("params", first[0], {})
    for name in (*first[1:], "kernel"):
        found = found.get(name, {})
    if hasattr(found, "shape") and found.shape[-2] != x.shape[-1]:
        raise ValueError(
            f"image of shape {x.shape}: {x.shape[-1]} channel(s), "
            f"the weights of {'/'.join(first)} are for {found.shape[-2]}"
        )


def smallest_size(moves: Iterable[tuple[int, int, int]]) -> int:
    """The smallest height or width from which every window of a chain of layers has a position.

    Args:
        moves: kernel, stride and padding on each side of every convolution and pooling, in order.
    """
    size = 1
    for kernel, stride, padding in reversed(list(moves)):
        size = max((size - 1) * stride + kernel - 2 * padding, 1)
    return size
