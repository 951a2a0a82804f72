r"""Object detection: YOLO, R-CNN, Fast or Faster R-CNN, RetinaNet or FCOS on sets with boxes.

python experiments/detect.py                          a small YOLO on digit_scenes, embedded
python experiments/detect.py --model fasterrcnn_resnet18_fpn
python experiments/detect.py --model rcnn_resnet18        its three stages, a run each
python experiments/detect.py --model yolov3_tiny --data voc:PATH --size 416
python experiments/detect.py --model yolox_darknet53 --data coco:PATH --sizes 352,416,480
python experiments/detect.py --workdir DIR            goes on with the run in DIR

On digit_scenes, two cores of an AMD EPYC with AVX-512 (jax 0.10.2): mAP at IoU 0.5 of the test
scenes 0.9856 (YOLO, 80,000 images) and 0.9865 (Faster R-CNN, 40,000), each the mean of three seeds,
in 15 and 11 minutes of CPU time.
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
from experiments import detect_stages as stages
from experiments.detect_papers import PAPERS
from models.detection.detections import Images
from models.detection.yolo_v3 import YOLOv3
from models.layers.norm import BatchNorm, FrozenBatchNorm
from train import cli, finetune, optim, trained
from train.augment import brightness, chain, contrast, dark_ground, flip, scale, shift
from train.augment.kinds import Stage
from train.augment.tone import with_dark_ground
from train.data.batch import Transform
from train.data.host import Host, Letterbox
from train.data.legend import entries
from train.data.named import Splits, leads
from train.data.proposals import METHODS, Proposed, available
from train.data.source import About, Source
from train.data.subset import subset
from train.experiment import Parts, at_least, choice, decided, fraction, nonnegative, positive
from train.network import network_of, refuse_other_network
from train.optim import OPTIMIZERS
from train.refusal import Refused
from train.report.detection import detection_part
from train.run import run
from train.sized import fitting, refuse_unfit
from train.tasks.detection.losses import loss_of
from train.tasks.detection.task import PROPOSALS, detection, first_variables
from train.tasks.task import Summary
from train.trained import FineTuned, descent

NAME = f"experiments.{Path(__file__).stem}"
SIZE = 416
"""Height and width in pixels that pictures of many shapes come to, where no size is asked, or the
next that the model takes: YOLOv3's (Redmon and Farhadi 2018), and 448 of YOLOv1's paper."""

Optimizer = Literal["adamw", "muon", "sgd"]


@dataclass(frozen=True, kw_only=True)
class Config(FineTuned):
    """The recipe.

    Attributes:
        data: a set with boxes: "digit_scenes"; "coco:PATH"; "voc:PATH"; one of TFDS, such as "voc".
        classes: of "voc:PATH", with commas, where they are not VOC's own.
        outside: whether names in files may lead out of PATH: in those of "coco:PATH", "voc:PATH".
        model: a detector of `models.names()`.
        channels: of each stage of a small backbone; none takes the model's own.
        size: height and width that images are brought to: in pixels, as large as fits, a border
            around them; 0 leaves those of one shape that the model takes as they are, and brings
            others of one shape to the next size that it takes, and those of many to 416.
        sizes: several such sizes, of which training takes one for ten steps at a time (multi-scale
            training, Redmon and Farhadi 2016); each compiles once.
        capacity: most boxes that an image may have in training.
        examples: train on the first so many alone; 0 takes all.
        regions: of an image that the box head learns from: of Fast or Faster R-CNN; or of a batch,
            that R-CNN does; 0 takes torchvision's 512, or the papers': 64 of Fast R-CNN, 128 of
            R-CNN and of Faster R-CNN on VGG-16.
        proposals: for R-CNN and Fast R-CNN: they propose no regions themselves; "fast" or
            "quality", selective search by OpenCV (the extra `proposals`); "grid", sliding windows.
            "auto" is "fast" where OpenCV is there.
        most_proposals: of an image.
        stage: of R-CNN. "all" makes a run of each stage in a directory of its own: "softmax"
            fine-tunes, "svm" fits SVMs to its features, "boxes" also regressors. One of these alone
            is that run; the latter two go on from the one before, in the directory beside.
        optimizer: "adamw", "muon" or "sgd", see `train.optim`.
        learning_rate: at its peak.
        schedule: "cosine" takes the rate to 0; "steps" divides it by 10 at each of `drops`.
        drops: shares of the steps at which the schedule "steps" divides the rate; three quarters,
            as in the papers of R-CNN.
        momentum: of SGD, 0..1.
        weight_decay: of kernels; in the gradient of SGD, times the rate with the others.
        zoom: images are drawn up to so many times larger or smaller; 1 leaves them.
        move: share of the image's size to either side.
        colour: brightness and contrast change by up to this share.
        dark_ground: whether bright images are seen as their negatives: those above half on average,
            in training and prediction alike.
        init_from: trained weights to start from: a file of torchvision's weights, .safetensors or
            .pth, for this model or for the classifier of its backbone; one of Darknet's, .weights,
            for YOLOv3; or the directory of a run. Images are then normalised by ImageNet's
            statistics, by Darknet's (pixels / 255), or by that run's.
        freeze: with commas, what keeps its weights: paths such as "backbone/stem", or "backbone";
            "all" keeps everything.
        frozen_norm: whether all BatchNorms are frozen: their statistics, scale and bias.
        norm_epsilon: added to the variance in all BatchNorms; None takes the network's own.
            torchvision's published COCO_V1 of two models want 0, which `init_from` sets for them.
        backbone_rate: factor of the learning rate within the backbone.
        head_rate: factor of the learning rate of what lies under "head": of R-CNN and YOLOv1 their
            last layer, of RetinaNet and FCOS all behind the pyramid; the others have none.
        bias_rate: factor of the learning rate of biases.
        anchors: width and height in pixels of each anchor of YOLOv3, the finest level's first, as a
            cfg of Darknet's lists them; none takes the model's own.
    """

    WITH_WEIGHTS: ClassVar[tuple[str, ...]] = ("freeze", "frozen_norm", "backbone_rate")
    FROM_WEIGHTS: ClassVar[tuple[str, ...]] = ("frozen_norm", "norm_epsilon", "anchors")

    data: str = "digit_scenes"
    classes: str = ""
    outside: bool = False
    model: str = "yolox_small"
    channels: tuple[int, ...] = ()
    size: int = 0
    sizes: tuple[int, ...] = ()
    capacity: int = 100
    examples: int = 0
    regions: int = 0
    proposals: Literal["auto", "fast", "quality", "grid"] = "auto"
    most_proposals: int = 300
    stage: Literal["all", "softmax", "svm", "boxes"] = "all"
    steps: int | None = 5_000
    batch_size: int | None = 16
    optimizer: Optimizer = "muon"
    learning_rate: float = 8e-3
    schedule: Literal["cosine", "steps"] = "cosine"
    drops: tuple[float, ...] = (0.75,)
    warmup_steps: int | None = 500
    momentum: float = 0.9
    weight_decay: float = 0.1
    ema: float = 0.998
    zoom: float = 1.0
    move: float = 0.0
    colour: float = 0.3
    dark_ground: bool = True
    frozen_norm: bool = False
    norm_epsilon: float | None = None
    backbone_rate: float = 1.0
    head_rate: float = 1.0
    bias_rate: float = 1.0
    anchors: tuple[float, ...] = ()
    evaluate_every: int | None = 1000

    largest_batch: ClassVar[int] = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        entries(self.classes)
        refuse_other_network(self.model, "detection")
        choice(self, "optimizer", (*OPTIMIZERS, "sgd"))
        choice(self, "schedule", ("cosine", "steps"))
        choice(self, "proposals", ("auto", *METHODS))
        choice(self, "stage", (stages.ALL, *stages.FORMS))
        nonnegative(self, "size", "move", "colour", "backbone_rate", "examples", "regions")
        nonnegative(self, "head_rate", "bias_rate", "norm_epsilon")
        positive(self, "capacity", "most_proposals")
        if 0 < self.regions < 4:
            raise Refused(f"regions={self.regions}: of fewer than 4 none is of an object")
        fraction(self, "momentum")
        at_least(self, zoom=1)
        if list(self.drops) != sorted({*self.drops}) or not all(0 < at < 1 for at in self.drops):
            raise Refused(f"drops={self.drops} must ascend between 0 and 1")
        if self.norm_epsilon == 0 and not self.frozen_norm:
            raise Refused("norm_epsilon=0.0 needs frozen_norm=True: a batch may have no variance")
        if any(size < 1 for size in self.sizes) or len(set(self.sizes)) < len(self.sizes):
            raise Refused(f"sizes={self.sizes} must be above 0, each one once")

    def trainings(self) -> dict[str, Sequence[str]]:
        """R-CNN's stages; those behind the first go on from the one before."""
        one = not models.variant(self.model).svm or self.stage == "softmax"
        return {} if one else {"stage": ["softmax"]}

    def known(self) -> dict[str, Sequence[str]]:
        """All models."""
        return {"model": models.names("detection")}

    @property
    def undecided(self) -> set[str]:
        """Fields that `settled` may yet change."""
        auto = {"proposals"} if self.proposals == "auto" else set()
        return super().undecided | auto | (set() if self.size else {"size"})

    def settled(self, about: About, length: int, slices: int) -> dict[str, Any]:
        """As `FineTuned.settled`; images come to a size that the model takes."""
        found = super().settled(about, length, slices)
        if not self.size:
            fit = partial(fitting, models.create(self.model, num_classes=2))
            if about.shape is None or self.sizes:
                found["size"] = max(self.sizes, default=fit(SIZE))
            elif any(fit(side) != side for side in about.shape[:2]):
                found["size"] = fit(max(about.shape[:2]))
        if self.proposals == "auto" and models.variant(self.model).proposals:
            found["proposals"] = available()
        return found

    def idle(self, about: About) -> dict[str, str]:
        """Fields that have no effect, and why."""
        found = super().idle(about)
        if not leads(self.data):
            found["outside"] = f"data={self.data!r} names no files"
        if self.optimizer != "sgd":
            found["momentum"] = f"{self.optimizer} has its own"
        if not models.variant(self.model).proposals:
            found |= dict.fromkeys(
                ("proposals", "most_proposals"), f"{self.model} reads no proposals"
            )
        if not models.variant(self.model).svm:
            found["stage"] = f"{self.model} is not trained in stages"
        if not models.variant(self.model).background:
            found["regions"] = f"{self.model} has no box head"
        if self.schedule != "steps":
            found["drops"] = f"schedule={self.schedule!r} has none"
        if not models.variant(self.model).classifier:
            found["norm_epsilon"] = f"{self.model} has its own"
        if finetune.BACKBONE in self.frozen:
            found["backbone_rate"] = f"freeze={self.freeze!r} keeps the backbone as it is"
        return found


