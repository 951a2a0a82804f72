"""State: everything that a run is, as one pytree; all of it is checkpointed."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

Hyper = dict[str, jax.Array]
Optimizer = Callable[[Hyper], optax.GradientTransformation]
"""Built inside the step, so that `vmap` over states runs N learning rates in one program."""

INIT = 2**32 - 1
"""Folded into the seed's key to initialise; no step has this number."""


class State(flax.struct.PyTreeNode):
    """What a step takes and gives. What is absent is None or {}, never an empty array.

    Attributes:
        step: () int32, updates made so far.
        seed: () uint32; every random number follows from it and from `step`.
        hyper: float32 scalars, peak learning rate for one; schedules are shapes times these.
        params: the network's parameters.
        collections: its other variables, `batch_stats` for one.
        opt_state: the optimiser's.
        ema: variables averaged over the steps, or None; where present they are what is evaluated.
    """

    step: jax.Array
    seed: jax.Array
    hyper: Hyper
    params: Any
    collections: dict[str, Any]
    opt_state: Any
    ema: dict[str, Any] | None

    @property
    def variables(self) -> dict[str, Any]:
        """What training runs on."""
        return {"params": self.params, **self.collections}

    @property
    def evaluated(self) -> dict[str, Any]:
        """What is evaluated, ranked and exported."""
        return self.variables if self.ema is None else self.ema


def initial(
    init: Callable[[jax.Array], dict[str, Any]],
    optimizer: Optimizer,
    hyper: dict[str, Any],
    seed: jax.Array | int,
    *,
    averaged: bool = False,
) -> State:
    """The state before the first step: a pure function of the seed.

    Args:
        init: key -> variables of the network.
        optimizer: hyper -> gradient transformation.
        hyper: scalars, kept in float32.
        seed: 0 .. 2^32 - 1.
        averaged: whether the run keeps an exponential moving average.
    """
    seed = jnp.asarray(seed, jnp.uint32)
    variables = init(jax.random.fold_in(jax.random.key(seed), jnp.uint32(INIT)))
    params = variables["params"]
    hyper = {name: jnp.asarray(value, jnp.float32) for name, value in hyper.items()}
    return State(
        step=jnp.zeros((), jnp.int32),
        seed=seed,
        hyper=hyper,
        params=params,
        collections={name: c for name, c in variables.items() if name != "params"},
        opt_state=optimizer(hyper).init(params),
        # A copy: donating a state whose leaves share a buffer is an error.
        ema=jax.tree.map(jnp.copy, variables) if averaged else None,
    )
