"""Stop requests: heard once, then the signal ends the process."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from train.stop import Stop, Stopped, again, part_of

NUMBERS = pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2]
)


@pytest.fixture
def hearing():
    """A process that would end with its terminal, even if these tests were started by nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@NUMBERS
@pytest.mark.usefixtures("hearing")
def test_the_first_signal_is_noted(number):
    before = signal.getsignal(number)
    with Stop() as stop:
        assert not stop()
        os.kill(os.getpid(), number)
        assert stop()
        assert stop.signal == number
    assert signal.getsignal(number) is before


@NUMBERS
def test_the_second_ends_the_process(number):
    script = f"""
import os, signal
from train.stop import Stop
signal.signal(signal.SIGHUP, signal.SIG_DFL)
with Stop() as stop:
    os.kill(os.getpid(), {number.value})
    print(stop(), flush=True)
    os.kill(os.getpid(), {number.value})
    print("alive")
"""
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (out.returncode, out.stdout, out.stderr) == (-number, "True\n", "")


def test_handlers_come_back_when_nothing_was_heard():
    before = signal.getsignal(signal.SIGTERM)
    with Stop():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def after(script):
    """(exit code, words printed) of a process of its own, which sends itself signals by `send`."""
    begin = """
import os, signal
from train.stop import Stop
signal.signal(signal.SIGHUP, signal.SIG_DFL)
def send(number):
    os.kill(os.getpid(), number)
"""
    out = subprocess.run([sys.executable, "-c", begin + script], capture_output=True, text=True)
    assert out.stderr == ""
    return out.returncode, out.stdout.split()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_terminal_is_told_that_ctrl_c_was_heard(number):
    script = f"""
import os
from train.stop import Stop
with Stop() as stop:
    os.kill(os.getpid(), {number.value})
"""
    ours, theirs = os.openpty()
    done = subprocess.run([sys.executable, "-c", script], stderr=theirs)
    os.close(theirs)
    try:
        said = os.read(ours, 1000).decode()
    except OSError:  # nothing was written, and nobody will
        said = ""
    os.close(ours)
    assert done.returncode == 0
    assert ("Stopping soon; Ctrl-C again ends at once." in said) == (number == signal.SIGINT)


def test_under_nohup_the_end_of_the_terminal_is_not_heard_before_or_after_another():
    script = """
signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup leaves it to what it starts
with Stop() as stop:
    send(signal.SIGHUP)
    print(stop.signal)
    send(signal.SIGTERM)
    print(int(stop.signal))
    send(signal.SIGHUP)
print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)
"""
    assert after(script) == (0, ["None", str(int(signal.SIGTERM)), "True"])


def test_the_second_may_be_another_one():
    script = """
with Stop():
    send(signal.SIGHUP)
    send(signal.SIGTERM)
    print("alive")
"""
    assert after(script) == (-signal.SIGTERM, [])


def test_once_it_is_left_signals_are_what_they_were_also_where_one_came():
    before = signal.getsignal(signal.SIGINT)
    with Stop():
        os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is before


def test_how_to_go_on_is_a_command_that_a_shell_reads(monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", ["python3", "-m", "experiments.toy", "--steps", "3"])
    monkeypatch.setattr(sys, "argv", ["experiments/toy.py", "--steps", "3"])
    command = again(pathlib.Path("runs") / "a run")
    assert command == "python3 experiments/toy.py --workdir 'runs/a run'"


def test_of_parts_the_whole_is_said_once(tmp_path):
    said = []

    def stopped():
        with (
            part_of("the ablation", tmp_path, said.append),
            part_of("all runs", tmp_path / "trial", said.append),
        ):
            assert again(tmp_path / "trial" / "seed_0").endswith(f"--workdir {tmp_path}")
            raise Stopped(signal.SIGTERM)

    with pytest.raises(Stopped):
        stopped()
    assert said == [f"To go on with the ablation:\n  {again(tmp_path)}"]
    assert again(tmp_path / "other").endswith("/other")


def test_where_a_cluster_announces_it_sigterm_is_left_to_its_client():
    heard = []
    before = [
        (number, signal.signal(number, lambda number, frame: heard.append(number)))
        for number in (signal.SIGTERM, signal.SIGUSR2)
    ]
    try:
        with Stop() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            assert (stop.signal, heard) == (None, [signal.SIGTERM])
            os.kill(os.getpid(), signal.SIGUSR2)  # not the second: it is saved, and queued again
            assert stop.signal == signal.SIGUSR2
        assert heard == [signal.SIGTERM]
    finally:
        for number, handler in before:
            signal.signal(number, handler)
