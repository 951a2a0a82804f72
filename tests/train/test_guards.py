"""The guards that tests train under: they see what they are for."""

from types import SimpleNamespace

import guards
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train import at_once, run
from train.started import FirstStep


def trained(step, payloads):
    """A loop of a few steps."""

    def fit(state, *, step, loader):
        for payload in payloads:
            state = step(state, {}, payload)
        return state

    return guards.guarded(fit)(jnp.zeros(2), step=step, loader=None)


def test_they_are_on():
    assert run.fit.__wrapped__ is at_once.fit.__wrapped__


def test_what_crosses_unasked_raises_from_the_second_step_on():
    add = jax.jit(jnp.add)

    def step(state, data, payload):
        return add(state, payload)

    there = jax.device_put(np.ones(2, np.float32))
    assert trained(step, [np.ones(2, np.float32), there])[0] == 2
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        trained(step, [there, np.ones(2, np.float32)])
    assert jnp.zeros(2)[0] == 0  # the guard is off again


def test_a_step_that_is_traced_twice_for_a_shape_raises():
    say = SimpleNamespace(line=lambda text: None).line

    def counted():
        return jax.jit(lambda state, data, payload: state + payload.sum())

    ones, more = (jax.device_put(np.ones(n, np.float32)) for n in (2, 3))
    assert trained(FirstStep(counted(), 0.0, say), [ones, more, ones])[0] == 7

    class Growing:
        """A program that is traced anew each time."""

        def __init__(self):
            self.size = 0

        def _cache_size(self):
            return self.size

        def __call__(self, state, data, payload):
            self.size += 1
            return state

    with pytest.raises(AssertionError, match="2 traces of 1 shapes"):
        trained(Growing(), [ones, ones])
