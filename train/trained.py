"""Trained: what the recipes of most experiments repeat, and how parameters move by it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import optax

import models
from train import finetune, optim, workdir
from train.accumulate import accumulated
from train.data.named import Splits, named, with_validation
from train.data.source import About
from train.experiment import Recipe, fraction, nonnegative, positive
from train.step import gradient

Statistics = tuple[Sequence[float], Sequence[float]]
"""Mean and standard deviation of each channel, 0..255."""


@dataclass(frozen=True, kw_only=True)
class Trained(Recipe):
    """A recipe of gradient descent.

    Attributes:
        learning_rate: at its peak.
        warmup_steps: updates over which the rate rises to its peak.
        weight_decay: of kernels; how, the experiment's optimiser says.
        clip_norm: largest global norm of a gradient; 0 leaves it as it is.
        ema: decay of the averaged weights that are evaluated, 0..1; 0 averages nothing.
        dtype: of the network's arithmetic; parameters and logits are float32.
        validation: share of the training split that ranks checkpoints, where the set has no
            validation split; 0 trains on all of it and takes the last weights.
    """

    learning_rate: float
    warmup_steps: int = 0
    weight_decay: float = 0.0
    clip_norm: float = 0.0
    ema: float = 0.0
    dtype: Literal["float32", "bfloat16"] = "float32"
    validation: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "learning_rate")
        nonnegative(self, "warmup_steps", "weight_decay", "clip_norm")
        fraction(self, "ema", "validation")

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
        mirror: whether to train on mirror images too, where these keep their classes.
        init_from: a file of torchvision's weights, .safetensors or .pth, to start from; "" starts
            from random ones. Images are then normalised by ImageNet's statistics.
        freeze: with commas, what keeps its weights: paths such as "backbone/stem", or "backbone".
    """

    auxiliary_weight: float = 0.3
    mirror: bool = True
    init_from: str = ""
    freeze: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        nonnegative(self, "auxiliary_weight")

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
    def start(self) -> Callable[[], dict[str, Any]] | None:
        """() -> the variables in `init_from`; None for random ones. See `Parts.weights`."""
        if not self.init_from:
            return None
        return partial(finetune.torchvision_weights, self.model, self.init_from)

    def statistics(self, about: About) -> Statistics:
        """By which images are normalised: ImageNet's where the weights are from there.

        Raises:
            Refused: weights from there, and images of a number of channels that they can't be for.
        """
        measured = super().statistics(about)
        return finetune.imagenet(len(measured[0])) if self.init_from else measured


def splits(config: Trained, want: str = "label", classes: Sequence[str] = ()) -> Splits:
    """The set's own validation split, or a part of its training split, the same for every seed.

    Args:
        config: names the set in `data`.
        want: of its annotations, see `train.data.named.named`.
        classes: of them, where the set does not say; see there too.
    """
    found = named(config.data, want, classes, earlier=mask_classes(config.workdir))
    return with_validation(found, config.validation)


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
    schedule = optim.warmed(schedule, config.warmup_steps)

    def optimizer(hyper: dict[str, Any]) -> optax.GradientTransformation:
        rate = scaled(optim.scale_by_rate(schedule, hyper["learning_rate"]))
        moving = rule(rate, weight_decay=hyper["weight_decay"], clip_norm=config.clip_norm)
        return finetune.frozen(moving, config.frozen)

    return {
        "optimizer": optimizer,
        "hyper": {"learning_rate": config.learning_rate, "weight_decay": config.weight_decay},
        "gradient": accumulated(config.accumulation) if config.accumulation > 1 else gradient,
        "average": optim.moving_average(config.ema) if config.ema else None,
    }
