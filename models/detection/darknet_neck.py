"""The neck of YOLOv3 (Redmon & Farhadi 2018, section 2.3): coarse maps upsampled to finer ones."""

import itertools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from models.layers.pooling import max_pool


class DarknetNeck(nn.Module):
    """Maps (B, h, w, c), the finest first -> as many of (B, h, w, width); sizes stay.

    From the coarsest on: convolutions, 1x1 to `width` and 3x3 to twice as many in turns; what they
    yield goes through a 1x1 convolution to the next width, each pixel becomes 2x2, and the finer
    map's channels are appended.

    Attributes:
        widths: of each level, the finest first.
        depths: convolutions of each level: 5 in YOLOv3. Odd, or 0 where the map stays as it is.
        layer: `ConvNorm`, bound.
        pools: windows of maxima at stride 1, whose maps the coarsest level appends behind its third
            convolution, and a 1x1 convolution brings back to `width`: spatial pyramid pooling (He
            et al. 2014, arXiv:1406.4729) as in YOLOv3-SPP; empty for none.

    Raises:
        ValueError: `widths` and `depths` are empty or not as many; a width is below 1; a depth is
            even but for 0, or negative; `pools` with less than three convolutions, or even.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    layer: Callable[..., Any]
    pools: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_neck(self.widths, self.depths, self.pools)
        super().__post_init__()

    @nn.compact
    def __call__(self, maps: tuple[jax.Array, ...], *, train: bool) -> tuple[jax.Array, ...]:
        levels = len(self.widths)
        found: list[jax.Array] = []
        for level in range(levels, 0, -1):
            x, width = maps[level - 1], self.widths[level - 1]
            if found:
                route = self.layer(width, 1, name=f"level{level}_route")(found[0], train=train)
                x = jnp.concatenate([doubled(route), x], axis=-1)
            for number in range(1, self.depths[level - 1] + 1):
                features, kernel = (width, 1) if number % 2 else (2 * width, 3)
                layer = self.layer(features, kernel, name=f"level{level}_layer{number}")
                x = layer(x, train=train)
                if self.pools and (level, number) == (levels, 3):
                    pooled = [
                        max_pool(x, (size, size), strides=1, padding=size // 2)
                        for size in self.pools
                    ]
                    x = jnp.concatenate([x, *pooled], axis=-1)
                    x = self.layer(width, 1, name=f"level{level}_pooled")(x, train=train)
            found.insert(0, x)
        return tuple(found)


def doubled(x: jax.Array) -> jax.Array:
    """(B, h, w, C) -> (B, 2 h, 2 w, C): each pixel becomes four."""
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


def check_neck(
    widths: tuple[int, ...], depths: tuple[int, ...], pools: tuple[int, ...] = ()
) -> None:
    """Refuses what `DarknetNeck` says it does."""
    if len(widths) != len(depths) or not widths or min(widths) < 1:
        raise ValueError(
            f"widths={widths} and depths={depths} must be as many, at least one, widths above 0"
        )
    if any(depth < 0 or (depth % 2 == 0 and depth) for depth in depths):
        raise ValueError(f"depths={depths} must be odd, or 0")
    if pools and (depths[-1] < 3 or any(size < 1 or size % 2 == 0 for size in pools)):
        raise ValueError(f"pools={pools} must be odd, on at least 3 convolutions: depths={depths}")


def check_levels(network: Any) -> None:
    """Refuses a backbone whose last maps do not halve from level to level.

    Args:
        network: with `backbone` and `widths`.

    Raises:
        ValueError: there are less maps than levels, or the strides are others.
    """
    strides = network.backbone.strides[-len(network.widths) :]
    if len(strides) < len(network.widths) or any(
        2 * fine != coarse for fine, coarse in itertools.pairwise(strides)
    ):
        raise ValueError(
            f"widths={network.widths}: a backbone with strides={network.backbone.strides} has no "
            f"{len(network.widths)} last maps of half the size each"
        )
