"""Sets of TensorFlow Datasets, read at random without TensorFlow: images and sounds.

A set is prepared where its array_record files lie whole under TFDS_DATA_DIR (by default
~/tensorflow_datasets). A copy in another format has no random access and counts as not prepared;
`train.data.prepare` converts it, or prepares the set in the first place.
"""

import contextlib
import functools
import hashlib
import io
import json
import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import read_only_builder
from tensorflow_datasets.core.features import audio_feature
from tensorflow_datasets.proto import tf_example_pb2

from models.pretrained.picture import upright
from train.data import jpeg
from train.data.batch import IGNORE
from train.data.decode import Unreadable, opened, reason
from train.data.features import MODES, Boxes, Labels, Layout, Masks, Sounds, has_sounds, layout
from train.data.places import data_dir
from train.data.source import Example
from train.data.steps import placed
from train.progress import working
from train.refusal import Refused, choose

FORMAT = tfds.core.FileFormat.ARRAY_RECORD
_NAME = re.compile(r"(?P<set>\w+)(/[\w.-]+)?(?P<version>:[\w.*]+)?")
_TOGETHER = 1024


class NotPrepared(Refused):
    """There is no whole array_record copy of the set; the message says how to get one."""


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
    if match and os.path.isdir(data_dir() / match["set"]):
        return name
    names = tfds.list_builders(with_community_datasets=False)
    if not match or match["set"] not in names:
        choose("data", name, [*also, *names])
    return name


def prepared(name: str, want: str = "label") -> bool:
    """Whether a whole array_record copy of a set with such annotations lies ready to be read."""
    try:
        layout(_open(name), want)
    except Refused:
        return False
    return True


def splits(name: str) -> dict[str, int]:
    """Names and sizes of the splits of a prepared set.

    Raises:
        NotPrepared, Refused: as `source`.
    """
    return {split: info.num_examples for split, info in _open(name).info.splits.items()}


def source(name: str, split: str, want: str = "label") -> "Tfds":
    """A split of a prepared set.

    `boxes` are those of a sequence of `bbox` and `label` (`objects`), `is_crowd` and `is_difficult`
    beside them; `mask` is a second image, of one channel. Where the files do not name a mask's
    classes they are numbers, up to the largest in the training split, all of whose masks are read.

    Args:
        name: `set`, `set/config`, either with `:version` (the newest copy by default).
        split: one of `splits(name)`.
        want: "label", "boxes" or "mask".

    Raises:
        NotPrepared: there is no copy, or none in the array_record format.
        Refused: an unknown name or split, a damaged copy, or a set without such annotations.
    """
    builder = _open(name)
    found = layout(builder, want)
    if isinstance(found, Masks) and not found.classes:
        found.number(_classes(str(builder.data_dir), name))
    if isinstance(found, Sounds) and found.steps is None:
        found.number(_longest(str(builder.data_dir), name))
    return Tfds(builder, split, found)


class Tfds:
    """A split of a set whose examples are an image or a sound and what is known of it.

    May be pickled. What of it cannot be used is `Unreadable` when its example is read.
    """

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str, found: Layout):
        choose("split", split, builder.info.splits)
        _check_shards(builder, split)
        self.about = found.about(split)
        classes = (*self.about.classes, *self.about.mask_classes)
        self.fingerprint = _fingerprint(builder, split, classes)
        self._layout = found
        self._records = builder.as_data_source(
            split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        ).data_source

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, i: int) -> Example:
        return self.__getitems__([i])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Example]:
        """Several at once: a record then costs a tenth of what it does alone."""
        return [self._example(i, record) for i, record in self._pairs(indices)]

    def truth(self, i: int) -> dict[str, Any]:
        """The annotations of example i; the image stays encoded."""
        return self._truth(i, self._read([i])[0])

    @property
    def clipped(self) -> dict[int, int]:
        """Index -> how many boxes were clipped, of the examples that were read."""
        return getattr(self._layout, "clipped", {})

    @property
    def empty(self) -> dict[int, int]:
        """Likewise how many had no area, and were dropped."""
        return getattr(self._layout, "empty", {})

    @property
    def labels(self) -> np.ndarray:
        """(N,) int32: the label of every example; no image is decoded.

        Raises:
            Refused: it was opened for other annotations.
        """
        found: list[np.ndarray] = []
        for start in range(0, len(self), _TOGETHER):
            indices = range(start, min(start + _TOGETHER, len(self)))
            truths = [self._truth(i, record) for i, record in self._pairs(indices)]
            if "label" not in truths[0]:
                raise Refused(f"data={self.about.name!r} has no label; its keys: {[*truths[0]]}")
            found += [truth["label"] for truth in truths]
        return np.array(found, np.int32)

    def masks(self) -> Iterator[np.ndarray]:
        """(H, W) uint8: every mask in turn, before its classes are checked.

        One that cannot be read is left out: reading its example will say so.
        """
        assert isinstance(self._layout, Masks)
        for i in range(len(self)):
            record = self._read([i])[0]
            with contextlib.suppress(Exception):  # decoders raise what they like
                yield self._layout.values(record)

    def _read(self, indices: Sequence[int]) -> list[Any]:
        for i in indices:
            if not 0 <= i < len(self):
                raise IndexError(f"index {i} is outside 0..{len(self) - 1}")
        if len(indices) == 1:
            records = [self._records[indices[0]]]
        else:
            records = self._records.__getitems__(list(indices))
        return [tf_example_pb2.Example.FromString(record).features.feature for record in records]

    def _pairs(self, indices: Sequence[int]) -> Iterator[tuple[int, Any]]:
        return zip(indices, self._read(indices), strict=True)

    def _truth(self, i: int, record: Any) -> dict[str, np.ndarray]:
        try:
            return self._layout.truth(record, i)
        except Refused:
            raise
        except MemoryError:
            raise
        except Exception as error:  # decoders raise what they like
            raise self._unreadable(i, reason(error)) from error

    def _example(self, i: int, record: Any) -> Example:
        truth = self._truth(i, record)
        if isinstance(self._layout, Sounds):
            try:
                return {**placed(self._layout.signal(record), self.about), **truth}
            except ValueError as error:
                raise self._unreadable(i, f"the sound {reason(error)}") from error
        assert isinstance(self._layout, Labels | Boxes | Masks)
        try:
            image = _decode(record[self._layout.image].bytes_list.value[0], self._layout.channels)
        except MemoryError:
            raise
        except Exception as error:
            raise self._unreadable(i, f"the image cannot be decoded: {reason(error)}") from error
        if self.about.shape is not None and image.shape != self.about.shape:
            raise self._unreadable(
                i, f"the image has shape {image.shape}; wanted: {self.about.shape}"
            )
        return {"image": image, **{key: np.asarray(value) for key, value in truth.items()}}

    def _unreadable(self, i: int, why: str) -> Unreadable:
        return Unreadable(f"{self.about.name}/{self.about.split}", i, why)


