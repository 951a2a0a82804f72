"""Two processes that train one network: where one is broken the other ends, and says who it was."""

import os
import random
import re
import shutil
import signal
import time

import commands
import image_files
import pytest
from commands import again, classify, ended, state, steps, wait_for, whole_end
from pairs import both, pair

slow = pytest.mark.slow
MINUTE = 60
LOG_EVERY = 5
STUCK = """
from train.in_step import InStep
step, taken = InStep.step, []
def stuck(*arguments):
    taken.append(0)
    if len(taken) == 40:
        time.sleep(1000)
    return step(*arguments)
InStep.step = stuck
"""
GONE = """
from train.data.decode import Unreadable
from train.data.folder import Folder
read = Folder.__getitem__
def broken(source, i):
    if i == 3:
        raise Unreadable("a/3.png", i, "it is gone")
    return read(source, i)
Folder.__getitem__ = broken
"""
LONG_REPORT = """
import train.session
write = train.session.write_report
def slowly(*arguments, **how):
    time.sleep(70)
    return write(*arguments, **how)
train.session.write_report = slowly
"""
UNREADABLE = """
from train.data.decode import Unreadable
from train.data.folder import Folder
read, seen = Folder.__getitem__, []
def broken(source, i):
    seen.append(i)
    if len(seen) > 300 and i == 3:
        raise Unreadable("a/3.png", i, "it is gone")
    return read(source, i)
Folder.__getitem__ = broken
"""


def of_two(pictures, path, *more):
    """The command of a run, without its number of devices."""
    command = classify(pictures, path, *more, log_every=LOG_EVERY)
    at = command.index("--devices")
    return command[:at] + command[at + 2 :]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures")
    image_files.classes(path, {"a": 20, "b": 20}, size=(12, 12))
    return path


@pytest.fixture(scope="module")
def last(pictures, tmp_path_factory):
    """The last state of a pair that nothing interrupted."""
    path = tmp_path_factory.mktemp("pair") / "run"
    for end in both(pair(of_two(pictures, path))):
        whole_end(end)
    return state(path)


def gone_on(path, before):
    """Both go on to the very state."""
    for end in both(pair(again(path))):
        whole_end(end)
    assert state(path) == before


def stopped(pictures, path):
    """A pair of which one process is asked to stop."""
    processes = pair(of_two(pictures, path))
    wait_for(lambda: steps(path) > 20, processes[0])
    os.killpg(processes[1].pid, signal.SIGTERM)
    return both(processes, 30)


def test_a_signal_to_one_stops_both_at_one_step(pictures, tmp_path, tried):
    path = tmp_path / "run"
    first, second = stopped(pictures, path)
    assert (first.code, second.code) == (128 + signal.SIGTERM,) * 2
    assert (first.err, second.err, second.out) == ("", "", "")
    at = commands.saved(path)[-1]
    assert f"Stopped and saved at step {at}. To go on:" in first.out
    assert "--process-id=0" in first.out
    tried("SIGTERM to one of two processes")


@slow
def test_both_go_on_after_a_signal(pictures, last, tmp_path, tried):
    stopped(pictures, tmp_path / "run")
    gone_on(tmp_path / "run", last)
    tried("SIGTERM to one of two processes")


def left_alone(processes, broken, path, words, *, within=MINUTE):
    """The other process ends in time, and names the one that was broken."""
    began = time.monotonic()
    end = ended(processes[1 - broken], within)
    assert end.code != 0
    assert f"process {broken} " in end.err, end
    assert re.search(words, end.err), end
    assert f"--process-id={1 - broken}" in end.err
    took = time.monotonic() - began
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        ended(process, 30)
    return f"nothing; the other ended after {took:.0f} s"


