"""A run: what every experiment repeats, from a recipe and its data to a report in a directory."""

import contextlib
import dataclasses
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from models import backends
from models.backends import Backend
from train import workdir as directory
from train.assess import assess_best, outcome, validation
from train.checkpoints import Checkpoints
from train.data.gaps import Gaps
from train.data.host import Host
from train.data.loader import Loader
from train.data.masks import missing
from train.data.named import Splits
from train.data.resident import Resident
from train.data.source import Source, classes_said
from train.data.statistics import measured
from train.data.streaming import Streaming
from train.experiment import Parts
from train.files import WriteFailed
from train.finetune import begun, check_backbone
from train.logs import Logs
from train.loop import NonFinite, Rhythm, fit
from train.mesh import compiled_initial, compiled_step, make_mesh
from train.metrics.quantities import readable, show
from train.provenance import provenance
from train.refusal import Refused
from train.report.page import Section, write_report
from train.state import State, initial
from train.step import training_step
from train.stop import Stop
from train.tasks.task import Summary

UNREADABLE = "unreadable_{part}.json"
"""Of a part of the data: which of its examples can't be read."""


class Stopped(Exception):
    """A signal ended the run, which is saved.

    Attributes:
        signal: its number.
    """

    def __init__(self, signal: int):
        super().__init__(f"stopped by signal {signal}")
        self.signal = signal


def run(
    experiment: str,
    config: Any,
    *,
    build: Callable[..., Parts],
    splits: Callable[[Any], Splits],
    rank: str,
    report: Sequence[Section],
    note: str = "",
) -> Summary:
    """Train, evaluate, save and report; or go on with the run that lives in `config.workdir`.

    Args:
        experiment: name of the experiment's module.
        config: its `Config`, with no field left open.
        build: (config, about, conv=…, norm=…) -> Parts.
        splits: config -> Splits.
        rank: the validation scalar that ranks checkpoints, larger is better.
        report: sections of the report.
        note: said first, and in the report: what no one may mistake.

    Returns:
        The summary of the test split, at the best checkpoint, or at the last weights where no
        validation split ranks them.

    Raises:
        Refused: the request cannot be met.
        NonFinite: training diverged; the last good checkpoint stays.
        WriteFailed: a file can't be written; the checkpoints stay.
        Stopped: by a signal.
    """
    began = time.monotonic()
    if jax.process_count() > 1:
        raise Refused(f"processes={jax.process_count()}: a run is one process, for now")
    path = config.workdir
    earlier = None if path is None else directory.read_config(path, experiment, type(config))
    if earlier is not None:
        directory.refuse_changes(path, earlier, config)
    mesh = make_mesh(first_devices(config.devices))
    data = splits(config)
    gaps = unreadable(config, path)
    about = measured(data.train, gaps=gaps["train"])
    absent = missing(about)
    backend = chosen(config.backend, mesh.devices.ravel().tolist())
    parts = build(config, about, conv=backend.conv_general_dilated, norm=backend.norm)
    load = loaders(config, mesh, parts.host, gaps)
    loader = load("train", data.train, transform=parts.transform, seed=config.seed)
    if config.batch_size % (config.accumulation * mesh.shape["data"]):
        raise Refused(
            f"accumulation={config.accumulation} slices on {mesh.shape['data']} devices do not "
            f"divide batch_size={config.batch_size}"
        )
    # What can be refused is refused before a directory is made, which would hold on to the config.
    shapes = jax.eval_shape(starting(parts, loader), jnp.uint32(config.seed))
    weights = parts.weights() if parts.weights is not None and not saved(path) else None
    if weights is not None:
        check_backbone(shapes.variables, weights)
    path = directory.claim(experiment, config.data) if path is None else path
    directory.make(path)
    record = provenance(
        seed=config.seed,
        convolution=backend.name,
        fingerprints={part: s.fingerprint for part, s in data._asdict().items() if s is not None},
        devices=mesh.devices.ravel().tolist(),
    )
    directory.write_provenance(path, record)
    directory.write_config(path, experiment, config)
    directory.write(path / "about.json", dataclasses.asdict(about))

    # From here on XLA compiles, where an interrupt would end the process without a word.
    said: list[str] = []
    with Stop() as stop, Checkpoints(path / "checkpoints", say=said.append) as checkpoints:
        first = initial_state(parts, loader, mesh, config.seed)
        restored = checkpoints.restore(first)
        if restored is None and weights is not None:
            first, replaced = begun(first, weights)
            said += replaced
        state = first if restored is None else restored.state
        begin = None if restored is None else restored.step
        logs = Logs(path, steps=config.steps, resume_step=begin, began=began)
        checkpoints.say = logs.say
        page = partial(
            write_report,
            path,
            f"{config.model} on {config.data}",
            about=data.test.about,
            source=data.test,
            sections=report,
            say=logs.say,
        )
        with contextlib.closing(logs):
            whence = "A new run in" if begin is None else f"Going on from step {begin} of"
            for line in (
                note,
                absent,
                describe(config, data, mesh, backend, record["cpu"]),
                *said,
                f"{whence} {path}.",
            ):
                if line:
                    logs.say(line)
            for part, some in gaps.items():
                if some is not None:
                    some.keep(path / UNREADABLE.format(part=part), partial(of_part, logs, part))
            step = training_step(
                parts.task, parts.optimizer, loader, gradient=parts.gradient, average=parts.average
            )
            try:
                state = fit(
                    state,
                    step=compiled_step(step, mesh),
                    loader=loader,
                    rhythm=rhythm(config),
                    evaluate=validation(parts, load, mesh, data.validation, rank, logs),
                    checkpoints=checkpoints,
                    logs=logs,
                    stopping=stop,
                )
                go_on(stop, path, checkpoints, logs)
            except NonFinite as error:
                try:
                    where = page(summary=None, lead=f"{note} Stopped: {error}.".strip())
                    logs.say(f"The last good checkpoint stays. The curves:\n  {where}")
                except WriteFailed as failed:
                    logs.say(str(failed))  # not in place of the error that ends the run
                raise
            summary, at = assess_best(parts, load, mesh, data.test, checkpoints, state, logs, path)
            go_on(stop, path, checkpoints, logs)
            found = outcome(experiment, config, at, summary)
            directory.write(path / "summary.json", {**found, "seconds": round(logs.seconds, 1)})
            where = page(summary=summary, lead=note)
            value = show(rank, summary.scalars[rank], digits=4)
            logs.say(f"Test {readable(rank)} {value}, weights of step {at}.\n  {where}")
            return summary


