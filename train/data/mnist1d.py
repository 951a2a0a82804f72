"""MNIST-1D, which the package of that name makes: ten templates, distorted, in 40 steps."""

import functools
import random
from types import SimpleNamespace
from typing import Any

import numpy as np

from train.data.arrays import Arrays
from train.data.source import About
from train.refusal import choose
from train.report.figures import own_settings

SPLITS = ("train", "test")


def mnist1d(split: str) -> Arrays:
    """A split of MNIST-1D (Greydanus and Kobak 2024), as its authors' code makes it.

    Its default arguments and seed give the published set; nothing is downloaded. The values are
    those of the package, which have mean 0 and standard deviation 1 over both splits together.

    Args:
        split: "train" (4,000) or "test" (1,000). There is no validation split: a part of the
            training examples serves as one.

    Returns:
        Source of (40, 1) float32 signals and labels 0..9.

    Raises:
        Refused: an unknown split.
    """
    choose("split", split, SPLITS)
    end = "" if split == "train" else "_test"
    made = _made()
    signals = np.asarray(made[f"x{end}"], np.float32)[..., None]
    about = About(
        name="mnist1d",
        split=split,
        classes=tuple("0123456789"),
        mirror=False,
        shape=signals.shape[1:],
    )
    return Arrays({"signal": signals, "label": np.asarray(made[f"y{end}"], np.int32)}, about)


@functools.cache
def _made() -> dict[str, Any]:
    """Both splits, made once; the generators that the package seeds are left as they were."""
    before = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with own_settings():  # the package imports pyplot
            from mnist1d.data import get_dataset_args, make_dataset
        return make_dataset(SimpleNamespace(**get_dataset_args(as_dict=True)))
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
