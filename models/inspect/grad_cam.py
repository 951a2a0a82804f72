"""Grad-CAM: where a classifier looks (Selvaraju et al. 2016, arXiv:1610.02391, section 3).

    found = grad_cam(network, variables, images)
    found.heat                                     # (B, H, W), 0 where nothing speaks for the class

The gradient of a class's logit by a map, averaged over the map's positions, is the weight of each
channel (equation 1); the heat is what is positive of the weighted sum of the channels (equation 2).
The network is traced and cut at the map, so any map of any classifier will do, whatever its head.
For a linear head on the mean of the last map this is CAM (Zhou et al. 2015, arXiv:1512.04150),
over the number of positions.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Var

from models.classification.auxiliary import parts
from models.inspect.errors import Lacking
from models.inspect.feature_maps import (
    Program,
    check_name,
    cut,
    ending,
    positions,
    program,
    shape_of,
)
from models.layers.resize import bilinear


class GradCAM(NamedTuple):
    """What Grad-CAM finds in a batch."""

    heat: jax.Array
    """(B, H, W), or (B, L) of series, at least 0: `coarse` brought to the input's size."""
    coarse: jax.Array
    """(B, h, w) or (B, l), at the positions of the map."""
    weights: jax.Array
    """(B, c): of the map's channels."""
    logits: jax.Array
    """(B, classes)."""
    labels: jax.Array
    """(B,) int32: the classes that the heat speaks for."""
    layer: str
    """Name of the map, see `models.inspect.feature_maps`."""


def grad_cam(
    network: nn.Module,
    variables: Any,
    x: jax.Array,
    labels: Sequence[int] | jax.Array | None = None,
    *,
    layer: str = "",
    **how: Any,
) -> GradCAM:
    """Where the class of each example shows in it; the network as it is outside training.

    Args:
        network: any classifier of images or series, with logits (B, classes).
        variables: its own.
        x: (B, H, W, C) images or (B, L, C) series, as the network takes them.
        labels: (B,) classes; by default the likeliest of each example.
        layer: name of a map; by default the last one of more than one position. Within what
            `remat` computes again there is none to choose.
        **how: of the network's call: `length=` of series.

    Raises:
        Lacking: the network has no maps, such as an MLP, or this one leads to no logit; or its
            logits are not (B, classes).
        ValueError: it has no such map; `labels` are none of its classes, or not (B,).
    """
    found = program(network, variables, x, **how)
    logits = parts(found.results).logits
    if not isinstance(logits, Var) or len(shape_of(logits)) != 2:
        raise Lacking(f"{type(network).__name__} yields no logits (B, classes): no classifier")
    layer = layer or last_map(network, found, logits)
    check_name(network, found.maps, layer)
    at = found.maps[layer]
    if at not in ahead(found, logits):
        raise Lacking(f"layer={layer!r} leads to no logit of {type(network).__name__}")
    if labels is not None:
        labels = checked(labels, *shape_of(logits))

    def run(labels: Any, *leaves: Any) -> tuple[jax.Array, ...]:
        value, said = ending(found.jaxpr, at, logits)(*leaves)
        chosen = jnp.argmax(said, axis=-1).astype(jnp.int32) if labels is None else labels
        behind = ending(cut(found.jaxpr, at), logits)
        _, back = jax.vjp(lambda value: behind(*leaves, value)[0], value)
        (gradient,) = back(jax.nn.one_hot(chosen, said.shape[-1], dtype=said.dtype))
        wide = jnp.promote_types(value.dtype, jnp.float32)
        value, gradient = value.astype(wide), gradient.astype(wide)
        weights = jnp.mean(gradient, axis=tuple(range(1, value.ndim - 1)))
        coarse = nn.relu(jnp.einsum("b...c,bc->b...", value, weights, precision="highest"))
        return stretched(coarse, x.shape[1:-1]), coarse, weights, said, chosen

    heat, coarse, weights, said, chosen = jax.jit(run)(labels, *jax.tree.leaves((variables, x)))
    return GradCAM(heat, coarse, weights, said, chosen, layer)


def last_map(network: nn.Module, found: Program, logits: Var) -> str:
    """Name of the last map before the logits that has more than one position.

    Raises:
        Lacking: there is none.
    """
    before = ahead(found, logits)
    names = [name for name, at in found.maps.items() if at in before and positions(at) > 1]
    if not names:
        raise Lacking(
            f"{type(network).__name__} has no map of more than one position before its logits, "
            f"so Grad-CAM has nothing to weigh"
        )
    return names[-1]


def ahead(found: Program, logits: Var) -> set[Var]:
    """All variables of the program that the logits are computed from."""
    needed = {logits}
    for equation in reversed(found.jaxpr.jaxpr.eqns):
        if not needed.isdisjoint(equation.outvars):
            needed |= {each for each in equation.invars if isinstance(each, Var)}
    return needed


def stretched(coarse: jax.Array, size: Sequence[int]) -> jax.Array:
    """(B, h, w) -> (B, H, W) or (B, l) -> (B, L), linear between the centres of the positions."""
    axes = (*coarse.shape, 1, 1)[:4]
    height, width = (*size, 1)[:2]
    return bilinear(coarse.reshape(axes), height, width).reshape(len(coarse), *size)


def checked(labels: Any, batch: int, classes: int) -> jax.Array:
    """(B,) int32.

    Raises:
        ValueError: they are not as many, no whole numbers, or out of range.
    """
    array = labels if isinstance(labels, jax.Array) else np.asarray(labels)
    if array.shape != (batch,) or not jnp.issubdtype(array.dtype, jnp.integer):
        raise ValueError(
            f"labels of shape {array.shape} and dtype {array.dtype}: expected a class for each of "
            f"{batch} examples"
        )
    if not isinstance(array, jax.core.Tracer) and not np.all((array >= 0) & (array < classes)):
        raise ValueError(f"labels={array.tolist()} must lie in 0..{classes - 1}")
    return jnp.asarray(array, jnp.int32)