SCENES = Config(capacity=8)
"""80,000 scenes of 96x96."""

SHORT: dict[str, Any] = {"batch_size": 8, "warmup_steps": 1000, "ema": 0.999}
"""Of fewer images more steps. With 40,000 images Faster R-CNN reached a validation mAP of 0.988;
in batches of 16, and on a map at stride 8, 0.970."""
NARROW = (32, 64, 96, 128)
SCENES_OF: dict[str, dict[str, Any]] = {
    "rcnn_resnet18": {"channels": (16, 32, 64, 128), "examples": 2_000, "steps": 4_000},
    "fastrcnn_resnet18": SHORT
    | {
        "channels": NARROW,
        "examples": 2_000,
        "steps": 3_000,
        "warmup_steps": 600,
        "learning_rate": 2e-3,
    },
    "fasterrcnn_resnet18_fpn": SHORT | {"channels": NARROW, "regions": 64},
}
"""By the model, what it wants otherwise on scenes."""

OWN_PICTURES = Config(
    steps=None,
    epochs=60.0,
    batch_size=None,
    warmup_steps=None,
    evaluate_every=None,
    optimizer="adamw",
    learning_rate=1e-3,
    weight_decay=5e-2,
    zoom=1.5,
    move=0.1,
    dark_ground=False,
)
"""For pictures of somebody's own, and for all other sets. What is left open follows from how many
train: batches of a quarter of them at most, up to 16."""

