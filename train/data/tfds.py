"""Image-classification sets of TensorFlow Datasets, read at random without TensorFlow.

A set is prepared where its array_record files lie whole under TFDS_DATA_DIR (by default
~/tensorflow_datasets). A copy in another format has no random access and counts as not prepared;
`train.data.prepare` converts it, or prepares the set in the first place.
"""

import hashlib
import io
import json
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core import read_only_builder
from tensorflow_datasets.proto import tf_example_pb2

from train.data.arrays import check_labels
from train.data.source import About, Example
from train.refusal import Refused, choose

FORMAT = tfds.core.FileFormat.ARRAY_RECORD
_NAME = re.compile(r"(?P<set>\w+)(/[\w.-]+)?(?P<version>:[\w.*]+)?")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_TOGETHER = 1024

# fmt: off
MIRRORED = frozenset((
    "beans", "caltech101", "caltech_birds2011", "cars196", "cassava", "cats_vs_dogs", "cifar10",
    "cifar100", "cifar10_1", "colorectal_histology", "deep_weeds", "dtd", "eurosat",
    "fashion_mnist", "food101", "horses_or_humans", "imagenet2012", "imagenet2012_subset",
    "imagenet_a", "imagenet_r", "imagenet_resized", "imagenet_v2", "imagenette", "imagewang",
    "malaria", "oxford_flowers102", "oxford_iiit_pet", "patch_camelyon", "places365_small",
    "plant_village", "resisc45", "rock_paper_scissors", "stanford_dogs", "stl10", "tf_flowers",
    "uc_merced",
))
# fmt: on
"""Sets whose mirror image keeps its label. Digits, letters and signs (mnist, emnist, kmnist,
svhn_cropped, omniglot, ...) are not among them, nor is a set that nobody has judged: no mirror
is the safe side."""


class NotPrepared(Refused):
    """There is no whole array_record copy of the set; the message says how to get one."""


def data_dir() -> pathlib.Path:
    """Where prepared sets lie: TFDS_DATA_DIR, or TFDS's own default."""
    return pathlib.Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def known(name: str, also: Sequence[str] = ()) -> str:
    """`name` itself, where TFDS has a set of that name or one lies in the data directory.

    Reads lists that TFDS carries, and no network.

    Args:
        name: `set`, `set/config`, either with `:version`.
        also: other names that the user may have meant.

    Raises:
        Refused: it is neither; names the nearest.
    """
    match = _NAME.fullmatch(name)
    if match and (data_dir() / match["set"]).is_dir():
        return name
    names = tfds.list_builders(with_community_datasets=False)
    if not match or match["set"] not in names:
        choose("data", name, [*also, *names])
    return name


def prepared(name: str) -> bool:
    """Whether a whole array_record copy of an image-classification set lies ready to be read."""
    try:
        Layout(_open(name))
    except Refused:
        return False
    return True


def splits(name: str) -> dict[str, int]:
    """Names and sizes of the splits of a prepared set.

    Raises:
        NotPrepared, Refused: as `source`.
    """
    return {split: info.num_examples for split, info in _open(name).info.splits.items()}


def source(name: str, split: str) -> "Tfds":
    """A split of a prepared set.

    Args:
        name: `set`, `set/config`, either with `:version` (the newest copy by default).
        split: one of `splits(name)`.

    Raises:
        NotPrepared: there is no copy, or none in the array_record format.
        Refused: an unknown name or split, a damaged copy, or no image-classification set.
    """
    return Tfds(_open(name), split)


class Tfds:
    """A split of a set whose examples are an image and a class; may be pickled."""

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str):
        layout = Layout(builder)
        choose("split", split, builder.info.splits)
        _check_shards(builder, split)
        self.about = layout.about(split)
        self.fingerprint = _fingerprint(builder, split, self.about.classes)
        self._image, self._label = layout.image, layout.label
        self._channels = layout.channels
        self._records = builder.as_data_source(
            split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        ).data_source

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, i: int) -> Example:
        return self.__getitems__([i])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Example]:
        """Several at once: a record then costs a tenth of what it does alone."""
        return [
            self._example(i, record) for i, record in zip(indices, self._read(indices), strict=True)
        ]

    def truth(self, i: int) -> dict[str, Any]:
        """The label of example i; the image stays encoded."""
        return {"label": self._labels([i])[0]}

    @property
    def labels(self) -> np.ndarray:
        """(N,) int32: the label of every example; no image is decoded."""
        parts = [
            self._labels(range(start, min(start + _TOGETHER, len(self))))
            for start in range(0, len(self), _TOGETHER)
        ]
        return np.concatenate(parts)

    def _read(self, indices: Sequence[int]) -> list[Any]:
        for i in indices:
            if not 0 <= i < len(self):
                raise IndexError(f"index {i} is outside 0..{len(self) - 1}")
        if len(indices) == 1:
            records = [self._records[indices[0]]]
        else:
            records = self._records.__getitems__(list(indices))
        return [tf_example_pb2.Example.FromString(record).features.feature for record in records]

    def _labels(self, indices: Sequence[int]) -> np.ndarray:
        records = self._read(indices)
        return np.array(
            [self._checked(i, record) for i, record in zip(indices, records, strict=True)],
            np.int32,
        )

    def _checked(self, i: int, record: Any) -> np.ndarray:
        label = np.array(record[self._label].int64_list.value[:1], np.int64)
        check_labels(label, len(self.about.classes), start=i)
        return label.astype(np.int32)[0]

    def _example(self, i: int, record: Any) -> Example:
        label = self._checked(i, record)
        try:
            image = _decode(record[self._image].bytes_list.value[0], self._channels)
        except (OSError, SyntaxError, IndexError) as error:  # Pillow raises the first two
            what = f"{self.about.name}/{self.about.split}"
            raise Refused(f"image[{i}] of {what} can't be decoded: {error}") from error
        if self.about.shape is not None and image.shape != self.about.shape:
            raise Refused(f"image[{i}] has shape {image.shape}; wanted: {self.about.shape}")
        return {"image": image, "label": np.asarray(label)}


