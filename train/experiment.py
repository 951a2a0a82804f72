"""Experiment: what a recipe builds, and which of its fields belong to a run and not to it."""

import dataclasses
import inspect
import math
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any, ClassVar, Literal, NamedTuple, Self, TypeVar

import flax.linen as nn
import jax

from train.data.batch import KEYS, Transform
from train.data.decode import PIXELS
from train.data.gaps import LIMIT
from train.data.host import Host
from train.data.source import About, Source
from train.finetune import Weights
from train.refusal import Refused, choose
from train.report.page import Section
from train.state import Optimizer
from train.step import Average, Gradient, gradient
from train.tasks.task import Task

T = TypeVar("T")


class Parts(NamedTuple):
    """What `build(config, about, conv=…, norm=…)` composes, from what is known of the data.

    Nothing in it depends on the seed, which is in the state: runs of several seeds share it.

    Attributes:
        network: a Linen module.
        task: closes over it.
        optimizer: hyper -> gradient transformation.
        hyper: its float32 scalars.
        transform: (key, batch) -> batch, of training batches, on the device; or None.
        rank: the scalar of the validation split that ranks checkpoints. "accuracy": larger is
            better; "-rmse": smaller is.
        report: the task's sections of the run's page, in order.
        gradient: of the task's loss; `accumulated(n)` for one.
        average: of the variables over the steps, or None.
        weights: () -> what a new run starts from in place of random weights, see `train.weights`;
            or None.
        init: (key, the task's inputs) -> variables, where the network does not take the inputs as
            they are; or None.
        host: what brings examples to a shape on the host, of training and of evaluation, where the
            source's are of many; or None.
        capacity: key -> rows of it in a batch, of keys whose number of rows varies ("boxes"); see
            `train.data.batch`.
        derived: (source, keep=…) -> the source with what the network reads and is computed from the
            examples beforehand (`train.data.proposals`), kept on the disk or not; or None.
    """

    network: nn.Module
    task: Task
    optimizer: Optimizer
    hyper: dict[str, float]
    transform: Transform | None
    rank: str
    report: Sequence[Section]
    gradient: Gradient = gradient
    average: Average | None = None
    weights: Callable[[], Weights] | None = None
    init: Callable[[jax.Array, Any], dict[str, Any]] | None = None
    host: tuple[Host, Host] | None = None
    capacity: Mapping[str, int] | None = None
    derived: Callable[..., Source] | None = None

    def deriving(self, source: Source, *, keep: bool) -> Source:
        """The source with what is derived from its examples."""
        return source if self.derived is None else self.derived(source, keep=keep)

    @property
    def given(self) -> dict[str, int] | None:
        """The capacity of what is no annotation: of pictures without any."""
        found = {key: n for key, n in (self.capacity or {}).items() if not KEYS[key].annotation}
        return found or None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Runtime:
    """Fields of every `Config` that change how a run goes, never what it computes.

    A resumed run may change these and nothing else.

    Attributes:
        workdir: where the run is kept. If an earlier run is there, it is continued. By default
            runs/<experiment>/<time>-<data>.
        seeds: several runs in place of one, such as 0 1 2. Each has a directory of its own in that
            of the study, and is equal to a run of that `seed` alone. More may be added later.
        seeds_as: how these are trained. "loop": one after the other, each bit for bit as if run
            alone. "vmap": all as one program on one device; "devices": as one program too, a seed
            a device, or a part of the devices, or several on one; both differ from "loop" by
            rounding, judge the last weights, and keep the data on the device. "auto" measures a
            few steps and takes what is faster.
        devices: how many to use; all by default.
        fsdp: how many of these share the parameters and what the optimiser keeps of them, so that
            each holds a part alone (docs/scaling.md); 1: each holds all of it. It divides
            `devices`. The numbers differ by rounding, and a run may go on with another value.
        loader: "resident" keeps the whole set on the device; "streaming" reads it from the disk as
            it goes. The batches are the same. "auto" streams where `workers` read, where an image
            is another one every time, cropped on the host, or where the set is too large for the
            memory.
        backend: who computes convolutions and batch normalisation, see `models.backends`; "auto"
            takes the fastest that is here. Another one changes the numbers by rounding.
        workers: processes that read for the streaming loader; 0 reads in threads.
        log_every: steps from one line of metrics.jsonl to the next; the terminal may show fewer.
        save_every: steps from one checkpoint to the next, beside those after each evaluation.
        coordinator: "host:port" of the first of several processes, each started by a command of its
            own, see docs/scaling.md; "auto" asks the cluster. Several tasks of Slurm, or the hosts
            of a TPU slice, come together without.
        processes: how many there are.
        process_id: which of them this one is, from 0.
        tracker: "wandb" or "trackio" is told what is measured, beside the files of the run; see
            `train.trackers`.
        profile: steps to trace, after the first ones, for Perfetto and TensorBoard; into `profile/`
            of the work directory.
    """

    workdir: pathlib.Path | None = None
    seeds: tuple[int, ...] = ()
    seeds_as: Literal["loop", "vmap", "devices", "auto"] = "loop"
    devices: int | None = None
    fsdp: int = 1
    loader: Literal["auto", "resident", "streaming"] = "auto"
    backend: Literal["auto", "onednn", "jax", "xla"] = "auto"
    workers: int = 0
    log_every: int = 20
    save_every: int = 1000
    coordinator: str | None = None
    processes: int | None = None
    process_id: int | None = None
    tracker: Literal["none", "wandb", "trackio"] = "none"
    profile: int = 0

    def __post_init__(self) -> None:
        positive(self, "fsdp", "log_every", "save_every")
        if self.devices is not None:
            positive(self, "devices")
        nonnegative(self, "workers", "profile")
        if any(not 0 <= seed < 2**32 for seed in self.seeds):
            raise Refused(f"seeds={self.seeds} must lie in 0 .. 2^32 - 1")
        if len(set(self.seeds)) < len(self.seeds):
            raise Refused(f"seeds={self.seeds} names a seed twice")
        if self.workers and self.loader == "resident":
            raise Refused(f"workers={self.workers} read for loader='streaming' alone")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe(Runtime):
    """What a run reads of every `Config`, which adds the rest of its recipe.

    A field that is None is left open until the data are read, see `settled`.

    Attributes:
        data: name of the data set.
        model: name of the network.
        seed: of initialisation, order and augmentation, 0 .. 2^32 - 1.
        steps: optimiser updates; None takes as many as `epochs` come to.
        epochs: passes over the training examples; in place of `steps`, 0.5 too; the last may end
            with the batch that completes it.
        batch_size: examples an update; None takes at most a quarter of those that train.
        accumulation: slices of a batch, one after the other, for memory.
        evaluate_every: steps from one validation to the next; None validates after each epoch, but
            at most 20 times. The last step is validated in any case.
        weights: which ones the test split judges: "best" are those that the validation split ranks
            first, where there is one; "last" are those of the last step.
        max_pixels: a picture of more can't be read, so that a small file can't take all memory.
        on_corrupt: what an example that can't be read does. "stop" ends the run and names it; with
            the value "skip" the next one takes its place in training, and evaluation leaves it out
            and says so.
        corrupt_limit: share of the training examples above which "skip" stops too.
    """

    data: str
    model: str
    seed: int = 0
    steps: int | None
    epochs: float | None = None
    batch_size: int | None
    accumulation: int = 1
    evaluate_every: int | None
    weights: Literal["best", "last"] = "best"
    max_pixels: int = PIXELS
    on_corrupt: Literal["stop", "skip"] = "stop"
    corrupt_limit: float = LIMIT

    largest_batch: ClassVar[int] = 32
    """Of a `batch_size` that is left open."""

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "max_pixels")
        fraction(self, "corrupt_limit")
        positive(self, "steps", "epochs", "batch_size", "accumulation", "evaluate_every")
        nonnegative(self, "seed")
        below(self, seed=2**32)
        if self.steps is not None and self.epochs is not None:
            raise Refused(f"steps={self.steps} and epochs={self.epochs}: give one of them")

    @property
    def undecided(self) -> set[str]:
        """Fields that `settled` may yet change."""
        fields = ("steps", "batch_size", "evaluate_every")
        return {"epochs", *(name for name in fields if getattr(self, name) is None)}

    def settled(self, about: About, length: int, slices: int) -> dict[str, Any]:
        """What becomes of fields that were left open, now that the data are known.

        Args:
            about: of the training data.
            length: how many examples train.
            slices: what divides a batch: devices times slices.

        Returns:
            Field -> value.

        Raises:
            Refused: neither steps nor epochs are given.
        """
        del about
        found: dict[str, Any] = {}
        batch = self.batch_size
        if batch is None:
            batch = found["batch_size"] = batch_for(length, self.largest_batch, slices)
        steps = self.steps
        if steps is None:
            if self.epochs is None:
                raise Refused("steps=None and epochs=None: give one of them")
            # Where the division leaves a hair above a whole number, it is that number.
            steps = max(1, math.ceil(self.epochs * length / batch - 1e-6))
            found |= {"steps": steps, "epochs": None}
        if self.evaluate_every is None:
            found["evaluate_every"] = max(math.ceil(length / batch), math.ceil(steps / 20))
        return found

    def of_seed(self, seed: int) -> Self:
        """The recipe of the run of one of `seeds`."""
        return dataclasses.replace(self, seed=seed, seeds=(), seeds_as="loop")

    def check_new(self) -> None:
        """Refuse what a run that goes on may have and a new one may not; all is settled."""

    def remembering(self, earlier: Self | None) -> Self:
        """The recipe with what its run must remember of things that may go: nothing, by default.

        Args:
            earlier: that of the run which goes on; None for a new run.

        Raises:
            Refused: a new run can't be as the recipe says.
        """
        del earlier
        return self

    def trainings(self) -> dict[str, Sequence[str]]:
        """Where a run is no training by itself: the field that says so, and its values for one."""
        return {}

    def known(self) -> dict[str, Sequence[str]]:
        """Fields that are one of many names, and these: for `--help`."""
        return {}

    def idle(self, about: About) -> dict[str, str]:
        """Fields that can have no effect as the others and the data are, and why.

        A field that turns something off is none of them where there is nothing to turn off.
        """
        del about
        found = {}
        if self.seeds:
            found["seed"] = f"the runs are of seeds={self.seeds}"
        else:
            found["seeds_as"] = "seeds=() names none"
        if self.on_corrupt == "stop":
            found["corrupt_limit"] = "on_corrupt='stop' ends the run at the first"
        return found


