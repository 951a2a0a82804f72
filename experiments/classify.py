r"""Any classifier on any set of images with one label each, from random or from trained weights.

python experiments/classify.py --model lenet5 --data fashion_mnist
python experiments/classify.py --model vgg11_bn --data digits --size 32
python experiments/classify.py --model resnet18 --data beans --size 224 --learning-rate 0.01 \
    --init-from resnet18.safetensors --freeze backbone/stem,backbone/stage1_block1 \
    --frozen-norm True --backbone-rate 0.1
python experiments/classify.py --model resnet18 --data folder:DIR --workers 2
python experiments/classify.py --model resnet18 --data folder:DIR --init-from resnet18.safetensors \
    --epochs 20 --optimizer adamw --augment trivialaugment --mixup 0.2
python experiments/classify.py --workdir DIR             goes on with the run in DIR

Fashion-MNIST on two CPU cores (AMD EPYC, AVX-512), one seed each, with other work beside: plain_cnn
0.9351 in 21 minutes; lenet5 with --steps 20000 0.9144 in 8; mlp with --pad 0 --mirror no 0.9006
in one. LeNet on MNIST has not been measured.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

if __name__ == "__main__":  # what it imports stands beside it, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from train.stop import end_quietly

    end_quietly()  # before the other imports, which take seconds

import jax
import numpy as np
import optax
from jax import lax

import models
from models.layers.norm import BatchNorm, FrozenBatchNorm
from train import cli, finetune, optim
from train.augment import (
    chain,
    cutmix,
    flip,
    mixup,
    one_of,
    pad_and_crop,
    rand_augment,
    random_erasing,
    trivial_augment_wide,
)
from train.augment.kinds import Paired, Stage
from train.data.batch import Transform
from train.data.host import CentreCrop, Host, Letterbox, RandomResizedCrop
from train.data.source import About
from train.experiment import Parts, choice, decided, fraction, nonnegative, positive
from train.network import network_of, refuse_other_network
from train.recipes import of_set, resolved
from train.refusal import Refused, choose
from train.report.classification import classification_part
from train.run import run
from train.sized import PICTURES, on_device, on_host, smallest
from train.tasks import adapt
from train.tasks.classification import classification
from train.tasks.task import Summary
from train.trained import FineTuned, descent, splits

__all__ = ["Config", "build", "main", "recipe", "splits"]
NAME = f"experiments.{Path(__file__).stem}"


RATES: dict[str, dict[str, Any]] = {
    "sgd": {},
    "adamw": {"learning_rate": 1e-3, "weight_decay": 0.05},
    "muon": {"learning_rate": 4e-3, "weight_decay": 0.05},
}
"""What an optimiser wants otherwise."""

Crop = Literal["auto", "pad", "resized"]


@dataclass(frozen=True, kw_only=True)
class Config(FineTuned):
    """The recipe.

    Attributes:
        data: "folder:PATH", a folder a class; a TFDS set; or "digits"; "auto" takes
            Fashion-MNIST where it is prepared and the embedded digits elsewhere.
        model: any classifier of `models.names()`.
        size: height and width in pixels that images are brought to; 0 leaves them as they are, or
            takes the smallest size that the network can; images of many shapes come to 224.
        by: "resize" brings images there bilinearly; "pad" by black around them: larger ones are
            then not cropped, but shrunk until all of them fits.
        crop: of training images: "pad" at random after `pad` pixels of padding; "resized" a random
            part of them, resized on the host, and to be tested the middle, their shorter side
            resized to 256/224 of `size`. Images of many shapes are always cropped so; "auto" does
            it with images of more than 96 pixels too.
        crop_area: least share of an image that a resized crop takes, up to 1.
        optimizer: "sgd", "adamw" or "muon", see `train.optim`; each has a learning rate and a
            weight decay of its own by default.
        learning_rate: at its peak; from there half a cosine takes it to 0. With one's own pictures
            trained weights (`init_from`) start at a tenth of what random ones do.
        momentum: of SGD, Nesterov's, 0..1.
        weight_decay: of kernels; in the gradient of SGD, times the rate with the others.
        label_smoothing: share of the label that is spread over all classes, 0..1.
        pad: pixels of padding around the random crop; where images are not resized.
        augment: "basic" crops and mirrors; "randaugment" and "trivialaugment" follow on that;
            "none" shows images as they are tested. "auto" is "trivialaugment" with fewer
            than 10,000 training images, unless mirror images are other classes; else "basic".
        mixup: blends each image and its label with another's: by a share of Beta(mixup, mixup); 0
            does not.
        cutmix: the same with a rectangle of another; with both, each image draws one of them.
        erasing: probability that a rectangle is hidden: behind the mean colour, 0..1.
        init_from: trained weights to start from: a file of torchvision's weights for this model,
            .safetensors or .pth, or the directory of a run of any model with the same backbone.
            Images are then normalised by ImageNet's statistics, or that run's, and grey ones made
            colour for it.
        freeze: with commas, what keeps its weights: paths such as "backbone/stem", or "backbone";
            "all" keeps everything.
            Statistics of BatchNorms there still move, unless `frozen_norm` is True.
        frozen_norm: whether all BatchNorms are frozen: their statistics, scale and bias.
        backbone_rate: factor of the learning rate within the backbone.
    """

    WITH_WEIGHTS: ClassVar[tuple[str, ...]] = ("freeze", "frozen_norm", "backbone_rate")

    data: str = "fashion_mnist"
    model: str = "plain_cnn"
    size: int = 0
    by: Literal["resize", "pad"] = "resize"
    crop: Crop = "pad"
    crop_area: float = 0.08
    steps: int | None = 10_000
    batch_size: int | None = 128
    optimizer: Literal["sgd", "adamw", "muon"] = "sgd"
    learning_rate: float | None = 0.1
    warmup_steps: int | None = 500
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    ema: float = 0.999
    pad: int = 2
    augment: Literal["auto", "none", "basic", "randaugment", "trivialaugment"] = "basic"
    mixup: float = 0.0
    cutmix: float = 0.0
    erasing: float = 0.0
    frozen_norm: bool = False
    backbone_rate: float = 1.0
    evaluate_every: int | None = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_other_network(self.model, "classification")
        positive(self, "crop_area")
        if self.crop_area > 1:
            raise Refused(f"crop_area={self.crop_area} must not be above 1")
        choice(self, "optimizer", RATES)
        nonnegative(self, "size", "pad", "backbone_rate", "mixup", "cutmix", "erasing")
        fraction(self, "momentum", "label_smoothing")
        if self.erasing > 1:
            raise Refused(f"erasing={self.erasing} must not be above 1")

    def from_host(self, about: About) -> bool:
        """Whether images come to their size on the host: those of many shapes, and crops of them
        that are resized.
        """
        return about.shape is None or self.crop == "resized"

    def known(self) -> dict[str, Sequence[str]]:
        """All models."""
        return {"model": models.names("classification")}

    @property
    def undecided(self) -> set[str]:
        """Fields that `settled` may yet change."""
        auto = {name for name in ("crop", "augment") if getattr(self, name) == "auto"}
        return super().undecided | auto | (set() if self.size else {"size"})

    def settled(self, about: About, length: int, slices: int) -> dict[str, Any]:
        """As `FineTuned.settled`; how images are augmented and brought to which size is known."""
        found = super().settled(about, length, slices)
        extent = None if about.shape is None else max(about.shape[:2])
        if self.crop == "auto":
            found["crop"] = "resized" if extent is None or extent > SMALL_IMAGE else "pad"
        if self.augment == "auto":
            few = length < FEW and about.mirror is not False
            found["augment"] = "trivialaugment" if few else "basic"
        if self.augment == "none" and found.get("mirror") == "yes":
            found["mirror"] = "no"
        now = replace(self, **found)
        if not self.size and now.from_host(about):
            network = network_of(
                now,
                max(len(about.classes), 1),
                conv=lax.conv_general_dilated,
                norm=BatchNorm,
                auxiliary=self.auxiliary_weight > 0,
            )
            found["size"] = max(min(extent or PICTURES, PICTURES), smallest(network))
        return found

    def idle(self, about: About) -> dict[str, str]:
        """Fields that have no effect, and why."""
        found = super().idle(about)
        if not self.from_host(about):
            found["crop_area"] = (
                f"images of {about.name} are of one shape, and not cropped so without "
                "--crop resized"
            )
        elif self.by == "pad":
            found["crop_area"] = "by='pad' crops nothing"
        if about.shape is None and self.crop == "pad":
            found["crop"] = f"images of {about.name} are of many shapes, and cropped otherwise"
        if self.pad and self.from_host(about):
            how = "are of many shapes, and" if about.shape is None else "are"
            found["pad"] = f"images of {about.name} {how} cropped otherwise"
        if self.augment == "none":
            found |= dict.fromkeys(CROPS, "augment='none' leaves images as they are")
            if self.mirror in ("yes", True):
                found["mirror"] = found["crop"]
        if self.optimizer != "sgd":
            found["momentum"] = f"{self.optimizer} has its own"
        if self.batch_size == 1:
            alone = "a batch of one image has no other to mix in"
            found |= {name: alone for name in ("mixup", "cutmix") if getattr(self, name)}
        if finetune.BACKBONE in self.frozen:
            found["backbone_rate"] = f"freeze={self.freeze!r} keeps the backbone as it is"
        return found


CROPS = ("crop", "crop_area", "pad")

SMALL_IMAGE = 96
"""Height and width above which images are not padded, but cropped and resized."""

FEW = 10_000
"""Training images below which `augment="auto"` is more than basic."""

FASHION_MNIST = Config()
"""1,280,000 images: 24 passes over the 54,000 that train."""

DIGITS = Config(data="digits", steps=400, batch_size=64, warmup_steps=50, ema=0.99, pad=1)
"""The embedded digits: a minute for a small network on two CPU cores."""

OWN_PICTURES = Config(
    steps=None,
    epochs=60.0,
    batch_size=None,
    warmup_steps=None,
    evaluate_every=None,
    crop="auto",
    crop_area=0.25,
)
"""For pictures of somebody's own, and for all sets without a recipe, small ones above all. What is
left open follows from how many train: batches of a quarter of them at most, up to 32."""

FINE_TUNED = replace(OWN_PICTURES, epochs=30.0)
"""The same from trained weights, at a tenth of the rate."""

KNOWN = {
    "digits": DIGITS,
    **dict.fromkeys(
        ("cifar10", "cifar100", "emnist", "fashion_mnist", "kmnist", "mnist", "svhn_cropped"),
        FASHION_MNIST,
    ),
}

SLOW: dict[str, Any] = {"learning_rate": 0.01}
OWN: dict[str, dict[str, Any]] = {
    "lenet5": {"learning_rate": 0.05},
    "lenet5_1998": {**SLOW, "clip_norm": 1.0},
    "mlp": {"learning_rate": 0.05},
    **dict.fromkeys(("alexnet", "alexnet_2012", "vgg11", "vgg13", "vgg16", "vgg19"), SLOW),
    "googlenet_2014": SLOW,
    "inception_v3": {"auxiliary_weight": 0.4},
}
"""What a model wants otherwise: most without BatchNorm diverge at SGD's rate of 0.1."""


