"""In step: how several processes stop, or fail, at one step, without waiting for each other.

With every step each process tells the others, by a number that travels in the step's own program,
whether it was asked to stop or can get no further batch. What they said of step k is read before
step k + AHEAD begins: until then the device has work, and all read the same.
"""

import dataclasses
from collections import deque
from collections.abc import Callable, Generator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from train import processes
from train.data.loader import Loader, LoaderFailed
from train.refusal import Refused
from train.state import State
from train.tasks.task import Sums
from train.watch import LONG, Alone, Watch

AHEAD = 2
"""Steps from what a process says to when all act on it."""
GO_ON, STOP, FAILED = 0, 1, 2
SAID = "said"
"""Among a step's sums: the largest of what the processes said."""


def telling(step: Callable[..., tuple[State, Sums]]) -> Callable[..., Any]:
    """`step`, whose payload is (payload, numbers), and among whose sums is the largest of them."""

    def told(state: State, data: Any, payload: Any) -> tuple[State, Sums]:
        own, numbers = payload
        state, sums = step(state, data, own)
        return state, {**sums, SAID: jnp.max(numbers)}

    return told


class InStep:
    """Of a run on several processes: the loop's step, its loader and what stops it.

    Args:
        step: of `telling`, compiled.
        loader: of the training examples.
        mesh: of all processes.
        stop: whether this process was asked to stop.
        watch: told of every step.
        until: the last step of the run, after which no batch is needed.
    """

    def __init__(
        self,
        step: Callable[..., tuple[State, Sums]],
        loader: Loader,
        mesh: Mesh,
        stop: Callable[[], bool],
        watch: Watch | Alone,
        *,
        until: int,
    ):
        self._step, self._loader, self._stop, self._watch = step, loader, stop, watch
        self._until = until
        sharding = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        here = [
            device for device in mesh.devices.flat if device.process_index == jax.process_index()
        ]
        self._numbers = {
            number: jax.make_array_from_process_local_data(
                sharding, np.full(len(here), number, np.int32), (mesh.devices.size,)
            )
            for number in (GO_ON, STOP, FAILED)
        }
        self._compiled: set[tuple[tuple[int, ...], ...]] = set()
        self._said: deque[jax.Array] = deque()
        self._heard = GO_ON
        self._failure: Exception | None = None

    def step(self, state: State, data: Any, payload: Any) -> tuple[State, Sums]:
        """One step of all."""
        shapes = tuple(leaf.shape for leaf in jax.tree.leaves(payload))
        if shapes not in self._compiled:
            self._compiled.add(shapes)
            self._watch.beat(LONG)
        number = FAILED if self._failure is not None else STOP if self._stop() else GO_ON
        state, sums = self._step(state, data, (payload, self._numbers[number]))
        self._said.append(sums.pop(SAID))
        self._watch.beat()  # who waits for this step now is ahead of who has not come to it
        return state, sums

    def __call__(self) -> bool:
        """Whether all stop before the next step, since one of them was asked to."""
        self._watch.beat()
        while len(self._said) >= AHEAD:
            self._heard = max(self._heard, int(self._said.popleft()))
        return self._heard == STOP

    @property
    def loader(self) -> "Loader":
        """The same, read so far ahead that all know in time where one can't go on."""
        return Ahead(self)  # type: ignore[return-value]

    def payloads(self, start: int) -> Generator[Any, None, None]:
        """As a loader's; what one process can't read ends it for all, at one step.

        Raises:
            LoaderFailed, Refused: this process can't read.
            processes.PeerFailed: another one can't; all the same step.
        """
        source = self._loader.payloads(start)
        ready: deque[Any] = deque()
        taken = 0

        def fill() -> None:
            nonlocal taken
            while self._failure is None and len(ready) <= AHEAD and taken + start < self._until:
                try:
                    ready.append(next(source))
                    taken += 1
                except (LoaderFailed, Refused) as failure:
                    self._failure = failure

        try:
            fill()
            # What is missing so early can't be said with a step.
            short = self._failure if len(ready) < AHEAD else None
            processes.gathered("the first batches", error=short)
            if short is not None:
                raise common(short)
            while True:
                fill()
                if self._heard == FAILED:
                    jax.block_until_ready(self._said)  # one program at a time
                    processes.gathered("who can't go on", error=self._failure)
                    assert self._failure is not None
                    raise common(self._failure)
                yield ready.popleft()
        finally:
            source.close()


def common(error: Exception) -> Exception:
    """An error of which the other processes know."""
    error.common = True  # type: ignore[attr-defined]
    return error


@dataclasses.dataclass(frozen=True)
class Ahead:
    """The loader of `InStep`."""

    run: InStep

    def __getattr__(self, name: str) -> Any:
        return getattr(self.run._loader, name)

    def payloads(self, start: int) -> Generator[Any, None, None]:
        """See `InStep.payloads`."""
        return self.run.payloads(start)
