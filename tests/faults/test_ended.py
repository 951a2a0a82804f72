"""A run that is ended from outside, at any moment, goes on to the very state it would have had."""

import json
import os
import pathlib
import random
import resource
import signal
import time
import uuid

import commands
import pytest
from commands import again, classify, ended, living, run, start, state, steps, wait_for, whole_end
from processes import within

slow = pytest.mark.slow


def gone_on(path, whole, reached):
    """Goes on to the end; how many steps were done again."""
    begun = max(commands.saved(path), default=0)
    end = run(again(path))
    whole_end(end)
    assert ("Going on from step" in end.out) == (0 < begun < commands.STEPS)
    assert state(path) == whole
    return f"nothing; {max(reached - begun, 0)} steps done again"


@slow
def test_killed_twenty_times_at_random_moments(pictures, whole, tmp_path, tried):
    """At the start, while it compiles, trains, saves, evaluates, writes its page."""
    path, rng = tmp_path / "run", random.Random(0)
    command, took, kills = classify(pictures, path), 12.0, 0
    while kills < 20:
        began = time.monotonic()
        process = start(command)
        limit = rng.uniform(0, 1.2 * took)
        while process.poll() is None and time.monotonic() - began < limit:
            time.sleep(0.01)
        if process.poll() is not None:  # it came to its end: it is begun anew
            whole_end(ended(process))
            took = min(took, time.monotonic() - began)
            assert state(path) == whole
            path = path.with_name(f"run{kills}")
            command = classify(pictures, path)
            continue
        os.killpg(process.pid, signal.SIGKILL)
        ended(process)
        kills += 1
        tried("SIGKILL at a random moment")
    whole_end(run(command))
    assert state(path) == whole


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGHUP,
        pytest.param(signal.SIGTERM, marks=slow),
        pytest.param(signal.SIGINT, marks=slow),
    ],
    ids=lambda number: number.name,
)
def test_a_signal_is_heard_and_the_run_is_saved(pictures, whole, tmp_path, tried, number):
    path = tmp_path / "run"
    process = start(classify(pictures, path))
    wait_for(lambda: steps(path) > 20, process)
    os.killpg(process.pid, number)
    end = ended(process, 30)  # of grace, as a preemption gives it
    assert (end.code, end.err) == (128 + number, ""), end
    at = steps(path)
    assert f"Stopped and saved at step {at}. To go on:" in end.out
    assert commands.saved(path)[-1] == at
    tried(number.name, gone_on(path, whole, at))


def memory(process):
    """Bytes that it has by now."""
    pages = pathlib.Path(f"/proc/{process.pid}/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


@slow
@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM], ids=lambda number: number.name
)
def test_a_signal_while_it_starts_is_not_swallowed(pictures, tmp_path, tried, number):
    """In the first seconds Python imports and XLA compiles, and either may lose an exception."""
    for k in range(12):
        path, mark = tmp_path / f"run{k}", uuid.uuid4().hex
        command = classify(pictures, path, "--workers", "1")
        command[command.index(commands.STEPS)] = 10**6  # it never comes to its end
        process = start(command, mark=mark)
        # Before any line of ours Python imports what its environment asks for.
        wait_for(lambda process=process: memory(process) > 25e6, process)
        time.sleep(0.4 * k)
        os.killpg(process.pid, number)
        end = ended(process, 30)
        assert end.code in (-number, 128 + number), (k, end)
        assert "Traceback" not in end.out + end.err, (k, end)
        assert within(5, lambda mark=mark: not living(mark))
        tried(f"{number.name} while it starts")


BACKWARDS = """
import atexit, os, time
real, began, asked = time.time, time.time(), []
def now():
    asked.append(began - 60 * (real() - began))
    return asked[-1]
def said():
    with open(os.path.join(os.path.dirname(__file__), "asked"), "a") as file:
        file.write(f"{len(asked)}\\n")
time.time, time.time_ns = now, lambda: int(now() * 1e9)
atexit.register(said)
"""
"""Python imports it at its start: from there on its clock goes back a minute a second."""


@slow
def test_a_clock_that_goes_back(pictures, whole, tmp_path, tried):
    path, patch = tmp_path / "run", tmp_path / "patch"
    patch.mkdir()
    (patch / "sitecustomize.py").write_text(BACKWARDS)
    env = {"PYTHONPATH": os.pathsep.join([str(patch), os.environ.get("PYTHONPATH", "")])}
    process = start(classify(pictures, path), **env)
    wait_for(lambda: steps(path) > 20, process)
    process.terminate()
    end = ended(process, 30)
    assert (end.code, end.err) == (143, "")
    reached = steps(path)
    end = run(again(path), **env)
    whole_end(end)
    assert f"Going on from step {reached}" in end.out
    assert state(path) == whole
    assert commands.trained(path)[-1] == commands.STEPS
    asked = [*map(int, (patch / "asked").read_text().split())]
    assert len(asked) == 2
    assert min(asked) > 20  # it was asked the time
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    rates = [line["examples_per_second"] for line in lines if "examples_per_second" in line]
    assert min(rates) > 0
    assert json.loads((path / "summary.json").read_text())["seconds"] > 0
    tried("a clock that goes back")


def killed_while_a_worker(pictures, path, seconds):
    """Ids of the workers that outlive a run which is killed so long after they were started."""
    mark = uuid.uuid4().hex
    process = start(classify(pictures, path, "--workers", "2"), mark=mark)
    wait_for(lambda: len(living(mark, but=(process.pid,))) == 2, process)
    time.sleep(seconds)
    process.kill()
    ended(process)
    within(5, lambda: not living(mark))
    left = living(mark)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return left


@slow
@pytest.mark.parametrize("seconds", [0, 0.1, 0.5])
def test_no_worker_outlives_a_run_killed_while_it_imports(pictures, tmp_path, tried, seconds):
    assert killed_while_a_worker(pictures, tmp_path / "run", seconds) == []
    tried("SIGKILL while its workers import", "nothing, no process stays")


@slow
def test_a_worker_that_is_killed_ends_the_run_saved(pictures, whole, tmp_path, tried):
    path, mark = tmp_path / "run", uuid.uuid4().hex
    process = start(classify(pictures, path, "--workers", "2"), mark=mark)
    wait_for(lambda: steps(path) > 20, process)
    os.kill(living(mark, but=(process.pid,))[0], signal.SIGKILL)
    commands.one_line(ended(process, 60), 1, r"a worker process of the loader ended \(signal 9\)")
    assert within(5, lambda: not living(mark))
    tried("a worker of the loader killed", gone_on(path, whole, steps(path)))
