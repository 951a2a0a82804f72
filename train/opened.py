"""Opened: a run of any experiment, read again from its directory, without its data."""

import ast
import importlib
import importlib.util
import os
import sys
from collections.abc import Collection, Iterator, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np

from train import neighbours, workdir
from train.checkpoints import Checkpoints, Damaged
from train.data.decode import Unreadable
from train.data.given import Signal
from train.data.pictures import Picture
from train.data.source import About, is_signals
from train.experiment import Parts
from train.predict import predictions
from train.prepared import chosen
from train.refusal import Refused


class Opened(NamedTuple):
    """What later readers of a run need: predict, evaluate, fine-tune, export.

        run = opened("runs/…")
        predictions = run.predict(["a.jpg", "b.jpg"])

    Attributes:
        module: the experiment's.
        config: its `Config`, as the run has it; `workdir` is where it was opened.
        about: of its training data.
        parts: what the experiment builds: network and task.
        variables: of the network, on one device.
        step: that they are of.
        each: of several that are averaged, those; see `train.averaged`.
    """

    module: ModuleType
    config: Any
    about: About
    parts: Parts
    variables: dict[str, Any]
    step: int
    each: tuple["Opened", ...] = ()

    def predict(
        self, pictures: Sequence[Picture | Signal], *, batch_size: int | None = None
    ) -> list[np.ndarray]:
        """What the run says of pictures of any size, or signals, as its evaluation saw its own.

        Args:
            pictures: files, or uint8 arrays (H, W, C) or (H, W) of pixels 0..255; of a run of
                signals, WAV files, or numbers (l, C) or (l,).
            batch_size: how many at a time; that of the run by default.

        Returns:
            One each: the probabilities of `about.classes`, (classes,) float64; the predicted
            classes of a picture's own pixels, indices of `about.mask_classes`, (H, W) uint8; or the
            numbers of `about.targets`, (targets,) float64.

        Raises:
            Refused: what is given is no list of pictures or signals.
            Unreadable: a file can't be read; names it. `train.predict.predictions` goes on.
        """
        several = (2, 3) if is_signals(self.about) else (4,)
        if isinstance(pictures, str | os.PathLike) or (
            getattr(pictures, "ndim", several[0]) not in several
        ):
            raise Refused("pictures: give a list of them, predict([picture])")
        found = []
        for one in predictions([self], pictures, batch_size):
            if one.found is None:
                name = str(pictures[one.at])
                raise Unreadable(name, one.at, one.why.removeprefix(f"{name}: "))
            found.append(one.found)
        return found


def opened(
    path: str | Path,
    *,
    step: int | None = None,
    backend: str | None = "auto",
    device: jax.Device | None = None,
) -> Opened:
    """Read a run. Nothing on the disk changes, and the run may go on meanwhile.

    Args:
        path: its work directory.
        step: which checkpoint; by default the one that the test split was judged by, else the best
            so far, else the newest.
        backend: who computes convolutions and batch normalisation, see `models.backends`; None for
            the one that the run's recipe names.
        device: where the variables go; the first one by default.

    Raises:
        Refused: there is no run, or it can't be read by this version.
        Failed: its checkpoint is damaged.
    """
    path = Path(os.path.expanduser(path))
    module = experiment(path)
    config = workdir.read_config(path, module.__name__, module.Config)
    assert config is not None
    if config.seeds:
        names = ", ".join(f"seed_{seed}" for seed in config.seeds)
        raise Refused(f"workdir={str(path)!r} holds several runs; open one of them: {names}")
    about = workdir.decoded(path, workdir.ABOUT, About)
    if about is None:
        if below := sorted(file.parent.name for file in path.glob(f"*/{workdir.CONFIG}")):
            raise Refused(
                f"workdir={str(path)!r} holds several runs; open one of them: {', '.join(below)}"
            )
        raise Refused(f"workdir={str(path)!r} holds no run: it has no {workdir.ABOUT}")
    device = jax.local_devices()[0] if device is None else device
    made = chosen(config.backend if backend is None else backend, [device])
    parts = module.build(config, about, conv=made.conv_general_dilated, norm=made.norm)
    with Checkpoints(path / "checkpoints") as checkpoints:
        while True:
            which = judged_step(path, checkpoints) if step is None else step
            try:
                variables = variables_of(path, checkpoints, which, device)
            except (Damaged, FileNotFoundError):
                if step is not None or which in checkpoints.steps():
                    raise
                continue  # the run goes on meanwhile, and has deleted it
            return Opened(module, config, about, parts, variables, which)


