"""Started: when the process of a command was, so that its first step is told from there on."""

import contextlib
import os
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

from train.terminal import duration

_IMPORTED = time.monotonic()
_commands: list[float] = []


@contextlib.contextmanager
def command() -> Iterator[None]:
    """Within it, the first run of the process counts from the start of the process on."""
    _commands[:] = [process_start()]
    try:
        yield
    finally:
        _commands.clear()


def began() -> float:
    """`time.monotonic()` when work on a run began: that of the first one in a command with the
    process, that of others now.
    """
    return _commands.pop() if _commands else time.monotonic()


def process_start() -> float:
    """`time.monotonic()` when this process was started; where the system does not tell, when this
    module was imported.
    """
    try:
        text = pathlib.Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace")
        ticks = int(text.rpartition(")")[2].split()[19])  # proc(5): 22, starttime, since boot
        up = time.clock_gettime(time.CLOCK_BOOTTIME)
        ago = up - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return _IMPORTED
    return time.monotonic() - max(ago, 0.0)


class FirstStep:
    """A step that tells of its first call, which traces, compiles and computes.

    Args:
        step: (state, data, payload) -> (state, sums).
        began: `time.monotonic()` when work on the run began.
        say: takes a line for the user.

    Attributes:
        seconds: from `began` to the end of the first call; None before.
    """

    def __init__(self, step: Callable[..., Any], began: float, say: Callable[[str], None]):
        self._step, self._began, self._say = step, began, say
        self.seconds: float | None = None

    def __call__(self, state: Any, data: Any, payload: Any) -> Any:
        if self.seconds is not None:
            return self._step(state, data, payload)
        called = time.monotonic()
        out = self._step(state, data, payload)
        compiled = time.monotonic() - called  # what it computes it goes on with by itself
        jax.block_until_ready(out)
        self.seconds = time.monotonic() - self._began
        self._say(f"First step after {spoken(self.seconds)} (compiling {spoken(compiled)}).")
        return out


def spoken(seconds: float) -> str:
    """9.8 s; from a minute on 1:08."""
    return f"{seconds:.1f} s" if seconds < 60 else duration(seconds)
