"""Sharded: parameters and optimiser state divided over devices, and gathered where they are used.

Fully sharded data parallelism (Rajbhandari et al. 2020, "ZeRO", stage 3; Xu et al. 2020, "Automatic
cross-replica sharding of weight update"): every device has its own examples, as without it, and
keeps a part of the state, which it alone updates.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

FSDP = "fsdp"
"""Axis of the mesh whose devices share the parameters; there only where they are several."""
SMALL = 64 * 1024
"""Bytes of an array up to which each device keeps all of it: many small messages cost more."""


def sharded(shapes: Any, mesh: Mesh) -> Any:
    """Where each leaf of a state lies: a function of its shape, type and the mesh alone.

    A leaf of more than 64 KiB is divided over the mesh's axis `fsdp` along its largest axis that
    this divides, the first of equals. All others are the same on every device: small ones, those of
    which no axis can be divided evenly, and all on a mesh without `fsdp`. So a parameter, its
    momentum and its average lie alike, and an update by element exchanges nothing.

    Args:
        shapes: pytree of arrays, or of what has their `shape` and `dtype`.
        mesh: the devices.

    Returns:
        The same tree of `NamedSharding`.
    """
    return jax.tree.map(lambda leaf: NamedSharding(mesh, division(leaf, mesh)), shapes)


def division(leaf: Any, mesh: Mesh) -> PartitionSpec:
    """Of a leaf, see `sharded`."""
    size = mesh.shape.get(FSDP, 1)
    if size == 1 or math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize <= SMALL:
        return PartitionSpec()
    along = [axis for axis, n in enumerate(leaf.shape) if n % size == 0]
    if not along:
        return PartitionSpec()
    axis = max(along, key=lambda axis: leaf.shape[axis])
    return PartitionSpec(*[None] * axis, FSDP)


def held(state: Any) -> int:
    """Bytes of a state on each device."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(state)
    )


def whole(function: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """`function(variables, …)`, computed by each device from all of the variables.

    For traced code, of variables that may be sharded. Left to itself XLA's partitioner decides for
    each use of an array: it gathers it once for the forward and once for the backward pass, or it
    may divide a layer as its weights lie and exchange activations, which are larger.

    The gradient to the variables is summed over the devices and left divided as the variables are:
    each device updates its part.
    """
    if FSDP not in mesh.shape:
        return function

    def of_whole(variables: Any, *others: Any) -> Any:
        return function(gather(mesh, variables), *others)

    return of_whole


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def gather(mesh: Mesh, variables: Any) -> Any:
    """All of the variables on every device; their gradient lies as they do."""
    return jax.lax.with_sharding_constraint(variables, NamedSharding(mesh, PartitionSpec()))


def gather_fwd(mesh: Mesh, variables: Any) -> tuple[Any, None]:
    """For `jax.custom_vjp`."""
    return gather(mesh, variables), None


def gather_bwd(mesh: Mesh, residuals: None, gradient: Any) -> tuple[Any]:
    """Summed where each device needs it: XLA makes a reduce-scatter of it where it can."""
    del residuals

    def divided(x: Any) -> Any:
        if x.dtype == jax.dtypes.float0:  # of integers in a collection
            return x
        return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, division(x, mesh)))

    return (jax.tree.map(divided, gradient),)


gather.defvjp(gather_fwd, gather_bwd)
