"""Prepared: all that a run needs before its first step, with nothing written yet."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from models import backends
from models.backends import Backend
from train import processes, workdir
from train.assess import Assess, assess
from train.data.gaps import Gaps, share
from train.data.loader import Loader
from train.data.named import Splits
from train.data.resident import Resident
from train.data.room import fits, resident_bytes
from train.data.source import About, Source
from train.data.split_names import role
from train.data.statistics import measured
from train.data.streaming import Streaming
from train.data.unseen import unseen, without_objects
from train.experiment import Parts, refuse_idle
from train.in_step import telling
from train.mesh import compiled_initial, compiled_step, make_mesh, shares
from train.progress import working
from train.refusal import Refused, refuse_indivisible
from train.seeds_as import check_seeds_as
from train.sharded import whole
from train.state import State, initial
from train.step import training_step
from train.trackers import refuse_missing

UNSAID = ("epochs", "mirror")
"""Fields that are settled without a number to show: the one is then steps, the other has a line."""

UNREADABLE = "unreadable_{split}.json"
"""Of a split: which of its examples can't be read."""
SOON = 0.5
"""Seconds after which a line says that data are read: nothing else is seen of a run before."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
    """A recipe, its data and its compiled functions; nothing of it changes as a run trains.

    Attributes:
        module: the experiment's.
        config: its `Config`.
        mesh: the devices.
        data: the sources.
        gaps: split -> its examples that can't be read; None where the first one ends the run.
        about: of the training data, with its statistics.
        backend: who computes convolutions and batch normalisation.
        parts: what the experiment builds.
        loader: of the training examples.
        start: seed -> the state before the first step, compiled.
        step: of training, compiled.
        assess: split -> what measures it, made at its first use.
        said: of the data and of what follows from them, a line each: what no one may overlook.
        at_its_end: whether the run has been trained already, by this process and with others
            (`train.at_once`): its directory is begun, and what it is made of was said.
    """

    module: ModuleType
    config: Any
    mesh: Mesh
    data: Splits
    gaps: Mapping[str, Gaps | None]
    about: About
    backend: Backend
    parts: Parts
    loader: Loader
    start: Callable[[Any], State]
    step: Callable[..., Any]
    assess: Callable[[str], Assess]
    said: tuple[str, ...] = ()
    at_its_end: bool = False

    @property
    def experiment(self) -> str:
        """Name of its module, which readers of the run import."""
        return self.module.__name__

    def with_seed(self, seed: int) -> "Prepared":
        """The same with another seed: data and compiled functions are shared."""
        config = self.config.of_seed(seed)
        return dataclasses.replace(self, config=config, loader=self.loader.with_seed(seed))

    def shapes(self) -> State:
        """Of the state before the first step; nothing is computed."""
        return jax.eval_shape(self.start, jnp.uint32(0))


def prepare(module: ModuleType, config: Any) -> Prepared:
    """Read the data and build what the recipe says; nothing is written.

    Args:
        module: an experiment: it has `splits(config) -> Splits` and
            `build(config, about, conv=…, norm=…) -> Parts`.
        config: its `Config`. What it leaves open until the data are known is settled here. The
            files of an earlier run in `config.workdir` tell which examples can't be read.

    Raises:
        Refused: the request cannot be met.
    """
    if processes.asked(config) is not None and not processes.several():
        name = module.__name__.rpartition(".")[2]
        raise Refused(f"{name} runs as one process here, and was started as one of several")
    with working(f"reading {config.data}", after=SOON):
        return _prepared(module, config)


def _prepared(module: ModuleType, config: Any) -> Prepared:
    refuse_missing(config.tracker)
    mesh = mesh_of(config)
    slices = config.accumulation * shares(mesh)
    if config.batch_size is not None:
        refuse_indivisible(config.batch_size, shares(mesh), config.accumulation)
    data = module.splits(config)
    config, said = settled(config, data, slices)
    if not begun(config.workdir):
        config.check_new()
        refuse_idle(module, config, data.train.about)
    check_seeds_as(config, data, mesh.devices.size)
    gaps = unreadable(config)
    about = measured(data.train, gaps=gaps["train"])
    if processes.several() and gaps["train"] is not None:
        share(gaps["train"])
        about = measured(data.train, gaps=gaps["train"])  # without what any of them can't read
    backend = chosen(config.backend, mesh.devices.ravel().tolist())
    parts = module.build(config, about, conv=backend.conv_general_dilated, norm=backend.norm)
    data = derived(data, parts)
    load = loaders(config, mesh, data, parts, gaps)
    loader = load("train", data.train, transform=parts.transform, seed=config.seed)
    start = compiled_initial(starting(parts, loader), mesh)
    shapes = jax.eval_shape(start, jnp.uint32(0))  # what the network refuses is refused here
    return Prepared(
        module=module,
        config=config,
        mesh=mesh,
        data=data,
        gaps=gaps,
        about=about,
        backend=backend,
        parts=parts,
        loader=loader,
        start=start,
        step=compiled_step(stepping(parts, loader), mesh, state=shapes),
        assess=functools.cache(
            lambda split: assess(parts, load, mesh, split, getattr(data, split))
        ),
        said=(
            *said,
            *filter(None, [stands_in(data), unseen(data._asdict()), nothing_there(config, data)]),
        ),
    )


def settled(config: Any, data: Splits, slices: int) -> tuple[Any, list[str]]:
    """The recipe with nothing left open, and what to say of it."""
    about, length = data.train.about, len(data.train)
    found = config.settled(about, length, slices)
    config, asked = dataclasses.replace(config, **found), config
    said = []
    shown = {name: value for name, value in found.items() if name not in UNSAID}
    if "epochs" in found:
        shown["steps"] = f"{config.steps} ({asked.epochs:g} epoch{'s' * (asked.epochs != 1)})"
    if shown:
        values = ", ".join(f"{name}={value}" for name, value in shown.items())
        said.append(f"For {length:,} training examples: {values}.")
    if about.mirror is None and found.get("mirror") == "yes":
        said.append(
            "Images are also mirrored, left to right, in training (mirror=yes). If a mirror image "
            "may belong to another class (letters, digits, signs), use --mirror no."
        )
    return config, said


def derived(data: Splits, parts: Parts) -> Splits:
    """The splits with what the network reads that is computed beforehand, kept on the disk."""
    train, validation, test = data
    return Splits(
        parts.deriving(train, keep=True),
        None if validation is None else parts.deriving(validation, keep=True),
        parts.deriving(test, keep=True),
    )


def stands_in(data: Splits) -> str:
    """Where the set has no test split, what is tested on in its place; "" where it has one."""
    if role(data.test.about.split) != "validation":
        return ""
    count = f"{len(data.test):,} examples"
    return f"{data.test.about.name} has no test split: its validation split, {count}, is the test."


def nothing_there(config: Any, data: Splits) -> str:
    """That splits have no object to be found, whose mAP is then none; "" where all have one.

    Raises:
        Refused: there is none to train on.
    """
    bare = without_objects(data._asdict())
    if "train" in bare:
        count = len(data.train)
        raise Refused(f"data={config.data!r}: no object to learn in {count} training examples")
    return f"Without any object to be found: the {' and the '.join(bare)} split." if bare else ""


def begun(path: Path | None) -> bool:
    """Whether a directory holds a run, or several."""
    return path is not None and workdir.read(path, workdir.CONFIG) is not None


def loaders(
    config: Any, mesh: Mesh, data: Splits, parts: Parts, gaps: Mapping[str, Gaps | None]
) -> Callable[..., Loader]:
    """(split, source, order=…, transform=…, seed=…) -> the loader that the config names.

    A loader of the split "train" trains, those of others evaluate.
    """
    host = parts.host
    name = config.loader
    if name == "auto":
        name = "resident" if stays(config, mesh, data, parts, gaps) else "streaming"

    def load(split: str, source: Source, **how: Any) -> Loader:
        trains = split == "train"
        how |= {"mesh": mesh, "batch_size": config.batch_size, "capacity": parts.capacity}
        how |= {"host": None if host is None else host[0 if trains else 1], "gaps": gaps[split]}
        if name == "streaming":
            # Starting processes costs more than reading a split once: evaluation reads in threads.
            return Streaming(source, workers=config.workers if trains else 0, **how)
        return Resident(source, **how)

    return load


def stays(
    config: Any, mesh: Mesh, data: Splits, parts: Parts, gaps: Mapping[str, Gaps | None]
) -> bool:
    """Whether the sets can be kept on the devices, and are the same every time they are read."""
    host = parts.host
    if config.workers or (host is not None and (host[0].stage.random or len(host[0].shapes) > 1)):
        return False
    needed = sum(
        resident_bytes(
            source,
            host=None if host is None else host[0 if split == "train" else 1],
            capacity=parts.capacity,
            gaps=gaps[split],
        )
        for split, source in data._asdict().items()
        if source is not None
    )
    fit = fits(needed, mesh.devices.ravel().tolist())
    return all(processes.gathered("whether the data fit in memory", fit))


def unreadable(config: Any) -> dict[str, Gaps | None]:
    """Split -> its examples that can't be read, as far as the run in `workdir` has found them.

    None for each where the first such example is to end the run.
    """
    if config.on_corrupt == "stop":
        return dict.fromkeys(Splits._fields)
    path = config.workdir
    return {
        split: Gaps(
            limit=config.corrupt_limit,
            file=None if path is None else Path(path) / UNREADABLE.format(split=split),
        )
        for split in Splits._fields
    }


def chosen(name: str, devices: list[jax.Device]) -> Backend:
    """The backend that the config names.

    Raises:
        Refused: it can't be had.
    """
    try:
        return backends.choose(name, devices)
    except backends.Missing as missing:
        raise Refused(f"backend={name}: {missing}") from None


def mesh_of(config: Any) -> Mesh:
    """The devices that the recipe asks for.

    Raises:
        Refused: they are not there, or can't be shared out so.
    """
    devices = first_devices(config.devices)
    if len(devices) % config.fsdp:
        can = [str(n) for n in range(1, len(devices) + 1) if len(devices) % n == 0]
        raise Refused(f"fsdp={config.fsdp} must divide the number of devices: {', '.join(can)}")
    return make_mesh(devices, fsdp=config.fsdp)


def first_devices(count: int | None) -> list[jax.Device]:
    """The first `count` devices; all for None.

    Raises:
        Refused: there are not so many.
    """
    devices = jax.devices()
    if count is not None and processes.several():
        raise Refused(f"devices={count}: several processes use all of theirs")
    if count is not None and count > len(devices):
        raise Refused(f"devices={count}, but there are {len(devices)} here")
    return devices[:count]


def stepping(parts: Parts, loader: Loader) -> Callable[..., Any]:
    """A step of training, to be compiled."""
    task = parts.task._replace(loss=whole(parts.task.loss, loader.mesh))
    step = training_step(
        task, parts.optimizer, loader, gradient=parts.gradient, average=parts.average
    )
    return telling(step) if processes.several() else step


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
