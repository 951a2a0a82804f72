"""Annotations in memory: each key's type, shape and values, checked before anything reads them."""

from typing import Any

import numpy as np

from train.data.batch import COORDINATES, IGNORE, KEYS, rows_of
from train.data.source import About
from train.refusal import Refused

Values = np.ndarray | list[np.ndarray]
"""An array whose leading axis is the example, or one array an example."""


def check(values: dict[str, Values], about: About) -> None:
    """Checks every known key of `values`, and gives all but images the batch's type in place.

    Raises:
        Refused: names the key, the index and the value.
    """
    images = values.get("image")
    if images is not None:
        _check_images(images, about)
    if "signal" in values:
        values["signal"] = _signals(values["signal"], about)
    if "length" in values:
        values["length"] = _integers("length", values["length"])
    if "label" in values:
        labels = _integers("label", values["label"])
        check_labels(labels, len(about.classes))
        values["label"] = labels.astype(np.int32)
    if "target" in values:
        values["target"] = _targets(values["target"], about)
    for key in COORDINATES:
        if key in values:
            _check_boxes(key, values[key], images)
        for name in rows_of(key, values):
            if name not in COORDINATES:
                values[name] = _of_rows(name, values[name], key, values.get(key), about)
    if "mask" in values:
        values["mask"] = _masks(values["mask"], images, len(about.mask_classes))


def _check_images(images: Values, about: About) -> None:
    wanted = "(height, width, channels)" if about.shape is None else str(about.shape)
    one = [images[0]] if isinstance(images, np.ndarray) else images
    for i, image in enumerate(one):
        if np.ndim(image) != 3:
            raise Refused(
                f"image[{i}] has rank {np.ndim(image)}, shape {np.shape(image)}; wanted: {wanted}"
            )
        if image.dtype != np.uint8:
            raise Refused(f"image[{i}] has type {image.dtype}; wanted: uint8, pixels 0..255")
        if about.shape is not None and image.shape != about.shape:
            raise Refused(f"image[{i}] has shape {image.shape}; wanted: {wanted}")


def _integers(key: str, values: Values) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise Refused(
            f"{key} has rank {values.ndim}, type {values.dtype}; wanted: one integer an example"
        )
    return values


def _signals(signals: Values, about: About) -> Values:
    wanted = "(steps, channels)" if about.shape is None else str(about.shape)
    for i, signal in enumerate([signals[0]] if isinstance(signals, np.ndarray) else signals):
        if np.ndim(signal) != 2 or signal.dtype.kind not in "iuf":
            raise Refused(
                f"signal[{i}] has shape {np.shape(signal)}, type {signal.dtype}; "
                f"wanted: numbers {wanted}"
            )
        if about.shape is not None and signal.shape != about.shape:
            raise Refused(f"signal[{i}] has shape {signal.shape}; wanted: {wanted}")
    return _float32(signals)


def _targets(targets: Values, about: About) -> np.ndarray:
    shapes = {np.shape(target) for target in targets}
    if len(shapes) > 1:
        i = next(i for i, one in enumerate(targets) if np.shape(one) != np.shape(targets[0]))
        raise Refused(f"target[{i}] has shape {targets[i].shape}, target[0] {targets[0].shape}")
    targets = np.asarray(targets)
    if targets.ndim == 1:
        targets = targets[:, None]
    if targets.ndim != 2 or targets.dtype.kind not in "iuf":
        raise Refused(
            f"target has shape {targets.shape}, type {targets.dtype}; wanted: numbers (N, K)"
        )
    if about.targets and len(about.targets) != targets.shape[1]:
        raise Refused(
            f"target has {targets.shape[1]} columns; targets={about.targets} names "
            f"{len(about.targets)}"
        )
    return _float32(targets)


def _float32(values: Values) -> Any:
    with np.errstate(over="ignore"):  # what becomes infinite is found by who reads it
        if isinstance(values, np.ndarray):
            return values.astype(np.float32, copy=False)
        return [value.astype(np.float32, copy=False) for value in values]


def check_labels(labels: np.ndarray, classes: int, key: str = "label", start: int = 0) -> None:
    """Refuses a label outside 0..classes - 1; JAX would wrap -1 to the last class.

    Args:
        labels: (N,) integers.
        classes: how many there are.
        key: what the message calls them.
        start: index of the first.

    Raises:
        Refused: names the first such index and its value.
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        i = int(wrong[0])
        raise Refused(
            f"{key}[{start + i}]={labels[i]} is outside the {classes} classes 0..{classes - 1}"
        )


def _check_boxes(key: str, boxes: Values, images: Values | None) -> None:
    for i, rows in enumerate(boxes):
        if np.ndim(rows) != 2 or np.shape(rows)[1] != 4:
            raise Refused(f"{key}[{i}] has shape {np.shape(rows)}; wanted: (n, 4)")
        if rows.dtype != np.float32:
            raise Refused(f"{key}[{i}] has type {rows.dtype}; wanted: float32")
        sound = np.isfinite(rows).all(1) & (rows[:, 2:] > rows[:, :2]).all(1)
        wanted = "finite, x0 < x1, y0 < y1"
        if images is not None:
            height, width = np.shape(images[i])[:2]
            wanted += f", inside 0 0 {width} {height}"
            sound &= (rows[:, :2] >= 0).all(1) & (rows[:, 2] <= width) & (rows[:, 3] <= height)
        if not sound.all():
            row = int(np.argmin(sound))
            raise Refused(f"{key}[{i}][{row}]={rows[row].tolist()}; wanted: {wanted}")


def _of_rows(
    name: str, values: Values, key: str, boxes: Values | None, about: About
) -> list[np.ndarray]:
    """What is said of each row of `key`: a class, or a bool."""
    dtype = KEYS[name].dtype
    kinds, said = ("iu", "integer") if dtype == np.int32 else ("b", "bool")
    for i, row in enumerate(values):
        if np.ndim(row) != 1 or (row.dtype.kind not in kinds and row.size):
            raise Refused(
                f"{name}[{i}] has rank {np.ndim(row)}, type {row.dtype}; wanted: one {said} a box"
            )
        if boxes is not None and len(row) != len(boxes[i]):
            raise Refused(f"{name}[{i}] has {len(row)} rows, {key}[{i}] has {len(boxes[i])}")
        if dtype == np.int32:
            check_labels(row, len(about.classes), key=f"{name}[{i}]")
    return [row.astype(dtype) for row in values]


def _masks(masks: Values, images: Values | None, classes: int) -> Values:
    if not classes:
        raise Refused("mask is given, but the set declares no mask_classes")
    for i, mask in enumerate(masks):
        if np.ndim(mask) != 2 or mask.dtype.kind not in "iu":
            raise Refused(
                f"mask[{i}] has rank {np.ndim(mask)}, type {mask.dtype}; "
                "wanted: (height, width) integers, a class a pixel"
            )
        if images is not None and mask.shape != np.shape(images[i])[:2]:
            raise Refused(f"mask[{i}] has shape {mask.shape}, image[{i}] {np.shape(images[i])}")
        wrong = ((mask < 0) | (mask >= classes)) & (mask != IGNORE)
        if wrong.any():
            at = tuple(int(axis[0]) for axis in np.nonzero(wrong))
            raise Refused(
                f"mask[{i}][{at[0]}, {at[1]}]={mask[at]} is outside the {classes} mask classes "
                f"0..{classes - 1} and not {IGNORE}"
            )
    if isinstance(masks, np.ndarray):
        return masks.astype(np.uint8, copy=False)
    return [mask.astype(np.uint8, copy=False) for mask in masks]