class Layout:
    """Which features of a set are its image and its class."""

    def __init__(self, builder: tfds.core.DatasetBuilder):
        features = dict(sorted(builder.info.features.items()))  # files keep no order
        images = [key for key, f in features.items() if type(f) is tfds.features.Image]
        labels = [key for key, f in features.items() if isinstance(f, tfds.features.ClassLabel)]
        pair = builder.info.supervised_keys
        if pair is None or len(pair) != 2 or pair[0] not in images or pair[1] not in labels:
            pair = (images[0], labels[0]) if len(images) == len(labels) == 1 else None
        said = ", ".join(f"{key} ({type(f).__name__})" for key, f in features.items())
        name = builder.info.full_name
        if pair is None:
            raise Refused(
                f"data={name!r} is no image-classification set (one image, one class): "
                f"its features are {said}"
            )
        self.image, self.label = pair
        image = features[self.image]
        if image.np_dtype != np.uint8 or len(image.shape) != 3 or image.shape[2] not in _MODES:
            raise Refused(
                f"data={name!r}: its {self.image} is {image.np_dtype} {image.shape}; "
                "wanted: uint8, (height, width, channels) with 1, 3 or 4 channels"
            )
        self.channels = int(image.shape[2])
        self._shape = None if None in image.shape else image.shape
        self._name = builder.info.name
        self._config = builder.info.config_name
        self._classes = features[self.label]

    def about(self, split: str) -> About:
        """What is known of a split without reading an example."""
        names = self._classes.int2str
        return About(
            name=f"{self._name}/{self._config}" if self._config else self._name,
            split=split,
            classes=tuple(names(c) for c in range(self._classes.num_classes)),
            mirror=self._name in MIRRORED,
            shape=self._shape,
        )


def _open(name: str) -> tfds.core.DatasetBuilder:
    """A builder over the files alone; the set's own code is not run."""
    known(name)
    folder = data_dir()
    try:
        builder = read_only_builder.builder_from_files(name, data_dir=folder)
    except tfds.core.DatasetNotFoundError:
        raise NotPrepared(
            f"data={name!r} is not prepared under {folder}; `{command(name)}` prepares it, "
            "TFDS_DATA_DIR names where a prepared copy lies"
        ) from None
    except Exception as error:
        raise Refused(f"data={name!r}: its copy under {folder} cannot be read: {error}") from error
    formats = builder.info.available_file_formats()
    if FORMAT not in formats:
        has = ", ".join(sorted(f.value for f in formats))
        raise NotPrepared(
            f"data={name!r} lies in {builder.data_dir} in the {has} format, which has no random "
            f"access; `python -m train.data.prepare {name}` converts it to {FORMAT.value}"
        )
    if builder.info.file_format != FORMAT:
        builder.info.set_file_format(FORMAT, override=True, override_if_initialized=True)
    for info in builder.info.splits.values():
        for path in info.filepaths:
            if not path.exists() or not path.stat().length:
                raise _damaged(builder, f"{path} is missing or empty")
    return builder


def _check_shards(builder: tfds.core.DatasetBuilder, split: str) -> None:
    """Refuses a split of which a file has lost its end or records; reads the files' indices."""
    from array_record.python import array_record_module  # for Linux alone: digits do without

    info = builder.info.splits[split]
    for path, length in zip(info.filepaths, info.shard_lengths, strict=True):
        reader = array_record_module.ArrayRecordReader(str(path))
        # One that is not ok raises its reason when it is closed, hundreds of characters.
        if not reader.ok() or reader.num_records() != length:
            raise _damaged(builder, f"{path} does not hold its {length} records")
        reader.close()


def _damaged(builder: tfds.core.DatasetBuilder, what: str) -> Refused:
    return Refused(
        f"data={builder.info.name!r}: its copy is damaged, {what}; remove {builder.data_dir} and "
        f"prepare it again: `{command(builder.info.name)}`"
    )


def command(name: str) -> str:
    """The one command that installs what it needs and prepares a set."""
    return f"make {name}" if name == "cifar10" else f"make prepare DATA={name}"


def _fingerprint(builder: tfds.core.DatasetBuilder, split: str, classes: tuple[str, ...]) -> str:
    """SHA-256 of what is recorded about the split: names, sizes, checksums; no file is read."""
    info = builder.info
    facts = {
        "name": info.full_name,
        "split": split,
        "lengths": list(map(int, info.splits[split].shard_lengths)),
        "bytes": int(info.splits[split].num_bytes),
        "files": [[path.name, path.stat().length] for path in info.splits[split].filepaths],
        "checksums": sorted(
            [url, entry.checksum, entry.size]
            for url, entry in info.as_proto.download_checksums.items()
        ),
        "features": info.features.to_json(),
        "classes": classes,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _decode(encoded: bytes, channels: int) -> np.ndarray:
    """(H, W, channels) uint8 of a PNG or JPEG; always by Pillow, so that pixels do not depend on
    which other decoder happens to be installed."""
    with Image.open(io.BytesIO(encoded)) as image:
        mode = _MODES[channels]
        pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return pixels[..., None] if channels == 1 else pixels
