"""The embedded set: scikit-learn's 1,797 handwritten digits, at 32x32."""

import dataclasses
import functools
import gzip
import importlib.util
import pathlib

import numpy as np

from train.data.arrays import Arrays
from train.data.source import About
from train.refusal import choose

SPLITS = ("train", "validation", "test")
FILE = "datasets/data/digits.csv.gz"
"""In scikit-learn's folder."""


def digits(split: str) -> Arrays:
    """A split of the UCI digits that scikit-learn carries (Alpaydin and Kaynak 1998).

    Cut without chance: the k-th digit of its class, in the set's own order, is test where
    k % 5 == 4, validation where k % 10 == 3, training elsewhere.

    Args:
        split: "train" (1,262), "validation" (180) or "test" (355).

    Returns:
        Source of (32, 32, 1) uint8 images and labels 0..9.

    Raises:
        Refused: an unknown split.
    """
    small = originals(split)
    images = enlarge(np.stack([small[i]["image"][..., 0] for i in range(len(small))]))[..., None]
    about = dataclasses.replace(small.about, shape=(32, 32, 1))
    return Arrays({"image": images, "label": small.labels}, about)


def originals(split: str) -> Arrays:
    """The same at their own size: (8, 8, 1) uint8 images, 0..16.

    Raises:
        Refused: an unknown split.
    """
    choose("split", split, SPLITS)
    table = carried()
    grids, labels = table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int32)
    rank = np.zeros(len(labels), int)
    for c in range(10):
        rank[labels == c] = np.arange(np.sum(labels == c))
    part = np.where(rank % 5 == 4, 2, np.where(rank % 10 == 3, 1, 0))
    keep = part == SPLITS.index(split)
    about = About(
        name="digits",
        split=split,
        classes=tuple("0123456789"),
        mirror=False,
        shape=(8, 8, 1),
    )
    return Arrays({"image": grids[keep][..., None], "label": labels[keep]}, about)


@functools.cache
def carried() -> np.ndarray:
    """(1797, 65) uint8: a digit's 64 pixels and its label a row, as scikit-learn carries them.

    Its own `load_digits` reads the same file, after more than a second of imports.
    """
    spec = importlib.util.find_spec("sklearn")
    file = None if spec is None or spec.origin is None else pathlib.Path(spec.origin).parent / FILE
    if file is not None and file.is_file():
        with gzip.open(file, "rt", encoding="utf-8") as text:
            return np.loadtxt(text, np.uint8, delimiter=",")
    from sklearn.datasets import load_digits  # a version that keeps it elsewhere

    data = load_digits()
    return np.column_stack([data.data, data.target]).astype(np.uint8)


def enlarge(grids: np.ndarray) -> np.ndarray:
    """Four times as large, bilinear with half-pixel centres and repeated edges, 0..16 to 0..255.

    At a factor of four the weights are odd eighths, so integers compute it exactly: two rounds of
    weights leave a sum in 64ths, and one rounding (half up) of sum / 64 * 255 / 16 ends it.

    Args:
        grids: (N, h, w) integers 0..16.

    Returns:
        (N, 4 h, 4 w) uint8.
    """
    height, width = (_weights(size) for size in grids.shape[1:])
    sums = height @ grids.astype(np.int64) @ width.T
    return ((sums * 255 + 512) // 1024).astype(np.uint8)


def _weights(size: int) -> np.ndarray:
    """(4 size, size) eighths: row r takes the grid at (r + 0.5) / 4 - 0.5, clipped to it."""
    eighths = np.clip(2 * np.arange(4 * size) - 3, 0, 8 * (size - 1))
    below = np.minimum(eighths // 8, size - 2)
    weights = np.zeros((4 * size, size), np.int64)
    rows = np.arange(4 * size)
    weights[rows, below] = 8 - (eighths - 8 * below)
    weights[rows, below + 1] = eighths - 8 * below
    return weights
