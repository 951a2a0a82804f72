"""Trained: what the recipes of most experiments repeat, and how parameters move by it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import optax

from train import finetune, optim
from train.accumulate import accumulated
from train.experiment import Recipe, fraction, nonnegative, positive
from train.step import gradient


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


@dataclass(frozen=True, kw_only=True)
class FineTuned(Trained):
    """A recipe that may start from trained weights.

    Attributes:
        init_from: a file of torchvision's weights, .safetensors or .pth, to start from; "" starts
            from random ones. Images are then normalised by ImageNet's statistics.
        freeze: with commas, what keeps its weights: paths such as "backbone/stem", or "backbone".
    """

    init_from: str = ""
    freeze: str = ""

    @property
    def frozen(self) -> list[str]:
        """The paths in `freeze`."""
        return [path for each in self.freeze.split(",") if (path := each.strip())]


Rule = Callable[..., optax.GradientTransformation]
"""(rate, weight_decay=…, clip_norm=…) -> an optimiser, see `train.optim`."""


def descent(
    config: Trained,
    rule: Rule,
    schedule: optim.Shape,
    *,
    scaled: Callable[[Any], Any] = lambda rate: rate,
    frozen: list[str] | None = None,
) -> dict[str, Any]:
    """The fields of `Parts` that say how parameters move.

    Args:
        config: the recipe.
        rule: the optimiser.
        schedule: of the learning rate, as a share of its peak; the warm-up is added.
        scaled: changes what scales the updates by the rate.
        frozen: paths of parameters that stay as they are.

    Returns:
        `optimizer`, `hyper`, `gradient` (over slices of the batch where the recipe accumulates) and
        `average`.
    """
    schedule = optim.warmed(schedule, config.warmup_steps)

    def optimizer(hyper: dict[str, Any]) -> optax.GradientTransformation:
        rate = scaled(optim.scale_by_rate(schedule, hyper["learning_rate"]))
        moving = rule(rate, weight_decay=hyper["weight_decay"], clip_norm=config.clip_norm)
        return finetune.frozen(moving, frozen or [])

    return {
        "optimizer": optimizer,
        "hyper": {"learning_rate": config.learning_rate, "weight_decay": config.weight_decay},
        "gradient": accumulated(config.accumulation) if config.accumulation > 1 else gradient,
        "average": optim.moving_average(config.ema) if config.ema else None,
    }
