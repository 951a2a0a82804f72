"""Checkpoints: the states of a run on the disk, what is sound among them, and which is best."""

import contextlib
import gc
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from train.files import brief, cause
from train.quiet import abandoned_unheard, quieten
from train.record import Differs, compare, describe, flat, intact, record, shortened

ASIDE = "damaged"
"""Where damaged steps go: inside the directory, so that a rename never crosses file systems."""


class SaveFailed(RuntimeError):
    """A checkpoint could not be written. `step` says which."""

    def __init__(self, step: int, error: BaseException):
        super().__init__(f"the checkpoint of step {step} could not be written: {cause(error)}")
        self.step = step


class Damaged(RuntimeError):
    """What was read is not what was written, or can't be read."""

    def __init__(self, step: int, what: str):
        super().__init__(f"the checkpoint of step {step} is damaged: {what}")
        self.step = step


class NoneSound(RuntimeError):
    """There were checkpoints, and all are damaged."""

    def __init__(self, directory: Path, damaged: list[Damaged]):
        lines = [f"no checkpoint in {directory} is sound; to begin anew, remove it", *damaged]
        super().__init__("\n  ".join(str(line) for line in lines))


class Restored(NamedTuple):
    """A state, or one item of it, and the step that it was saved at."""

    step: int
    state: Any


