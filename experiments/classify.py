"""Any classifier on any set of images with one label each, from random or from trained weights.

python experiments/classify.py --model lenet5 --data fashion_mnist
python experiments/classify.py --model vgg11_bn --data digits --size 32
python experiments/classify.py --model resnet18 --data beans --size 224 --learning-rate 0.01 \
    --init-from resnet18.safetensors --freeze backbone/stem,backbone/stage1_block1 \
    --frozen-norm True --backbone-rate 0.1
python experiments/classify.py --model resnet18 --data folder:DIR --size 224 --workers 2
python experiments/classify.py --workdir DIR             goes on with the run in DIR

Fashion-MNIST on two CPU cores (AMD EPYC, AVX-512), one seed each, with other work beside: plain_cnn
0.9351 in 21 minutes; lenet5 with --steps 20000 0.9144 in 8; mlp with --pad 0 --mirror False 0.9006
in one. LeNet on MNIST has not been measured.
"""

import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import optax
from jax import lax

import models
from models.layers.norm import BatchNorm, FrozenBatchNorm
from train import cli, finetune, optim
from train.augment import chain, flip, pad_and_crop
from train.data.host import CentreCrop, Host, Letterbox, RandomResizedCrop
from train.data.source import About
from train.experiment import Parts, choice, fraction, nonnegative, positive
from train.network import network_of
from train.recipes import of_set, resolved
from train.refusal import Refused
from train.report.classification import classification_part
from train.run import run
from train.sized import on_device, on_host, smallest
from train.tasks import adapt
from train.tasks.classification import classification
from train.tasks.task import Summary
from train.trained import FineTuned, descent, splits

__all__ = ["Config", "build", "main", "recipe", "splits"]
NAME = f"experiments.{Path(__file__).stem}"


@dataclass(frozen=True, kw_only=True)
class Config(FineTuned):
    """The recipe.

    Attributes:
        data: "digits", any TFDS set of one-label images, or "folder:PATH" with a folder a class;
            with "auto", Fashion-MNIST where it is prepared and the embedded digits elsewhere.
        model: any classifier of `models.names()`.
        size: height and width in pixels that images are brought to, on the device; 0 leaves them
            as they are, or takes the smallest size that the network can. Images of many shapes are
            brought to it on the host: in training a random crop, resized; to be tested the middle,
            their shorter side resized to 256/224 of it.
        by: "resize" brings images of one shape there bilinearly, "pad" by black around them; images
            of many shapes are then not cropped, but shrunk until all of them fits.
        crop_area: least share of an image of many shapes that its random crop takes, up to 1.
        learning_rate: at its peak; from there half a cosine takes it to 0. Trained weights want a
            tenth of what random ones do.
        momentum: of SGD, Nesterov's, 0..1.
        weight_decay: of kernels, in the gradient.
        label_smoothing: 0..1.
        pad: pixels of padding around the random crop of images of one shape.
        init_from: what to start from: a file of torchvision's weights for this model, .safetensors
            or .pth, or the directory of a run of any model with the same backbone. Images are then
            normalised by ImageNet's statistics, or that run's, and grey ones made colour for it.
        freeze: with commas, what keeps its weights: paths such as "backbone/stem", or "backbone".
            Statistics of BatchNorms there still move, unless `frozen_norm` is True.
        frozen_norm: whether all BatchNorms keep their statistics, scale and bias.
        backbone_rate: factor of the learning rate within the backbone.
    """

    WITH_WEIGHTS: ClassVar[tuple[str, ...]] = ("freeze", "frozen_norm", "backbone_rate")

    data: str = "fashion_mnist"
    model: str = "plain_cnn"
    size: int = 0
    by: Literal["resize", "pad"] = "resize"
    crop_area: float = 0.08
    steps: int = 10_000
    batch_size: int = 128
    learning_rate: float = 0.1
    warmup_steps: int = 500
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    ema: float = 0.999
    pad: int = 2
    frozen_norm: bool = False
    backbone_rate: float = 1.0
    evaluate_every: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        choice(self, "model", models.names("classification"))
        positive(self, "crop_area")
        if self.crop_area > 1:
            raise Refused(f"crop_area={self.crop_area} must not be above 1")
        nonnegative(self, "size", "pad", "backbone_rate")
        fraction(self, "momentum", "label_smoothing")

    def idle(self, about: About) -> dict[str, str]:
        """Fields that have no effect, and why."""
        found = super().idle(about)
        if about.shape is not None:
            found["crop_area"] = f"images of {about.name} are of one shape, and not cropped so"
        elif self.by == "pad":
            found["crop_area"] = "by='pad' crops nothing"
        if self.pad and about.shape is None:
            found["pad"] = f"images of {about.name} are of many shapes, and cropped otherwise"
        if finetune.BACKBONE in self.frozen:
            found["backbone_rate"] = f"freeze={self.freeze!r} keeps the backbone as it is"
        return found


