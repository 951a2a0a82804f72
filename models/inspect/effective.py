"""The effective receptive field: how much each input position counts (Luo et al. 2016).

"Understanding the effective receptive field in deep convolutional neural networks"
(arXiv:1701.04128), section 2: the gradient of the middle position of a map, summed over its
channels, by the input.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from models.inspect.feature_maps import check_name, ending, program


def effective_fields(
    network: nn.Module, variables: Any, *inputs: Any, names: Sequence[str], **how: Any
) -> dict[str, jax.Array]:
    """Of maps of a network outside training: name -> (H, W), or (L,) of series, at least 0.

    The absolute gradient, its mean over the examples and sum over the input's channels.

    Args:
        network: any Linen module.
        variables: its own.
        *inputs: of its call, the first (B, spatial…, C).
        names: of the maps, see `models.inspect.feature_maps`.
        **how: of its call.

    Raises:
        ValueError: a name is that of no map.
    """
    found = program(network, variables, *inputs, **how)
    for name in names:
        check_name(network, found.maps, name)
    first, *others = inputs
    before, after = jax.tree.leaves(variables), jax.tree.leaves(others)

    def run(before: Any, x: jax.Array, after: Any) -> dict[str, jax.Array]:
        def middle(x: jax.Array, name: str) -> jax.Array:
            (y,) = ending(found.jaxpr, found.maps[name])(*before, x, *after)
            return jnp.sum(y[(slice(None), *(size // 2 for size in y.shape[1:-1]))])

        each = {name: jax.grad(middle)(x, name) for name in names}
        return {name: jnp.abs(one).mean(0).sum(-1) for name, one in each.items()}

    return jax.jit(run)(before, first, after)