class Checkpoints:
    """The checkpoints of one run, `<directory>/<step>/`, written by Orbax in the background.

    A step holds `variables` (those that are evaluated; read alone by what doesn't train), `state`
    (all of it) and a `record` (`train.record`). An item is a flat dict from path to array: what is
    None, {} or a tuple is a matter of the target that it is restored into. The newest `keep` steps
    and the best are kept.

    For runs of one process: records are made of whole arrays, and each process would write them.
    One process writes to a directory at a time: `save` and `restore` are for the run that owns it.
    `restore_variables`, `best` and `latest` change nothing on the disk.

    Args:
        directory: made by the first save.
        keep: how many of the newest to keep, beside the best.
        say: takes a line for the user.
    """

    def __init__(self, directory: Path, *, keep: int = 2, say: Callable[[str], None] = print):
        if keep < 1:
            raise ValueError(f"keep={keep} must be above 0")
        self.directory = Path(directory).absolute()
        self.keep, self.say = keep, say
        self._manager: ocp.CheckpointManager | None = None
        self._saving = -1
        quieten()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            self.close()
        except SaveFailed as failed:
            if error is None:
                raise
            self.say(str(failed))  # not in place of the error that ends the run

    def save(self, step: int, state: Any, variables: Any, metric: float | None = None) -> None:
        """Begin to write a step; `state` and `variables` may be donated as soon as this returns.

        Waits for the save before it. Where the step exists nothing is written: a run is a pure
        function, so it is the same state.

        Args:
            step: not below those that exist.
            state: pytree of arrays, none of them empty (what is absent is None or {}).
            variables: pytree of arrays, those that are evaluated.
            metric: ranks the step, larger is better; None, or one that isn't finite, ranks nothing.

        Raises:
            SaveFailed: this save, or the one before.
            ValueError: the step exists with another metric, or a later step exists.
        """
        self.wait()
        metric = float(metric) if metric is not None and math.isfinite(metric) else None
        newest = max(self._steps(), default=-1)
        if step in self._steps():
            if metric not in (None, there := self._record(step)["metric"]):
                raise ValueError(f"step {step} is saved with metric {there}, not {metric}")
            return
        if step < newest:
            raise ValueError(f"step {step} can't be saved after step {newest}")
        items = {"variables": flat(variables), "state": flat(state)}
        args = {name: ocp.args.StandardSave(leaves) for name, leaves in items.items()}
        args["record"] = ocp.args.JsonSave(record(step, metric, items))
        self._saving = step
        try:
            # Forced, it raises where it would do nothing.
            self._open().save(
                step, args=ocp.args.Composite(**args), metrics={"metric": metric}, force=True
            )
        except Exception as error:
            self._fail(error)

    def wait(self) -> None:
        """Return when the background save has ended.

        Raises:
            SaveFailed: it failed; said once.
        """
        if self._manager is None:
            return
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            self._fail(error)

    def close(self) -> None:
        """Wait, and end Orbax's threads; a later save opens it anew.

        Raises:
            SaveFailed: the background save failed.
        """
        self.wait()
        if self._manager is not None:
            self._manager.close()
            self._manager = None

    def latest(self) -> int | None:
        """The newest step, once the background save has ended; None where there is none."""
        self.wait()
        return max(self._steps(), default=None)

    def best(self) -> int | None:
        """The step with the largest metric, the newest of equals; None where none is ranked."""
        self.wait()
        ranked = []
        for step in self._steps():
            try:
                metric = self._record(step)["metric"]
            except Damaged as error:
                self.say(f"{error}; it can't be ranked")
            else:
                if metric is not None:
                    ranked.append((metric, step))
        return max(ranked)[1] if ranked else None

    def restore(self, target_state: Any) -> Restored | None:
        """The newest sound state, from which training goes on.

        Newer, damaged steps are said and moved to `<directory>/damaged/`: a later save at their
        number would do nothing.

        Args:
            target_state: pytree of `jax.ShapeDtypeStruct` with shardings, or of arrays.

        Returns:
            None where there never was a checkpoint.

        Raises:
            NoneSound: there were; nothing is moved.
            Differs: the newest sound one holds other arrays than the target.
        """
        self.close()  # it is opened anew on what is left
        if not self._steps() and not (self.directory / ASIDE).exists():
            return None
        found, damaged = self._newest("state", target_state)
        for error in damaged:
            self._set_aside(error.step)
        return found

    def restore_variables(self, target: Any, *, step: int | None = None) -> Any:
        """The evaluated variables alone.

        Args:
            target: pytree of `jax.ShapeDtypeStruct` with shardings, or of arrays.
            step: which; the newest sound one by default.

        Raises:
            Damaged: the one that was asked for.
            NoneSound: all are damaged.
            Differs: it holds other arrays than the target.
            FileNotFoundError: there is no such checkpoint.
        """
        self.wait()
        steps = self._steps()
        if not steps or step not in (None, *steps):
            which = "" if step is None else f" of step {step}"
            raise FileNotFoundError(f"no checkpoint{which} in {self.directory}; there are {steps}")
        if step is not None:
            return self._read(step, "variables", target)
        return self._newest("variables", target)[0].state

    def _newest(self, item: str, target: Any) -> tuple[Restored, list[Damaged]]:
        """The newest step whose item is sound, and what is wrong with newer ones; says so."""
        damaged: list[Damaged] = []
        for step in reversed(self._steps()):
            try:
                found = Restored(step, self._read(step, item, target))
            except Damaged as error:
                damaged.append(error)
                continue
            for worse in damaged:
                self.say(str(worse))
            if damaged:
                self.say(f"taking the checkpoint of step {step}, the newest that is sound")
            return found, damaged
        raise NoneSound(self.directory, damaged)

    def _read(self, step: int, item: str, target: Any) -> Any:
        """One item, in the form of the target, checked bit for bit.

        Raises:
            Damaged: what is read isn't what was written.
            Differs: what was written is of another form than the target.
        """
        written = self._record(step)["items"][item]
        targets = flat(jax.tree.map(placed, target))
        try:
            compare(written, targets)
        except Differs as error:
            raise Differs(f"{item} of step {step} differs from what is built: {error}") from None
        where, failure = self.directory / str(step) / item, ""
        with abandoned_unheard():
            try:
                with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
                    leaves = reader.restore(where, args=ocp.args.StandardRestore(targets))
            except (MemoryError, jax.errors.JaxRuntimeError):
                raise  # the machine's failure, not the checkpoint's
            except Exception as error:  # any that a wrong byte can cause
                failure = brief(error)
            if failure:
                # The other reads end in threads a little later, and complain when collected.
                time.sleep(0.05)
                gc.collect()
        if failure:
            raise Damaged(step, f"{item}: {failure}")
        found = describe(leaves)
        if bad := [path for path in targets if found[path] != written[path]]:
            raise Damaged(step, f"{item}: other bits in {shortened(bad)}")
        return jax.tree.unflatten(jax.tree.structure(target), [leaves[path] for path in targets])

    def _record(self, step: int) -> dict[str, Any]:
        """What was written of a step.

        Raises:
            Damaged: it can't be trusted, or the metric that Orbax ranks by is another.
        """
        folder = self.directory / str(step)
        try:
            written = json.loads((folder / "record" / "metadata").read_bytes())
            metrics = json.loads((folder / "metrics" / "metrics").read_bytes())
            sound = intact(written, step) and metrics == {"metric": written["metric"]}
        except Exception as error:  # any that a wrong byte can cause
            raise Damaged(step, f"record: {brief(error)}") from error
        if not sound:
            raise Damaged(step, "record: not as it was sealed")
        return written

    def _steps(self) -> list[int]:
        """All that are completely written, sorted: Orbax names a step by its number last."""
        if not self.directory.is_dir():
            return []
        names = [path.name for path in self.directory.iterdir()]
        return sorted(int(name) for name in names if name.isdecimal())

    def _set_aside(self, step: int) -> None:
        """Rename a step out of the manager's sight."""
        (self.directory / ASIDE).mkdir(exist_ok=True)
        path, number = self.directory / ASIDE / str(step), 2
        while path.exists():
            path, number = path.with_name(f"{step}-{number}"), number + 1
        (self.directory / str(step)).rename(path)

    def _open(self) -> ocp.CheckpointManager:
        if self._manager is None:
            for step in self._steps():
                try:  # the manager reads all metrics, and fails where one can't be read
                    self._record(step)
                except Damaged as error:
                    self.say(str(error))
                    self._set_aside(step)
            # Either policy alone, or with another `best_fn`, deletes the newest or the best.
            newest = policies.LatestN(self.keep)
            best = policies.BestN(get_metric_fn=rank, n=1, keep_checkpoints_without_metrics=False)
            self._manager = ocp.CheckpointManager(
                self.directory,
                options=ocp.CheckpointManagerOptions(
                    best_fn=rank,
                    preservation_policy=policies.AnyPreservationPolicy([newest, best]),
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
        raise SaveFailed(self._saving, error) from error


def rank(metrics: dict[str, float | None]) -> float:
    """What Orbax sorts by: a step that `save` gave no rank comes below all."""
    metric = metrics["metric"]
    return -math.inf if metric is None else metric


def placed(leaf: Any) -> jax.ShapeDtypeStruct:
    """What to restore, and where to, from an abstract or a concrete array."""
    if leaf.sharding is None:
        raise ValueError(f"a target needs a sharding: {leaf}")
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
