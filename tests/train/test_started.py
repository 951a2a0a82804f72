"""From the command to the first step: measured from the start of the process, and said."""

import os
import re
import subprocess
import sys
import time

import jax.numpy as jnp
import pytest

from train import started
from train.started import FirstStep, spoken


def test_the_process_began_when_the_system_says():
    code = "import time; time.sleep(0.5); from train import started; print(started.process_start())"
    before = time.monotonic()
    out = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    # Before its first import; in hundredths of a second.
    assert before - 0.05 <= float(out) <= time.monotonic() - 0.5


@pytest.mark.parametrize("text", [None, "", "1 (a) b) S", "1 (python) S " + "x " * 40])
def test_where_the_system_does_not_say_it_is_the_import(text, monkeypatch):
    class Path:
        def __init__(self, name):
            pass

        def read_text(self, **how):
            if text is None:
                raise FileNotFoundError
            return text

    monkeypatch.setattr(started.pathlib, "Path", Path)
    assert started.process_start() == started._IMPORTED


def test_the_first_run_of_a_command_counts_from_the_process(monkeypatch):
    monkeypatch.setattr(started, "process_start", lambda: 1.5)
    with started.command():
        assert started.began() == 1.5
        assert started.began() == pytest.approx(time.monotonic(), abs=1)  # the next one from now
    with started.command():
        pass
    assert started.began() == pytest.approx(time.monotonic(), abs=1)  # of a caller in Python


def test_a_first_step_is_told_and_the_next_ones_are_not():
    said, calls = [], []

    def step(state, data, payload):
        calls.append((data, payload))
        if len(calls) == 1:
            time.sleep(0.2)  # it compiles
        return state + 1, {"loss": jnp.zeros(())}

    first = FirstStep(step, time.monotonic() - 100, said.append)
    assert first.seconds is None
    state, _ = first(jnp.zeros(()), "data", 0)
    (line,) = said
    assert re.fullmatch(r"First step after 1:[45]\d \(compiling \d+\.\d s\)\.", line), line
    assert 100.2 < first.seconds < 120
    seconds = first.seconds
    state, _ = first(state, "data", 1)
    assert (float(state), calls) == (2, [("data", 0), ("data", 1)])
    assert (len(said), first.seconds) == (1, seconds)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.84, "9.8 s"), (59.9, "59.9 s"), (60.2, "1:00")]
)
def test_seconds_in_words(seconds, text):
    assert spoken(seconds) == text