def recipe(
    data: str = "auto",
    model: str = FASHION_MNIST.model,
    optimizer: str = FASHION_MNIST.optimizer,
    init_from: str = "",
) -> Config:
    """The recipe for a data set, a model, an optimiser, and random or trained weights."""
    own = FINE_TUNED if init_from else OWN_PICTURES
    config = of_set(resolved(data, "fashion_mnist"), KNOWN, own)
    return fitted(config, model, optimizer, tenth=bool(init_from) and config.epochs is not None)


Fitted = TypeVar("Fitted", bound=Config)


def fitted(config: Fitted, model: str, optimizer: str, *, tenth: bool = False) -> Fitted:
    """A recipe, as a model and an optimiser want it; `tenth` of the rate for trained weights."""
    choose("optimizer", optimizer, RATES)
    config = replace(config, model=model, **OWN.get(model, {}))
    config = replace(config, optimizer=optimizer, **RATES[optimizer])  # type: ignore[arg-type]
    if not tenth or config.learning_rate is None:
        return config
    return replace(config, learning_rate=config.learning_rate / 10)


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
    arriving = replace(about, shape=None) if config.from_host(about) else about
    sized = on_device(config.size, config.by, arriving, least=smallest(network), model=config.model)
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
    shape = arriving.shape or (config.size, config.size, len(mean))
    x = jax.eval_shape(task.inputs, {"image": jax.ShapeDtypeStruct((1, *shape), np.uint8)})
    if config.frozen_norm and not finetune.normalises(partial(network.init, train=False), x):
        raise Refused(f"frozen_norm=True: {config.model} has no BatchNorm")
    slower = {finetune.BACKBONE: config.backbone_rate}
    return Parts(
        network=network,
        task=task,
        transform=augmentation(config, about),
        rank="accuracy",
        report=[classification_part],
        weights=config.start,
        host=host,
        **descent(
            config,
            optim.by_name(config.optimizer, momentum=config.momentum, nesterov=True),
            optim.cosine(decided(config.steps)),
            scaled=lambda rate: (
                rate if config.backbone_rate == 1 else optax.chain(finetune.rates(slower), rate)
            ),
        ),
    )


