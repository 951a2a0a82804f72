"""A TFDS set written by hand: `import tfds_set` in a test (pytest's `pythonpath`)."""

import io
import json
import struct

import numpy as np
import tensorflow_datasets as tfds_library
from array_record.python import array_record_module
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

F = tfds_library.features
CLASSES = ("cat", "dog", "owl")


def png(pixels, mode):
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze(-1) if mode == "L" else pixels, mode=None).save(file, "PNG")
    return file.getvalue()


def picture(pixels):
    return png(pixels, "L" if pixels.shape[-1] == 1 else None)


def record(**features):
    example = tf_example_pb2.Example()
    for key, value in features.items():
        feature = example.features.feature[key]
        if isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        elif any(isinstance(number, float) for number in value):
            feature.float_list.value.extend(value)
        else:
            feature.int64_list.value.extend(value)
    return example.SerializeToString()


def tfrecord(path, records):
    with open(path, "wb") as file:
        for record in records:
            file.write(struct.pack("<QI", len(record), 0) + record + struct.pack("<I", 0))


def array_record(path, records):
    writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
    for record in records:
        writer.write(record)
    writer.close()


def write_set(
    root,
    name="tiny",
    splits=None,
    file_format="array_record",
    features=None,
    shape=(5, 4, 3),
    keys=("image", "label"),
    supervised=True,
    images=None,
    examples=None,
):
    """A set as TFDS leaves it on disk, written without TFDS's own generation.

    name: of the set, or set/config.
    splits: name -> labels, in two shards where there are more than two.
    examples: instead of it, for `features` of any kind: name -> a list of {feature: values}, bytes,
        or numbers in a flat list; a feature within a sequence is called "objects/bbox".
    """
    splits = {"train": [0, 1, 2, 0, 1, 2, 0], "test": [2, 1]} if splits is None else splits
    folder = root / name / "1.0.0"
    name, _, config = name.partition("/")
    folder.mkdir(parents=True)
    features = features or F.FeaturesDict(
        {
            keys[0]: F.Image(shape=shape, encoding_format="png"),
            keys[1]: F.ClassLabel(names=CLASSES),
            "note": F.Text(),
        }
    )
    features.save_config(folder)
    if examples is None:
        examples = {}
        for split, labels in splits.items():
            pixels = [images[i] if images else pixels_of(i, shape) for i in range(len(labels))]
            examples[split] = [
                {keys[0]: picture(each), keys[1]: [label], "note": b"n"}
                for each, label in zip(pixels, labels, strict=True)
            ]
    described = []
    for split, given in examples.items():
        records = [record(**example) for example in given]
        shards = [records[:2], records[2:]] if len(records) > 2 else [records]
        write = {"array_record": array_record, "tfrecord": tfrecord}[file_format]
        for s, shard in enumerate(shards):
            write(folder / f"{name}-{split}.{file_format}-{s:05}-of-{len(shards):05}", shard)
        described.append(
            {
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                "name": split,
                "numBytes": str(sum(map(len, records))),
                "shardLengths": [str(len(shard)) for shard in shards],
            }
        )
    info = {
        "name": name,
        "version": "1.0.0",
        "fileFormat": file_format,
        "splits": described,
    }
    if config:
        info["configName"] = config
    if supervised:
        info["supervisedKeys"] = {"tuple": {"items": [{"featureKey": key} for key in keys]}}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


def pixels_of(i, shape):
    return np.random.default_rng(i).integers(0, 256, shape, np.uint8)
