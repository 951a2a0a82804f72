"""Predict: pictures and signals through trained networks, by the path that evaluation takes.

A picture is brought to what the run's evaluation saw (its host stage, or the one shape of its set,
its channels), a signal padded as the run's data are; then `task.inputs` and `task.predict` follow,
jitted; what is found goes back to the picture's own pixels.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from train.data.batch import KEYS, rows_of
from train.data.gaps import Gaps
from train.data.given import Signal, Signals
from train.data.host import Host, Resize
from train.data.limited import Limited
from train.data.matched import differ
from train.data.order import once
from train.data.pictures import Picture, Pictures
from train.data.reading import sound
from train.data.source import About, Source, is_signals
from train.data.streaming import Streaming
from train.experiment import Parts
from train.mesh import compiled_evaluation, make_mesh, shard_batch
from train.refusal import Refused
from train.shown import Kept, Shown, shown
from train.tasks.task import Task


class Trained(Protocol):
    """What is needed of a run; `train.opened.Opened` is one."""

    @property
    def config(self) -> Any: ...

    @property
    def about(self) -> About: ...

    @property
    def parts(self) -> Parts: ...

    @property
    def variables(self) -> dict[str, Any]: ...


class Prediction(NamedTuple):
    """Of one picture or signal.

    Attributes:
        at: its place.
        found: (classes,) float64 that add up to 1; (H, W) uint8, or a `train.shown.Found`, in the
            picture's own pixels; (targets,) float64; None where it can't be read.
        why: name and reason where it can't be read.
    """

    at: int
    found: Any
    why: str = ""


def predictions(
    runs: Sequence[Trained], given: Sequence[Picture | Signal], batch_size: int | None = None
) -> Iterator[Prediction]:
    """One a picture or signal, in order, as they come; of several runs their average.

    Args:
        runs: of one task, with the same classes.
        given: of runs of images, files, or uint8 arrays (H, W, C) or (H, W), of any sizes; of
            signals, WAV files, arrays (l, C) or (l,), or rows of files (`train.data.given`).
        batch_size: how many at a time; that of each run by default.

    Raises:
        Refused: the runs differ in their classes, or what they predict can't be averaged, or some
            are of images and some of signals.
    """
    refuse_different(runs)
    kind = kind_of(*runs)
    streams = [_kept(run, given, batch_size, alone=len(runs) == 1) for run in runs]
    for index, found in enumerate(zip(*streams, strict=True)):
        why = next((one for one in found if isinstance(one, str)), "")
        if why:
            yield Prediction(index, None, why)
            continue
        kept = [one for one in found if not isinstance(one, str)]
        yield Prediction(index, kind.joined(kept))


def refuse_different(runs: Sequence[Trained]) -> None:
    """Refuse runs that can't be averaged.

    Raises:
        Refused: there is none, or their classes differ; names them.
    """
    if not runs:
        raise Refused("runs=() names none")
    kinds = [(run.about.classes, run.about.mask_classes, run.about.targets) for run in runs]
    first, *others = kinds
    for run, classes in zip(runs[1:], others, strict=True):
        here, there = (str(one.config.workdir) for one in (runs[0], run))
        if is_signals(run.about) != is_signals(runs[0].about):
            raise Refused(f"run={there!r} and run={here!r}: one is of images, the other of signals")
        if classes != first:
            apart = differ(sum(classes, ()), sum(first, ())) or "they stand in another order"
            raise Refused(f"run={there!r} has other classes than {here!r}: {apart}")


def kind_of(run: Trained, *others: Trained) -> Shown:
    """How what runs of one task predict is shown.

    Raises:
        Refused: it is not shown yet, it reads more than a picture or a signal, or what several
            predict can't be averaged.
    """
    task = run.parts.task
    try:
        inputs = jax.eval_shape(task.inputs, shapes_of(run))
    except KeyError as error:
        raise Refused(
            f"run={str(run.config.workdir)!r} reads {error}, which "
            f"a {'signal' if is_signals(run.about) else 'picture'} does not have"
        ) from None
    found = shown(jax.eval_shape(task.predict, run.variables, inputs))
    if others and not found.averages:
        names = ", ".join(str(one.config.workdir) for one in (run, *others))
        raise Refused(f"detections of several runs can't be averaged; name one of {names}")
    return found


def shapes_of(run: Trained) -> dict[str, jax.ShapeDtypeStruct]:
    """Of a batch of one example, as far as a picture or a signal tells, as evaluation sees it."""
    if is_signals(run.about):
        assert run.about.shape is not None
        shapes = {"signal": jax.ShapeDtypeStruct((1, *run.about.shape), np.float32)}
        if run.about.ragged:
            shapes["length"] = jax.ShapeDtypeStruct((1,), np.int32)
    else:
        height, width = host_of(run).shapes[0]
        shapes = {
            "image": jax.ShapeDtypeStruct((1, height, width, channels_of(run)), np.uint8),
            "matrix": jax.ShapeDtypeStruct((1, 3, 3), np.float32),
            "size": jax.ShapeDtypeStruct((1, 2), np.int32),
        }
    for key, rows in (run.parts.given or {}).items():
        for name in rows_of(key, KEYS):
            shape = (1, rows, *KEYS[name].shape[1:])
            shapes[name] = jax.ShapeDtypeStruct(shape, KEYS[name].dtype)
    return shapes


def host_of(run: Trained) -> Host:
    """What brings a picture to what evaluation saw.

    The host stage of the run's evaluation; of a set of one shape, which needs none, a stretch to
    that shape, which leaves pictures of it as they are.

    Raises:
        Refused: the run is not of pictures.
    """
    if run.parts.host is not None:
        return run.parts.host[1]
    shape = run.about.shape
    if shape is None or len(shape) != 3:
        raise Refused(f"run={str(run.config.workdir)!r} is not of pictures of a known shape")
    return Host(Resize(), (shape[:2],))


def channels_of(run: Trained) -> int:
    """Of the pictures that the run takes."""
    return run.about.shape[-1] if run.about.shape is not None else len(run.about.mean or (0,) * 3)


def _source(run: Trained, given: Sequence[Any]) -> Source:
    if is_signals(run.about):
        return Signals(given, run.about)
    limited = Limited(Pictures(given, channels_of(run)), run.config.max_pixels)
    # Not kept: files of one name may hold another picture tomorrow.
    return run.parts.deriving(limited, keep=False)


def _kept(
    run: Trained, given: Sequence[Any], batch_size: int | None, *, alone: bool
) -> Iterator[Kept | str]:
    """One each, in order: what is kept of its predictions, or why it can't be read."""
    source = _source(run, given)
    gaps = Gaps()
    # A loader wants a first example that can be read.
    for first in range(len(source)):
        (example,), found = sound(source, [first], {})
        gaps.add(found)
        if example is not None:
            break
    if len(gaps.found) == len(source):
        yield from gaps.found.values()
        return
    mesh = make_mesh([*jax.tree.leaves(run.variables)[0].devices()][:1])
    loader = Streaming(
        source,
        mesh=mesh,
        batch_size=min(batch_size or run.config.batch_size, len(source)),
        order=once,
        capacity=run.parts.given,
        host=None if is_signals(run.about) else host_of(run),
        gaps=gaps,
    )
    predict = _compiled(run.parts.task, mesh, alone)
    at, ahead = 0, None

    def rows(out: Any) -> Iterator[Kept | str]:
        kept, valid = jax.device_get(out)
        for row in range(min(loader.batch_size, len(source) - at)):
            if valid[row]:
                yield {name: value[row] for name, value in kept.items()}
            else:
                yield gaps.found[at + row]

    payloads = loader.payloads(0)
    try:
        for payload in payloads:
            # The device computes this batch while the host takes the one before.
            before = jax.block_until_ready(ahead)
            ahead = predict(run.variables, payload)
            if before is not None:
                yield from rows(before)
                at += loader.batch_size
        if ahead is not None:
            yield from rows(ahead)
    finally:
        payloads.close()


@functools.lru_cache(maxsize=16)
def _compiled(task: Task, mesh: Mesh, alone: bool) -> Any:
    """(variables, payload) -> what is kept, and whether it is valid; compiled once for a task."""

    def predict(variables: dict[str, Any], payload: dict[str, jax.Array]) -> tuple[Kept, jax.Array]:
        batch = shard_batch(mesh, dict(payload))
        found = task.predict(variables, task.inputs(batch))
        kept = shown(found).kept(found, alone)
        places = {name: batch[name] for name in ("matrix", "size") if name in batch}
        return {**kept, **places}, batch["valid"]

    return compiled_evaluation(predict, mesh)
