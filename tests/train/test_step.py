"""A step is a pure function of (state, payload): by hand, and under vmap."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from train.optim import scale_by_rate
from train.state import initial
from train.step import training_step
from train.tasks.task import Aux, Ratio, Task

BATCH = {"x": jnp.arange(8.0), "y": 3 * jnp.arange(8.0)}


class Fixed:
    """A loader that gives one batch, times the payload."""

    batch_size, length, data = 8, 8, {}

    def device(self, data, payload, seed, key):
        return jax.tree.map(lambda x: x * payload, BATCH)


def loss(variables, batch, key):
    error = variables["params"]["w"] * batch["x"] - batch["y"]
    seen = variables["count"]["n"] + 1
    sums = {"loss": Ratio(jnp.sum(error**2), jnp.float32(len(error)))}
    return jnp.mean(error**2), Aux({"count": {"n": seen}}, sums)


TASK = Task(lambda b: b, loss, None, None, None, None)


def optimizer(hyper):
    return scale_by_rate(lambda step: 1.0, hyper["learning_rate"])


def start(rate=0.01, seed=0):
    variables = {"params": {"w": jnp.float32(1)}, "count": {"n": jnp.int32(0)}}
    return initial(lambda key: variables, optimizer, {"learning_rate": rate}, seed)


def test_one_step_by_hand():
    step = jax.jit(training_step(TASK, optimizer, Fixed()))
    state, sums = step(start(), {}, 1.0)
    # d/dw mean((w - 3)^2 x^2) = 2 (1 - 3) mean(x^2) = -4 * 17.5 = -70
    assert state.params["w"] == pytest.approx(1 + 0.01 * 70)
    assert sums["gradient_norm"] == Ratio(70, 1)
    assert sums["learning_rate"].total == np.float32(0.01)
    assert sums["loss"] == Ratio(8 * 4 * 17.5, 8)
    assert sums["weight_norm"].total == state.params["w"]
    assert sums["nonfinite"] == 0
    assert (int(state.step), int(state.collections["count"]["n"])) == (1, 1)
    assert state.ema is None


def test_weights_that_leave_what_is_finite_are_counted():
    _, sums = jax.jit(training_step(TASK, optimizer, Fixed()))(start(rate=1e38), {}, 1.0)
    assert np.isfinite(sums["loss"].total)
    assert np.isfinite(sums["gradient_norm"].total)
    assert sums["nonfinite"] == 1


@pytest.mark.parametrize("payload", [np.inf, np.nan])
def test_what_is_not_finite_is_counted(payload):
    _, sums = jax.jit(training_step(TASK, optimizer, Fixed()))(start(), {}, payload)
    assert sums["nonfinite"] == 1


def test_a_finite_loss_with_an_infinite_gradient_is_counted():
    def steep(variables, batch, key):
        w = variables["params"]["w"]
        return jnp.sqrt(w - 1), Aux({"count": variables["count"]}, {})

    task = TASK._replace(loss=steep)
    _, sums = jax.jit(training_step(task, optimizer, Fixed()))(start(), {}, 1.0)
    assert sums["nonfinite"] == 1


def test_vmap_over_states_runs_two_learning_rates():
    step = training_step(TASK, optimizer, Fixed())
    both = jax.vmap(start)(jnp.array([0.01, 0.02]))
    state, _ = jax.jit(jax.vmap(step, (0, None, None)))(both, {}, 1.0)
    np.testing.assert_allclose(state.params["w"], [1.7, 2.4], rtol=1e-6)


def test_initial_states_differ_by_seed_and_repeat():
    def init(key):
        return {"params": {"w": jax.random.normal(key, (4,))}}

    make = partial(initial, init, lambda hyper: optax.sgd(0.1), {"learning_rate": 1})
    a, b, c = make(0), make(0), make(1)
    assert np.array_equal(a.params["w"], b.params["w"])
    assert not np.array_equal(a.params["w"], c.params["w"])
    assert int(make(np.uint32(2**32 - 1)).seed) == 2**32 - 1
    assert make(0, averaged=True).ema["params"]["w"] is not make(0).params["w"]
