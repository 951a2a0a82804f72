"""Any 1-D network on signals with a class each: MNIST-1D, sounds, series in files.

python experiments/sequence.py                                  MNIST-1D, embedded
python experiments/sequence.py --data wav:PATH                  WAV files, a subfolder a class
python experiments/sequence.py --data series:PATH               series in CSV or .npz files
python experiments/sequence.py --data speech_commands           any TFDS set of sounds
python experiments/sequence.py --model tcn                      any 1-D network of models.names()
python experiments/sequence.py --seeds 0 1 2 3 4                mean and deviation of five runs
python experiments/sequence.py --workdir DIR                    goes on with the run in DIR

Series of several lengths are padded, and no network sees the padding. Those of MNIST-1D are trained
on whole (4,000) and tested once, by the last weights, on the published 1,000; the recipe was tried
on a tenth of the 4,000 that did not train (`--validation 0.1`).
"""

import sys
from collections.abc import Callable, Sequence
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
from jax import lax

import models
from models.layers.norm import BatchNorm
from train import cli, optim
from train.augment import (
    amplitude,
    chain,
    cutmix,
    gaussian_noise,
    mixup,
    one_of,
    time_mask,
    time_shift,
)
from train.augment.kinds import Stage
from train.data.batch import Transform
from train.data.source import About
from train.experiment import Parts, choice, decided, fraction, nonnegative
from train.network import network_of, refuse_other_network
from train.recipes import of_set
from train.refusal import Refused, choose
from train.report.classification import classification_part
from train.report.signals import signals_part
from train.run import run
from train.tasks import adapt
from train.tasks.classification import classification
from train.tasks.inputs import first_variables
from train.tasks.task import Summary
from train.trained import Trained, descent, splits

__all__ = ["Config", "build", "main", "recipe", "splits"]
NAME = f"experiments.{Path(__file__).stem}"

RATES: dict[str, dict[str, Any]] = {
    "sgd": {"learning_rate": 0.05, "weight_decay": 5e-4},
    "adamw": {"learning_rate": 2e-3, "weight_decay": 0.05},
    "muon": {"learning_rate": 4e-3, "weight_decay": 0.05},
}
"""What an optimiser wants."""
SCHEDULES: dict[str, Callable[[int], optim.Shape]] = {
    "cosine": optim.cosine,
    "constant": partial(optim.steps, drops=()),
}


@dataclass(frozen=True, kw_only=True)
class Config(Trained):
    """The recipe.

    Attributes:
        data: mnist1d, wav:PATH, series:PATH, or a TFDS set of sounds. wav: is a folder of WAV files
            with a subfolder per class; series: a CSV or .npz file of series, or a folder of one a
            split.
        model: any 1-D network of `models.names("sequence")`; by default "resnet1d_small", of sounds
            "m5", of series in files "resnet1d".
        optimizer: "sgd", "adamw" or "muon", see `train.optim`; each has a learning rate and a
            weight decay of its own by default.
        learning_rate: at its peak.
        schedule: "cosine" takes it from there to 0, "constant" leaves it.
        momentum: of SGD, Nesterov's, 0..1.
        weight_decay: of kernels; in the gradient of SGD, times the rate with the others.
        label_smoothing: share of the label that is spread over all classes, 0..1.
        shift: a signal is moved by up to this share: of its length, in training, either way; 0
            leaves it where it is, 1 moves it anywhere.
        ends: what comes in at the one end: what went out at the other ("around"), or "zeros".
        gain: a training signal is multiplied by 1 - gain .. 1 + gain.
        noise: largest standard deviation of added noise: normal, in training, as a share of the
            channels' own.
        mask: largest share of a signal that is covered: by its mean, in training.
        mixup: blends each signal and its label with another's: by a share of Beta(mixup, mixup); 0
            does not.
        cutmix: the same with a span of another; with both, each signal draws one of them.
        permutation: where each step is taken from, the same in training and in test: time in
            another order. () leaves it as it is.
    """

    data: str = "mnist1d"
    model: str = "resnet1d_small"
    steps: int | None = 5000
    batch_size: int | None = 128
    optimizer: Literal["sgd", "adamw", "muon"] = "adamw"
    learning_rate: float = 2e-3
    schedule: Literal["cosine", "constant"] = "cosine"
    momentum: float = 0.9
    weight_decay: float = 0.05
    warmup_steps: int | None = 200
    evaluate_every: int | None = 1000
    label_smoothing: float = 0.0
    shift: float = 0.0
    ends: Literal["around", "zeros"] = "around"
    gain: float = 0.0
    noise: float = 0.0
    mask: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    permutation: tuple[int, ...] = ()

    reads: ClassVar[Literal["image", "signal"]] = "signal"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_model()
        choice(self, "optimizer", RATES)
        choice(self, "schedule", SCHEDULES)
        choice(self, "ends", ("around", "zeros"))
        nonnegative(self, "noise", "mixup", "cutmix")
        fraction(self, "momentum", "label_smoothing", "gain", "mask")
        if not 0 <= self.shift <= 1:
            raise Refused(f"shift={self.shift} must lie in [0, 1]")
        if sorted(self.permutation) != list(range(len(self.permutation))):
            raise Refused(
                f"permutation={self.permutation} must hold each of 0 .. n - 1 once, n being the "
                "steps of a signal"
            )

    def check_model(self) -> None:
        """Refuse a model that is no 1-D network."""
        refuse_other_network(self.model, "sequence")

    def known(self) -> dict[str, Sequence[str]]:
        """All 1-D networks."""
        return {"model": models.names("sequence")}

    def idle(self, about: About) -> dict[str, str]:
        """Fields that have no effect, and why."""
        found = super().idle(about)
        if self.optimizer != "sgd":
            found["momentum"] = f"{self.optimizer} has its own"
        if not self.shift:
            found["ends"] = "shift=0 moves no signal"
        if self.batch_size == 1:
            alone = "a batch of one signal has no other to mix in"
            found |= {name: alone for name in ("mixup", "cutmix") if getattr(self, name)}
        return found


