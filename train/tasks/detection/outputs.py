"""What the losses of detectors share: a network's outputs, and what becomes of their parts."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from train.tasks.task import Aux, Ratio, Sums


def outputs_of(network: nn.Module, variables: dict, image: jax.Array, key: jax.Array) -> Any:
    """(outputs in training, updated collections); `key` is of dropout."""
    collections = [name for name in variables if name != "params"]
    return network.apply(variables, image, train=True, mutable=collections, rngs={"dropout": key})


def taken(values: jax.Array, rows: jax.Array) -> jax.Array:
    """Of each example the rows: (B, N, …), (B, A) -> (B, A, …); 0 where N is 0."""
    if not values.shape[1]:
        return jnp.zeros((*rows.shape, *values.shape[2:]), values.dtype)
    return jax.vmap(lambda v, i: v[i])(values, rows)


def first_owner(place: jax.Array, valid: jax.Array, places: int) -> tuple[jax.Array, jax.Array]:
    """Which truth has each place; of several in one, the first.

    Args:
        place: (B, N) int32 in 0..places - 1.
        valid: (B, N) bool: which rows are a truth.

    Returns:
        (B, places) int32 rows, 0 where none, and bool, whether there is one.
    """
    batch, rows = place.shape
    place = jnp.where(valid, place, places)
    none = jnp.full((batch, places), rows, jnp.int32)
    each = jnp.broadcast_to(jnp.arange(rows, dtype=jnp.int32)[None], place.shape)
    owner = jax.vmap(lambda o, p, e: o.at[p].min(e, mode="drop"))(none, place, each)
    there = owner < rows
    return jnp.where(there, owner, 0), there


def reported(
    parts: dict[str, jax.Array], normaliser: jax.Array, collections: Any
) -> tuple[jax.Array, Aux]:
    """The sum of the parts by the normaliser (by 1 where that is 0), and each part to log."""
    weight = jnp.maximum(normaliser, 1)
    means = {name: total / weight.astype(total.dtype) for name, total in parts.items()}
    loss = sum(means.values(), start=jnp.zeros((), jnp.float32))
    one = jnp.ones_like(loss)
    sums: Sums = {"loss": Ratio(loss, one)}
    sums |= {name: Ratio(value, jnp.ones_like(value)) for name, value in means.items()}
    return loss, Aux(dict(collections), sums)