def variables_of(
    path: Path, checkpoints: Checkpoints, step: int, device: jax.Device
) -> dict[str, Any]:
    """The evaluated variables of a step.

    Raises:
        Refused: there is no such checkpoint.
        Damaged: it is, or it was deleted as it was read.
    """
    if type(step) is not int or step not in checkpoints.steps():
        raise Refused(
            f"workdir={str(path)!r} has no checkpoint of step {step}; there are "
            f"{checkpoints.steps()}"
        )
    target = target_of(checkpoints.written(step), device)
    return checkpoints.restore_variables(target, step=step)


def experiment(path: Path) -> ModuleType:
    """The module of the run in `path`.

    Raises:
        Refused: there is no run, or no such module, or it is no experiment.
    """
    neighbours.refuse_no_run(path)
    name = workdir.experiment_of(path)

    def refuse_lacking(there: Collection[str]) -> None:
        if lacking := [each for each in ("Config", "build") if each not in there]:
            raise Refused(
                f"workdir={str(path)!r} is a run of {name}, which has no {' and no '.join(lacking)}"
            )

    try:
        # What is imported is executed: what is no experiment must not be, whoever wrote its name.
        if name not in sys.modules:
            refuse_lacking(names_in(name))
        module = importlib.import_module(name)
    except (ImportError, TypeError, ValueError, SyntaxError) as error:  # none, or no name of one
        raise Refused(
            f"workdir={str(path)!r} is a run of {name}, which can't be imported: {error}"
        ) from None
    refuse_lacking(dir(module))
    return module


def names_in(name: str) -> set[str]:
    """What a module names at its top, read from its source; neither it nor its package is run.

    What it names under a condition is counted.

    Raises:
        ImportError: there is none, or it has no source.
        SyntaxError: it is no Python.
    """
    first, *others = name.split(".")
    spec = importlib.util.find_spec(first)
    for end in range(2, len(others) + 2):
        within = spec and spec.submodule_search_locations
        spec = PathFinder.find_spec(".".join(name.split(".")[:end]), within) if within else None
    if spec is None or spec.origin is None or not spec.has_location:
        raise ImportError(f"No module named {name!r}")
    return {*_bound(ast.parse(Path(spec.origin).read_bytes()))}


def _bound(node: ast.AST) -> Iterator[str]:
    for one in ast.iter_child_nodes(node):
        if isinstance(one, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield one.name
        elif isinstance(one, ast.Import | ast.ImportFrom):
            yield from (each.asname or each.name for each in one.names)
        elif isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store):
            yield one.id
        elif not isinstance(one, ast.comprehension):  # its names are its own
            yield from _bound(one)


def judged_step(path: Path, checkpoints: Checkpoints) -> int:
    """Of the weights that the test split was judged by; of a run that goes on, the best so far.

    Raises:
        Refused: there is no checkpoint.
    """
    summary = workdir.read(path, workdir.SUMMARY) or {}
    step = summary.get("evaluated_step", checkpoints.best())
    step = checkpoints.latest() if step is None else step
    if step is None:
        raise Refused(f"workdir={str(path)!r} has no checkpoint yet")
    return step


def target_of(
    written: dict[str, tuple[np.dtype, tuple[int, ...]]], device: jax.Device
) -> dict[str, Any]:
    """A tree to restore into, from the paths of its leaves.

    Raises:
        Refused: it has 64-bit numbers, which JAX does not keep unless asked.
    """
    sharding = jax.sharding.SingleDeviceSharding(device)
    tree: dict[str, Any] = {}
    for path, (dtype, shape) in written.items():
        if dtype.itemsize == 8 and not jax.config.read("jax_enable_x64"):
            raise Refused(f"{path} is of {dtype}: set JAX_ENABLE_X64=1 to read this run")
        *above, name = path.split("/")
        inner = tree
        for each in above:
            inner = inner.setdefault(each, {})
        inner[name] = jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
    return tree
