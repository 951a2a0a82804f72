"""The training loop. Its order: save, evaluate, next payload, step, log.

It knows a task by its sums alone and fetches from the device only when it logs, evaluates or saves.
It waits for the device where too many steps are in flight (`train.in_flight`).
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from train.checkpoints import Checkpoints
from train.data.loader import Loader, LoaderFailed
from train.evaluate import add
from train.in_flight import InFlight
from train.processes import PeerFailed
from train.progress import compiling
from train.refusal import Failed, Refused
from train.state import State
from train.stop import Interrupted
from train.tasks.task import Sums, means

Step = Callable[[State, Any, Any], tuple[State, Sums]]


class Numbers(Protocol):
    """Where they go: `train.logs.Logs` for one."""

    def train(self, step: int, values: Mapping[str, Any], epoch: float) -> None:
        """One logged interval."""

    def lost(self, step: int, places: Sequence[int]) -> None:
        """Of N seeds at once, those at `places` are not finite from `step` on."""


class NonFinite(Failed):
    """Loss, gradient or weights of a step are not finite; nothing from there on is saved.

    Attributes:
        common: every process knows of it.
        step: the first such step, counted from 1; of N seeds at once, that of the last seed whose
            numbers still were.
        sums: that it reported.
    """

    common = True

    def __init__(self, step: int, sums: Sums):
        every = "" if np.ndim(sums["nonfinite"]) == 0 else " in any seed"
        super().__init__(f"loss, gradient or weights are not finite at step {step}{every}")
        self.step, self.sums = step, sums


@dataclasses.dataclass(frozen=True)
class Rhythm:
    """When the loop does what, in steps."""

    until: int
    evaluate_every: int
    save_every: int
    log_every: int


def fit(
    state: State,
    *,
    step: Step,
    loader: Loader,
    rhythm: Rhythm,
    evaluate: Callable[[int, State], float | None] | None,
    checkpoints: Checkpoints,
    logs: Numbers,
    stopping: Callable[[], bool] = lambda: False,
) -> State:
    """Train from `state` until step `rhythm.until`, or until `stopping()`.

    Of N seeds at once, one whose numbers are not finite any more has none from there on; the
    others go on.

    Args:
        state: from `initial` or a checkpoint; donated to the first step.
        step: compiled; donates its state.
        loader: of the training examples.
        rhythm: when to evaluate, save and log.
        evaluate: (step, state) -> what ranks the checkpoint, larger is better, or None; or raises
            `Interrupted`, and the run that goes on evaluates again. None: nothing ranks.
        checkpoints: where states go.
        logs: where numbers go.
        stopping: asked once a step.

    Returns:
        The last state, which is saved. Its step is below `rhythm.until` if it was stopped.

    Raises:
        NonFinite: names the first such step; nothing later than the last finite one is saved.
        LoaderFailed, Refused, PeerFailed: no further batch can be had, here or in another process;
            what was computed until then is saved.
    """
    window = Window(loader, logs)
    start = at = host_step(state)
    payloads = loader.payloads(at)

    def save() -> None:
        window.fetch(at)
        checkpoints.save(at, state, state.evaluated)

    try:
        while True:
            last, stop = at >= rhythm.until, stopping()
            due = at > 0 and (last or at % rhythm.evaluate_every == 0)
            # Where the run begins there is nothing new to save.
            if at > start and (last or stop or due or at % rhythm.save_every == 0):
                save()
            if due and evaluate is not None and not stop and not checkpoints.ranked(at):
                try:
                    checkpoints.rank(at, evaluate(at, state))
                except Interrupted:
                    break
            if last or stop:
                break
            if at > start:  # the first step compiles
                window.resume()
            try:
                payload = next(payloads)
            except (LoaderFailed, Refused, PeerFailed):
                if at > start:
                    save()
                raise
            with compiling("the training step", at == start):
                state, sums = step(state, loader.data, payload)
            window.push(sums)
            at += 1
            if at % rhythm.log_every == 0 or at >= rhythm.until or at == start + 1:
                window.fetch(at)
                logs.train(at, window.means(), epoch=at * loader.batch_size / loader.length)
    except NonFinite as error:
        epoch = error.step * loader.batch_size / loader.length
        logs.train(error.step, means(add({}, error.sums)), epoch=epoch)
        raise
    finally:
        payloads.close()
    checkpoints.wait()
    return state


def host_step(state: State) -> int:
    """The step of a run, or of N seeds at once, which are all at the same."""
    return int(np.ravel(jax.device_get(state.step))[0])


class Window:
    """The steps since the last log line: sums not yet fetched, sums fetched, seconds."""

    def __init__(self, loader: Loader, logs: Numbers):
        self.batch_size = loader.batch_size
        self.logs = logs
        self.lost: np.ndarray | None = None
        """(N,): which of N seeds at once are not finite any more."""
        self.pending: list[Sums] = []
        self._flight = InFlight()
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self.total: Sums = {}
        self.steps, self.seconds = 0, 0.0
        self.since: float | None = None

    def resume(self) -> None:
        """The clock runs only while training does."""
        self.since = time.perf_counter() if self.since is None else self.since

    def push(self, sums: Sums) -> None:
        """A step was dispatched; returns when few enough are in flight."""
        self.pending.append(sums)
        self._flight.push(sums)

    def fetch(self, at: int) -> None:
        """Take all pending sums, up to step `at`; stop the clock.

        Raises:
            NonFinite: one of them is not, of all seeds.
        """
        fetched = jax.device_get(self.pending)
        if self.since is not None:
            self.seconds, self.since = self.seconds + time.perf_counter() - self.since, None
        self.pending = []
        for number, sums in enumerate(fetched, at - len(fetched) + 1):
            bad = np.ravel(sums["nonfinite"]) > 0
            lost = np.zeros_like(bad) if self.lost is None else self.lost
            if np.all(bad | lost):
                raise NonFinite(number, sums)
            if np.any(bad & ~lost):
                self.logs.lost(number, np.flatnonzero(bad & ~lost).tolist())
            self.lost = bad | lost
            self.total = add(self.total, sums)
        self.steps += len(fetched)

    def means(self) -> dict[str, Any]:
        """What the window's ratios come to, and examples a second; begins a new window."""
        values = means(self.total)
        if self.seconds:
            values["examples_per_second"] = self.steps * self.batch_size / self.seconds
        self.reset()
        return values
