"""Profiling: a trace of some steps of a run, for Perfetto or TensorBoard."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from train.files import cause

FOLDER = "profile"
WARMUP = 3
"""Steps before the first that is traced: the first compiles, the next ones fill caches."""
NAME = "train"
"""Of a step in the trace."""


@contextlib.contextmanager
def profiled(
    step: Callable[..., Any],
    count: int,
    *,
    begin: int,
    until: int,
    path: Path,
    say: Callable[[str], None],
) -> Iterator[Callable[..., Any]]:
    """`step`, and a trace of `count` of its calls in `path/profile/`; of process 0, in each part
    of a run.

    What can't be traced or written is said, and ends no run.

    Args:
        step: (state, data, payload) -> (state, sums).
        count: how many to trace; 0 gives `step` as it is.
        begin: the step of the run that the first call comes after.
        until: the run's last step.
        path: the work directory.
        say: takes a line for the user.
    """
    if count == 0 or begin >= until or jax.process_index() > 0:
        yield step
        return
    made = Profile(step, count, begin=begin, until=until, folder=path / FOLDER, say=say)
    try:
        yield made
    finally:
        made.close()


class Profile:
    """A step that traces some of its calls; see `profiled`."""

    def __init__(
        self,
        step: Callable[..., Any],
        count: int,
        *,
        begin: int,
        until: int,
        folder: Path,
        say: Callable[[str], None],
    ):
        self._step, self._folder, self._say = step, folder, say
        self._at = begin
        left = until - begin
        # Of a run that is shorter fewer steps warm up, but one compiles.
        self._first = begin + max(1, min(WARMUP, left - count))
        self._last = self._first + count
        self._out: Any = None
        self._traced: int | None = None
        """How many steps, while a trace is taken."""
        self._done = False

    def __call__(self, state: Any, data: Any, payload: Any) -> Any:
        if self._done:
            return self._step(state, data, payload)
        if self._at == self._first:
            self._start()
        with jax.profiler.StepTraceAnnotation(NAME, step_num=self._at + 1):
            out = self._step(state, data, payload)
        self._at += 1
        if self._traced is not None:
            self._traced += 1
            self._out = out[1]  # the state may be donated before the trace ends
        elif self._at == self._first:
            jax.block_until_ready(out)  # what came before is not in the trace
        if self._at == self._last:
            self.close()
        return out

    def close(self) -> None:
        """End the trace, write it, and say where; nothing where that has happened."""
        if self._done:
            return
        self._done = True
        if self._traced is None:
            self._say(f"The run has ended before its step {self._first + 1}: no step is traced.")
            return
        with contextlib.suppress(Exception):  # what a step fails with is raised by the loop
            jax.block_until_ready(self._out)
        self._out = None
        try:
            jax.profiler.stop_trace()
            written = max(self._folder.glob("plugins/profile/*/perfetto_trace.json.gz"))
        except Exception as error:  # a full disk, or what is no reason to end a run either
            self._say(f"The profile could not be written: {cause(error)}.")
            return
        self._say(
            f"{self._traced} steps are traced: open this file in ui.perfetto.dev, or the folder "
            f"{self._folder} in TensorBoard.\n  {written}"
        )

    def _start(self) -> None:
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0  # each call of Python's would be larger than all else
        try:
            self._folder.mkdir(exist_ok=True)
            jax.profiler.start_trace(
                self._folder, create_perfetto_trace=True, profiler_options=options
            )
        except Exception as error:  # another trace is being taken, for one
            self._done = True
            self._say(f"The profile could not be taken: {cause(error)}.")
        else:
            self._traced = 0
