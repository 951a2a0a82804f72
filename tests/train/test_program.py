"""N runs as one program: of several seeds, of several learning rates."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_detector
from toy_detector import Config

import train.program as room
from train.mesh import places
from train.prepared import prepare
from train.program import program
from train.refusal import Refused

CONFIG = Config(steps=8, devices=1, dtype="float64", backend="jax", weight_decay=1e-3)


def trained(config):
    """One run by itself."""
    prepared = prepare(toy_detector, config)
    state, payloads = prepared.start(jnp.uint32(config.seed)), prepared.loader.payloads(0)
    for _ in range(config.steps):
        state, _ = prepared.step(state, prepared.loader.data, next(payloads))
    payloads.close()
    return jax.device_get(state), prepared.assess("test")(state.evaluated)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("devices", [1, 3])
def test_several_learning_rates_in_one_program_are_as_many_runs(devices):
    prepared = prepare(toy_detector, replace(CONFIG, devices=devices, batch_size=15))
    rates, decays = [0.005, 0.02, 0.1], [0.0, 1e-3, 0.1]
    together = program(prepared, (3, 3, 3))
    state = together.initial({"learning_rate": rates, "weight_decay": decays})
    state = together.fit(together.fit(state, 5), 3)
    assert together.step._cache_size() <= 1  # 0 where JAX has forgotten it among many others
    summaries = [*map(prepared.assess("test"), together.each(state.evaluated))]
    for place, its in enumerate(together.each(state)):
        alone = replace(CONFIG, batch_size=15, seed=3, learning_rate=rates[place])
        expected, summary = trained(replace(alone, weight_decay=decays[place]))
        assert int(its.step) == 8
        assert float(its.hyper["learning_rate"]) == np.float32(rates[place])
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10),
            jax.device_get(its),
            expected,
        )
        assert summaries[place].scalars == pytest.approx(summary.scalars, nan_ok=True)
    weights = state.params["head"]["kernel"]
    assert float(jnp.abs(weights[0] - weights[2]).max()) > 1e-3


def test_no_more_steps_are_in_flight_than_devices_can_hold(monkeypatch):
    taken = []
    monkeypatch.setattr(room, "InFlight", lambda: SimpleNamespace(push=taken.append))
    together = program(prepare(toy_detector, Config(devices=2)), (0, 1))
    together.fit(together.initial(), 3)
    assert [np.shape(sums["nonfinite"]) for sums in taken] == [(2,)] * 3


def test_a_hyper_that_there_is_none_of_or_not_for_all_is_refused():
    together = program(prepare(toy_detector, replace(CONFIG, dtype="float32")), (0, 1))
    with pytest.raises(Refused, match="hyper='momentum' is none of learning_rate, weight_decay"):
        together.initial({"momentum": [0.1, 0.2]})
    with pytest.raises(Refused, match="hyper='learning_rate' has 3 values for 2 runs"):
        together.initial({"learning_rate": [0.1, 0.2, 0.3]})


@pytest.mark.parametrize(
    ("fields", "seeds", "why"),
    [
        ({"loader": "streaming"}, (0, 1), "loader='streaming': several runs as one program"),
        ({"devices": 2}, (0, 1, 2), "3 runs can't be shared out evenly over 2 devices"),
    ],
)
def test_what_can_not_be_one_program_is_refused(fields, seeds, why):
    prepared = prepare(toy_detector, replace(CONFIG, dtype="float32", **fields))
    with pytest.raises(Refused, match=why):
        program(prepared, seeds)


@pytest.mark.parametrize(
    ("seeds", "devices", "expected"),
    [(1, 1, 1), (3, 1, 1), (2, 2, 2), (2, 4, 2), (3, 4, 3), (4, 2, 2), (6, 4, 3), (5, 4, 1)],
)
def test_places_divide_the_seeds_and_each_has_as_many_devices(seeds, devices, expected):
    assert places(seeds, devices) == expected
    assert seeds % expected == 0


def test_the_devices_that_a_program_takes():
    prepared = prepare(toy_detector, replace(CONFIG, dtype="float32", devices=4))
    for count, shape in ((2, (2, 2)), (3, (3, 1)), (4, (4, 1)), (6, (3, 1)), (1, (1, 4))):
        mesh = program(prepared, range(count)).mesh
        assert (mesh.shape["seed"], mesh.shape["data"]) == shape
    assert program(prepared, (0, 1), spread=False).mesh.devices.size == 1
