r"""Semantic segmentation: U-Net, FCN or DeepLab on any set of images with masks.

python experiments/segment.py                                  U-Net on digit_scenes, embedded
python experiments/segment.py --model fcn8s
python experiments/segment.py --model deeplabv3_resnet50 --data oxford_iiit_pet --size 256 \
    --init-from resnet50.safetensors
python experiments/segment.py --data voc:PATH --size 320
python experiments/segment.py --data folder:PATH --classes background,road,car --size 320
python experiments/segment.py --workdir DIR                    goes on with the run in DIR

The first: mean IoU 0.9226 on the test scenes with seed 0, 0.9251 with seed 1, after 72,000 images
and 28 minutes on two cores of an AMD EPYC with AVX-512 (jax 0.10.2).
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

if __name__ == "__main__":  # what it imports stands beside it, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from train.stop import end_quietly

    end_quietly()  # before the other imports, which take seconds

from jax import lax

import models
from models.layers.norm import BatchNorm
from train import cli, optim, trained
from train.augment import brightness, chain, contrast, dark_ground, flip, rotation, scale, shift
from train.augment.kinds import Stage
from train.augment.tone import with_dark_ground
from train.data.batch import IGNORE, Transform
from train.data.host import Host, Letterbox
from train.data.legend import entries
from train.data.named import Splits, leads
from train.data.source import About
from train.data.subset import with_classes
from train.experiment import Parts, at_least, choice, decided, fraction, nonnegative
from train.network import network_of, refuse_other_network
from train.optim import OPTIMIZERS
from train.refusal import Refused
from train.report.segmentation import segmentation_part
from train.run import run
from train.sized import PICTURES, on_host
from train.tasks.pixel_losses import PixelLoss, cross_entropy, focal, soft_dice, weighted
from train.tasks.segmentation import first_variables, segmentation
from train.tasks.task import Summary
from train.trained import FineTuned, descent

NAME = f"experiments.{Path(__file__).stem}"
Loss = Literal["ce", "dice", "focal", "ce+dice", "focal+dice"]


@dataclass(frozen=True, kw_only=True)
class Config(FineTuned):
    """The recipe.

    Attributes:
        data: a set with masks: "digit_scenes"; one of TFDS, such as "oxford_iiit_pet";
            "folder:PATH", with images/ and masks/; "voc:PATH".
        classes: of the masks, with commas: of "folder:PATH" or "voc:PATH", in the order of the
            values from 0: background,road,car. NAME=255 has another value, NAME=#804080 a colour.
            By default those that a classes.txt or labelmap.txt in the folder lists.
        outside: whether names in files may lead out of PATH: in those of "voc:PATH".
        model: a segmenter of `models.names()`.
        channels: of each level of a U-Net, or of each stage of the backbone of an FCN on VGG-16 or
            of DeepLabV3 on ResNet-18, from the image's size down; none takes the paper's.
        dropout: rate of dropout: in the two lowest levels of a U-Net, behind the hidden layers of
            an FCN on VGG-16; 0 for the one that the model has anyway. Other models have their own.
        size: height and width that images are brought to: in pixels, as large as fits, a border
            around them that does not count; 0 leaves them as they are, and those of many shapes
            come to 224.
        optimizer: "adamw" or "muon", see `train.optim`.
        learning_rate: at its peak; from there half a cosine takes it to 0.
        weight_decay: of kernels, times the rate.
        loss: "ce", cross-entropy; "dice", soft Dice; "focal"; or two of them, added.
        rotate: degrees to either side.
        zoom: images are drawn up to so many times larger or smaller; 1 leaves them.
        move: share of the image's size to either side.
        colour: brightness and contrast change by up to this share.
        dark_ground: whether bright images are seen as their negatives: those above half on average,
            in training and prediction alike.
        least_classes: training images whose masks hold fewer are left out: the background is
            counted; with 0 none are.
        init_from: trained weights to start from: a file of torchvision's weights, .safetensors or
            .pth, for this model or for the classifier of its backbone (U-Net has none; an FCN takes
            VGG-16's dense layers as convolutions; `channels` must be left empty), or the directory
            of a run of such a model. Images are then normalised by ImageNet's statistics, or that
            run's.
    """

    data: str = "digit_scenes"
    classes: str = ""
    outside: bool = False
    model: str = "unet"
    channels: tuple[int, ...] = ()
    dropout: float = 0.0
    size: int = 0
    steps: int | None = 20_000
    batch_size: int | None = 16
    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = 1e-3
    warmup_steps: int | None = 500
    weight_decay: float = 1e-2
    loss: Loss = "ce+dice"
    auxiliary_weight: float = 0.4
    ema: float = 0.999
    rotate: float = 10.0
    zoom: float = 1.25
    move: float = 0.1
    colour: float = 0.3
    dark_ground: bool = False
    least_classes: int = 0
    evaluate_every: int | None = 1000

    largest_batch: ClassVar[int] = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        entries(self.classes)
        refuse_other_network(self.model, "segmentation")
        choice(self, "optimizer", OPTIMIZERS)
        nonnegative(self, "size", "least_classes", "rotate", "move", "colour")
        fraction(self, "dropout")
        choice(self, "loss", get_args(Loss))
        at_least(self, zoom=1)

    def known(self) -> dict[str, Sequence[str]]:
        """All models."""
        return {"model": models.names("segmentation")}

    def idle(self, about: About) -> dict[str, str]:
        """Fields that have no effect, and why."""
        found = super().idle(about)
        if not leads(self.data):
            found["outside"] = f"data={self.data!r} names no files"
        return found

    @property
    def undecided(self) -> set[str]:
        """Fields that `settled` may yet change."""
        return super().undecided | (set() if self.size else {"size"})

    def settled(self, about: About, length: int, slices: int) -> dict[str, Any]:
        """As `FineTuned.settled`; images of many shapes come to a size."""
        found = super().settled(about, length, slices)
        return found | ({"size": PICTURES} if not self.size and about.shape is None else {})


SCENES = Config(
    steps=6250,
    batch_size=16,
    optimizer="muon",
    learning_rate=8e-3,
    warmup_steps=625,
    weight_decay=0.1,
    ema=0.998,
    rotate=0.0,
    zoom=1.0,
    move=0.0,
    evaluate_every=625,
)
"""100,000 scenes of 96x96, none of them rotated, zoomed or moved: reading between pixels smooths
noise and outlines, and those that are tested are not smooth."""

SCENES_UNET = replace(
    SCENES,
    steps=4500,
    warmup_steps=450,
    evaluate_every=4500,
    dropout=0.5,
    auxiliary_weight=0.0,
    dark_ground=True,
    least_classes=4,
)
"""For U-Nets 72,000, of scenes with three different digits or more: more to learn from in each.
Ground and strokes are as often dark on bright as bright on dark, else alike: they see the one as
the other. Measured at the end alone: the validation scenes repeat 180 written digits, and one of
them, taken for another or not, would choose weights from before the rate has fallen."""

SCENES_OF: dict[str, Config] = {
    **dict.fromkeys(("unet", "unet_2015"), replace(SCENES_UNET, channels=(32, 32, 64, 128, 256))),
    **dict.fromkeys(
        ("fcn32s", "fcn16s", "fcn8s"), replace(SCENES, channels=(16, 32, 64, 128, 128))
    ),
    "deeplabv3_resnet18": replace(SCENES, channels=(16, 32, 64, 128)),
}
"""By the model; others keep their paper's widths."""


OWN_PICTURES = Config(
    steps=None, epochs=60.0, batch_size=None, warmup_steps=None, evaluate_every=None
)
"""For pictures of somebody's own, and for all other sets. What is left open follows from how many
train: batches of a quarter of them at most, up to 16."""

FINE_TUNED = replace(OWN_PICTURES, epochs=30.0, learning_rate=OWN_PICTURES.learning_rate / 10)
"""The same from trained weights."""


def recipe(data: str = "auto", model: str = SCENES.model, init_from: str = "") -> Config:
    """The recipe for a data set, a model, and random or trained weights."""
    data = "digit_scenes" if data == "auto" else data
    if data not in ("digit_scenes", "fashion_scenes"):
        return replace(FINE_TUNED if init_from else OWN_PICTURES, data=data, model=model)
    return replace(SCENES_OF.get(model, SCENES), data=data, model=model)


LOSSES: dict[str, PixelLoss] = {"ce": cross_entropy(), "dice": soft_dice(), "focal": focal()}


def build(config: Config, about: About, *, conv=lax.conv_general_dilated, norm=BatchNorm) -> Parts:
    """Network, task, optimiser, augmentation and what the network starts from; needs no data."""
    if len(about.mask_classes) < 2:
        raise Refused(f"data={config.data!r} has masks of {len(about.mask_classes)} class(es)")
    mean, std = config.statistics(about)
    network = network_of(
        config,
        len(about.mask_classes),
        conv=conv,
        norm=norm,
        auxiliary=config.auxiliary_weight > 0,
        channels=config.channels,
        dropout=config.dropout,
    )
    task = segmentation(
        network,
        num_classes=len(about.mask_classes),
        mean=mean,
        std=std,
        loss=weighted(*((1.0, LOSSES[name]) for name in config.loss.split("+"))),
        auxiliary_weight=config.auxiliary_weight,
        preprocess=with_dark_ground if config.dark_ground else None,
    )
    return Parts(
        network=network,
        task=task,
        transform=augmentation(config, about),
        rank="miou",
        report=[segmentation_part],
        weights=config.start,
        init=partial(first_variables, network),
        host=brought(config, about),
        **descent(config, OPTIMIZERS[config.optimizer], optim.cosine(decided(config.steps))),
    )


def brought(config: Config, about: About) -> tuple[Host, Host] | None:
    """How the host brings images to the size that is asked, with a border of `beyond`."""
    if not config.size and about.shape is not None:
        return None
    return on_host(config.data, config.size, Letterbox(fill=beyond(config, about)))


def beyond(config: Config, about: About) -> tuple[float, ...]:
    """The colour around images: their mean, or half where it must not count as ground."""
    assert about.mean
    return (127.0,) * len(about.mean) if config.dark_ground else about.mean


def augmentation(config: Config, about: About) -> Transform | None:
    """What training images and their masks go through."""
    stages: list[Stage] = [
        *([rotation(config.rotate)] if config.rotate else []),
        *([scale(1 / config.zoom, config.zoom)] if config.zoom > 1 else []),
        *([shift(config.move)] if config.move else []),
        *([flip()] if config.mirrors(about) else []),
        # As in the task, but before a brightness is drawn that takes a bright ground below half.
        *([dark_ground()] if config.dark_ground else []),
        *([brightness(config.colour), contrast(config.colour)] if config.colour else []),
    ]
    return chain(*stages, fill=beyond(config, about), mask_fill=IGNORE) if stages else None


def splits(config: Config) -> Splits:
    """The set's, with images of few classes left out of what is trained on."""
    data = trained.splits(config, "mask", entries(config.classes), config.outside)
    if not config.least_classes:
        return data
    return data._replace(train=with_classes(data.train, config.least_classes))


def main(config: Config) -> Summary:
    """Train and report."""
    return run(sys.modules[__name__], config)


if __name__ == "__main__":
    sys.exit(cli.command_line(NAME))