FINE_TUNED = replace(OWN_PICTURES, epochs=30.0, learning_rate=OWN_PICTURES.learning_rate / 10)
"""The same from trained weights, where no paper says otherwise (`PAPERS`)."""


def recipe(data: str = "auto", model: str = SCENES.model, init_from: str = "") -> Config:
    """The recipe for a data set, a model, and random or trained weights."""
    data = "digit_scenes" if data == "auto" else data
    if data not in ("digit_scenes", "fashion_scenes"):
        own = replace(FINE_TUNED, **PAPERS.get(model, {})) if init_from else OWN_PICTURES
        return replace(own, data=data, model=model)
    return replace(SCENES, data=data, model=model, **SCENES_OF.get(model, {}))


def build(config: Config, about: About, *, conv=lax.conv_general_dilated, norm=BatchNorm) -> Parts:
    """Network, task, optimiser, augmentation and what the network starts from; needs no data."""
    if not about.classes:
        raise Refused(f"data={config.data!r} names no classes of its boxes")
    mean, std = config.statistics(about)
    network = network_of(
        config,
        len(about.classes) + models.variant(config.model).background,
        conv=conv,
        norm=norm_of(config, norm),
        channels=config.channels,
    )
    network = anchored(network, config)
    if models.variant(config.model).svm:
        form: dict[str, Any] = stages.FORMS.get(config.stage, {})
        network = network.clone(**form)
    size = (config.size,) if config.size else ()
    refuse_unfit(network, config.model, sizes=config.sizes, size=size)
    refuse_absent(config, partial(first_variables, network), about)
    reads = PROPOSALS if models.variant(config.model).proposals else ()
    task = detection(
        network,
        loss=loss_of(network, config.regions),
        num_classes=len(about.classes),
        mean=mean,
        std=std,
        preprocess=with_dark_ground if config.dark_ground else None,
        reads=reads,
    )
    total = decided(config.steps)
    shape = optim.cosine(total) if config.schedule == "cosine" else optim.steps(total, config.drops)
    factors = {finetune.BACKBONE: config.backbone_rate, "head": config.head_rate}
    return Parts(
        network=network,
        task=task,
        transform=augmentation(config, about),
        rank="map50",
        report=[detection_part],
        weights=config.start and partial(config.start, about.classes),
        init=partial(first_variables, network),
        host=brought(config, about),
        capacity={"boxes": config.capacity}
        | ({"proposals": config.most_proposals} if reads else {}),
        derived=partial(proposed, config) if reads else None,
        **descent(
            config,
            optim.by_name(config.optimizer, momentum=config.momentum),
            shape,
            scaled=lambda rate: finetune.scaled(rate, factors, config.bias_rate),
        ),
    )


