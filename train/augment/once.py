"""Once: keeps what is computed before from being computed again by all that reads it."""

import jax
import jax.numpy as jnp


@jax.custom_jvp
def once(key: jax.Array, x: jax.Array) -> jax.Array:
    """x itself, whole before anything reads it.

    On a CPU, XLA repeats what is cheap in its eyes, a warp with all its gathers, for each pixel,
    channel or sum that reads the result: rotation and colour together cost three times what they
    cost apart. `optimization_barrier` is gone when that is decided; a branch is not, though it is
    never taken. Elsewhere nothing is done.

    Args:
        key: any; the condition, never true, must look as if it could be.
        x: an array.
    """
    return _held(key, x)


@once.defjvp
def _same_slope(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    return once(*primals), tangents[1]


@jax.custom_batching.custom_vmap
def _held(key: jax.Array, x: jax.Array) -> jax.Array:
    def branch(x: jax.Array) -> jax.Array:
        never = jax.random.uniform(key, (), jnp.float32) > 1
        return jax.lax.cond(never, jnp.zeros_like, lambda x: x, x)

    return jax.lax.platform_dependent(x, cpu=branch, default=lambda x: x)


@_held.def_vmap
def _held_for_all(
    size: int, batched: list[bool], key: jax.Array, x: jax.Array
) -> tuple[jax.Array, bool]:
    """One condition for all: of several, `vmap` makes a selection that holds nothing."""
    return _held(key[0] if batched[0] else key, x), batched[1]
