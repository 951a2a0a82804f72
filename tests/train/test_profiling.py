"""A trace of some steps: taken after the first ones, whole, and never in the way of a run."""

import contextlib
import errno
import gzip
import json
import os

import jax
import jax.numpy as jnp
import pytest

from train import profiling
from train.profiling import FOLDER, profiled


@jax.jit
def step(state, data, payload):
    return state + payload, {"loss": state @ data}


def trained(path, calls, said, *, count, begin=0, until=100, step=step):
    """So many calls, and the state that they come to."""
    state, data = jnp.zeros(8), jnp.ones((8, 8))
    tracing = profiled(step, count, begin=begin, until=until, path=path, say=said.append)
    with contextlib.suppress(KeyboardInterrupt), tracing as traced:
        for number in range(calls):
            state, _ = traced(state, data, jnp.float32(number))
    return float(state[0])


def traces(path):
    """The numbers of the steps in each trace, in the order of time."""
    found = []
    for file in sorted(path.glob(f"{FOLDER}/plugins/profile/*/perfetto_trace.json.gz")):
        with gzip.open(file) as text:
            events = json.load(text)["traceEvents"]
        found.append(
            [
                int(event["args"]["step_num"])
                for event in sorted(events, key=lambda event: event.get("ts", 0))
                if event.get("name", "").startswith(profiling.NAME)
                and "step_num" in event.get("args", {})
            ]
        )
        assert len([*file.parent.glob("*.xplane.pb")]) == 1  # what TensorBoard reads
    return found


@pytest.mark.parametrize(
    ("name", "calls", "how", "steps"),
    [
        ("after three steps", 8, {"count": 2}, [4, 5]),
        ("stopped within", 5, {"count": 10}, [4, 5]),
        ("of few steps the last", 4, {"count": 2, "until": 4}, [3, 4]),
        ("asked for more than there are", 3, {"count": 9, "until": 3}, [2, 3]),
        ("of a run that goes on", 6, {"count": 1, "begin": 50}, [54]),
    ],
)
def test_the_steps_that_are_asked_for_are_in_it(name, calls, how, steps, tmp_path):
    said = []
    assert trained(tmp_path, calls, said, **how) == sum(range(calls))
    assert traces(tmp_path) == [steps]
    (line,) = said
    assert line.startswith(f"{len(steps)} steps are traced: open this file in ui.perfetto.dev")
    (file,) = tmp_path.rglob("perfetto_trace.json.gz")
    assert line.splitlines()[1] == f"  {file}"


def test_none_is_taken_unasked(tmp_path):
    said = []
    with profiled(step, 0, begin=0, until=9, path=tmp_path, say=said.append) as same:
        assert same is step
    with profiled(step, 5, begin=9, until=9, path=tmp_path, say=said.append) as same:
        assert same is step  # at its end: no step is left
    assert said == []
    assert [*tmp_path.iterdir()] == []


def test_a_run_that_ends_before_says_so(tmp_path):
    said = []
    trained(tmp_path, 2, said, count=2)
    assert said == ["The run has ended before its step 4: no step is traced."]
    assert [*tmp_path.iterdir()] == []


def test_what_ends_a_run_ends_the_trace(tmp_path):
    said, calls = [], []

    def failing(state, data, payload):
        calls.append(payload)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return step(state, data, payload)

    trained(tmp_path, 9, said, count=9, step=failing)
    assert traces(tmp_path) == [[4, 5, 6]]
    assert len(said) == 1
    with jax.profiler.trace(tmp_path / "other"):
        pass  # another one may begin


def test_a_trace_that_cannot_be_had_ends_no_run(tmp_path, monkeypatch):
    said = []
    with jax.profiler.trace(tmp_path / "other"):
        assert trained(tmp_path, 6, said, count=2) == 15
    (tmp_path / "file").mkdir()
    (tmp_path / "file" / FOLDER).write_text("in its place")
    assert trained(tmp_path / "file", 6, said, count=2) == 15
    stop = jax.profiler.stop_trace

    def full():
        stop()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(jax.profiler, "stop_trace", full)
    assert trained(tmp_path, 6, said, count=2) == 15
    taken, there, written = said
    assert taken.startswith("The profile could not be taken: RuntimeError: Profile has already")
    assert there.startswith("The profile could not be taken: FileExistsError")
    assert written == "The profile could not be written: No space left on device."
