import json
import pickle
import sys

import numpy as np
import pytest
from tfds_set import F, write_set

from train.data import judged, prepare, tfds
from train.data.decode import Unreadable
from train.data.named import named
from train.refusal import Refused

CLASSES = ("no", "yes")


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    return tmp_path


def write(
    root, examples, name="words", kind="int64", shape=("-1",), file_format="array_record", **more
):
    """A set with sounds: TFDS itself writes what they are with TensorFlow alone."""
    features = F.FeaturesDict(
        {"audio": F.Tensor(shape=(1,), dtype=np.int64), "label": F.ClassLabel(names=CLASSES)}
    )
    keys = ("audio", "label")
    folder = write_set(
        root, name, features=features, keys=keys, examples=examples, file_format=file_format
    )
    said = json.loads((folder / "features.json").read_text())
    said["featuresDict"]["features"]["audio"] = {
        "pythonClassName": "tensorflow_datasets.core.features.audio_feature.Audio",
        "audio": {
            "shape": {"dimensions": list(shape)},
            "dtype": kind,
            "sampleRate": "16000",
            "encoding": "none",
            **more,
        },
    }
    (folder / "features.json").write_text(json.dumps(said))
    return folder


WORDS = {
    "train": [
        {"audio": [16384, -32768, 0], "label": [1]},
        {"audio": [8192], "label": [0]},
        {"audio": [1, 2], "label": [1]},
    ],
    "validation": [{"audio": [0], "label": [0]}],
    "test": [{"audio": [4, 4, 4, 4], "label": [0]}],
}


def test_sounds_by_name_without_tensorflow(root):
    write(root, WORDS)
    train, validation, test = named("words")
    assert [len(part) for part in (train, validation, test)] == [3, 1, 1]
    about = train.about
    # Of the longest of all splits, which is in the test split.
    assert (about.shape, about.ragged, about.rate) == ((4, 1), True, 16000)
    assert (about.name, about.classes, about.mirror) == ("words", CLASSES, False)
    example = train[0]
    wanted = np.array([[0.5], [-1], [0], [0]], np.float32)
    np.testing.assert_array_equal(example["signal"], wanted, strict=True)
    assert (int(example["length"]), int(example["label"])) == (3, 1)
    assert train.labels.tolist() == [1, 0, 1]
    assert train.truth(1) == {"label": 0}
    assert int(test[0]["length"]) == 4
    again = pickle.loads(pickle.dumps(train))
    np.testing.assert_array_equal(again[2]["signal"], train[2]["signal"])
    assert again.fingerprint == train.fingerprint != test.fingerprint
    assert "tensorflow" not in sys.modules


def test_the_longest_of_a_known_set_is_not_looked_for(root, monkeypatch):
    monkeypatch.setitem(judged.LONGEST, "words", 3)
    write(root, WORDS)
    train, _, test = named("words")
    assert train.about.shape == (3, 1)
    with pytest.raises(Unreadable, match="example 0: the sound has 4 steps; wanted: at most 3"):
        test[0]


def test_channels_floats_and_one_length(root):
    examples = {"train": [{"audio": [0.5, 2.0, 1.5, 3.0], "label": [0]}] * 2, "test": []}
    examples["test"] = examples["train"]
    write(root, examples, kind="float32", shape=("2", "2"))
    source = tfds.source("words", "train")
    assert (source.about.shape, source.about.ragged) == ((2, 2), False)
    assert source[0].keys() == {"signal", "label"}
    assert source[0]["signal"].tolist() == [[0.5, 2.0], [1.5, 3.0]]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"lazyDecode": True}, "is of a form that TensorFlow alone reads"),
        ({"encoding": "zlib"}, r"its audio is int64 \(None,\), kept encoded"),
    ],
)
def test_sounds_that_are_kept_encoded_are_refused(root, capfd, more, message):
    write(root, WORDS, **more)
    with pytest.raises(Refused, match=message) as refused:
        named("words")
    assert "\n" not in str(refused.value)


def test_a_copy_in_the_other_format_is_converted(root):
    write(root, WORDS, file_format="tfrecord")
    prepare.prepare("words", ("label",))
    assert tfds.source("words", "train")[1]["signal"][0, 0] == 0.25


def test_a_set_that_is_not_prepared_says_how(root):
    with pytest.raises(
        Refused, match=r"'speech_commands' is not prepared under .*TensorFlow"
    ) as one:
        named("speech_commands")
    assert "\n" not in str(one.value)
