"""Trained: what the recipes of most experiments repeat, and how parameters move by it."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import optax
from tyro.conf import Fixed, Suppress

import models
from train import finetune, optim, weights, workdir
from train.accumulate import accumulated
from train.data import voc
from train.data.limited import limited
from train.data.named import Splits, named, refuse_other, with_validation
from train.data.source import About
from train.experiment import Recipe, decided, fraction, nonnegative, positive
from train.refusal import Refused
from train.step import gradient

WARMUP, SHORTEST_WARMUP, LONGEST_WARMUP = 0.05, 50, 0.2
"""Of a warm-up that nobody asked for: the share of the steps that it takes; but not fewer than so
many steps; and at most this share of them, which comes first. One of a recipe may take as much."""

Mirror = Literal["auto", "yes", "no"] | bool
"""Earlier runs have a bool: True mirrors only sets that are known to keep their class by it."""

Statistics = tuple[Sequence[float], Sequence[float]]
"""Mean and standard deviation of each channel, 0..255."""


@dataclass(frozen=True, kw_only=True)
class Trained(Recipe):
    """A recipe of gradient descent.

    Attributes:
        learning_rate: at its peak; None only where the experiment says what becomes of it.
        warmup_steps: updates over which the rate rises to its peak; None takes 5 % of the
            steps, but at least 50 of them, or a fifth where that is fewer.
        weight_decay: of kernels; how, the experiment's optimiser says.
        clip_norm: largest global norm of a gradient; 0 leaves it as it is.
        ema: decay of the averaged weights that are evaluated, 0..1; 0 averages nothing.
        dtype: of the network's arithmetic; parameters and logits are float32.
        validation: share of the training split that ranks checkpoints; where the set has no
            validation split; 0 trains on all of it and takes the last weights.
    """

    learning_rate: float | None
    warmup_steps: int | None = 0
    weight_decay: float = 0.0
    clip_norm: float = 0.0
    ema: float = 0.0
    dtype: Literal["float32", "bfloat16"] = "float32"
    validation: float = 0.1

    reads: ClassVar[Literal["image", "signal"]] = "image"
    """What the network is given; a set of something else is refused."""
    OF_NETWORK: ClassVar[tuple[str, ...]] = ()
    """Fields that are the network's, under the same name. Left at their default, whatever it is,
    they are as the variant has them: so one default stands for all networks."""

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "learning_rate")
        nonnegative(self, "warmup_steps", "weight_decay", "clip_norm")
        fraction(self, "ema", "validation")

    @property
    def undecided(self) -> set[str]:
        """Fields that `settled` may yet change."""
        return super().undecided | ({"warmup_steps"} if self.warmup_steps is None else set())

    def settled(self, about: About, length: int, slices: int) -> dict[str, Any]:
        """As `Recipe.settled`; a warm-up is a share of the steps."""
        found = super().settled(about, length, slices)
        if self.warmup_steps is None:
            steps = decided(found.get("steps", self.steps))
            found["warmup_steps"] = int(
                min(max(WARMUP * steps, SHORTEST_WARMUP), LONGEST_WARMUP * steps)
            )
        return found

    def check_new(self) -> None:
        """Refuse a warm-up that does not end before the run does."""
        super().check_new()
        steps, warmup = decided(self.steps), decided(self.warmup_steps)
        if warmup >= steps:
            raise Refused(
                f"warmup_steps={warmup} is not shorter than steps={steps}: the rate would not "
                f"come to learning_rate={self.learning_rate}; --warmup-steps 0 warms up none"
            )

    @property
    def of_network(self) -> dict[str, Any]:
        """Fields of the network that the recipe sets: those of `OF_NETWORK` with another value."""
        usual = {field.name: field.default for field in fields(self)}
        values = {name: getattr(self, name) for name in self.OF_NETWORK}
        return {name: value for name, value in values.items() if value != usual[name]}

    @property
    def frozen(self) -> list[str]:
        """Paths of parameters that keep their weights."""
        return []

    def statistics(self, about: About) -> Statistics:
        """By which images are normalised."""
        assert about.mean, "channel statistics have not been measured"
        assert about.std
        return about.mean, about.std


@dataclass(frozen=True, kw_only=True)
class FineTuned(Trained):
    """A recipe of a network of `models.names()` on images, which may start from trained weights.

    Attributes:
        auxiliary_weight: of auxiliary heads in the loss, where the network has any; with 0 it is
            built without.
        mirror: whether images are also mirrored: left to right, in training. "auto" mirrors, except
            in sets that are known to change their class by it, such as digits.
        init_from: a file of torchvision's weights, .safetensors or .pth, or the directory of a run,
            to start from; "" starts from random ones. Images are then normalised by ImageNet's
            statistics, or by those of that run.
        freeze: with commas, what keeps its weights: paths such as "backbone/stem", or "backbone";
            "all" keeps everything.
        init_statistics: mean and standard deviation by which the run in `init_from` normalised
            images. A new run finds them there, and later readers of it need that directory no more.
            () where it is a file.
    """

    WITH_WEIGHTS: ClassVar[tuple[str, ...]] = ("freeze",)
    """Fields that would keep or slow random weights, and so need `init_from`."""
    FROM_WEIGHTS: ClassVar[tuple[str, ...]] = ()
    """Fields that weights may ask for, see `train.weights.asked_by`: left as they are by default,
    they become what the weights in `init_from` want."""

    auxiliary_weight: float = 0.3
    mirror: Mirror = "auto"
    init_from: str = ""
    freeze: str = ""
    init_statistics: Annotated[tuple[tuple[float, ...], ...], Fixed, Suppress] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        nonnegative(self, "auxiliary_weight")
        # Which no shell does in `--init-from=~/w.pth`.
        object.__setattr__(self, "init_from", os.path.expanduser(self.init_from))

    def remembering(self, earlier: Self | None) -> Self:
        """The recipe with `init_statistics` and `FROM_WEIGHTS`.

        As the run that goes on has them, or found anew.

        Raises:
            Refused: a new run can't start from `init_from`, or has a field that needs it; or the
                weights ask for a field that this recipe has not.
        """
        usual = {field.name: field.default for field in fields(self)}
        open_ = {name for name in self.FROM_WEIGHTS if getattr(self, name) == usual[name]}
        if earlier is not None:
            kept = {name: getattr(earlier, name) for name in open_}
            return replace(self, init_statistics=earlier.init_statistics, **kept)
        if not self.init_from:
            for name in self.WITH_WEIGHTS:
                if (value := getattr(self, name)) != usual[name]:
                    raise Refused(f"{name}={value!r} needs trained weights: init_from is empty")
            return replace(self, init_statistics=())
        found = weights.statistics_of(self.model, self.init_from)
        asked = weights.asked_by(self.model, self.init_from)
        for name, value in asked.items():
            if name not in self.FROM_WEIGHTS:
                raise Refused(
                    f"init_from={self.init_from!r}: its weights want {name}={value}, which no "
                    f"recipe of {self.model} has here"
                )
        return replace(
            self,
            init_statistics=found if os.path.isdir(self.init_from) else (),
            **{name: value for name, value in asked.items() if name in open_},
        )

    def mirrors(self, about: About) -> bool:
        """Whether to train on mirror images of a set."""
        if isinstance(self.mirror, bool):
            return self.mirror and about.mirror is True
        return self.mirror == "yes" or (self.mirror == "auto" and about.mirror is not False)

    @property
    def undecided(self) -> set[str]:
        """Fields that `settled` may yet change."""
        return super().undecided | ({"mirror"} if self.mirror == "auto" else set())

    def settled(self, about: About, length: int, slices: int) -> dict[str, Any]:
        """As `Trained.settled`; whether to mirror is known."""
        found = super().settled(about, length, slices)
        if self.mirror == "auto":
            found["mirror"] = "yes" if self.mirrors(about) else "no"
        return found

    def idle(self, about: About) -> dict[str, str]:
        """Fields that have no effect, and why."""
        found = super().idle(about)
        if self.auxiliary_weight and not models.variant(self.model).auxiliary:
            found["auxiliary_weight"] = f"{self.model} has no auxiliary heads"
        return found

    @property
    def frozen(self) -> list[str]:
        """The paths in `freeze`."""
        return [path for each in self.freeze.split(",") if (path := each.strip())]

    @property
    def start(self) -> Callable[..., finetune.Weights] | None:
        """() -> the weights in `init_from`; None for random ones. See `Parts.weights`.

        A detector's data have names of classes for it, see `train.weights.weights_of`.
        """
        if not self.init_from:
            return None
        return partial(weights.weights_of, self.model, self.init_from)

    def statistics(self, about: About) -> Statistics:
        """By which images are normalised: as they were for the weights in `init_from`.

        Raises:
            Refused: they are for images of another number of channels; or a run is in `init_from`
                of which the weights can't be used.
        """
        measured = super().statistics(about)
        if not self.init_from:
            return measured
        if self.init_statistics:
            mean, std = self.init_statistics
        elif os.path.isdir(self.init_from):  # of a recipe that no run has settled
            mean, std = weights.statistics_of(self.model, self.init_from)
        else:
            mean, std = weights.statistics_of_file(self.init_from)
        weights.check_channels((mean, std), len(measured[0]), self.init_from)
        return mean, std


def splits(
    config: Trained, want: str = "label", classes: Sequence[str] = (), outside: bool = False
) -> Splits:
    """The set's own validation split, or a part of its training split, the same for every seed.

    Args:
        config: names the set in `data`, and says how many pixels a picture may have.
        want: of its annotations, see `train.data.named.named`.
        classes: of them, where the set does not say; see there too.
        outside: whether names in the set's files may lead out of it; likewise.
    """
    earlier = mask_classes(config.workdir)
    if not classes and earlier == voc.MASK_CLASSES and goes_on(config):
        classes = earlier  # whatever list lies there: earlier versions read none
    read = partial(named, config.data, want, classes, earlier=earlier, outside=outside)
    data = refuse_other(limited(read, config.max_pixels), config.reads)
    return with_validation(data, config.validation)


def goes_on(config: Trained) -> bool:
    """Whether the run in its directory is one of these data, in VOC's folders."""
    if config.workdir is None or not config.data.startswith("voc:"):
        return False
    values = workdir.read(config.workdir, workdir.CONFIG)
    return values is not None and values.get("data") == config.data


