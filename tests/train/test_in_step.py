"""All processes stop, or fail, at one step; here of a single one, which hears itself."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from train.data.loader import LoaderFailed
from train.in_step import AHEAD, SAID, InStep, telling
from train.mesh import make_mesh, replicated
from train.watch import Alone


def counting(state, data, payload):
    return state + payload, {"loss": state}


class Numbers:
    """A loader of 0, 1, 2, … that fails at one of them."""

    batch_size = 3

    def __init__(self, fails=None):
        self.fails, self.closed = fails, False

    def payloads(self, start):
        try:
            for n in range(start, 1000):
                if n == self.fails:
                    raise LoaderFailed(f"no batch {n}")
                yield np.int32(n)
        finally:
            self.closed = True


def run(loader, *, stop_at=None, steps=12):
    """As the loop goes; steps made, and the error."""
    mesh = make_mesh()
    asked = SimpleNamespace(at=0)
    step = jax.jit(telling(counting), out_shardings=replicated(mesh))
    here = InStep(
        step,
        loader,
        mesh,
        lambda: stop_at is not None and asked.at >= stop_at,
        Alone(),
        until=steps,
    )
    state = jax.device_put(jnp.int32(0), replicated(mesh))
    payloads = here.loader.payloads(0)
    seen, error = [], None
    try:
        while asked.at < steps and not here():
            payload = next(payloads)
            seen.append(int(payload))
            state, sums = here.step(state, None, payload)
            assert SAID not in sums
            assert int(sums["loss"]) == sum(seen[:-1])
            asked.at += 1
    except LoaderFailed as failure:
        error = failure
    payloads.close()
    assert loader.closed
    assert int(state) == sum(seen)
    return seen, error


def test_without_a_word_it_goes_to_the_end():
    assert run(Numbers()) == (list(range(12)), None)


@pytest.mark.parametrize("at", [0, 1, 5])
def test_a_stop_is_heard_so_many_steps_later(at):
    assert run(Numbers(), stop_at=at) == (list(range(at + AHEAD)), None)


@pytest.mark.parametrize("at", [0, 1, AHEAD, 3, 7])
def test_what_can_not_be_read_ends_it_where_it_is_due(at):
    seen, error = run(Numbers(at))
    # What is missing at the very start is said before the first step.
    assert seen == (list(range(at)) if at >= AHEAD else [])
    assert str(error) == f"no batch {at}"
    assert error.common


def test_a_batch_beyond_the_last_step_is_not_asked_for():
    assert run(Numbers(12), steps=12) == (list(range(12)), None)


def test_the_largest_number_of_all_devices_counts():
    mesh = make_mesh()
    step = jax.jit(telling(counting), out_shardings=replicated(mesh))
    place = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    for at in range(4):
        numbers = jax.device_put(np.eye(4, dtype=np.int32)[at] * 2, place)
        _, sums = step(jnp.int32(0), None, (np.int32(1), numbers))
        assert int(sums[SAID]) == 2


def test_the_loader_is_the_same_in_all_else():
    mesh = make_mesh()
    loader = Numbers()
    here = InStep(lambda *_: None, loader, mesh, lambda: False, Alone(), until=1)
    assert here.loader.batch_size == 3