Policy = Callable[[], tuple[Paired, ...]]
POLICIES: dict[str, Policy] = {
    "randaugment": rand_augment,
    "trivialaugment": trivial_augment_wide,
}


def augmentation(config: Config, about: About) -> Transform | None:
    """What training images go through on the device: geometry, colour, erasing, mixing."""
    basic = config.augment != "none"
    pads = basic and config.pad and not config.from_host(about)
    classes, colour = len(about.classes), about.mean or 0.0
    mixing = [
        *([mixup(config.mixup, classes)] if config.mixup else []),
        *([cutmix(config.cutmix, classes)] if config.cutmix else []),
    ]
    stages: list[Stage] = [
        *([pad_and_crop(config.pad)] if pads else []),
        *([flip()] if basic and config.mirrors(about) else []),
        *(POLICIES[config.augment]() if config.augment in POLICIES else ()),
        *([random_erasing(config.erasing, fill=colour)] if config.erasing else []),
        *([one_of(*mixing)] if len(mixing) > 1 else mixing),
    ]
    return chain(*stages, fill=colour) if stages else None


def brought(config: Config, about: About) -> tuple[Host, Host] | None:
    """How the host brings images to a size, in training and to be tested."""
    if not config.from_host(about):
        return None
    if config.by == "pad":
        return on_host(config.data, config.size, Letterbox(fill=0))
    if config.augment == "none":
        return on_host(config.data, config.size, CentreCrop())
    crop = RandomResizedCrop(area=(config.crop_area, 1.0))
    return on_host(config.data, config.size, crop, CentreCrop())


def main(config: Config) -> Summary:
    """Train and report."""
    return run(sys.modules[__name__], config)


if __name__ == "__main__":
    sys.exit(cli.command_line(NAME))
