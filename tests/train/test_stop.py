"""Stop requests: heard once, then the signal ends the process."""

import os
import signal
import subprocess
import sys

import pytest

from train.stop import Stop

NUMBERS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


@NUMBERS
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
import os
from train.stop import Stop
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
