"""The training step: a pure function, composed of key, batch, gradient and optimiser."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from train.data.loader import Loader
from train.state import Optimizer, State
from train.tasks.task import Ratio, Sums, Task

Loss = Callable[[dict, dict, jax.Array], tuple[jax.Array, Any]]
Gradient = Callable[[Loss], Callable]
"""loss -> ((params, collections, batch, key) -> ((loss, Aux), gradients of params))."""
Average = Callable[[Any, dict, jax.Array], dict]
"""(averages, variables, step) -> averages."""


def gradient(loss: Loss) -> Callable:
    """Value and gradient of a task's loss with respect to the parameters."""

    def of_params(params, collections, batch, key):
        return loss({"params": params, **collections}, batch, key)

    return jax.value_and_grad(of_params, has_aux=True)


def training_step(
    task: Task,
    optimizer: Optimizer,
    loader: Loader,
    *,
    gradient: Gradient = gradient,
    average: Average | None = None,
) -> Callable[[State, Any, Any], tuple[State, Sums]]:
    """`step(state, data, payload) -> (state, sums)`: one optimiser update.

    The sums are the loss's own and `gradient_norm` (before clipping), `weight_norm` (after the
    update), `learning_rate` (where the optimiser's state tells it) and `nonfinite`: 1 where the
    loss or one of the norms is not finite.
    """

    def step(state: State, data: Any, payload: Any) -> tuple[State, Sums]:
        key = jax.random.fold_in(jax.random.key(state.seed), state.step)
        of_data, of_loss = jax.random.split(key)
        batch = loader.device(data, payload, state.seed, of_data)
        (loss, aux), grads = gradient(task.loss)(state.params, state.collections, batch, of_loss)
        transform = optax.with_extra_args_support(optimizer(state.hyper))
        updates, opt_state = transform.update(
            grads, state.opt_state, state.params, value=loss, sums=aux.sums
        )
        params = optax.apply_updates(state.params, updates)
        # The weights too: a finite gradient may carry them beyond what is finite.
        norm, weights = optax.tree.norm(grads), optax.tree.norm(params)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm) & jnp.isfinite(weights)
        sums = {
            **aux.sums,
            "gradient_norm": Ratio(norm, jnp.ones_like(norm)),
            "weight_norm": Ratio(weights, jnp.ones_like(weights)),
            "nonfinite": (~finite).astype(jnp.int32),
        }
        rates = optax.tree.get_all_with_path(opt_state, "learning_rate")
        if len(rates) == 1:
            sums["learning_rate"] = Ratio(rates[0][1], jnp.ones_like(rates[0][1]))
        state = state.replace(
            step=state.step + 1,
            params=params,
            collections=aux.collections,
            opt_state=opt_state,
        )
        if average is not None:
            state = state.replace(ema=average(state.ema, state.variables, state.step))
        return state, sums

    return step
