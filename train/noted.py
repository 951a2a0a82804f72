"""Noted: the program of a run, in its provenance, and whether it is still the one that began."""

import concurrent.futures
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from train.canonical import digest
from train.files import WriteFailed
from train.loop import Step
from train.prepared import Prepared

PROGRAM = "program"
"""Field of a run's provenance: `train.canonical.digest`; runs of earlier versions have none."""


class Noted:
    """Notes the program of a run in a thread, so that nobody waits for it.

    To trace it takes Python a second of a ResNet-20 and three of a Faster R-CNN. A new run, with
    which there is nothing to compare, begins when its first step has been taken and the device has
    work; one that goes on begins at once, while its checkpoint is read, and waits for the end.
    """

    def __init__(self, prepared: Prepared, note: Callable[[str], None]):
        """Begins nothing.

        Args:
            prepared: what runs.
            note: takes the digest; not called where there is none.
        """
        self._prepared, self._note = prepared, note
        self._x64 = jnp.result_type(float) == jnp.float64
        """Settings of JAX may be a thread's own; by this one the types of all arrays go."""
        self._running: concurrent.futures.Future[None] | None = None

    def begin(self) -> None:
        """Start the thread, unless it was."""
        if self._running is None:
            threads = concurrent.futures.ThreadPoolExecutor(1)
            self._running = threads.submit(self._found)
            threads.shutdown(wait=False)

    def after(self, step: Step) -> Step:
        """`step`, the first call of which begins this once it is on its way."""

        def stepped(state: Any, data: Any, payload: Any) -> Any:
            out = step(state, data, payload)
            self.begin()
            return out

        return stepped

    def end(self, say: Callable[[str], None]) -> None:
        """Wait until it is noted, if that was begun; where it can't be written, that is said."""
        if self._running is None:
            return
        try:
            self._running.result()
        except WriteFailed as failed:
            say(str(failed))

    def _found(self) -> None:
        with jax.enable_x64(self._x64):
            found = digest(self._prepared)
        if found is not None:
            self._note(found)


def changed(records: Sequence[Mapping[str, Any]]) -> str:
    """What to say of a run whose program has changed since it began; "" where it has not.

    Args:
        records: provenance of the processes that worked on the run, this one's last. Those of
            another version of JAX say nothing: it lowers the same code to another text.
    """
    *before, now = records
    version = _version(now)
    others = [
        one
        for one in before
        if one.get(PROGRAM) is not None
        and _version(one) == version
        and one[PROGRAM] != now.get(PROGRAM)
    ]
    if now.get(PROGRAM) is None or not others:
        return ""
    why = differences(others[0], now)
    return (
        "The program of a training step has changed since this run began"
        f"{f' ({why})' if why else ''}: its numbers are no longer those of one recipe."
    )


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What is known to be another of two records, and may be why; "" where nothing is."""
    pairs: dict[str, tuple[Any, Any]] = {"commit": (_commit(then), _commit(now))}
    versions = [one.get("versions") or {} for one in (then, now)]
    for name in dict.fromkeys((*versions[0], *versions[1])):
        pairs[name] = versions[0].get(name), versions[1].get(name)
    name = "matmul_precision"
    pairs[name] = then.get(name), now.get(name)
    return "; ".join(f"{name} {a} then, {b} now" for name, (a, b) in pairs.items() if a != b)


def _version(record: Mapping[str, Any]) -> Any:
    return (record.get("versions") or {}).get("jax")


def _commit(record: Mapping[str, Any]) -> str:
    git = record.get("git") or {}
    commit = str(git.get("commit") or "unknown")[:7]
    return f"{commit} and what was not committed" if git.get("dirty") else commit
