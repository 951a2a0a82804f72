"""Which features of a TFDS set are its image or sound, and its class, boxes or mask."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import tensorflow_datasets as tfds

from train.data import masks
from train.data.annotations import check_labels
from train.data.boxes import boxes, leaving, solid
from train.data.decode import size
from train.data.judged import LONGEST, MASKS, ONE_BASED, mirror
from train.data.legend import colours
from train.data.source import About
from train.refusal import Refused, choose

WANTS = ("label", "boxes", "mask")
"""What an example may be annotated with; a source gives one of them (a scene has two)."""

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's name of a picture with so many channels."""

_MASK_KEYS = ("mask", "segmentation", "annotation")


class Layout(Protocol):
    """Where a set's image or sound and its annotations stand in its records."""

    def about(self, split: str) -> About:
        """What is known of a split without reading an example."""
        ...

    def truth(self, record: Any, i: int) -> dict[str, np.ndarray]:
        """The annotations in example i, a map of features; the image is not decoded.

        Raises:
            Refused, ValueError: they are wrong; says how.
        """
        ...


def layout(builder: tfds.core.DatasetBuilder, want: str = "label") -> Layout:
    """The layout of a set for what is wanted of it.

    Raises:
        Refused: it has no such annotations; names its features.
    """
    kinds: dict[str, Callable[..., Layout]] = {"label": Labels, "boxes": Boxes, "mask": Masks}
    choose("want", want, WANTS)
    if want == "label" and not pictures(builder) and has_sounds(builder):
        return Sounds(builder)
    return kinds[want](builder)


def pictures(builder: tfds.core.DatasetBuilder) -> list[str]:
    """Features that are images."""
    return [key for key, f in builder.info.features.items() if type(f) is tfds.features.Image]


def has_sounds(builder: tfds.core.DatasetBuilder) -> bool:
    """Whether a feature of a set is a sound."""
    return any(type(f) is tfds.features.Audio for f in builder.info.features.values())


class _Image:
    """A set's image and name."""

    image: str
    channels: int
    """Of the image."""

    def __init__(self, builder: tfds.core.DatasetBuilder):
        self._name = builder.info.name
        self._config = builder.info.config_name
        self._full = builder.info.full_name
        # Files keep no order.
        self._features: dict[str, Any] = dict(sorted(builder.info.features.items()))

    def _of(self, kind: type) -> list[str]:
        return [key for key, feature in self._features.items() if type(feature) is kind]

    def _take(self, key: str) -> None:
        feature = self._features[key]
        shape = feature.shape
        if feature.np_dtype != np.uint8 or len(shape) != 3 or shape[2] not in MODES:
            raise Refused(
                f"data={self._full!r}: its {key} is {feature.np_dtype} {shape}; "
                "wanted: uint8, (height, width, channels) with 1, 3 or 4 channels"
            )
        self.image = key
        self.channels = int(shape[2])
        self._shape = None if None in shape else shape

    def _refused(self, wanted: str) -> Refused:
        said = ", ".join(f"{key} ({type(f).__name__})" for key, f in self._features.items())
        return Refused(f"data={self._full!r} is {wanted}: its features are {said}")

    def _about(self, split: str, **known: Any) -> About:
        return About(
            name=f"{self._name}/{self._config}" if self._config else self._name,
            split=split,
            mirror=mirror(self._name),
            shape=self._shape,
            **known,
        )


class Labels(_Image):
    """An image and a class."""

    def __init__(self, builder: tfds.core.DatasetBuilder):
        super().__init__(builder)
        images, labels = self._of(tfds.features.Image), self._of(tfds.features.ClassLabel)
        pair = builder.info.supervised_keys
        if pair is None or len(pair) != 2 or pair[0] not in images or pair[1] not in labels:
            pair = (images[0], labels[0]) if len(images) == len(labels) == 1 else None
        if pair is None:
            raise self._refused("no image-classification set (one image, one class)")
        self._take(pair[0])
        self._label = pair[1]
        self._classes = _names(self._features[self._label])

    def about(self, split: str) -> About:
        return self._about(split, classes=self._classes)

    def truth(self, record: Any, i: int) -> dict[str, np.ndarray]:
        return _class_of(record, self._label, self._classes, i)


