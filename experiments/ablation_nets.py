r"""Classifiers whose parts are fields, on a fixed part of a set: what ablations vary.

python experiments/ablation_nets.py --model resnet32 --shortcut none
python experiments/ablation_nets.py --model resnet20 --norm none --learning-rate 0.01
python experiments/ablation_nets.py --stages 2,2,2 --dilations 1,2
python experiments/ablation_nets.py --downsample subsample --seeds 0 1 2 3 4
python experiments/ablation_nets.py --workdir DIR        goes on with the run in DIR

`ablate.py` compares them; its tables of `ablate_tables.py` are made of this experiment.
"""

import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

if __name__ == "__main__":  # what it imports stands beside it, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from train.stop import end_quietly

    end_quietly()  # before the other imports, which take seconds

import jax
import numpy as np

import models
from experiments import classify
from experiments.classify import build, fitted
from models.layers.norm import NoNorm
from train import cli, finetune
from train.data.named import Splits
from train.data.source import About
from train.data.subset import cut
from train.experiment import nonnegative
from train.network import refuse_other_fields
from train.recipes import of_set, resolved
from train.run import run
from train.sized import smallest
from train.tasks.task import Summary
from train.trained import splits as all_splits

__all__ = ["Config", "build", "main", "recipe", "splits"]
NAME = f"experiments.{Path(__file__).stem}"


@dataclass(frozen=True, kw_only=True)
class Config(classify.Config):
    """The recipe: that of `classify.py`, and the network's parts.

    A part that the network does not have is refused.

    Attributes:
        examples: train on so many alone: of each class its share, the same for every seed; 0 takes
            all.
        shortcut: of a ResNet's blocks (He et al. 2015, section 4.1): "A" appends zeros, "B"
            projects where the shape changes, "C" everywhere; "none" makes it a plain network.
        norm: "none" puts a bias in the place of every BatchNorm.
        stages: convolutions, or blocks, of each stage.
        channels: of each stage's map.
        kernel_size: of `plain_cnn`'s convolutions, odd; 0 is its own, 3.
        dilations: of the convolutions of each stage of `plain_cnn` in turn.
        downsample: how `plain_cnn` halves a map: by the "max" or "average" of 2x2, by every second
            value ("subsample"), or by the "stride" of the next convolution.
    """

    OF_NETWORK: ClassVar[tuple[str, ...]] = (
        "shortcut",
        "stages",
        "channels",
        "kernel_size",
        "dilations",
        "downsample",
    )

    examples: int = 10_000
    shortcut: Literal["own", "A", "B", "C", "none"] = "own"
    norm: Literal["batch", "none"] = "batch"
    stages: tuple[int, ...] = ()
    channels: tuple[int, ...] = ()
    kernel_size: int = 0
    dilations: tuple[int, ...] = ()
    downsample: Literal["own", "max", "average", "subsample", "stride"] = "own"

    def __post_init__(self) -> None:
        super().__post_init__()
        nonnegative(self, "examples", "kernel_size")
        refuse_other_fields(self)

    @property
    def of_network(self) -> dict[str, Any]:
        """As the base's; without normalisation, what stands in its place too."""
        return super().of_network | ({"norm": NoNorm} if self.norm == "none" else {})

    def idle(self, about: About) -> dict[str, str]:
        """Fields that have no effect, and why."""
        found = super().idle(about)
        if self.norm == "none" and not normalised(self.model, about):
            found["norm"] = f"{self.model} has no BatchNorm"
        return found


def normalised(model: str, about: About) -> bool:
    """Whether a network has a BatchNorm that could be left out; nothing is computed."""
    network = models.create(model, num_classes=1)
    side = max(smallest(network), *(about.shape or (1, 1))[:2])
    x = jax.ShapeDtypeStruct((1, side, side, len(about.mean or "x")), np.float32)
    return finetune.normalises(partial(network.init, train=False), x)


FASHION_MNIST = Config(
    steps=1000,
    warmup_steps=50,
    ema=0.0,
    validation=0.0,
    weights="last",
)
"""For a few minutes on two CPU cores. Nothing is held out: the weights of the last step are \
judged, once."""

DIGITS = replace(
    FASHION_MNIST, data="digits", steps=400, batch_size=64, pad=1, mirror="no", examples=0
)


def recipe(
    data: str = "auto",
    model: str = FASHION_MNIST.model,
    optimizer: str = FASHION_MNIST.optimizer,
) -> Config:
    """The recipe for a data set, a network and an optimiser."""
    config = of_set(resolved(data, FASHION_MNIST.data), {"digits": DIGITS}, FASHION_MNIST)
    return fitted(config, model, optimizer)


def splits(config: Config) -> Splits:
    """As those of `classify.py`, of a part of the examples that train."""
    data = all_splits(config)
    if not 0 < config.examples < len(data.train):
        return data
    share = config.examples / len(data.train)
    _, part = cut(data.train, share, seed=0, splits=("train", "train"))
    return data._replace(train=part)


def main(config: Config) -> Summary:
    """Train and report."""
    return run(sys.modules[__name__], config)


if __name__ == "__main__":
    sys.exit(cli.command_line(NAME))
