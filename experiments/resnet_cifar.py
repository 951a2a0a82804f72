"""ResNet on CIFAR-10 (He et al. 2015, section 4.2), or on whatever data there is.

python experiments/resnet_cifar.py                       CIFAR-10 if prepared, else digits
python experiments/resnet_cifar.py --data cifar10        CIFAR-10, prepared first if need be
python experiments/resnet_cifar.py --data fashion_mnist  any TFDS set of one-label images
python experiments/resnet_cifar.py --workdir DIR         goes on with the run in DIR

ResNet-20 on two CPU cores (AMD EPYC, AVX-512): digits in 1.2 minutes, 0.9915 ± 0.0020 (5 seeds);
Fashion-MNIST in 59 minutes, 0.9446 (one seed). CIFAR-10 has not been measured.
"""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

if __name__ == "__main__":  # what it imports stands beside it, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from train.stop import end_quietly

    end_quietly()  # before the other imports, which take seconds

from jax import lax

import models
from models.layers.norm import BatchNorm
from train import cli, optim
from train.augment import chain, flip, pad_and_crop
from train.data.named import Splits, named, refuse_other, with_validation
from train.data.source import About
from train.experiment import Parts, decided, fraction, nonnegative, positive
from train.network import network_of, refuse_other_network
from train.recipes import of_set, resolved
from train.refusal import Refused
from train.report.classification import classification_part
from train.run import run
from train.sized import PICTURES, smallest
from train.tasks.classification import classification
from train.tasks.task import Summary
from train.trained import Trained, descent

NAME = f"experiments.{Path(__file__).stem}"


@dataclass(frozen=True, kw_only=True)
class Config(Trained):
    """The recipe.

    Attributes:
        data: "cifar10", "digits", or any TFDS set of one-label images; "auto" takes CIFAR-10 where
            it is prepared and the embedded digits elsewhere.
        model: resnet20 (32, 44, 56, 110) or resnet18_cifar; or a classifier of `models.names()`.
        schedule: "steps" divides it by 10 at 1/2 and 3/4 of the steps; "cosine" takes it to 0.
        gentle_start: factor of the rate until the training error is under 80 % (ResNet-110: 0.1).
        momentum: of SGD, 0..1.
        nesterov: whether the momentum looks ahead.
        weight_decay: of kernels, in the gradient.
        label_smoothing: share of the label that is spread over all classes, 0..1.
        pad: pixels of padding around the random crop.
    """

    data: str = "cifar10"
    model: str = "resnet20"
    steps: int | None = 64_000
    batch_size: int | None = 128
    learning_rate: float = 0.1
    schedule: Literal["steps", "cosine"] = "steps"
    gentle_start: float = 1.0
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    label_smoothing: float = 0.0
    pad: int = 4
    evaluate_every: int | None = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_other_network(self.model, "classification")
        positive(self, "gentle_start")
        nonnegative(self, "pad")
        fraction(self, "momentum", "label_smoothing")

    def known(self) -> dict[str, Sequence[str]]:
        """All models."""
        return {"model": models.names("classification")}

    def idle(self, about: About) -> dict[str, str]:
        """Fields that have no effect, and why."""
        found = super().idle(about)
        if self.nesterov and not self.momentum:
            found["nesterov"] = "momentum=0 looks nowhere"
        return found


CIFAR10 = Config()
"""The paper's: 64k steps on 45,000 of the training images, the other 5,000 for validation."""

DIGITS = Config(
    data="digits",
    steps=380,
    batch_size=64,
    schedule="cosine",
    warmup_steps=50,
    nesterov=True,
    weight_decay=5e-4,
    ema=0.99,
    evaluate_every=100,
)
"""The embedded digits, in two minutes on two CPU cores."""

FASHION_MNIST = Config(
    data="fashion_mnist",
    steps=16_000,
    schedule="cosine",
    warmup_steps=500,
    nesterov=True,
    weight_decay=5e-4,
    ema=0.999,
    pad=2,
    evaluate_every=1000,
)
"""For an hour on two CPU cores. After 128,000 images a tenth of the training images, held out, \
gave 90.9 % with this padding, 90.4 % with 4 pixels, and 90.8 % with batches of 64."""

NOTE = """\
This run trains on the embedded digits (scikit-learn's 1,797 handwritten digits), not on CIFAR-10, \
with a short recipe of their own. The command make cifar10 gets CIFAR-10 and trains on it."""


def recipe(data: str = "auto", model: str = CIFAR10.model) -> Config:
    """The recipe for a data set and a model: the named one, or CIFAR-10's."""
    known = {config.data: config for config in (CIFAR10, DIGITS, FASHION_MNIST)}
    config = of_set(resolved(data, CIFAR10.data), known, CIFAR10)
    # Section 4.2: 0.1 is "slightly too large to start converging" at 110 layers.
    gentle = 0.1 if model == "resnet110" else config.gentle_start
    return replace(config, model=model, gentle_start=gentle)


def build(config: Config, about: About, *, conv=lax.conv_general_dilated, norm=BatchNorm) -> Parts:
    """Network, task, optimiser and augmentation; needs no data."""
    mean, std = config.statistics(about)
    network = network_of(config, len(about.classes), conv=conv, norm=norm)
    if about.shape is not None and min(about.shape[:2]) < (least := smallest(network)):
        height, width, _ = about.shape
        raise Refused(
            f"model={config.model!r} takes images from {least} pixels on, and those of "
            f"{about.name} are {width}x{height}: {instead(config, least)}"
        )
    task = classification(
        network,
        num_classes=len(about.classes),
        mean=mean,
        std=std,
        label_smoothing=config.label_smoothing,
    )
    steps = decided(config.steps)
    schedules = {"steps": optim.steps(steps, (1 / 2, 3 / 4)), "cosine": optim.cosine(steps)}
    gentle = partial(optim.gentle_until_learning, factor=config.gentle_start)
    stages = [pad_and_crop(config.pad), *([flip()] if about.mirror else [])]
    return Parts(
        network=network,
        task=task,
        # Padded with the mean colour: with zeros once the mean is subtracted, as in the paper.
        transform=chain(*stages, fill=mean),
        rank="accuracy",
        report=[classification_part],
        **descent(
            config,
            partial(optim.sgd, momentum=config.momentum, nesterov=config.nesterov),
            schedules[config.schedule],
            scaled=(lambda rate: rate) if config.gentle_start == 1 else gentle,
        ),
    )


def splits(config: Config) -> Splits:
    """The set's own validation split, or a part of its training split.

    Raises:
        Refused: the images are of many shapes.
    """
    data = refuse_other(named(config.data), config.reads)
    if data.train.about.shape is None:
        raise Refused(
            f"data={config.data!r} has images of many shapes: {instead(config, PICTURES)}"
        )
    return with_validation(data, config.validation)


def instead(config: Config, size: int) -> str:
    """The command that takes images of any size."""
    return (
        f"python experiments/classify.py --data {shlex.quote(config.data)} --model {config.model} "
        f"--size {size} brings them to one size"
    )


def main(config: Config) -> Summary:
    """Train and report."""
    return run(sys.modules[__name__], config, note=NOTE if config.data == "digits" else "")


if __name__ == "__main__":
    sys.exit(cli.command_line(NAME))
