"""The loop by what it calls, and when: fakes that write down each call."""

import dataclasses
import os
import pathlib
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from train import in_flight, loop
from train.data.loader import LoaderFailed
from train.loop import NonFinite, Rhythm, fit, host_step
from train.progress import heard
from train.refusal import Refused
from train.stop import Interrupted
from train.tasks.task import Ratio

NEVER = 1000


@dataclasses.dataclass(frozen=True)
class Count:
    """A state that knows its step."""

    step: Any = 0

    @property
    def evaluated(self):
        return {"weights": self.step}


class Lazy:
    """A number on a device, which writes down when it is fetched."""

    def __init__(self, value, fetched):
        self.value, self.fetched = value, fetched

    def __array__(self, dtype=None, copy=None):
        self.fetched()
        return np.asarray(self.value)


class Payloads:
    """Numbers of steps."""

    def __init__(self, house, at):
        self.house, self.at = house, at

    def __iter__(self):
        return self

    def __next__(self):
        self.at += 1
        if self.at in self.house.fails:
            raise self.house.fails[self.at]
        self.house.calls.append(f"payload {self.at}")
        return self.at

    def close(self):
        self.house.calls.append("closed")


class House:
    """Everything that the loop calls; `calls` has the order."""

    batch_size, length, data = 4, 8, "the data"

    def __init__(self, *, bad=(), score=lambda step: step / 10, ranks=None, fails=None):
        """`bad`: steps that are not finite. `fails`: step -> what its payload raises."""
        self.calls, self.lines, self.said = [], {}, []
        self.bad, self.score, self.fails = bad, score, fails or {}
        self.ranks = {} if ranks is None else ranks
        self.saved, self.seconds = {}, 0.0

    # --- the loader
    def payloads(self, start):
        self.calls.append(f"from {start}")
        return Payloads(self, start)

    # --- the step: the loss of step k is 3k over a weight of 3
    def step(self, state, data, payload):
        assert (data, payload) == (self.data, host_step(state) + 1)
        self.calls.append(f"step {payload}")
        self.seconds += 2

        def fetched():
            self.calls.append(f"fetch {payload}")

        bad = np.int32(self.is_bad(payload))
        loss = Ratio(Lazy(np.float32(3 * payload) + 0 * bad, fetched), np.float32(3) + 0 * bad)
        return Count(state.step + 1), {"loss": loss, "nonfinite": bad}

    def is_bad(self, step):
        return step in self.bad

    # --- evaluation
    def evaluate(self, step, state):
        self.calls.append(f"evaluate {step}")
        assert host_step(state) == step
        self.seconds += 100
        return self.score(step)

    # --- the checkpoints
    def save(self, step, state, variables):
        assert variables == state.evaluated
        self.calls.append(f"save {step}")
        self.seconds += 100
        self.saved[step] = state

    def rank(self, step, metric):
        assert step in self.saved
        self.calls.append(f"rank {step}")
        self.ranks[step] = metric

    def ranked(self, step):
        return step in self.ranks

    def wait(self):
        self.calls.append("wait")

    # --- the logs
    def train(self, step, values, epoch):
        self.calls.append(f"log {step}")
        self.lines[step] = values | {"epoch": epoch}

    def lost(self, step, places):
        self.said.append((step, places))

    def fit(self, state=None, *, until=4, evaluate=True, stop_at=None, **every):
        asked = iter(range(host_step(state or Count()), NEVER))
        stop_at = NEVER if stop_at is None else stop_at
        every = {"evaluate_every": NEVER, "save_every": NEVER, "log_every": NEVER} | every
        return fit(
            state or Count(),
            step=self.step,
            loader=self,
            rhythm=Rhythm(until=until, **every),
            evaluate=self.evaluate if evaluate else None,
            checkpoints=self,
            logs=self,
            stopping=lambda: next(asked) >= stop_at,
        )

    def calls_of(self, *kinds):
        return [call for call in self.calls if call.split()[0] in kinds]