class Sounds(_Image):
    """A sound and a class."""

    def __init__(self, builder: tfds.core.DatasetBuilder):
        super().__init__(builder)
        sounds, labels = self._of(tfds.features.Audio), self._of(tfds.features.ClassLabel)
        pair = builder.info.supervised_keys
        if pair is None or len(pair) != 2 or pair[0] not in sounds or pair[1] not in labels:
            pair = (sounds[0], labels[0]) if len(sounds) == len(labels) == 1 else None
        if pair is None:
            raise self._refused("no set of sounds with a class (one sound, one class)")
        self.sound, self._label = pair
        feature = self._features[self.sound]
        kind, shape = np.dtype(feature.np_dtype), feature.shape
        if kind.kind not in "if" or len(shape) > 2 or None in shape[1:] or _encoded(feature):
            raise Refused(
                f"data={self._full!r}: its {self.sound} is {kind} {shape}, kept encoded or of "
                "another form; wanted: numbers, (steps,) or (steps, channels), as they are"
            )
        self._classes = _names(self._features[self._label])
        self._channels = shape[1] if len(shape) == 2 else 1
        self._scale = 2.0**-15 if kind.kind == "i" else 1.0
        self.steps: int | None = shape[0]
        """Of all sounds, or of the longest once `number` has said so."""
        self._ragged = self.steps is None
        if self.steps is None:
            self.steps = LONGEST.get(self._name)

    def number(self, steps: int) -> None:
        """Says how many steps the longest has."""
        self.steps = steps

    def about(self, split: str) -> About:
        assert self.steps is not None
        return About(
            name=f"{self._name}/{self._config}" if self._config else self._name,
            split=split,
            classes=self._classes,
            mirror=False,
            shape=(self.steps, self._channels),
            ragged=self._ragged,
            rate=self._features[self.sound].sample_rate or None,
        )

    def length(self, record: Any) -> int:
        """How many steps a sound has; its numbers are not taken."""
        feature = record[self.sound]
        return len((feature.int64_list if self._scale != 1 else feature.float_list).value) // (
            self._channels
        )

    def signal(self, record: Any) -> np.ndarray:
        """(l, C) float32: integers, which are those of 16 bits, are divided by 2^15."""
        feature = record[self.sound]
        values = (feature.int64_list if self._scale != 1 else feature.float_list).value
        return np.array(values, np.float32).reshape(-1, self._channels) * np.float32(self._scale)

    def truth(self, record: Any, i: int) -> dict[str, np.ndarray]:
        return _class_of(record, self._label, self._classes, i)


class Boxes(_Image):
    """An image and a sequence of boxes with classes, as `objects` with `bbox` and `label`."""

    def __init__(self, builder: tfds.core.DatasetBuilder):
        super().__init__(builder)
        images = self._of(tfds.features.Image)
        found = {key: rows for key, rows in self._features.items() if _holds_boxes(rows)}
        if len(images) != 1 or len(found) != 1:
            raise self._refused("no detection set (one image, one sequence of `bbox` and `label`)")
        self._take(images[0])
        ((self._objects, rows),) = found.items()
        self._classes = _names(rows.feature["label"])
        self.clipped: dict[int, int] = {}
        """Index -> how many boxes were clipped, of the examples that were read."""
        self.empty: dict[int, int] = {}
        """Likewise how many had no area, and are left out."""
        self._flags = {
            f"box_{flag}": f"{self._objects}/is_{flag}"
            for flag in ("crowd", "difficult")
            if f"is_{flag}" in rows.feature
        }

    def about(self, split: str) -> About:
        return self._about(split, classes=self._classes)

    def truth(self, record: Any, i: int) -> dict[str, np.ndarray]:
        height, width = size(record[self.image].bytes_list.value[0])
        shares = np.array(record[f"{self._objects}/bbox"].float_list.value, np.float64)
        # y0 x0 y1 x1 in float32 shares of the image; three decimals are what was written.
        rows = shares.reshape(-1, 4)[:, [1, 0, 3, 2]] * [width, height, width, height]
        rows = np.round(rows, 3)
        if self._name in ONE_BASED:
            rows[:, :2] -= 1
        label = np.array(record[f"{self._objects}/label"].int64_list.value, np.int64)
        if len(label) != len(rows):
            raise ValueError(f"{len(rows)} boxes and {len(label)} integers that say their classes")
        check_labels(label, len(self._classes), key=f"box_label[{i}]")
        flags = {
            key: np.array(record[feature].int64_list.value, np.bool_)
            for key, feature in self._flags.items()
        }
        kept = boxes(rows, height, width)
        there = solid(kept)
        if count := leaving(rows[there], height, width):
            self.clipped[i] = count
        if not there.all():
            self.empty[i] = int((~there).sum())
        found = {"boxes": kept, "box_label": label.astype(np.int32), **flags}
        return {key: value[there] for key, value in found.items()}