@slow
@pytest.mark.parametrize("broken", [0, 1])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=lambda n: n.name)
def test_one_is_killed_or_stopped(pictures, last, tmp_path, tried, number, broken):
    path = tmp_path / "run"
    processes = pair(of_two(pictures, path))
    wait_for(lambda: steps(path) > 120, processes[0])
    os.kill(processes[broken].pid, number)
    lost = left_alone(processes, broken, path, "silent|no sign of life")
    gone_on(path, last)
    tried(f"{number.name} of one of two processes", lost)


@slow
@pytest.mark.parametrize("broken", [0, 1])
def test_one_is_alive_and_stuck(pictures, last, tmp_path, tried, broken):
    path = tmp_path / "run"
    scripts = [None, None]
    scripts[broken] = STUCK
    processes = pair(of_two(pictures, path), scripts=scripts)
    wait_for(lambda: steps(path) >= 30, processes[0])
    lost = left_alone(processes, broken, path, "is stuck: it has come no further for")
    gone_on(path, last)
    tried("one of two processes stuck", lost)


def test_another_command_is_refused_by_both(pictures, tmp_path, tried):
    for end in both(pair(of_two(pictures, tmp_path / "run"), seconds=["--seed", "1"])):
        assert end.code == 2
        words = "process 1 has another seed than process 0: 1 in place of 0; all must be started"
        assert words in end.err
    assert not (tmp_path / "run" / "config.json").exists()
    tried("two processes with different commands")


@slow
@pytest.mark.parametrize("there", [True, False])
def test_a_directory_that_they_do_not_share(pictures, tmp_path, tried, there):
    other = tmp_path / "elsewhere" / "other"
    if there:
        other.mkdir(parents=True)
    processes = pair(of_two(pictures, tmp_path / "run"), seconds=["--workdir", other])
    for end in both(processes, 3 * MINUTE):
        assert end.code == 2
        assert "is not one directory for all processes: process 1 (" in end.err
    tried("two processes with two directories")


@slow
def test_what_one_can_not_have_neither_has(pictures, tmp_path, tried):
    seconds = ["--data", f"folder:{tmp_path / 'nowhere'}"]
    first, second = both(pair(of_two(pictures, tmp_path / "run"), seconds=seconds))
    assert (first.code, second.code) == (1, 2)
    assert re.match("error: process 1: .*nowhere", first.err), first
    assert re.match("error: .*nowhere", second.err), second
    tried("data that one of two processes has not")


@slow
def test_a_file_that_one_can_not_read_any_more_ends_both(pictures, tmp_path, tried):
    path = tmp_path / "run"
    command = of_two(pictures, path, "--loader", "streaming")
    first, second = both(pair(command, scripts=(None, UNREADABLE)))
    assert (first.code, second.code) == (1, 2)
    assert re.match("error: process 1: .*a/3.png.*it is gone", first.err), first
    assert re.match("error: .*a/3.png.*it is gone", second.err), second
    # What was computed until then is saved, by both.
    at = commands.saved(path)[-1]
    assert 20 < at < commands.STEPS
    for end in both(pair(again(path))):
        whole_end(end)
    tried("a file unreadable for one of two processes, stop")


@slow
def test_a_file_that_one_can_not_read_any_more_is_replaced_for_both(pictures, tmp_path, tried):
    path = tmp_path / "run"
    command = of_two(pictures, path, "--loader", "streaming", "--on-corrupt", "skip")
    command += ["--corrupt-limit", "0.1"]
    first, second = both(pair(command, scripts=(None, UNREADABLE)))
    whole_end(first)
    whole_end(second)
    assert re.search(r"train: Example \d+ can't be read and is left out:\s+a/3.png", first.out)
    assert "a/3.png" in (path / "unreadable_train.json").read_text()
    tried("a file unreadable for one of two processes, skip")