def test_the_order_is_save_evaluate_payload_step_log():
    house = House()
    state = house.fit(until=5, evaluate_every=2, save_every=3, log_every=2)
    assert house.calls == [
        "from 0",
        *("payload 1", "step 1", "fetch 1", "log 1"),  # the first step is logged: it compiled
        *("payload 2", "step 2", "fetch 2", "log 2"),
        *("save 2", "evaluate 2", "rank 2", "payload 3", "step 3"),
        *("fetch 3", "save 3", "payload 4", "step 4", "fetch 4", "log 4"),
        *("save 4", "evaluate 4", "rank 4", "payload 5", "step 5", "fetch 5", "log 5"),
        *("save 5", "evaluate 5", "rank 5"),
        *("closed", "wait"),
    ]
    assert host_step(state) == 5
    assert house.ranks == {2: 0.2, 4: 0.4, 5: 0.5}
    assert [(step, host_step(saved)) for step, saved in house.saved.items()] == [
        (step, step) for step in (2, 3, 4, 5)
    ]


@pytest.mark.parametrize(
    ("every", "kind", "steps"),
    [
        ({"evaluate_every": 3}, "evaluate", [3, 6, 7]),
        ({"save_every": 3}, "save", [3, 6, 7]),
        ({"log_every": 3}, "log", [1, 3, 6, 7]),
        ({"evaluate_every": 7}, "evaluate", [7]),  # once, though it is due twice
        ({"evaluate_every": 5, "save_every": 3}, "save", [3, 5, 6, 7]),
        ({}, "evaluate", [7]),
    ],
)
def test_what_is_done_how_often(every, kind, steps):
    house = House()
    house.fit(until=7, **every)
    assert house.calls_of(kind) == [f"{kind} {step}" for step in steps]


def test_the_first_step_of_a_process_compiles_and_that_is_told():
    told = []

    class Listener:
        def begin(self, what, total, after):
            told.append((what, after, len(house.calls_of("step"))))
            return SimpleNamespace(advance=None, end=lambda: told.append("end"))

    for start in (0, 2):
        house = House()
        with heard(Listener()):
            house.fit(Count(start), until=4)
    assert told == [("compiling the training step", 2.0, 0), "end"] * 2


def test_nothing_is_fetched_but_to_log_evaluate_or_save():
    house = House()
    house.fit(until=4)
    steps = ("step 2", "step 3", "step 4", "fetch 2", "fetch 3", "fetch 4")
    assert house.calls_of("step", "fetch") == ["step 1", "fetch 1", *steps]


def test_steps_run_ahead_and_only_so_far(monkeypatch):
    waited = []
    monkeypatch.setattr(in_flight.jax, "block_until_ready", waited.append)
    flight = in_flight.InFlight()
    for step in range(20):
        flight.push(step)
    assert waited == [0, 1, 2, 3]


ROOT = pathlib.Path(__file__).parents[2]
MANY = """
from types import SimpleNamespace
import jax, jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from train.loop import Window
from train.mesh import make_mesh
jax.config.update("jax_num_cpu_devices", 4)
mesh = make_mesh(fsdp=4)
parts = NamedSharding(mesh, PartitionSpec("fsdp"))
@jax.jit
def step(x):
    y = jax.lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec()))
    for _ in range(6):
        y = jnp.tanh(x @ y)
    return jax.lax.with_sharding_constraint(y, parts), jnp.sum(y)
x = jax.device_put(jnp.ones((256, 256)), parts)
window = Window(SimpleNamespace(batch_size=1), None)
for _ in range(500):
    x, total = step(x)
    window.push({"nonfinite": total})
print(len(jax.device_get(window.pending)))
"""