def mask_classes(path: Path | None) -> tuple[str, ...]:
    """Of the run in `path`, or of the first of several; () where there is none."""
    for each in [] if path is None else [path, *sorted(path.glob("seed_*"))]:
        if (about := workdir.decoded(each, workdir.ABOUT, About)) is not None:
            return about.mask_classes
    return ()


Rule = Callable[..., optax.GradientTransformation]
"""(rate, weight_decay=…, clip_norm=…) -> an optimiser, see `train.optim`."""


def descent(
    config: Trained,
    rule: Rule,
    schedule: optim.Shape,
    *,
    scaled: Callable[[Any], Any] = lambda rate: rate,
) -> dict[str, Any]:
    """The fields of `Parts` that say how parameters move.

    Args:
        config: the recipe.
        rule: the optimiser.
        schedule: of the learning rate, as a share of its peak; the warm-up is added.
        scaled: changes what scales the updates by the rate.

    Returns:
        `optimizer`, `hyper`, `gradient` (over slices of the batch where the recipe accumulates) and
        `average`.
    """
    schedule = optim.warmed(schedule, decided(config.warmup_steps))

    def optimizer(hyper: dict[str, Any]) -> optax.GradientTransformation:
        rate = scaled(optim.scale_by_rate(schedule, hyper["learning_rate"]))
        moving = rule(rate, weight_decay=hyper["weight_decay"], clip_norm=config.clip_norm)
        return finetune.frozen(moving, config.frozen)

    return {
        "optimizer": optimizer,
        "hyper": {
            "learning_rate": decided(config.learning_rate),
            "weight_decay": config.weight_decay,
        },
        "gradient": accumulated(config.accumulation) if config.accumulation > 1 else gradient,
        "average": optim.moving_average(config.ema) if config.ema else None,
    }
