r"""ResNet-50 on ImageNet, 90 epochs in bfloat16; any classifier, and folders of one's own pictures.

python experiments/resnet_imagenet.py --workers 57       imagenet2012 of TFDS, eight devices
python experiments/resnet_imagenet.py --data folder:DIR --workers 57
python experiments/resnet_imagenet.py --accumulation 8 --remat True --workers 8    one small device
python experiments/resnet_imagenet.py --data folder:DIR --model resnet18 --workers 4
python experiments/resnet_imagenet.py --workdir DIR      goes on with the run in DIR

On all devices there are: batches of 1,024 random crops (8 to 100 % of the area, 3/4 to 4/3 as wide
as high) of 224x224 and their mirror images; Nesterov's SGD, its rate 0.1 for each 256 images of a
batch after a warm-up, then half a cosine; blocks begin as their shortcuts; no weight decay of
BatchNorms and biases (all Goyal et al. 2017, arXiv:1706.02677, but the cosine; the latter also He
et al. 2018, arXiv:1812.01187, section 3.1); labels smoothed by 0.1; averaged weights. The 50,000
validation images, their shorter side resized to 256 and the middle 224x224 cut out, are the test,
once, at the end: accuracy and top5.

We have not trained it: there is no ImageNet where this was written. Published, for this network and
as many epochs, by steps in place of the cosine, without smoothing and average, and with BatchNorms
over 32 images each: 76.40 ± 0.12 % (batches of 256, 5 runs; Goyal et al., table 1). What was
measured, that it runs and how many images a core reads, is in docs/imagenet.md.
"""

import contextlib
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

if __name__ == "__main__":  # what it imports stands beside it, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from train.stop import end_quietly

    end_quietly()  # before the other imports, which take seconds

from experiments import classify
from experiments.classify import build, fitted
from train import cli, trained
from train.data.layout import layout
from train.data.listing import subfolders
from train.data.named import Splits, with_validation
from train.data.places import data_dir, lies
from train.data.source import About
from train.data.subset import cut_by_time
from train.experiment import decided
from train.network import has_field, refuse_other_fields
from train.recipes import of_set
from train.refusal import Refused
from train.run import run
from train.tasks.task import Summary

__all__ = ["Config", "build", "main", "recipe", "splits"]
NAME = f"experiments.{Path(__file__).stem}"

RATE, RATE_OF_TRAINED = 0.1, 0.01
"""Of SGD at its peak, for each 256 images of a batch; the second from trained weights."""


@dataclass(frozen=True, kw_only=True)
class Config(classify.Config):
    """The recipe: that of `classify.py`, for many images and many devices.

    Attributes:
        data: "imagenet2012", prepared; "folder:DIR" with train/ and val/, a folder a class; or
            another set that `classify.py` takes; "auto" is "imagenet2012".
        size: height and width in pixels that images are cropped to; 0 takes 224, or the smallest
            size that the network can, and no more than images of one shape have.
        learning_rate: at its peak; None takes 0.1 for each 256 images of a batch, from trained
            weights 0.01 (Goyal et al. 2017, section 2.1: the linear scaling rule).
        remat: whether activations are computed again: in the backward pass, less memory for more
            time. A network that can't is refused.
        zero_init_residual: whether a ResNet's blocks begin as their shortcuts.
    """

    OF_NETWORK: ClassVar[tuple[str, ...]] = ("remat", "zero_init_residual")
    largest_batch: ClassVar[int] = 256

    model: str = "resnet50"
    crop: classify.Crop = "resized"
    learning_rate: float | None = None
    remat: bool = False
    zero_init_residual: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_other_fields(self)

    @property
    def undecided(self) -> set[str]:
        """Fields that `settled` may yet change."""
        return super().undecided | ({"learning_rate"} if self.learning_rate is None else set())

    def settled(self, about: About, length: int, slices: int) -> dict[str, Any]:
        """As that of `classify.py`; the rate is known."""
        found = super().settled(about, length, slices)
        if self.learning_rate is None:
            batch = decided(found.get("batch_size", self.batch_size))
            found["learning_rate"] = (RATE_OF_TRAINED if self.init_from else RATE) * batch / 256
        return found

    def idle(self, about: About) -> dict[str, str]:
        """Fields that have no effect, and why."""
        found = super().idle(about)
        if self.init_from and self.zero_init_residual:
            found["zero_init_residual"] = f"the blocks begin as in init_from={self.init_from!r}"
        return found


IMAGENET = Config(
    data="imagenet2012",
    steps=None,
    epochs=90.0,
    batch_size=1024,
    warmup_steps=None,
    weight_decay=1e-4,
    label_smoothing=0.1,
    ema=0.9999,
    dtype="bfloat16",
    validation=0.01,
    weights="last",
    evaluate_every=None,
)
"""Some 112,000 steps, the first 5 % of which warm up. A hundredth of the training images are held \
out to look at; they choose nothing, the weights of the last step are tested."""

FOLDER = replace(IMAGENET, epochs=30.0, batch_size=None, ema=0.99, validation=0.1, weights="best")
"""For folders of one's own, and other sets: batches of a quarter of the images, up to 256."""

WHOLE = ("imagenet2012", "imagenet_resized")
"""Sets of TFDS with all of ImageNet's images."""
CLASSES = 1000

MISSING = (
    "data='imagenet2012' is not prepared under {where}: put ILSVRC2012_img_train.tar and "
    "ILSVRC2012_img_val.tar into {where}/downloads/manual and run `make prepare "
    "DATA=imagenet2012`; or TFDS_DATA_DIR says where a copy lies; or --data folder:DIR, with "
    "train/ and val/, a folder a class"
)


def recipe(
    data: str = "auto",
    model: str = IMAGENET.model,
    optimizer: str = IMAGENET.optimizer,
    init_from: str = "",
) -> Config:
    """The recipe for a data set, a model, an optimiser, and random or trained weights."""
    data = IMAGENET.data if data == "auto" else data
    known = dict.fromkeys(WHOLE, IMAGENET)
    config = of_set(data, known, IMAGENET if holds_imagenet(data) else FOLDER)
    config = fitted(config, model, optimizer, tenth=bool(init_from))
    zero = not init_from and has_field(model, "zero_init_residual", True)
    return replace(config, zero_init_residual=zero)


def holds_imagenet(data: str) -> bool:
    """Whether a folder's classes are a thousand that are named as ImageNet's are, n01440764."""
    kind, _, path = data.partition(":")
    if kind != "folder":
        return False
    with contextlib.suppress(Refused, OSError, RuntimeError, ValueError):  # said when it is read
        classes = subfolders(layout(Path(path).expanduser()).splits["train"])
        return sum(bool(re.fullmatch(r"n\d{8}", each.name)) for each in classes) == CLASSES
    return False


def splits(config: Config) -> Splits:
    """As those of `classify.py`; of ImageNet in TFDS, whose order is none, the last of the training
    examples are held out: to stratify them, 140 GB would be read for their labels.

    Raises:
        Refused: ImageNet is wanted and not there; says how it is prepared.
    """
    name = re.split("[/:]", config.data)[0]
    if name == IMAGENET.data and not lies(name):
        raise Refused(MISSING.format(where=data_dir()))
    if name not in WHOLE:
        return trained.splits(config)
    return with_validation(
        trained.splits(replace(config, validation=0.0)), config.validation, cut_by_time
    )


def main(config: Config) -> Summary:
    """Train and report."""
    return run(sys.modules[__name__], config)


if __name__ == "__main__":
    sys.exit(cli.command_line(NAME))
