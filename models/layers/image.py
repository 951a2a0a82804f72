"""What a network asks of the images that it is given."""

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
    height, width = x.shape[1:3]
    if min(height, width) < smallest:
        raise ValueError(
            f"image of shape {x.shape}: {height}x{width} pixels are too few, "
            f"the smallest that this network takes is {smallest}x{smallest}"
        )
