"""Writer: steps of a run go to the disk in the background, by Orbax; old ones go from it."""

import contextlib
import errno
from collections.abc import Callable, Sequence
from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import jax
import numpy as np

from train import processes
from train.files import cause
from train.quiet import nothing_more, quieten
from train.refusal import Failed
from train.seal import flat, sealed

if TYPE_CHECKING:  # half a second of imports, which `--help` does not need
    import orbax.checkpoint as ocp


class SaveFailed(Failed):
    """A checkpoint could not be written. `step` says which."""

    def __init__(self, step: int, error: BaseException):
        super().__init__(f"the checkpoint of step {step} could not be written: {cause(error)}")
        self.step = step


class Writer:
    """Writes one step at a time, and keeps the newest `keep` and the best.

    A run of one process waits for a copy of its arrays to the host; their digests, and all that
    Orbax does, come in a thread. Of several processes digests are sums over all of them, and Orbax
    has each write its own part: both begin before `begin` returns.

    Args:
        directory: of the steps.
        keep: how many of the newest to keep.
        best: which step is the best, if any.
    """

    def __init__(self, directory: Path, *, keep: int, best: Callable[[], int | None]):
        self.directory, self.keep, self.best = directory, keep, best
        self._manager: ocp.CheckpointManager | None = None
        self._thread: futures.ThreadPoolExecutor | None = None
        self._begun: futures.Future | None = None
        self._step = -1

    def begin(self, step: int, state: Any, variables: Any) -> None:
        """Begin to write; `state` and `variables` may be donated as soon as this returns.

        Raises:
            SaveFailed: of several processes; of one, `wait` raises it.
        """
        evaluated, whole = flat(variables), flat(state)
        shared = shared_leaves(whole, evaluated)
        rest = {path: leaf for path, leaf in whole.items() if path not in shared}
        self._step = step
        try:
            self._refuse_gone()
            if processes.several():
                self._write(step, evaluated, rest, shared)
                return
        except Exception as error:
            self._fail(error)
        if self._thread is None:
            self._thread = futures.ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        variables, rest = on_host((evaluated, rest))
        self._begun = self._thread.submit(self._write, step, variables, rest, shared)

    def _write(
        self,
        step: int,
        variables: dict[str, Any],
        rest: dict[str, Any],
        shared: dict[str, str],
    ) -> None:
        """Write the arrays of `variables`, and the rest of the state's: those that these lack."""
        import orbax.checkpoint as ocp

        record = sealed(step, variables, rest, shared)
        args = {
            "variables": ocp.args.PyTreeSave(variables),
            "state": ocp.args.PyTreeSave(rest),
            "record": ocp.args.JsonSave(record),
        }
        self._refuse_gone()
        # Forced, it raises where it would do nothing.
        self._open().save(step, args=ocp.args.Composite(**args), force=True)

    def _refuse_gone(self) -> None:
        """Orbax would make anew the directory of a run whose other files are gone with it.

        Raises:
            FileNotFoundError: it is gone.
        """
        above = self.directory.parent
        if not above.is_dir():
            raise FileNotFoundError(errno.ENOENT, "No such directory", str(above))

    def wait(self) -> None:
        """Return when what was begun is written.

        Raises:
            SaveFailed: it is not; said once.
        """
        try:
            if self._begun is not None:
                futures.wait([self._begun])  # what interrupts this leaves it to be waited for
                begun, self._begun = self._begun, None
                begun.result()
            if self._manager is not None:
                self._manager.wait_until_finished()
        except Exception as error:
            self._fail(error)

    def delete(self, step: int) -> None:
        """Remove a step, once `wait` has returned; where it can't be, room is all that is lost."""
        with contextlib.suppress(OSError):
            self._open().delete(step)

    def close(self) -> None:
        """End all threads, once `wait` has ended; what is written later begins new ones."""
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None
        if self._manager is not None:
            self._manager.close()
            self._manager = None

    def _open(self) -> "ocp.CheckpointManager":
        import orbax.checkpoint as ocp
        from orbax.checkpoint import checkpoint_managers as policies

        if self._manager is None:
            quieten()
            kept = [policies.LatestN(self.keep), Best(self.best)]
            self._manager = ocp.CheckpointManager(
                self.directory,
                item_handlers={
                    "variables": arrays_handler(),
                    "state": arrays_handler(),
                    "record": ocp.JsonCheckpointHandler(),
                },
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=policies.AnyPreservationPolicy(kept),
                    cleanup_tmp_directories=True,  # what a killed process left half written
                    # Where directories are made in the background and that fails, the threads
                    # that wait for them keep the process from ending for five minutes.
                    async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
                ),
            )
        return self._manager

    def _fail(self, error: Exception) -> NoReturn:
        """Give up the manager, which believes deleted what only a success deletes."""
        manager, self._manager = self._manager, None
        if manager is not None:
            with contextlib.suppress(Exception):  # it may raise the same again
                manager.close()
        nothing_more()
        raise SaveFailed(self._step, error) from error


def arrays_handler() -> "ocp.PyTreeCheckpointHandler":
    """Orbax's, but that it makes no other copy of an array on the host: it is given its own."""
    import orbax.checkpoint as ocp
    from orbax.checkpoint import type_handlers as handlers

    registry = handlers.create_type_handler_registry(
        (np.ndarray, handlers.NumpyHandler(deepcopy_host_arrays=False)),
        (jax.Array, handlers.get_type_handler(jax.Array)),
    )
    return ocp.PyTreeCheckpointHandler(type_handler_registry=registry)


class Best:
    """Orbax's form of a policy: keeps the step that is ranked first."""

    def __init__(self, best: Callable[[], int | None]):
        self._best = best

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        best = self._best()
        return [info.step == best for info in checkpoints]


def on_host(tree: Any) -> Any:
    """The same tree, of NumPy arrays that nothing else writes to, fetched at once.

    A CPU's device memory is the host's: there a fetched array may be a view of what a step takes.
    """

    def own(leaf: Any, fetched: Any) -> np.ndarray:
        return np.array(fetched) if lies_on_host(leaf) else fetched

    return jax.tree.map(own, tree, jax.device_get(tree))


def lies_on_host(leaf: Any) -> bool:
    """Whether fetching an array may copy nothing."""
    return not isinstance(leaf, jax.Array) or any(d.platform == "cpu" for d in leaf.devices())


def shared_leaves(state: dict[str, Any], variables: dict[str, Any]) -> dict[str, str]:
    """Path in the state -> that of the same array in the variables, if all of these are in it."""
    there = {id(leaf): path for path, leaf in variables.items()}
    found = {path: there[id(leaf)] for path, leaf in state.items() if id(leaf) in there}
    whole = len(found) < len(state) and set(found.values()) == set(variables)
    return found if whole else {}