def go_on(stop: Stop, path: Path, checkpoints: Checkpoints, logs: Logs) -> None:
    """Where a signal came: say how to go on, and end the run.

    Raises:
        Stopped: it came.
    """
    if stop.signal is None:
        return
    saved = checkpoints.latest()
    at = "before the first step" if saved is None else f"and saved at step {saved}"
    logs.say(f"Stopped {at}. To go on:\n  {again(path)}")
    raise Stopped(stop.signal)


def loaders(
    config: Any,
    mesh: Mesh,
    host: tuple[Host, Host] | None = None,
    gaps: Mapping[str, Gaps | None] | None = None,
) -> Callable[..., Loader]:
    """(part, source, order=…, transform=…, seed=…) -> the loader that the config names.

    A loader of the part "train" trains, those of others evaluate.
    """
    name = config.loader
    if name == "auto":
        again = host is not None and (host[0].stage.random or len(host[0].shapes) > 1)
        name = "streaming" if config.workers or again else "resident"

    def load(part: str, source: Source, **how: Any) -> Loader:
        trains = part == "train"
        how |= {"mesh": mesh, "batch_size": config.batch_size}
        how |= {"host": None if host is None else host[0 if trains else 1]}
        how |= {"gaps": None if gaps is None else gaps[part]}
        if name == "streaming":
            # Starting processes costs more than reading a split once: evaluation reads in threads.
            return Streaming(source, workers=config.workers if trains else 0, **how)
        return Resident(source, **how)

    return load


def unreadable(config: Any, path: Path | None) -> dict[str, Gaps | None]:
    """Part -> its examples that can't be read, as far as the run in `path` has found them.

    None for each where the first such example is to end the run.
    """
    if config.on_corrupt == "stop":
        return dict.fromkeys(Splits._fields)
    return {
        part: Gaps(
            limit=config.corrupt_limit,
            file=None if path is None else path / UNREADABLE.format(part=part),
        )
        for part in Splits._fields
    }


def of_part(logs: Logs, part: str, text: str) -> None:
    """Say something about one part of the data."""
    logs.say(f"{part}: {text}")


def chosen(name: str, devices: list[jax.Device]) -> Backend:
    """The backend that the config names.

    Raises:
        Refused: it can't be had.
    """
    try:
        return backends.choose(name, devices)
    except backends.Missing as missing:
        raise Refused(f"backend={name}: {missing}") from None


def first_devices(count: int | None) -> list[jax.Device]:
    """The first `count` devices; all for None.

    Raises:
        Refused: there are not so many.
    """
    devices = jax.devices()
    if count is not None and count > len(devices):
        raise Refused(f"devices={count}, but there are {len(devices)} here")
    return devices[:count]


def initial_state(parts: Parts, loader: Loader, mesh: Mesh, seed: int) -> State:
    """The state before the first step, on the mesh."""
    return compiled_initial(starting(parts, loader), mesh)(jnp.uint32(seed))


def starting(parts: Parts, loader: Loader) -> Callable[[Any], State]:
    """seed -> the state before the first step."""
    batch = jax.eval_shape(loader.device, loader.data, loader.payload, 0, jax.random.key(0))
    inputs = jax.eval_shape(parts.task.inputs, batch)
    first = parts.init or partial(parts.network.init, train=False)

    def init(key: jax.Array) -> dict[str, Any]:
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), inputs)
        return dict(first(key, zeros))

    start = partial(initial, init, parts.optimizer, parts.hyper, averaged=parts.average is not None)
    return lambda seed: start(seed=seed)


def saved(path: Path | None) -> bool:
    """Whether a run in `path` has a checkpoint to go on from."""
    return path is not None and any((path / "checkpoints").glob("[0-9]*"))


def rhythm(config: Any) -> Rhythm:
    """When the loop does what."""
    return Rhythm(
        until=config.steps,
        evaluate_every=config.evaluate_every,
        save_every=config.save_every,
        log_every=config.log_every,
    )


def describe(config: Any, data: Splits, mesh: Mesh, backend: Backend, cpu: dict[str, Any]) -> str:
    """What runs on what, in two lines, and a third where it could be faster."""
    about = data.train.about
    sizes = ", ".join(f"{len(s):,} {part}" for part, s in data._asdict().items() if s is not None)
    device = mesh.devices.flat[0]
    kind = device.device_kind
    if device.platform == "cpu":
        kind = f"CPU ({cpu['model']}, {cpu['class']}, {cpu['cores']} cores)"
    return (
        f"{config.model} on {about.name}: {sizes} examples, {classes_said(about)}.\n"
        f"Device: {mesh.devices.size} x {kind}; convolutions by {backend.name}."
        + (f"\nSlower than it could be: {backend.why}." if backend.why else "")
    )


def again(path: Path) -> str:
    """The command that goes on with a run, called as this one was."""
    return shlex.join([sys.orig_argv[0], sys.argv[0], "--workdir", str(path)])