def refuse_idle(module: ModuleType, config: Recipe, about: About) -> None:
    """Refuse a field that was set and has no effect.

    Args:
        module: the experiment's. What is neither as its `recipe` has it nor as its `Config` has by
            default was set.
        config: its `Config`.
        about: of the training data.

    Raises:
        Refused: names the field, its value and why.
    """
    idle = config.idle(about)
    if not idle:
        return
    usual = {field.name: [field.default] for field in dataclasses.fields(config)}
    if hasattr(module, "recipe"):
        choosing = inspect.signature(module.recipe).parameters
        recipe = module.recipe(**{name: getattr(config, name) for name in choosing})
        for name, values in usual.items():
            values.append(getattr(recipe, name))
    for name, why in idle.items():
        if (value := getattr(config, name)) not in usual[name]:
            raise Refused(f"{name}={value!r} has no effect: {why}")


def batch_for(length: int, largest: int, slices: int) -> int:
    """A batch of at most a quarter of the examples: a power of 2, less what `slices` leave over.

    With few examples or many slices it is the least that can be: one example a slice.
    """
    most = max(1, min(largest, length // 4))
    batch = 2 ** (most.bit_length() - 1)
    return max(batch // slices, 1) * slices


def decided(value: T | None) -> T:
    """The value of a field that may be left open, in a recipe that is settled."""
    assert value is not None, "a field is left open until the data are known"
    return value


RUNTIME = frozenset(field.name for field in dataclasses.fields(Runtime))


def choice(config: Any, name: str, valid: Iterable[str]) -> None:
    """Refuse a field that is none of the valid names."""
    choose(name, getattr(config, name), valid)


def positive(config: Any, *names: str) -> None:
    """Refuse a field that is not above 0; None is left open."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 < value < math.inf:
            raise Refused(f"{name}={value} must be above 0")


def nonnegative(config: Any, *names: str) -> None:
    """Refuse a field that is below 0; None is left open."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 <= value < math.inf:
            raise Refused(f"{name}={value} must not be below 0")


def at_least(config: Any, **limits: float) -> None:
    """Refuse a field that is less than its limit, or not finite."""
    for name, limit in limits.items():
        if not limit <= getattr(config, name) < math.inf:
            raise Refused(f"{name}={getattr(config, name)} must be finite and at least {limit}")


def below(config: Any, **limits: float) -> None:
    """Refuse a field that reaches its limit."""
    for name, limit in limits.items():
        if not getattr(config, name) < limit:
            raise Refused(f"{name}={getattr(config, name)} must be below {limit}")


def fraction(config: Any, *names: str) -> None:
    """Refuse a field outside [0, 1)."""
    for name in names:
        if not 0 <= getattr(config, name) < 1:
            raise Refused(f"{name}={getattr(config, name)} must lie in [0, 1)")