def norm_of(config: Config, norm: Any) -> Any:
    """The batch normalisation that the recipe asks for; `norm` is the backend's."""
    kind = FrozenBatchNorm if config.frozen_norm else norm
    if config.norm_epsilon is None:
        return kind
    return partial(kind, epsilon=config.norm_epsilon)


def refuse_absent(config: Config, init: Callable[..., Any], about: About) -> None:
    """Refuse fields of layers that the network has not: BatchNorms, or a part named "head".

    Raises:
        Refused: names the field.
    """
    fields = (
        ("frozen_norm", False, "batch_stats", "has no BatchNorm"),
        ("norm_epsilon", None, "batch_stats", "has no BatchNorm"),
        ("head_rate", 1.0, "head", "has no layers under 'head'"),
    )
    asked = [field for field in fields if getattr(config, field[0]) != field[1]]
    if not asked:
        return
    size = about.shape[:2] if about.shape and not config.size else (config.size or SIZE,) * 2
    shapes: Any = [jax.ShapeDtypeStruct(x, np.float32) for x in ((1, *size, 3), (1, 4))]
    variables = jax.eval_shape(init, jax.random.key(0), Images(*shapes))
    for name, _, part, why in asked:
        if part not in {*variables, *variables["params"]}:
            raise Refused(f"{name}={getattr(config, name)}: {config.model} {why}")


def anchored(network: Any, config: Config) -> Any:
    """The network with the recipe's anchors, as many on each level."""
    if not config.anchors:
        return network
    try:
        if not isinstance(network, YOLOv3):
            raise ValueError(f"{config.model} takes none")
        levels = len(network.strides)
        if len(config.anchors) % (2 * levels):
            raise ValueError(f"must be pairs, as many on each of {levels} level(s)")
        sizes = np.reshape(config.anchors, (levels, -1, 2)).tolist()
        return network.clone(anchors=tuple(tuple(map(tuple, level)) for level in sizes))
    except ValueError as error:
        raise Refused(f"anchors={config.anchors}: {error}") from error


def proposed(config: Config, source: Source, *, keep: bool) -> Proposed:
    """The source with proposals."""
    assert config.proposals != "auto", "proposals are chosen once the data are known"
    return Proposed(source, config.proposals, config.most_proposals, keep=keep)


def brought(config: Config, about: About) -> tuple[Host, Host] | None:
    """How the host brings images to their size, in training and to be tested."""
    if not config.size and about.shape is not None:
        return None
    assert about.mean
    stage = Letterbox(fill=(127.0,) * len(about.mean) if config.dark_ground else about.mean)
    shapes = tuple((size, size) for size in config.sizes or (config.size,))
    return Host(stage, shapes, every=10), Host(stage, ((config.size, config.size),))


def augmentation(config: Config, about: About) -> Transform | None:
    """What training images and their boxes go through."""
    stages: list[Stage] = [
        *([scale(1 / config.zoom, config.zoom)] if config.zoom > 1 else []),
        *([shift(config.move)] if config.move else []),
        *([flip()] if config.mirrors(about) else []),
        # As in the task, but before a brightness is drawn that takes a bright ground below half.
        *([dark_ground()] if config.dark_ground else []),
        *([brightness(config.colour), contrast(config.colour)] if config.colour else []),
    ]
    return chain(*stages, fill=about.mean or 0.0) if stages else None


def splits(config: Config) -> Splits:
    """The set's, or the first of its training examples."""
    data = trained.splits(config, "boxes", entries(config.classes), config.outside)
    if not config.examples:
        return data
    if config.examples > len(data.train):
        raise Refused(f"examples={config.examples}: there are {len(data.train)} to train on")
    return data._replace(train=subset(data.train, range(config.examples)))


def main(config: Config) -> Summary:
    """Train and report; R-CNN in its stages."""
    this = sys.modules[__name__]
    return (stages.main if models.variant(config.model).svm else run)(this, config)


if __name__ == "__main__":
    sys.exit(cli.command_line(NAME))