MNIST1D = Config(validation=0.0, weights="last", shift=1.0, ema=0.99)
"""Moved around their ends as MNIST-1D's own generator moves them."""

OWN = Config(
    model="resnet1d",
    steps=None,
    epochs=60.0,
    batch_size=None,
    warmup_steps=None,
    evaluate_every=None,
)
"""Of series in files, about which nothing is known: none is changed in training."""

SOUNDS = replace(OWN, model="m5", epochs=30.0, shift=0.1, ends="zeros", gain=0.3)
"""A sound begins a little earlier or later, and is a little softer or louder."""


def recipe(data: str = "auto", model: str = "", optimizer: str = "adamw") -> Config:
    """The recipe for a data set, a model ("" for that of the set) and an optimiser."""
    data = "mnist1d" if data == "auto" else data
    config = of_set(data, {"mnist1d": MNIST1D, "series": OWN}, SOUNDS)
    choose("optimizer", optimizer, RATES)
    return replace(config, model=model or config.model, optimizer=optimizer, **RATES[optimizer])  # type: ignore[arg-type]


def build(config: Config, about: About, *, conv=lax.conv_general_dilated, norm=BatchNorm) -> Parts:
    """Network, task, optimiser and augmentation; needs no data.

    Raises:
        Refused: the permutation is of other lengths than the signals, or they can't be mixed.
    """
    mean, std = config.statistics(about)
    network = network_of(config, len(about.classes), conv=conv, norm=norm)
    task = classification(
        network,
        num_classes=len(about.classes),
        mean=mean,
        std=std,
        adapt=in_order(config.permutation, about),
        label_smoothing=config.label_smoothing,
    )
    return Parts(
        network=network,
        task=task,
        transform=augmentation(config, about),
        rank="accuracy",
        report=[classification_part, signals_part],
        init=partial(first_variables, network),
        **descent(
            config,
            optim.by_name(config.optimizer, momentum=config.momentum, nesterov=True),
            SCHEDULES[config.schedule](decided(config.steps)),
        ),
    )


def in_order(permutation: tuple[int, ...], about: About) -> adapt.Adapt:
    """The steps of every signal in another order."""
    if not permutation:
        return adapt.as_it_is
    if about.ragged or about.shape is None or len(permutation) != about.shape[0]:
        raise Refused(
            f"permutation of {len(permutation)} steps, but data={about.name!r} has signals of "
            f"{'several lengths' if about.ragged else about.shape}"
        )
    order = np.asarray(permutation)

    def reorder(signals: jax.Array) -> jax.Array:
        return signals[:, order]

    return reorder


def augmentation(config: Config, about: About) -> Transform | None:
    """What training signals go through on the device: time, values, mixing."""
    if about.ragged and (config.mixup or config.cutmix):
        asked = [f"{name}={getattr(config, name)}" for name in ("mixup", "cutmix")]
        given = [
            one
            for one, name in zip(asked, ("mixup", "cutmix"), strict=True)
            if getattr(config, name)
        ]
        raise Refused(
            f"{' and '.join(given)} needs signals of one length; those of data={about.name!r} are "
            "of several"
        )
    mean, std = config.statistics(about)
    classes = len(about.classes)
    mixing = [
        *([mixup(config.mixup, classes)] if config.mixup else []),
        *([cutmix(config.cutmix, classes)] if config.cutmix else []),
    ]
    stages: list[Stage] = [
        *([time_shift(config.shift, circular=config.ends == "around")] if config.shift else []),
        *([amplitude(config.gain)] if config.gain else []),
        *([gaussian_noise((0.0, config.noise * float(np.mean(std))))] if config.noise else []),
        *([time_mask(config.mask, fill=mean)] if config.mask else []),
        *([one_of(*mixing)] if len(mixing) > 1 else mixing),
    ]
    return chain(*stages) if stages else None


def main(config: Config) -> Summary:
    """Train and report."""
    return run(sys.modules[__name__], config)


if __name__ == "__main__":
    sys.exit(cli.command_line(NAME))