class Masks(_Image):
    """An image and an image of one channel whose values are classes."""

    def __init__(self, builder: tfds.core.DatasetBuilder):
        super().__init__(builder)
        images = [*self._of(tfds.features.Image), *self._of(tfds.features.LabeledImage)]
        found = [key for key in images if self._is_mask(key)]
        others = [key for key in images if key not in found]
        if len(found) != 1 or len(others) != 1:
            raise self._refused("no segmentation set (one image, one mask of one channel)")
        self._take(others[0])
        self.mask = found[0]
        judged = MASKS.get(self._name, {})
        self.classes: tuple[str, ...] = tuple(judged)
        """The classes' names; () until `number` gives them, where the files do not say."""
        self._values = tuple(judged.values())
        if isinstance(self._features[self.mask], tfds.features.LabeledImage):
            self.classes = _names(self._features[self.mask])

    def number(self, count: int) -> None:
        """Names the classes by number."""
        self.classes = tuple(map(str, range(count)))

    def about(self, split: str) -> About:
        return self._about(
            split,
            classes=(),
            mask_classes=self.classes,
            colours=colours(len(self.classes)),
        )

    def values(self, record: Any) -> np.ndarray:
        """(H, W) uint8: classes from 0, 255 = ignore, before they are checked.

        Raises:
            ValueError: a value that no class has, where the set's values are known.
            Exception: as `train.data.masks.indices`.
        """
        mask = masks.indices(record[self.mask].bytes_list.value[0])
        if not self._values:
            return mask
        wrong = np.setdiff1d(mask, (*self._values, masks.IGNORE))
        if wrong.size:
            raise ValueError(f"the mask holds {wrong[0]}; its classes are {self._values}")
        table = np.full(256, masks.IGNORE, np.uint8)
        table[list(self._values)] = np.arange(len(self._values))
        return table[mask]

    def truth(self, record: Any, i: int) -> dict[str, np.ndarray]:
        mask = self.values(record)
        masks.check(mask, size(record[self.image].bytes_list.value[0]), self.classes)
        return {"mask": mask}

    def _is_mask(self, key: str) -> bool:
        feature = self._features[key]
        labelled = isinstance(feature, tfds.features.LabeledImage)
        named = any(part in key.lower() for part in _MASK_KEYS)
        return labelled or (named and feature.shape[-1] == 1)


def _class_of(record: Any, key: str, classes: tuple[str, ...], i: int) -> dict[str, np.ndarray]:
    label = np.array(record[key].int64_list.value[:1], np.int64)
    if not label.size:
        raise ValueError(f"{key} is no integer")
    check_labels(label, len(classes), start=i)
    return {"label": label.astype(np.int32)[0]}


def _encoded(feature: Any) -> bool:
    """Whether a sound is kept as a file, or its numbers as bytes."""
    said = feature._encoding  # which TFDS gives no name to read by
    return bool(feature._lazy_decode) or said != tfds.features.Encoding.NONE


def _holds_boxes(feature: Any) -> bool:
    inner = getattr(feature, "feature", None)
    if not isinstance(inner, tfds.features.FeaturesDict) or not {"bbox", "label"} <= {*inner}:
        return False
    shares = tfds.features.BBoxFeature().bbox_format
    return (
        isinstance(inner["bbox"], tfds.features.BBoxFeature)
        and inner["bbox"].bbox_format in (None, shares)
        and isinstance(inner["label"], tfds.features.ClassLabel)
    )


def _names(feature: Any) -> tuple[str, ...]:
    """Of a ClassLabel or a LabeledImage; () where it does not even say how many there are."""
    return tuple(feature.names) if feature.num_classes else ()
