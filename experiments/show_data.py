"""What a network is shown: examples of any set, before and after any augmentations, on one sheet.

    python experiments/show_data.py                                        masks of scenes
    python experiments/show_data.py --want boxes --stages rotation,flip    their boxes
    python experiments/show_data.py --data digits --want label --stages pad_and_crop,cutout
    python experiments/show_data.py --data folder:PATH --want label --size 224 --seeds 0,1,2,3
    python experiments/show_data.py --data coco:PATH --want boxes --size 320 --stages rotation,flip
    python experiments/show_data.py --data mnist1d --want label            signals

Each row is an example: as it is, then with each seed. Boxes and masks are drawn in as the network's
task gets them, so that what drifts from the pixels is seen.
"""

import dataclasses
import pathlib
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

if __name__ == "__main__":  # what it imports stands beside it, whatever is installed
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
    from train.stop import end_quietly

    end_quietly()  # before the other imports, which take seconds

import jax
import numpy as np
import tyro
from PIL import Image

from train import augment
from train.augment.kinds import Stage
from train.cli import at_home
from train.data.batch import Batch, Transform
from train.data.boxes import clipped_said, empty_said
from train.data.decode import PIXELS
from train.data.host import Letterbox
from train.data.legend import entries
from train.data.limited import limited
from train.data.named import named
from train.data.order import once, order
from train.data.ragged import most
from train.data.resident import Resident
from train.data.source import About, Source, is_signals, notes
from train.data.statistics import measured
from train.data.subset import subset
from train.experiment import positive
from train.legible import legible
from train.mesh import make_mesh
from train.refusal import Failed, Refused, choose
from train.report.figures import image as figure
from train.report.overlay import overlaid
from train.report.signals import draw_wave, steps_of
from train.report.text import draw_text
from train.results import save
from train.sized import on_host

SIDE = 160
"""Pixels of a cell, at least: smaller pictures are enlarged by a whole factor."""
WAVE = (2.0, 1.2)
"""Width and height of a waveform, in hundreds of pixels."""
GAP, WORDS = 6, 15
"""Pixels between cells, and of a line of words below one."""