def test_so_many_steps_ahead_of_several_devices_do_not_wait_for_each_other():
    # In a process of its own, which XLA ends where devices wait for each other.
    seconds = "--xla_cpu_collective_call_terminate_timeout_seconds=30"
    environment = os.environ | {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {seconds}"}
    command = [sys.executable, "-c", MANY]
    found = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert found.stdout == "500\n", found.stderr[-2000:]


def test_where_nothing_ranks_states_are_saved_all_the_same():
    house = House()
    house.fit(until=4, evaluate=False, evaluate_every=2)
    assert house.calls_of("save", "evaluate", "rank") == ["save 2", "save 4"]


def test_an_evaluation_without_a_number_is_over_all_the_same():
    house = House(score=lambda step: None)
    house.fit(until=2)
    assert house.ranks == {2: None}


# --- to stop, and to go on ---------------------------------------------------------------------


def test_a_stop_where_an_evaluation_is_due_saves_and_does_not_evaluate():
    house = House()
    state = house.fit(stop_at=2, evaluate_every=2)
    assert host_step(state) == 2
    assert house.calls[-3:] == ["save 2", "closed", "wait"]
    assert not house.ranks


def test_a_stop_between_saves_and_at_the_last_step_saves():
    for at in (1, 4):
        house = House()
        assert host_step(house.fit(stop_at=at)) == at
        assert house.calls_of("save", "evaluate") == [f"save {at}"]


@pytest.mark.parametrize("start", [0, 2])
def test_a_stop_before_any_step_does_nothing(start):
    house = House(ranks={2: 0.2})
    assert host_step(house.fit(Count(start), stop_at=start)) == start
    assert house.calls == [f"from {start}", "closed", "wait"]


def test_an_interrupted_evaluation_ends_the_loop_and_comes_first_when_it_goes_on():
    def interrupted(step):
        raise Interrupted

    house = House(score=interrupted)
    state = house.fit(evaluate_every=2)
    assert host_step(state) == 2
    assert house.calls[-4:] == ["save 2", "evaluate 2", "closed", "wait"]
    assert not house.ranks

    again = House()
    again.saved = house.saved
    assert host_step(again.fit(state, evaluate_every=2)) == 4
    assert again.calls[:4] == ["from 2", "evaluate 2", "rank 2", "payload 3"]
    assert again.ranks == {2: 0.2, 4: 0.4}


def test_what_is_ranked_is_not_evaluated_again():
    house = House(ranks={2: 0.9})
    house.fit(Count(2), evaluate_every=2)
    assert house.calls_of("evaluate", "save") == ["save 4", "evaluate 4"]
    assert house.ranks == {2: 0.9, 4: 0.4}


def test_a_run_that_is_done_makes_no_step():
    house = House(ranks={4: 0.4})
    assert host_step(house.fit(Count(4))) == 4
    assert house.calls == ["from 4", "closed", "wait"]


def test_a_run_that_was_stopped_at_its_last_step_is_evaluated():
    house = House()
    house.saved[4] = Count(4)
    house.fit(Count(4))
    assert house.calls == ["from 4", "evaluate 4", "rank 4", "closed", "wait"]


# --- what fails --------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [LoaderFailed("a reader died"), Refused("image 7 is broken")])
def test_where_no_payload_can_be_had_the_state_is_saved(error):
    house = House(fails={4: error})
    with pytest.raises(type(error)) as raised:
        house.fit(until=9)
    assert raised.value is error
    assert house.calls[-4:] == ["fetch 2", "fetch 3", "save 3", "closed"]
    assert host_step(house.saved[3]) == 3


def test_where_the_first_payload_fails_there_is_nothing_to_save():
    house = House(fails={3: LoaderFailed("a reader died")})
    with pytest.raises(LoaderFailed):
        house.fit(Count(2))
    assert house.calls == ["from 2", "closed"]


def test_payloads_are_closed_whatever_is_raised():
    house = House(score=lambda step: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        house.fit(evaluate_every=2)
    assert house.calls[-2:] == ["evaluate 2", "closed"]


@pytest.mark.parametrize(
    ("bad", "saved"),
    [
        ({3, 4, 5}, [2]),  # found by the save of step 4
        ({4}, [2]),  # though the next ones are finite again
        ({1}, []),
        ({8}, [2, 4, 6]),  # the last step
    ],
)
def test_the_first_step_that_is_not_finite_is_named_and_nothing_later_is_saved(bad, saved):
    house = House(bad=bad)
    first = min(bad)
    with pytest.raises(NonFinite, match=f"are not finite at step {first}$") as raised:
        house.fit(until=8, save_every=2)
    assert raised.value.step == first
    assert [*house.saved] == saved
    assert house.calls[-2:] == [f"log {first}", "closed"]
    assert house.lines[first] == {"loss": first, "epoch": first * 4 / 8}


def test_a_loader_that_fails_after_the_numbers_did_saves_nothing():
    house = House(bad={2}, fails={4: LoaderFailed("a reader died")})
    with pytest.raises(NonFinite, match="at step 2"):
        house.fit(until=9)
    assert not house.saved


class Pair(House):
    """Two seeds at once; `bad`: seed -> steps."""

    def is_bad(self, step):
        return [step in self.bad.get(seed, ()) for seed in (0, 1)]


TWO = Count(np.zeros(2, np.int32))


def test_a_seed_that_is_lost_is_said_once_and_the_other_goes_on():
    pair = Pair(bad={1: {3, 4, 6}})
    state = pair.fit(TWO, until=6, save_every=2, evaluate=False)
    assert state.step.tolist() == [6, 6]
    assert pair.said == [(3, [1])]
    assert [*pair.saved] == [2, 4, 6]
    assert pair.lines[6]["loss"] == [4, 4]


@pytest.mark.parametrize("bad", [{0: {2}, 1: {5}}, {0: {5}, 1: {5}}, {0: {5}, 1: {2, 5}}])
def test_where_the_last_seed_is_lost_the_run_ends(bad):
    pair = Pair(bad=bad)
    with pytest.raises(NonFinite, match=r"at step 5 in any seed$") as raised:
        pair.fit(TWO, until=6, save_every=2, evaluate=False)
    assert raised.value.step == 5
    assert [*pair.saved] == [2, 4]


# --- the log -----------------------------------------------------------------------------------


def test_a_line_is_the_mean_since_the_one_before_whatever_was_fetched_between():
    house = House()
    house.fit(until=7, log_every=4, save_every=3, evaluate_every=5)
    losses = {step: line["loss"] for step, line in house.lines.items()}
    assert losses == {1: 1, 4: 3, 7: 6}  # of steps 1; 2 to 4; 5 to 7
    assert {step: line["epoch"] for step, line in house.lines.items()} == {1: 0.5, 4: 2, 7: 3.5}


def test_a_weighted_mean_divides_once():
    class Uneven(House):
        def step(self, state, data, payload):
            state, sums = super().step(state, data, payload)
            return state, sums | {"accuracy": Ratio(np.int32(payload), np.int32(payload**2))}

    house = Uneven()
    house.fit(until=3)
    assert house.lines[3]["accuracy"] == pytest.approx((2 + 3) / (4 + 9))


def test_the_clock_runs_while_training_does(monkeypatch):
    house = House()
    monkeypatch.setattr(loop.time, "perf_counter", lambda: house.seconds)
    house.fit(until=6, log_every=3, save_every=2, evaluate_every=4)
    speeds = {step: line.get("examples_per_second") for step, line in house.lines.items()}
    assert speeds == {1: None, 3: 2, 6: 2}  # 4 examples in 2 seconds; the first step compiles


def test_the_step_of_a_state_is_read_of_one_run_and_of_several():
    assert host_step(Count(jax.numpy.int32(7))) == 7
    assert host_step(Count(jax.numpy.full(3, 7))) == 7
