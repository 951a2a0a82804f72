"""Checkpoints: the states of a run on the disk, what is sound among them, and which is best."""

import contextlib
import gc
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from train import processes
from train.files import NOT_GIVEN, brief, cause, stated
from train.quiet import abandoned_unheard, nothing_more, quieten
from train.refusal import Failed
from train.seal import Differs, compare, describe, flat, intact, seal, shortened
from train.workdir import write
from train.writer import SaveFailed as SaveFailed
from train.writer import Writer

ASIDE = "damaged"
"""Where damaged steps go: inside the directory, so that a rename never crosses file systems."""
RANK = "rank.json"
"""Of a step, what an evaluation found of it after it was saved."""


class Damaged(Failed):
    """What was read is not what was written, or can't be read."""

    def __init__(self, step: int, what: str):
        super().__init__(f"the checkpoint of step {step} is damaged: {what}")
        self.step = step


class ReadFailed(Failed):
    """A checkpoint could not be read, for which it is not to blame."""

    def __init__(self, step: int, why: str):
        super().__init__(f"the checkpoint of step {step} could not be read: {why}")
        self.step = step


class NoneSound(Failed):
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
    (all of it; what is in `variables` lies there alone), a sealed `record` of both (`train.seal`),
    and its rank once it was evaluated. An item is a flat dict from path to array: what is None, {}
    or a tuple is a matter of the target that it is restored into. The newest `keep` steps and the
    best are kept; of a run that is finished, as `finish` says.

    Close it: what is still being written when a process ends is lost.

    One run writes to a directory at a time: `save`, `rank`, `finish` and `restore` are for the one
    that owns it. `restore_variables`, `written`, `best` and `latest` change nothing on the disk.

    Of a run of several processes all call the same methods in the same order. Orbax has each write
    its own part; records and ranks are written by the first, and what is sound is sound for all.

    Args:
        directory: made by the first save; the one above it must be there.
        keep: how many of the newest to keep, beside the best.
        say: takes a line for the user.
    """

    def __init__(self, directory: Path, *, keep: int = 2, say: Callable[[str], None] = print):
        if keep < 1:
            raise ValueError(f"keep={keep} must be above 0")
        self.directory = Path(directory).absolute()
        self.keep, self.say = keep, say
        self._writer = Writer(self.directory, keep=keep, best=self._best)
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

    def save(self, step: int, state: Any, variables: Any) -> None:
        """Begin to write a step; `state` and `variables` may be donated as soon as this returns.

        Waits for the save before it. Where the step exists nothing is written: a run is a pure
        function, so it is the same state.

        Args:
            step: not below those that exist.
            state: pytree of arrays, none of them empty (what is absent is None or {}).
            variables: pytree of arrays, those that are evaluated.

        Raises:
            SaveFailed: the save before, or this one where its directory is gone; of several
                processes, whatever fails before it goes on in the background. All else is raised
                by what waits for it: the next save, `wait`, `rank`, `latest`, `restore`, `close`.
            ValueError: a later step exists.
        """
        self.wait()
        steps = self._all_steps()
        if step in steps:
            return
        if step < (newest := max(steps, default=-1)):
            raise ValueError(f"step {step} can't be saved after step {newest}")
        self._writer.begin(step, state, variables)

    def rank(self, step: int, metric: float | None) -> None:
        """Say what an evaluation found of a step that is saved.

        Args:
            step: one that exists.
            metric: larger is better; None, or one that isn't finite, ranks nothing, and says that
                the step was evaluated.

        Raises:
            SaveFailed: the background save failed.
        """
        self.wait()
        metric = float(metric) if metric is not None and math.isfinite(metric) else None
        write(self.directory / str(step) / RANK, seal({"step": step, "metric": metric}))
        # One that was the best is kept for that alone, and the next save may never come.
        best = processes.same("which checkpoint is best", self._best)
        for old in self._all_steps()[: -self.keep]:
            if best is not None and old != best:
                self._writer.delete(old)

    def finish(self) -> None:
        """Of a run that is at its end, keep two steps: the newest, and the best or the one before.

        The one that is not the newest stands in for it where that is damaged.

        Raises:
            SaveFailed: the background save failed.
        """
        self.wait()
        steps = self._all_steps()
        best = processes.same("which checkpoint is best", self._best)
        kept = {*steps[-1:], best} if best in steps[:-1] else {*steps[-2:]}
        for old in steps:
            if old not in kept:
                self._writer.delete(old)

    def ranked(self, step: int) -> bool:
        """Whether an evaluation of a step has ended."""

        def found() -> bool:
            try:
                metric = self._metric(step)
            except Damaged:
                return False
            return metric is not None or (self.directory / str(step) / RANK).exists()

        return processes.same("whether a checkpoint is ranked", found)

    def wait(self) -> None:
        """Return when the background save has ended.

        Raises:
            SaveFailed: it failed; said once.
        """
        self._writer.wait()

    def close(self) -> None:
        """Wait, and end Orbax's threads; a later save opens it anew.

        Raises:
            SaveFailed: the background save failed.
        """
        try:
            self.wait()
        finally:
            self._writer.close()

    def latest(self) -> int | None:
        """The newest step, once the background save has ended; None where there is none."""
        self.wait()
        return max(self._all_steps(), default=None)

    def best(self) -> int | None:
        """The step with the largest metric, the newest of equals; None where none is ranked."""
        self.wait()
        return processes.same(
            "which checkpoint is best",
            lambda: self._best(lambda error: self.say(f"{error}; it can't be ranked")),
        )

    def _best(self, damaged: Callable[[Damaged], None] = lambda error: None) -> int | None:
        ranked = []
        for step in self.steps():
            try:
                metric = self._metric(step)
            except Damaged as error:
                # A reader may meet one that the run is about to delete, and is not damaged.
                time.sleep(0.05)
                if step in self.steps():
                    damaged(error)
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
            ReadFailed: this process can't read one; nothing is moved.
            Differs: the newest sound one holds other arrays than the target.
        """
        self.close()  # it is opened anew on what is left
        if not processes.same("whether there is a checkpoint", self.begun):
            return None
        found, damaged = self._newest("state", target_state)
        with processes.together("damaged checkpoints are moved"):
            for error in damaged:
                if processes.first():
                    self._set_aside(error.step)
        return found

    def begun(self) -> bool:
        """Whether there ever was a whole checkpoint."""
        return bool(self.steps()) or (self.directory / ASIDE).is_dir()

    def written(self, step: int) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
        """Path -> type and shape of each array among the evaluated variables of a step.

        Raises:
            Damaged: its record is.
        """
        return {path: parsed(what) for path, (what, _) in self._items(step)["variables"].items()}

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
        steps = self._all_steps()
        if not steps or step not in (None, *steps):
            which = "" if step is None else f" of step {step}"
            raise FileNotFoundError(f"no checkpoint{which} in {self.directory}; there are {steps}")
        if step is not None:
            return self._read(step, "variables", target)
        return self._newest("variables", target)[0].state

    def _newest(self, item: str, target: Any) -> tuple[Restored, list[Damaged]]:
        """The newest step whose item is sound, and what is wrong with newer ones; says so."""
        damaged: list[Damaged] = []
        for step in reversed(self._all_steps()):
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
        with sound_for_all(step):
            record = self._sealed(step, "record/metadata")
        written = record["items"][item]
        targets = flat(jax.tree.map(placed, target))
        try:
            compare(written, targets)
        except Differs as error:
            raise Differs(f"{item} of step {step} differs from what is built: {error}") from None
        # Path in the state -> where it lies in `variables`; of earlier versions, none.
        shared = record.get("shared", {}) if item == "state" else {}
        own = {path: leaf for path, leaf in targets.items() if path not in shared}
        with sound_for_all(step):
            leaves = self._restored(step, item, own)
            if shared:
                others = {there: targets[path] for path, there in shared.items()}
                found = self._restored(step, "variables", others)
                leaves |= {path: found[there] for path, there in shared.items()}
        with sound_for_all(step):
            read = describe(leaves)
            if bad := [path for path in targets if read[path] != written[path]]:
                raise Damaged(step, f"{item}: other bits in {shortened(bad)}")
        return jax.tree.unflatten(jax.tree.structure(target), [leaves[path] for path in targets])

    def _restored(self, step: int, name: str, targets: dict[str, Any]) -> dict[str, Any]:
        """The arrays in the folder of an item.

        Raises:
            Damaged: they can't be read.
            ReadFailed: this process can't read them.
        """
        import orbax.checkpoint as ocp

        where, failure = self.directory / str(step) / name, ""
        with abandoned_unheard():
            try:
                with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
                    return reader.restore(where, args=ocp.args.StandardRestore(targets))
            except (MemoryError, jax.errors.JaxRuntimeError):
                raise  # the machine's failure, not the checkpoint's
            except Exception as error:  # any that a wrong byte can cause
                failure, why = brief(error), stated(error, NOT_GIVEN)
            # The other reads end in threads a little later, and complain when collected.
            time.sleep(0.05)
            gc.collect()
        if why is not None:
            nothing_more()
            raise ReadFailed(step, why)
        raise Damaged(step, f"{name}: {failure}")

    def _items(self, step: int) -> dict[str, dict[str, list]]:
        """Item -> path -> what was written of the array."""
        return self._sealed(step, "record/metadata")["items"]

    def _metric(self, step: int) -> float | None:
        """What ranks a step; None where nothing does.

        Raises:
            Damaged: it can't be trusted.
        """
        if (self.directory / str(step) / RANK).exists():
            return self._sealed(step, RANK)["metric"]
        # Until version 0.1 a step was evaluated before it was saved.
        return self._sealed(step, "record/metadata").get("metric")

    def _sealed(self, step: int, name: str) -> dict[str, Any]:
        """What was written of a step under a seal.

        Raises:
            Damaged: it can't be trusted.
            ReadFailed: this process can't read it.
        """
        what = name.partition("/")[0]
        try:
            written = json.loads((self.directory / str(step) / name).read_bytes())
            sound = intact(written, step)
        except Exception as error:  # any that a wrong byte can cause
            if (why := stated(error, NOT_GIVEN)) is not None:
                raise ReadFailed(step, why) from error
            raise Damaged(step, f"{what}: {brief(error)}") from error
        if not sound:
            raise Damaged(step, f"{what}: not as it was sealed")
        return written

    def steps(self) -> list[int]:
        """All that are completely written, sorted: Orbax names a step by its number last.

        Raises:
            Failed: the directory is there, and can't be listed.
        """
        try:
            return sorted(int(path.name) for path in self.directory.iterdir() if is_step(path))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise Failed(f"{self.directory} could not be read: {cause(error)}") from error

    def _all_steps(self) -> list[int]:
        """As the first process finds them."""
        return processes.same("which checkpoints there are", self.steps)

    def _set_aside(self, step: int) -> None:
        """Rename a step out of the manager's sight."""
        aside = self.directory / ASIDE
        if aside.exists() and not aside.is_dir():
            aside.rename(aside.with_name(f"{ASIDE}.file"))  # somebody's, and in the way
        aside.mkdir(exist_ok=True)
        path, number = aside / str(step), 2
        while path.exists():
            path, number = path.with_name(f"{step}-{number}"), number + 1
        (self.directory / str(step)).rename(path)


@contextlib.contextmanager
def sound_for_all(step: int) -> Iterator[None]:
    """What is damaged for one process is so for all.

    Raises:
        Damaged: one of them says so.
    """
    failure = None
    try:
        yield
    except Damaged as error:
        failure = error
    for index, why in enumerate(processes.gathered("what is sound", failure and str(failure))):
        if why is not None:
            raise failure or Damaged(step, f"process {index}: {why}")


def is_step(path: Path) -> bool:
    """Whether a path is a step's folder, and no name that looks like one ("007", "٣٥")."""
    name = path.name
    return name.isascii() and name.isdecimal() and str(int(name)) == name and path.is_dir()


def parsed(what: str) -> tuple[np.dtype, tuple[int, ...]]:
    """Type and shape of an array, from their text in a record: "float32(3, 3)"."""
    kind, _, shape = what.partition("(")
    return jax.numpy.dtype(kind), tuple(int(n) for n in shape.rstrip(")").split(",") if n.strip())


def placed(leaf: Any) -> jax.ShapeDtypeStruct:
    """What to restore, and where to, from an abstract or a concrete array."""
    if leaf.sharding is None:
        raise ValueError(f"a target needs a sharding: {leaf}")
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
