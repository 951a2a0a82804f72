"""First: the variables that a run begins with, from its seed and what it starts from."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from train.experiment import Parts
from train.finetune import begun
from train.state import initial


def first(parts: Parts, inputs: Any, seed: int) -> tuple[dict[str, Any], list[str]]:
    """What a run of `seed` trains from its first step on, and what is to be said of it.

    Args:
        parts: what its experiment builds.
        inputs: of its task; the shapes count.
        seed: of the run.

    Raises:
        Refused: what it starts from can't be read any more, or is of another network.
    """
    init = parts.init or partial(parts.network.init, train=False)

    def begin() -> Any:
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), inputs)
        return initial(lambda key: dict(init(key, zeros)), parts.optimizer, parts.hyper, seed)

    state = jax.jit(begin)()
    if parts.weights is None:
        return state.variables, []
    state, said = begun(state, parts.weights())
    return state.variables, said
