"""A data set by name: which of its splits is trained on, which chosen on, which tested on."""

from typing import NamedTuple

from train.data import prepare, tfds
from train.data.digits import digits
from train.data.source import Source
from train.data.subset import cut
from train.refusal import Refused

TEST = 0.2
"""Share of the examples that is test where a set has only a training split."""


class Splits(NamedTuple):
    """The sources of one data set."""

    train: Source
    validation: Source | None
    """None where the set has none of its own: cut one off `train`."""
    test: Source


def named(name: str) -> Splits:
    """The splits of `digits`, or of a TFDS image-classification set, which is prepared if need be.

    Test is the set's `test`; without one (or where its labels are withheld, as ImageNet's are) its
    `validation`, which then is no validation split any more; without either a fifth of `train`,
    stratified, with a seed of its own.

    Args:
        name: "digits", or a set of TFDS as `train.data.tfds.source` takes it.

    Raises:
        Refused: an unknown name, a set that is not prepared and cannot be, one that is no
            image-classification set or has no `train` split.
    """
    if name == "digits":
        return Splits(digits("train"), digits("validation"), digits("test"))
    tfds.known(name, also=("digits",))
    prepare.prepare(name)
    has = tfds.splits(name)
    if "train" not in has:
        raise Refused(f"data={name!r} has no split to train on; it has {', '.join(has)}")
    train = tfds.source(name, "train")
    if "test" in has and _labelled(name, "test"):
        validation = tfds.source(name, "validation") if "validation" in has else None
        return Splits(train, validation, tfds.source(name, "test"))
    if "validation" in has:
        return Splits(train, None, tfds.source(name, "validation"))
    rest, part = cut(train, TEST, seed=0, splits=("train", "test"))
    return Splits(rest, None, part)


def with_validation(data: Splits, share: float) -> Splits:
    """The splits, with a stratified part of `train` as validation where they have none.

    Args:
        data: of one set.
        share: of `train`, 0..1; 0 leaves all of it to train on. Which examples it is depends on no
            seed of a run.
    """
    if data.validation is not None or not share:
        return data
    train, validation = cut(data.train, share, seed=0)
    return Splits(train, validation, data.test)


def _labelled(name: str, split: str) -> bool:
    try:
        tfds.source(name, split).truth(0)
    except Refused:
        return False
    return True