FASHION_MNIST = Config()
"""1,280,000 images: 24 passes over the 54,000 that train."""

DIGITS = Config(data="digits", steps=400, batch_size=64, warmup_steps=50, ema=0.99, pad=1)
"""The embedded digits: a minute for a small network on two CPU cores."""

SLOW: dict[str, Any] = {"learning_rate": 0.01}
OWN: dict[str, dict[str, Any]] = {
    "lenet5": {"learning_rate": 0.05},
    "lenet5_1998": {**SLOW, "clip_norm": 1.0},
    "mlp": {"learning_rate": 0.05},
    **dict.fromkeys(("alexnet", "alexnet_2012", "vgg11", "vgg13", "vgg16", "vgg19"), SLOW),
    "googlenet_2014": SLOW,
    "inception_v3": {"auxiliary_weight": 0.4},
}
"""What a model wants otherwise: most without BatchNorm diverge at a rate of 0.1."""


def recipe(data: str = "auto", model: str = FASHION_MNIST.model) -> Config:
    """The recipe for a data set and a model."""
    config = of_set(resolved(data, "fashion_mnist"), {"digits": DIGITS}, FASHION_MNIST)
    return replace(config, model=model, **OWN.get(model, {}))


def build(config: Config, about: About, *, conv=lax.conv_general_dilated, norm=BatchNorm) -> Parts:
    """Network, task, optimiser, augmentation and what the network starts from; needs no data."""
    mean, std = config.statistics(about)
    coloured = config.init_from and len(mean) == 3
    network = network_of(
        config,
        len(about.classes),
        conv=conv,
        norm=FrozenBatchNorm if config.frozen_norm else norm,
        auxiliary=config.auxiliary_weight > 0,
    )
    sized = on_device(config.size, config.by, about, least=smallest(network), model=config.model)
    task = classification(
        network,
        num_classes=len(about.classes),
        mean=mean,
        std=std,
        adapt=adapt.both(sized, adapt.coloured if coloured else adapt.as_it_is),
        label_smoothing=config.label_smoothing,
        auxiliary_weight=config.auxiliary_weight,
    )
    host = brought(config, about)
    shape = about.shape or (config.size, config.size, len(mean))
    if config.frozen_norm and not finetune.normalises(network, task, shape):
        raise Refused(f"frozen_norm=True: {config.model} has no BatchNorm")
    slower = {finetune.BACKBONE: config.backbone_rate}
    stages = [
        *([pad_and_crop(config.pad)] if config.pad and host is None else []),
        *([flip()] if about.mirror and config.mirror else []),
    ]
    return Parts(
        network=network,
        task=task,
        transform=chain(*stages, fill=about.mean or 0.0) if stages else None,
        rank="accuracy",
        report=[classification_part],
        weights=config.start,
        host=host,
        **descent(
            config,
            partial(optim.sgd, momentum=config.momentum, nesterov=True),
            optim.cosine(config.steps),
            scaled=lambda rate: (
                rate if config.backbone_rate == 1 else optax.chain(finetune.rates(slower), rate)
            ),
        ),
    )


def brought(config: Config, about: About) -> tuple[Host, Host] | None:
    """How the host brings images of many shapes to one, in training and to be tested."""
    if about.shape is not None:
        return None
    if config.by == "pad":
        return on_host(config.data, config.size, Letterbox(fill=0))
    crop = RandomResizedCrop(area=(config.crop_area, 1.0))
    return on_host(config.data, config.size, crop, CentreCrop())


def main(config: Config) -> Summary:
    """Train and report."""
    return run(sys.modules[__name__], config)


if __name__ == "__main__":
    sys.exit(cli.command_line(NAME))