@functools.cache
def _classes(folder: str, name: str) -> int:
    """How many classes the masks of the training split show."""
    del folder  # where the set lies may change
    builder = _open(name)
    split = choose("split", "train", builder.info.splits)
    found = layout(builder, "mask")
    assert isinstance(found, Masks)
    values = (mask[mask != IGNORE] for mask in Tfds(builder, split, found).masks())
    return 1 + max((int(value.max()) for value in values if value.size), default=0)


@functools.cache
def _longest(folder: str, name: str) -> int:
    """Steps of the longest sound of all splits, every one of which is read."""
    del folder  # where the set lies may change
    builder = _open(name)
    found, most = layout(builder), 0
    assert isinstance(found, Sounds)
    with working(f"measuring the sounds of {name}", builder.info.splits.total_num_examples) as on:
        for split in builder.info.splits:
            records = builder.as_data_source(
                split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
            ).data_source
            for i in range(len(records)):
                features = tf_example_pb2.Example.FromString(records[i]).features.feature
                most = max(most, found.length(features))
                on(1)
    return most


@contextlib.contextmanager
def no_decoders() -> Iterator[None]:
    """Within, TFDS makes no decoders of sounds, which import TensorFlow; numbers need none."""
    before = audio_feature._EagerDecoder, audio_feature._LazyDecoder
    audio_feature._EagerDecoder = audio_feature._LazyDecoder = lambda **_: None
    try:
        yield
    finally:
        audio_feature._EagerDecoder, audio_feature._LazyDecoder = before


def _open(name: str) -> tfds.core.DatasetBuilder:
    """A builder over the files alone; the set's own code is not run."""
    known(name)
    folder = data_dir()
    try:
        with no_decoders(), contextlib.redirect_stdout(io.StringIO()):  # TFDS prints a banner
            builder = read_only_builder.builder_from_files(name, data_dir=folder)
            builder.info.features  # noqa: B018  # made when they are asked for
    except tfds.core.DatasetNotFoundError:
        raise NotPrepared(
            f"data={name!r} is not prepared under {folder}; `{command(name)}` prepares it, "
            "TFDS_DATA_DIR names where a prepared copy lies"
        ) from None
    except ImportError as error:
        raise Refused(
            f"data={name!r}: its copy under {folder} is of a form that TensorFlow alone reads, as "
            "sounds are that are kept encoded"
        ) from error
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
        "features": _features(builder),
        "classes": classes,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _features(builder: tfds.core.DatasetBuilder) -> Any:
    """What the features are, as JSON has it; of sounds the file, TFDS would ask TensorFlow."""
    if not has_sounds(builder):
        return builder.info.features.to_json()
    return json.loads(pathlib.Path(builder.data_dir, "features.json").read_text())


def _decode(encoded: bytes, channels: int) -> np.ndarray:
    """(H, W, channels) uint8 of a PNG or JPEG, upright."""
    file = opened(encoded)
    if channels == 3 and (fast := jpeg.pixels(file, encoded)) is not None:
        return fast
    image = upright(file)
    mode = MODES[channels]
    pixels = np.array(image if image.mode == mode else image.convert(mode))
    return pixels[..., None] if channels == 1 else pixels