@slow
def test_what_one_can_not_read_from_the_start_is_replaced_for_both(pictures, tmp_path, tried):
    """The set is kept on the devices, which must all have the same."""
    states = []
    for name, scripts in (("one", (None, GONE)), ("both", (GONE, GONE))):
        command = of_two(pictures, tmp_path / name, "--on-corrupt", "skip")
        for end in both(pair([*command, "--corrupt-limit", "0.1"], scripts=scripts)):
            whole_end(end)
        assert "a/3.png" in (tmp_path / name / "unreadable_train.json").read_text()
        states.append(state(tmp_path / name))
    assert states[0] == states[1]
    tried("a file unreadable for one of two processes from the start, skip")


@slow
def test_both_begin_from_weights(pictures, tmp_path):
    source = tmp_path / "source"
    whole_end(commands.run(classify(pictures, source, "--seed", "1")))
    command = of_two(pictures, tmp_path / "run", "--init-from", source)
    for end in both(pair(command)):
        whole_end(end)
    assert state(tmp_path / "run")["variables"] != state(source)["variables"]


@slow
def test_a_report_that_takes_long_is_waited_for(pictures, last, tmp_path):
    path = tmp_path / "run"
    for end in both(pair(of_two(pictures, path), scripts=(LONG_REPORT, None))):
        whole_end(end)
    assert state(path) == last


@slow
def test_one_is_killed_at_random_moments(pictures, last, tmp_path, tried):
    """While they start, compile, train, save, evaluate, write the page."""
    path, rng = tmp_path / "run", random.Random(1)
    for _ in range(6):
        processes = pair(of_two(pictures, path))
        broken, limit = rng.randrange(2), time.monotonic() + rng.uniform(2, 40)
        while time.monotonic() < limit and processes[broken].poll() is None:
            time.sleep(0.05)
        if processes[broken].poll() is None:
            os.kill(processes[broken].pid, signal.SIGKILL)
            tried("SIGKILL of one of two processes at a random moment")
        for process in processes:  # before the watch begins the runtime ends it, after 100 s
            ended(process, 200)
    for end in both(pair(of_two(pictures, path))):
        whole_end(end)
    assert state(path) == last


@slow
def test_a_disk_that_is_full_for_the_one_that_writes(pictures, last, tmp_path, tried):
    path = tmp_path / "run"
    limits = (("RLIMIT_FSIZE", 6_000), None)
    # Else half a program would be kept for the tests that follow.
    processes = pair(of_two(pictures, path), limits=limits, JAX_ENABLE_COMPILATION_CACHE="false")
    first, second = both(processes)
    assert first.code == 1
    assert "could not be written" in first.err
    assert second.code == 1
    assert re.search("process 0 .*can't go on: .*could not be written", second.err)
    gone_on(path, last)
    tried("a full disk, of two processes")


@slow
def test_a_second_pair_in_the_same_directory_is_refused(pictures, last, tmp_path, tried):
    path = tmp_path / "run"
    processes = pair(of_two(pictures, path))
    wait_for(lambda: steps(path) > 20, processes[0])
    first, second = both(pair(again(path)))
    assert (first.code, second.code) == (2, 1)
    assert "is in use by another run" in first.err
    assert "process 0: " in second.err
    for end in both(processes):
        whole_end(end)
    assert state(path) == last
    tried("two pairs in one directory")


@slow
def test_both_share_the_parameters(pictures, tmp_path, tried):
    """A half of each large array with each process, saved and restored so, and gathered by one."""
    command = of_two(pictures, tmp_path / "run", "--fsdp", "4")
    for end in both(pair(command)):
        whole_end(end)
    last = state(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / str(commands.STEPS))
    for end in both(pair(again(tmp_path / "run"))):
        whole_end(end)
    assert state(tmp_path / "run") == last  # the same layout
    shutil.rmtree(tmp_path / "run" / "checkpoints" / str(commands.STEPS))
    alone = ["--fsdp", "1", "--devices", "1"]
    whole_end(commands.run(again(tmp_path / "run", *alone), JAX_NUM_CPU_DEVICES="4"))
    tried("parameters shared by two processes, gone on with by one device")
