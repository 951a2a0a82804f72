"""The sets of scenes: of the embedded digits (the frozen benchmark), and of any small grey set."""

from train.data.digits import originals
from train.data.legend import colours
from train.data.scenes import PALETTE, SIZE, Scenes
from train.data.source import About, Source
from train.data.subset import cut
from train.refusal import choose

LENGTHS = {"train": 20_000, "validation": 500, "test": 500}
"""Scenes in each split."""

VALIDATION = 0.1
"""Share of a set's training pictures that its validation scenes are composed of."""


def digit_scenes(split: str) -> Scenes:
    """Scenes of handwritten digits, divided as `train.data.digits` does before they are composed.

    Args:
        split: "train" (20,000 scenes), "validation" or "test" (500 each).

    Raises:
        Refused: an unknown split.
    """
    return scenes_of(originals(split), "digit_scenes", split, full=16)


def fashion_scenes(split: str) -> Scenes:
    """Scenes of Fashion-MNIST's clothes (from TFDS, prepared); no benchmark.

    Args:
        split: as `digit_scenes`. A stratified tenth of the training pictures makes the validation
            scenes, the set's own test pictures the test scenes.

    Raises:
        NotPrepared, Refused: as `train.data.tfds.source`; an unknown split.
    """
    from train.data import tfds  # a second of imports

    choose("split", split, LENGTHS)
    if split == "test":
        return scenes_of(tfds.source("fashion_mnist", "test"), "fashion_scenes", split)
    train, validation = cut(tfds.source("fashion_mnist", "train"), VALIDATION, seed=0)
    return scenes_of(train if split == "train" else validation, "fashion_scenes", split)


def scenes_of(pictures: Source, name: str, split: str, full: int = 255) -> Scenes:
    """Scenes of any small grey pictures with labels.

    Values are scaled so that `full` becomes 16, as the digits'; ink is what then exceeds 5.937.

    Args:
        pictures: (h, w, 1) uint8 images of one shape, those of this split alone.
        name: of the scenes.
        split: "train", "validation" or "test".
        full: the brightest value that pixels may have.

    Raises:
        Refused: an unknown split; pictures of another shape.
    """
    choose("split", split, LENGTHS)
    known = pictures.about
    names = ("background", *known.classes)
    about = About(
        name=name,
        split=split,
        classes=known.classes,
        mirror=known.mirror,
        shape=(SIZE, SIZE, 3),
        mask_classes=names,
        colours=PALETTE if len(names) == len(PALETTE) else colours(len(names)),
    )
    return Scenes(pictures, LENGTHS[split], [*LENGTHS].index(split), full, about)
