"""Stop requests: SIGTERM, SIGHUP, SIGUSR2 and Ctrl-C, heard once, acted on between two steps."""

import contextlib
import os
import pathlib
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType

from train import processes

HANG_UP = getattr(signal, "SIGHUP", None)
"""The terminal went away; Windows has none."""
PREEMPTED = getattr(signal, "SIGUSR2", None)
"""A cluster takes the machine away, see `train.launch`; else it would end the process."""
HEARD = (
    *(signal.SIGTERM, signal.SIGINT),
    *(number for number in (HANG_UP, PREEMPTED) if number is not None),
)


class Stopped(Exception):
    """A signal ended the run, which is saved.

    Attributes:
        common: every process knows of it.
        signal: its number.
    """

    common = True

    def __init__(self, signal: int):
        super().__init__(f"stopped by signal {signal}")
        self.signal = signal


class Interrupted(Exception):
    """A stop was asked for while something was measured, which is to be measured again."""


def end_quietly() -> None:
    """From now on Ctrl-C ends the process at once, exit code 130, where Python would raise.

    For scripts that keep nothing, and for the start of others, until `Stop` hears it.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(128 + number))


AROUND: list[pathlib.Path] = []
"""Directories of what runs as part of the one before: an ablation, a study in it, a run of that."""


@contextlib.contextmanager
def part_of(what: str, path: pathlib.Path, say: Callable[[str], None]) -> Iterator[None]:
    """Inside, what is stopped is part of a whole, which goes on by one command; it is said once.

    Args:
        what: the whole, in words.
        path: its directory.
        say: takes a line for the user.
    """
    AROUND.append(path)
    try:
        yield
    except (Stopped, KeyboardInterrupt):
        if len(AROUND) == 1:
            say(f"To go on with {what}:\n  {again(path)}")
        raise
    finally:
        AROUND.pop()


def again(path: pathlib.Path) -> str:
    """The command that goes on with a run, or with all that it is part of, called as this was."""
    whole = AROUND[0] if AROUND else path
    words = [sys.orig_argv[0], sys.argv[0], "--workdir", str(whole), *processes.HERE.options]
    return shlex.join(words)


def announced() -> bool:
    """Whether a cluster's client (submitit) waits for `PREEMPTED`, and so passes over SIGTERM.

    Slurm may send SIGTERM shortly before. If that were heard, `PREEMPTED` would be the second
    signal, which ends the process: nothing would be saved, and the job not queued again.
    """
    return PREEMPTED is not None and callable(signal.getsignal(PREEMPTED))


class Stop:
    """While entered, the first of `HEARD` is noted; a second one ends the process.

    Of Ctrl-C this is said in a terminal, since a step may take long.

    Attributes:
        signal: the number of the one that came, or None.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, object] = {}

    def __call__(self) -> bool:
        return self.signal is not None

    def __enter__(self) -> "Stop":
        for number in HEARD:
            if number == HANG_UP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup
            if number == signal.SIGTERM and announced():
                continue
            self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        if number == signal.SIGINT and os.isatty(2):
            with contextlib.suppress(OSError):  # the terminal may be gone
                # Not by `print`: what is interrupted may be within it.
                os.write(2, b"\nStopping soon; Ctrl-C again ends at once.\n")
        # The next one ends the process at once: an exception inside XLA would crash it instead.
        for one in self._before:
            signal.signal(one, signal.SIG_DFL)
