"""Annotations in memory: each key's type, shape and values, checked before anything reads them."""

import numpy as np

from train.data.batch import IGNORE
from train.data.source import About
from train.refusal import Refused

Values = np.ndarray | list[np.ndarray]
"""An array whose leading axis is the example, or one array an example."""

FLAGS = ("box_crowd", "box_difficult")


def check(values: dict[str, Values], about: About) -> None:
    """Checks every known key of `values`, and gives labels and masks the batch's type in place.

    Raises:
        Refused: names the key, the index and the value.
    """
    images, boxes = values.get("image"), values.get("boxes")
    if images is not None:
        _check_images(images, about)
    if "label" in values:
        values["label"] = _labels(values["label"], len(about.classes))
    if boxes is not None:
        _check_boxes(boxes, images)
    if "box_label" in values:
        values["box_label"] = _box_labels(values["box_label"], boxes, len(about.classes))
    for key in FLAGS:
        if key in values:
            values[key] = _flags(key, values[key], boxes)
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


def _labels(labels: Values, classes: int) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise Refused(
            f"label has rank {labels.ndim}, type {labels.dtype}; wanted: one integer an example"
        )
    check_labels(labels, classes)
    return labels.astype(np.int32)


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


def _check_boxes(boxes: Values, images: Values | None) -> None:
    for i, rows in enumerate(boxes):
        if np.ndim(rows) != 2 or np.shape(rows)[1] != 4:
            raise Refused(f"boxes[{i}] has shape {np.shape(rows)}; wanted: (n, 4)")
        if rows.dtype != np.float32:
            raise Refused(f"boxes[{i}] has type {rows.dtype}; wanted: float32")
        sound = np.isfinite(rows).all(1) & (rows[:, 2:] > rows[:, :2]).all(1)
        wanted = "finite, x0 < x1, y0 < y1"
        if images is not None:
            height, width = np.shape(images[i])[:2]
            wanted += f", inside 0 0 {width} {height}"
            sound &= (rows[:, :2] >= 0).all(1) & (rows[:, 2] <= width) & (rows[:, 3] <= height)
        if not sound.all():
            row = int(np.argmin(sound))
            raise Refused(f"boxes[{i}][{row}]={rows[row].tolist()}; wanted: {wanted}")


def _box_labels(labels: Values, boxes: Values | None, classes: int) -> list[np.ndarray]:
    for i, row in enumerate(labels):
        if np.ndim(row) != 1 or (row.dtype.kind not in "iu" and row.size):
            raise Refused(
                f"box_label[{i}] has rank {np.ndim(row)}, type {row.dtype}; "
                "wanted: one integer a box"
            )
        _check_rows("box_label", i, row, boxes)
        check_labels(row, classes, key=f"box_label[{i}]")
    return [row.astype(np.int32) for row in labels]


def _flags(key: str, flags: Values, boxes: Values | None) -> list[np.ndarray]:
    for i, row in enumerate(flags):
        if np.ndim(row) != 1 or (row.dtype != np.bool_ and row.size):
            raise Refused(
                f"{key}[{i}] has rank {np.ndim(row)}, type {row.dtype}; wanted: one bool a box"
            )
        _check_rows(key, i, row, boxes)
    return [row.astype(np.bool_) for row in flags]


def _check_rows(key: str, i: int, row: np.ndarray, boxes: Values | None) -> None:
    if boxes is not None and len(row) != len(boxes[i]):
        raise Refused(f"{key}[{i}] has {len(row)} rows, boxes[{i}] has {len(boxes[i])}")


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
