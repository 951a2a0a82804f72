"""What pooling and alignment both do with regions: refuse what does not fit, divide them."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from models.layers.conv import at_least_one


def check_regions(
    maps: Sequence[jax.Array], rois: jax.Array, size: int, scales: Sequence[float]
) -> None:
    """Refuses maps and regions that do not go together."""
    at_least_one("size", size)
    if not maps or len(maps) != len(scales):
        raise ValueError(f"scales={tuple(scales)} for {len(maps)} map(s): expected one for each")
    if not all(scale > 0 for scale in scales):
        raise ValueError(f"scale={', '.join(map(str, scales))} must be above 0")
    for one in maps:
        if one.ndim != 4 or 0 in one.shape[1:3]:
            raise ValueError(f"map of shape {one.shape}: expected (B, H, W, C)")
        if not jnp.issubdtype(one.dtype, jnp.floating):
            raise ValueError(f"map of dtype {one.dtype}: expected floats")
        first = maps[0]
        if (one.shape[0], one.shape[3], one.dtype) != (first.shape[0], first.shape[3], first.dtype):
            raise ValueError(
                f"maps of shapes {first.shape}, {one.shape} and dtypes {first.dtype}, {one.dtype}: "
                f"expected one batch, one number of channels and one dtype"
            )
    if rois.ndim != 3 or rois.shape[2] != 4 or rois.shape[0] != maps[0].shape[0]:
        raise ValueError(
            f"rois of shape {rois.shape} on a map of shape {maps[0].shape}: expected (B, R, 4)"
        )


def quotient(values: jax.Array, divisor: int) -> jax.Array:
    """values / divisor, correctly rounded: a bin's edge is a pixel off by the last bit.

    XLA turns a division by what is one number for all into a product with its inverse; here it
    cannot tell that it is.
    """
    return values / jnp.where(jnp.isnan(values), values, jnp.asarray(divisor, values.dtype))
