"""Gradient accumulation: one update from n slices of a batch, for memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from train.step import Loss, gradient


def accumulated(n: int) -> Callable[[Loss], Callable]:
    """`gradient`, over n slices of the batch in turn.

    Slice i holds examples i, n + i, 2n + i, …: an axis that is sharded stays sharded. The slices
    share the batch statistics, each from the one before, and each normalises over itself, so the
    result equals the large batch's only where the normaliser is the number of examples and there
    is no BatchNorm.

    Args:
        n: slices; divides the batch size.
    """

    def gradient_of(loss: Loss) -> Callable:
        of_slice = gradient(loss)

        def run(params: Any, collections: dict, batch: dict, key: jax.Array):
            def one(carry, i):
                collections, total, grads = carry
                part = jax.tree.map(
                    lambda x: jax.lax.dynamic_index_in_dim(
                        x.reshape(x.shape[0] // n, n, *x.shape[1:]), i, axis=1, keepdims=False
                    ),
                    batch,
                )
                (value, aux), gs = of_slice(params, collections, part, jax.random.fold_in(key, i))
                grads = jax.tree.map(lambda a, g: a + g / n, grads, gs)
                return (aux.collections, total + value / n, grads), aux

            shapes = jax.eval_shape(of_slice, params, collections, batch, key)
            (value, _), _ = shapes
            start = (collections, jnp.zeros((), value.dtype), jax.tree.map(jnp.zeros_like, params))
            # XLA's convolution gradient inside a loop is tens of times slower on a CPU.
            unroll = n if jax.default_backend() == "cpu" else 1
            (collections, total, grads), aux = jax.lax.scan(
                one, start, jnp.arange(n), unroll=unroll
            )
            sums = jax.tree.map(lambda x: x.sum(0), aux.sums)
            return (total, aux._replace(collections=collections, sums=sums)), grads

        return run

    return gradient_of