STAGES: dict[str, Callable[[About], Sequence[Stage]]] = {
    "pad_and_crop": lambda about: [augment.pad_and_crop(4)],
    "random_crop": lambda about: [augment.random_crop(*(3 * n // 4 for n in shape_of(about)))],
    "random_resized_crop": lambda about: [augment.random_resized_crop(*shape_of(about))],
    "flip": lambda about: [augment.flip()],
    "alternating_flip": lambda about: [augment.alternating_flip()],
    "vertical_flip": lambda about: [augment.vertical_flip()],
    "quarter_turns": lambda about: [augment.quarter_turns()],
    "shift": lambda about: [augment.shift(0.2)],
    "rotation": lambda about: [augment.rotation(30)],
    "scale": lambda about: [augment.scale(0.6, 1.5)],
    "shear": lambda about: [augment.shear(20, 20)],
    "perspective": lambda about: [augment.perspective(0.5)],
    "rand_augment": lambda about: augment.rand_augment(2, 15),
    "trivial_augment_wide": lambda about: augment.trivial_augment_wide(),
    "brightness": lambda about: [augment.brightness(0.6)],
    "contrast": lambda about: [augment.contrast(0.8)],
    "saturation": lambda about: [augment.saturation((2.0, 4.0))],
    "hue": lambda about: [augment.hue(0.5)],
    "colour_jitter": lambda about: [augment.colour_jitter(0.4, 0.4, 0.4, 0.1)],
    "grayscale": lambda about: [augment.grayscale(1.0)],
    "gamma": lambda about: [augment.gamma(0.4, 2.5)],
    "channel_noise": lambda about: [augment.channel_noise(0.4)],
    "gaussian_noise": lambda about: [augment.gaussian_noise(noise_of(about))],
    "gaussian_blur": lambda about: [augment.gaussian_blur((1.0, 3.0))],
    "sharpness": lambda about: [augment.sharpness((5.0, 10.0))],
    "posterise": lambda about: [augment.posterise((1, 3))],
    "solarise": lambda about: [augment.solarise((64.0, 192.0))],
    "invert": lambda about: [augment.invert()],
    "dark_ground": lambda about: [augment.dark_ground()],
    "autocontrast": lambda about: [augment.autocontrast()],
    "equalise": lambda about: [augment.equalise()],
    "cutout": lambda about: [augment.cutout(longest(about) // 3)],
    "random_erasing": lambda about: [augment.random_erasing(1.0, fill=hiding(about))],
    "mixup": lambda about: [augment.mixup(1.0, len(about.classes))],
    "cutmix": lambda about: [augment.cutmix(1.0, len(about.classes))],
    "time_shift": lambda about: [augment.time_shift(0.5)],
    "amplitude": lambda about: [augment.amplitude(0.6)],
    "time_mask": lambda about: [augment.time_mask(0.5, about.mean or 0.0)],
}
"""Name on the command line -> stages, with values that show what they do."""

OF_SIGNALS = ("time_shift", "amplitude", "time_mask")
"""Those that images do not take."""

AUTO = {
    "image": "rotation,scale,shift,brightness,contrast",
    "signal": "time_shift,amplitude,gaussian_noise",
}
"""What `stages="auto"` is."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is shown.

    Attributes:
        data: "digits", "digit_scenes", "mnist1d", a TFDS set, "folder:PATH", "coco:PATH",
            "voc:PATH", "wav:PATH" or "series:PATH".
        want: which of its annotations; a set of labels alone needs "label".
        split: which part of the set.
        classes: of masks, with commas, where no list lies beside them; as `segment.py` takes it.
        outside: whether names in the files of "coco:PATH" and "voc:PATH" may lead out of PATH.
        stages: names of augmentations, with commas, geometry first; "auto" shows some.
        border: what lies outside the image: its mean colour, its mirror image, or its edge.
        first: place of the first example in a shuffled order, always the same.
        examples: how many.
        seeds: with commas; a column each.
        size: height and width to which images are brought, with a border; 0 leaves them.
        max_pixels: a picture of more is refused.
        out: the sheet.
    """

    data: str = "digit_scenes"
    want: Literal["label", "boxes", "mask", "target"] = "mask"
    split: Literal["train", "validation", "test"] = "train"
    classes: str = ""
    outside: bool = False
    stages: str = "auto"
    border: Literal["constant", "reflect", "edge"] = "constant"
    first: int = 0
    examples: int = 6
    seeds: str = "0,1,2,3,4"
    size: int = 0
    max_pixels: int = PIXELS
    out: pathlib.Path = pathlib.Path("sheet.png")

    def __post_init__(self) -> None:
        positive(self, "examples", "max_pixels")
        for name in filter(None, self.stages.split(",")):
            choose("stages", name, ("auto", *STAGES))
        if not all(seed.strip().isdecimal() for seed in self.seeds.split(",")):
            raise Refused(f"seeds={self.seeds!r} are not whole numbers with commas between")


def shape_of(about: About) -> tuple[int, int]:
    """Height and width of the images."""
    assert about.shape is not None
    height, width, _ = about.shape
    return height, width


def longest(about: About) -> int:
    """Pixels of the longer side of an image, or steps of a signal."""
    assert about.shape is not None
    return max(about.shape[:-1])


def noise_of(about: About) -> float:
    """A standard deviation that is seen."""
    return 0.3 * float(np.mean(about.std or (1.0,))) if is_signals(about) else 25.0


def hiding(about: About) -> Any:
    """What stands where something is erased."""
    return (about.mean or 0.0) if is_signals(about) else "noise"


def transform(config: Config, about: About) -> Transform:
    """The chain that the configuration names."""
    signals = is_signals(about)
    auto = AUTO["signal" if signals else "image"]
    names = filter(None, (auto if config.stages == "auto" else config.stages).split(","))
    stages = [one for name in names for one in STAGES[choose("stages", name, STAGES)](about)]
    fill = 0.0 if signals else about.mean or 0.0
    return augment.chain(*stages, fill=fill, border=config.border)


def batches(config: Config, source: Source, about: About) -> list[Batch]:
    """The examples as they are, then with each seed; on the host."""
    host = None
    if config.size and is_signals(about):
        raise Refused(f"size={config.size} is of images; data={config.data!r} has signals")
    if config.size or about.shape is None:
        host, _ = on_host(config.data, config.size, Letterbox(fill=about.mean or 0.0))
        about = dataclasses.replace(about, shape=(*host.shapes[0], len(about.mean or (0,))))
    capacity = most(source)
    seeds = [int(seed) for seed in config.seeds.split(",")]
    found = []
    for seed, change in [(0, None), *((seed, transform(config, about)) for seed in seeds)]:
        loader = Resident(
            source,
            mesh=make_mesh(jax.devices()[:1]),
            batch_size=len(source),
            order=once,
            transform=change,
            capacity=capacity,
            host=host,
        )
        payload = next(loader.payloads(0))
        batch = jax.jit(loader.device)(loader.data, payload, seed, jax.random.key(seed))
        found.append(jax.device_get(batch))
    return found


def words(example: dict[str, Any], about: About) -> str:
    """An example's class, or its classes and their shares, or its numbers."""
    if "target" in example:
        return ", ".join(f"{value:.3g}" for value in example["target"])
    if "label" not in example:
        return ""
    label = example["label"]
    if label.ndim == 0:
        return about.classes[int(label)]
    there = [c for c in np.argsort(-label, kind="stable") if label[c] > 0.005]
    return ", ".join(f"{about.classes[c]} {label[c]:.2f}" for c in there)


def waveforms(row: list[dict[str, Any]], about: About) -> list[Image.Image]:
    """Signals of one row, between the same limits, so that a larger one looks larger."""
    signals = [steps_of(example) for example in row]
    limits = min(map(np.min, signals)), max(map(np.max, signals))
    return [figure(partial(draw_wave, one, about.rate, WAVE, limits)) for one in signals]


def pictures(row: list[dict[str, Any]], about: About) -> list[Image.Image]:
    """An example as it is and with each seed."""
    if is_signals(about):
        return waveforms(row, about)
    scale = max(-(-SIDE // max(row[0]["image"].shape[:2])), 1)
    return [overlaid(example, about, scale=scale) for example in row]


def sheet(cells: list[list[tuple[Image.Image, str]]], heads: list[str]) -> Image.Image:
    """Rows of pictures with words below, under a line of heads."""
    width = max(picture.width for row in cells for picture, _ in row)
    height = max(picture.height for row in cells for picture, _ in row)
    below = WORDS if any(text for row in cells for _, text in row) else 0
    whole = Image.new(
        "RGB",
        (
            len(heads) * (width + GAP) + GAP,
            len(cells) * (height + below + GAP) + GAP + WORDS,
        ),
        "white",
    )
    for column, head in enumerate(heads):
        draw_text(whole, (GAP + column * (width + GAP), 3), head, width=width)
    for r, row in enumerate(cells):
        for c, (picture, text) in enumerate(row):
            x, y = GAP + c * (width + GAP), GAP + WORDS + r * (height + below + GAP)
            whole.paste(picture, (x, y))
            draw_text(whole, (x, y + height + 1), text, width=width)
    return whole


def main(config: Config) -> Image.Image:
    """Draw the sheet and write it."""
    listed = entries(config.classes)
    read = partial(named, config.data, config.want, listed, outside=config.outside)
    splits = limited(read, config.max_pixels)
    data = getattr(splits, config.split)
    if data is None:
        raise Refused(f"data={config.data!r} has no split {config.split}")
    if config.first >= len(data):
        raise Refused(f"first={config.first} is beyond the {len(data)} examples")
    places = np.arange(config.first, min(config.first + config.examples, len(data)))
    # Sets in files stand class by class.
    indices = order(0, 0, places, len(data)).astype(np.int64)
    source = subset(data, indices)
    for line in notes(source):
        print(legible(line))
    about = measured(source)
    columns = batches(config, source, about)
    cells = []
    for r in range(len(indices)):
        row = [{name: value[r] for name, value in batch.items()} for batch in columns]
        cells.append([*zip(pictures(row, about), (words(one, about) for one in row), strict=True)])
    heads = ["as it is", *(f"seed {seed}" for seed in config.seeds.split(","))]
    drawn = sheet(cells, heads)
    out = at_home(config.out)
    save(drawn, out, field="out")
    for said in filter(None, (clipped_said(source), empty_said(source))):
        print(said)
    print(legible(f"{len(indices)} examples of {config.data}/{config.split}: {out}"))
    return drawn


if __name__ == "__main__":
    try:
        main(tyro.cli(Config, description=__doc__))
    except (
        Refused,
        Failed,
        ValueError,
        OSError,
    ) as error:  # a ValueError: a chain refuses its stages
        print(f"error: {legible(' '.join(str(error).split()))}", file=sys.stderr)
        sys.exit(2)
