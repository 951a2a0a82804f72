import io
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from typing import ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds_library
from image_files import encoded
from PIL import Image, UnidentifiedImageError
from tfds_set import CLASSES, F, picture, pixels_of, png, tfrecord, write_set

from train.data import masks, named, prepare, tfds
from train.data.decode import Unreadable
from train.data.judged import MIRRORED, NOT_MIRRORED, mirror
from train.data.keys import Wanted
from train.data.statistics import measure
from train.data.subset import cut
from train.refusal import Refused

DECODE = tfds._decode


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    return tmp_path


def test_examples_truths_labels_and_about(root):
    write_set(root)
    source = tfds.source("tiny", "train")
    assert len(source) == 7
    for i in (0, 1, 2, 6):  # both shards and their seam
        example = source[i]
        assert set(example) == {"image", "label"}
        np.testing.assert_array_equal(example["image"], pixels_of(i, (5, 4, 3)), strict=True)
        assert example["label"].dtype == np.int32
        assert example["label"] == source.truth(i)["label"] == i % 3
    several = source.__getitems__([6, 0, 3])
    assert [int(example["label"]) for example in several] == [0, 0, 0]
    np.testing.assert_array_equal(several[0]["image"], pixels_of(6, (5, 4, 3)))
    np.testing.assert_array_equal(source.labels, np.array([0, 1, 2, 0, 1, 2, 0], np.int32))
    about = source.about
    assert (about.name, about.split, about.classes) == ("tiny", "train", CLASSES)
    assert (about.shape, about.mirror) == ((5, 4, 3), None)
    assert tfds.splits("tiny") == {"train": 7, "test": 2}
    for outside in (-1, 7):
        with pytest.raises(IndexError):
            source[outside]
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again[4]["image"], source[4]["image"])
    assert again.fingerprint == source.fingerprint


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_come_from_the_features(root, channels):
    write_set(root, shape=(3, 2, channels))
    source = tfds.source("tiny", "test")
    assert source.about.shape == (3, 2, channels)
    np.testing.assert_array_equal(source[1]["image"], pixels_of(1, (3, 2, channels)))


def test_images_of_varying_size_and_mode(root):
    grey = pixels_of(0, (3, 6, 1))
    colour = pixels_of(1, (2, 5, 3))
    write_set(root, shape=(None, None, 3), images=[grey, colour], splits={"train": [0, 1]})
    source = tfds.source("tiny", "train")
    assert source.about.shape is None
    np.testing.assert_array_equal(source[0]["image"], np.repeat(grey, 3, axis=-1))
    np.testing.assert_array_equal(source[1]["image"], colour)


def test_an_image_of_another_shape_than_declared_names_its_index(root):
    images = [pixels_of(0, (5, 4, 3)), pixels_of(1, (4, 5, 3))]
    write_set(root, images=images, splits={"train": [0, 1]})
    with pytest.raises(Refused, match=r"tiny/train, example 1: .* shape \(4, 5, 3\)"):
        tfds.source("tiny", "train")[1]


def test_an_image_that_cannot_be_decoded_names_its_index(root, monkeypatch):
    write_set(root)
    source = tfds.source("tiny", "train")
    monkeypatch.setattr(tfds, "_decode", lambda encoded, channels: DECODE(encoded[:40], channels))
    with pytest.raises(Refused, match=r"tiny/train, example 3: the image cannot be decoded"):
        source[3]


def test_keys_other_than_image_and_label_are_found(root):
    write_set(root, keys=("picture", "kind"), supervised=False)
    assert tfds.source("tiny", "test").truth(0) == {"label": 2}
    assert set(tfds.source("tiny", "test")[0]) == {"image", "label"}


def test_a_label_that_is_no_integer_is_its_example_s_fault(root):
    example = {"image": picture(pixels_of(0, (5, 4, 3))), "label": [1.7]}
    write_set(root, examples={"train": [example]})
    source = tfds.source("tiny", "train")
    for read in (source.__getitem__, source.truth):
        with pytest.raises(Unreadable, match="tiny/train, example 0: label is no integer"):
            read(0)


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_outside_the_classes_is_refused_with_index_and_value(root, label):
    write_set(root, splits={"train": [0, 1, 2, label]})
    source = tfds.source("tiny", "train")
    source[2]
    for read in (lambda: source[3], lambda: source.truth(3), lambda: source.labels):
        with pytest.raises(Refused, match=rf"label\[3\]={label} is outside the 3 classes"):
            read()


def test_fingerprint_tells_sets_and_splits_apart_and_not_places(root, monkeypatch):
    write_set(root / "a")
    write_set(root / "b")
    write_set(root / "c", splits={"train": [0, 1, 2, 0, 1], "test": [2, 1]})
    found = []
    for place in "abc":
        monkeypatch.setenv("TFDS_DATA_DIR", str(root / place))
        found.append(tfds.source("tiny", "train").fingerprint)
    assert found[0] == found[1] != found[2]
    assert tfds.source("tiny", "test").fingerprint != found[2]


def test_reading_imports_no_tensorflow_and_says_nothing(root):
    write_set(root)
    code = (
        "import sys; from train.data import named; s = named.named('tiny');"
        "s.train[0]; s.train.labels; s.test.truth(1);"
        "assert 'tensorflow' not in sys.modules"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_mirror_is_known_only_where_someone_has_judged_it(root):
    letters = {"mnist", "emnist", "kmnist", "svhn_cropped", "omniglot", "cmaterdb"}
    assert letters <= NOT_MIRRORED
    assert not MIRRORED & NOT_MIRRORED
    assert [mirror(name) for name in ("mnist", "cifar10", "quickdraw_bitmap")] == [
        False, True, None
    ]  # fmt: skip
    assert {"cifar10", "cifar100", "fashion_mnist", "imagenet2012"} <= MIRRORED
    builders = tfds_library.list_builders(with_community_datasets=False)
    assert set(builders) >= MIRRORED | NOT_MIRRORED
    write_set(root, name="cifar10")
    assert tfds.source("cifar10", "train").about.mirror


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifra10", "data='cifra10' is unknown; nearest: cifar10"),
        ("digts", "nearest: digits"),
        ("../tiny", "data='../tiny' is unknown"),
        ("", "data='' is unknown"),
        ("emnist/nope", "data='emnist/nope' cannot be prepared: .*nope not found"),
        (
            "imdb_reviews",
            r"no image-classification set .*: its features are label \(ClassLabel\), text",
        ),
        ("mnist", r"'mnist' is not prepared under .*svertka\[prepare\].*TFDS_DATA_DIR"),
        ("coco", "'coco' is not prepared"),
    ],
)
def test_names_that_cannot_be_read_are_refused_in_one_line(root, monkeypatch, capfd, name, message):
    monkeypatch.setattr(prepare.importlib.util, "find_spec", lambda name: None)
    assert not tfds.prepared(name)
    began = time.monotonic()
    with pytest.raises(Refused, match=message) as refused:
        named.named(name)
    assert time.monotonic() - began < 10
    assert "\n" not in str(refused.value)
    assert capfd.readouterr() == ("", "")


def test_an_unknown_split_is_refused(root):
    write_set(root)
    with pytest.raises(Refused, match="split='tset' is unknown; nearest: test"):
        tfds.source("tiny", "tset")


def test_a_set_with_several_images_is_refused_with_its_features(root):
    features = F.FeaturesDict(
        {"left": F.Image(), "right": F.Image(), "label": F.ClassLabel(names=CLASSES)}
    )
    write_set(root, features=features, supervised=False, splits={})
    with pytest.raises(Refused, match=r"features are label \(ClassLabel\), left \(Image\), right"):
        tfds.source("tiny", "train")
    assert not tfds.prepared("tiny")


def test_half_a_set_is_not_taken_for_whole(root):
    folder = write_set(root)
    assert tfds.prepared("tiny")
    beside = folder.with_name("incomplete.AB12CD_1.0.0")  # where TFDS writes until it is done
    folder.rename(beside)
    assert not tfds.prepared("tiny")
    beside.rename(folder)
    shard = folder / "tiny-train.array_record-00001-of-00002"
    kept = shard.read_bytes()
    for damage in (shard.unlink, lambda: shard.write_bytes(b"")):
        damage()
        assert not tfds.prepared("tiny")
        with pytest.raises(Refused, match="00001-of-00002 is missing or empty; remove"):
            named.named("tiny")
    other = (folder / "tiny-test.array_record-00000-of-00001").read_bytes()  # two records of five
    for content in (kept[:-1], kept[: len(kept) // 2], other):
        shard.write_bytes(content)
        with pytest.raises(Refused, match="00001-of-00002 does not hold its 5 records; remove"):
            tfds.source("tiny", "train")
    shard.write_bytes(kept)
    assert tfds.prepared("tiny")


# --- boxes and masks


def detection(root, name, rows, image=None):
    """One example; rows: (y0 x0 y1 x1 in shares, label, flag) each."""
    flag = "is_difficult" if name == "voc/2007" else "is_crowd"
    features = F.FeaturesDict(
        {
            "image": F.Image(encoding_format="jpeg"),
            "objects": F.Sequence(
                {
                    "bbox": F.BBoxFeature(),
                    "label": F.ClassLabel(names=CLASSES),
                    flag: F.Scalar(dtype=np.bool_),
                    "area": F.Scalar(dtype=np.int64),
                }
            ),
        }
    )
    example = {
        "image": image or encoded(Image.fromarray(pixels_of(0, (375, 500, 3))), "jpeg"),
        "objects/bbox": [float(share) for row in rows for share in row[0]],
        "objects/label": [row[1] for row in rows],
        f"objects/{flag}": [int(row[2]) for row in rows],
        "objects/area": [1 for row in rows],
    }
    write_set(
        root, name=name, features=features, supervised=False, examples={"train": [example] * 2}
    )
    return tfds.source(name, "train", "boxes")


def test_shares_become_pixels(root):
    rows = [((0.1, 0.2, 0.5, 1.0), 2, True), ((0.0, 0.0, 1.0, 0.5), 0, False)]
    source = detection(root, "boxed", rows)
    assert (source.about.classes, source.about.shape) == (CLASSES, None)
    example = source[1]
    truth = {
        "boxes": np.float32([[100, 37.5, 500, 187.5], [0, 0, 250, 375]]),
        "box_label": np.int32([2, 0]),
        "box_crowd": np.array([True, False]),
    }
    assert set(example) == {"image", *truth}
    assert example["image"].shape == (375, 500, 3)
    for key, wanted in truth.items():
        np.testing.assert_array_equal(example[key], wanted, strict=True)
        np.testing.assert_array_equal(source.truth(0)[key], wanted, strict=True)
    assert [len(part) for part in (source, *cut(source, 0.5, seed=0))] == [2, 1, 1]
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again.truth(0)["boxes"], truth["boxes"])


def test_corners_of_voc_are_one_based_and_inclusive(root):
    shares = np.float32([1 / 375, 1 / 500, 1.0, 1.0])  # as TFDS keeps [1, 1, 500, 375]
    inner = np.float32([240 / 375, 48 / 500, 371 / 375, 195 / 500])
    source = detection(root, "voc/2007", [(shares, 1, False), (inner, 1, True)])
    wanted = np.float32([[0, 0, 500, 375], [47, 239, 195, 371]])
    np.testing.assert_array_equal(source[0]["boxes"], wanted, strict=True)
    np.testing.assert_array_equal(source[0]["box_difficult"], [False, True])


def test_boxes_are_of_the_upright_image(root):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = encoded(Image.fromarray(pixels_of(0, (20, 40, 3))), "jpeg", exif=exif)
    source = detection(root, "boxed", [((0.5, 0.0, 1.0, 0.5), 0, False)], image)
    assert source[0]["image"].shape == (40, 20, 3)
    np.testing.assert_array_equal(source.truth(0)["boxes"], np.float32([[0, 20, 10, 40]]))


def test_an_example_without_objects_is_kept(root):
    truth = detection(root, "boxed", []).truth(0)
    np.testing.assert_array_equal(truth["boxes"], np.zeros((0, 4), np.float32), strict=True)
    np.testing.assert_array_equal(truth["box_crowd"], np.zeros(0, bool), strict=True)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (((0.0, 0.0, 0.5, 1.1), 0, False), r"boxed/train, example 1: box 0, .* outside its image"),
        (((0.5, 0.0, 0.4, 1.0), 0, False), r"boxed/train, example 1: box 0, .* has no area"),
        (((0.0, 0.0, 1.0, 1.0), 3, False), r"box_label\[1\]\[0\]=3 is outside the 3 classes"),
    ],
)
def test_bad_boxes_name_their_example(root, row, message):
    source = detection(root, "boxed", [row])
    for read in (source.__getitem__, source.truth):
        with pytest.raises(Refused, match=message):
            read(1)


def test_boxes_that_leave_the_image_by_a_rounding_are_clipped_and_counted(root):
    source = detection(root, "boxed", [((0.0, 0.0, 0.5, 1.01), 0, False)])
    np.testing.assert_array_equal(source[1]["boxes"], np.float32([[0, 0, 500, 187.5]]))
    assert source.clipped == {1: 1}
    write_set(root)
    assert tfds.source("tiny", "train").clipped == {}


def test_boxes_without_an_area_are_dropped_and_counted(root):
    rows = [((0.0, 0.0, 0.5, 1.0), 0, False), ((0.5, 0.0, 0.5, 1.0), 1, True)]
    source = detection(root, "boxed", rows)
    found = source.truth(1)
    assert {key: len(value) for key, value in found.items()} == dict.fromkeys(found, 1)
    assert source.empty == Wanted(source, "boxes").empty == {1: 1}


def test_what_a_set_lacks_is_refused_with_its_features(root):
    write_set(root)
    with pytest.raises(Refused, match=r"is no detection set .* its features are image"):
        tfds.source("tiny", "train", "boxes")
    with pytest.raises(Refused, match=r"is no segmentation set .* its features are image"):
        named.named("tiny", want="mask")
    with pytest.raises(Refused, match="want='box' is unknown; nearest: boxes"):
        tfds.source("tiny", "train", "box")
    assert tfds.prepared("tiny")
    assert not tfds.prepared("tiny", "boxes")


def masked(root, name, values, feature=None, image=(2, 3, 3), key="segmentation_mask"):
    features = F.FeaturesDict(
        {
            "image": F.Image(),
            "label": F.ClassLabel(names=CLASSES),
            key: feature or F.Image(shape=(None, None, 1)),
        }
    )
    examples = [
        {"image": picture(pixels_of(i, image)), "label": [i], key: picture(mask[..., None])}
        for i, mask in enumerate(values)
    ]
    write_set(
        root,
        name=name,
        features=features,
        examples={"train": examples[:2], "test": examples[2:]},
    )
    return tfds.source(name, "train", "mask")


MASK = np.array([[1, 2, 3], [3, 2, 255]], np.uint8)


def test_a_mask_of_a_known_set(root):
    source = masked(root, "oxford_iiit_pet", [MASK, MASK, MASK])
    about = source.about
    assert about.mask_classes == ("background", "pet", "border")
    assert (about.classes, about.mirror, len(about.colours)) == ((), True, 3)
    wanted = np.array([[1, 0, 2], [2, 0, 255]], np.uint8)
    assert set(source[1]) == {"image", "mask"}
    np.testing.assert_array_equal(source[1]["mask"], wanted, strict=True)
    np.testing.assert_array_equal(source.truth(0)["mask"], wanted, strict=True)
    assert int(tfds.source("oxford_iiit_pet", "train").truth(1)["label"]) == 1
    found = named.named("oxford_iiit_pet", want="mask")
    assert [part and len(part) for part in found] == [2, None, 1]


def test_a_mask_whose_classes_the_files_name(root):
    feature = F.LabeledImage(labels=["ground", "a", "b", "c", "d"], shape=(None, None, 1))
    source = masked(root, "labelled", [MASK] * 3, feature, key="seen")
    assert source.about.mask_classes == ("ground", "a", "b", "c", "d")
    np.testing.assert_array_equal(source[0]["mask"], MASK, strict=True)


def test_a_mask_of_an_unknown_set_has_the_classes_that_training_shows(root):
    more = np.array([[0, 4, 4], [0, 0, 0]], np.uint8)
    source = masked(root, "unknown", [MASK, MASK, more])
    assert source.about.mask_classes == ("0", "1", "2", "3")
    np.testing.assert_array_equal(source[0]["mask"], MASK, strict=True)
    test = tfds.source("unknown", "test", "mask")
    assert test.about.mask_classes == source.about.mask_classes
    with pytest.raises(Unreadable, match=r"unknown/test, example 0: .* is of class 4, outside"):
        test[0]


def test_a_mask_of_another_size_names_its_example(root):
    source = masked(root, "oxford_iiit_pet", [MASK, MASK[:1]], image=(2, 3, 3))
    for read in (source.__getitem__, source.truth):
        with pytest.raises(
            Unreadable, match="oxford_iiit_pet/train, example 1: the mask is 3x1, its image 3x2"
        ):
            read(1)


def test_a_value_that_no_class_of_a_known_set_has_is_refused(root):
    source = masked(root, "oxford_iiit_pet", [MASK - np.uint8(1), MASK])
    with pytest.raises(Unreadable, match=r"example 0: the mask holds 0; its classes are \(2, 1"):
        source[0]


def test_a_mask_that_is_none_does_not_keep_a_set_from_being_opened(root, monkeypatch):
    whole = masks.indices
    bad = iter([True, False, False])

    def once_broken(data):
        if next(bad, False):
            raise UnidentifiedImageError("cannot identify image file <BytesIO at 0x1>")
        return whole(data)

    monkeypatch.setattr(masks, "indices", once_broken)
    source = masked(root, "unnamed", [MASK, MASK, MASK])
    assert source.about.mask_classes == ("0", "1", "2", "3")
    monkeypatch.setattr(masks, "indices", lambda data: Image.open(io.BytesIO(b"junk")))
    with pytest.raises(Unreadable, match="example 1: no picture of a format that is read"):
        source[1]


# --- a copy in the TFRECORD format


def test_a_tfrecord_copy_is_not_prepared_and_the_command_converts_it(root):
    write_set(root / "whole")
    folder = write_set(root, file_format="tfrecord")
    assert not tfds.prepared("tiny")
    with pytest.raises(tfds.NotPrepared, match=r"tfrecord format.*converts") as refused:
        tfds.source("tiny", "train")
    command = str(refused.value).split("`")[1]
    run = subprocess.run(
        [sys.executable, *command.split()[1:]], capture_output=True, text=True, timeout=60
    )
    assert command.split()[0] == "python"
    assert run.returncode == 0, run.stderr
    assert "{'train': 7, 'test': 2}" in run.stdout
    assert tfds.prepared("tiny")
    source = tfds.source("tiny", "train")
    for i in range(7):
        np.testing.assert_array_equal(source[i]["image"], pixels_of(i, (5, 4, 3)))
        assert source[i]["label"] == i % 3
    assert not list(folder.glob("incomplete*"))


@pytest.mark.parametrize("cut_off", [1, 5, 20])
def test_a_conversion_that_fails_leaves_nothing_that_counts(root, cut_off):
    folder = write_set(root, file_format="tfrecord")
    last = folder / "tiny-test.tfrecord-00000-of-00001"
    last.write_bytes(last.read_bytes()[:-cut_off])
    with pytest.raises(Refused, match=r"could not be converted: .*ends within a record"):
        named.named("tiny")
    assert not tfds.prepared("tiny")
    assert not list(folder.glob("incomplete*"))


def test_a_tfrecord_copy_that_lacks_records_is_not_converted(root):
    folder = write_set(root, file_format="tfrecord")
    tfrecord(folder / "tiny-test.tfrecord-00000-of-00001", [b"one"])
    with pytest.raises(Refused, match="holds 1 records, not 2"):
        named.named("tiny")
    assert not tfds.prepared("tiny")


# --- which split is which


@pytest.mark.parametrize(
    ("splits", "sizes", "tested"),
    [
        ({"train": [0, 1, 2], "test": [0, 1]}, (3, None, 2), "test"),
        ({"train": [0, 1, 2], "validation": [1], "test": [0, 1]}, (3, 1, 2), "test"),
        ({"train": [0, 1, 2], "validation": [1]}, (3, None, 1), "validation"),
        ({"train": [0, 1, 2], "validation": [1], "test": [-1, -1]}, (3, None, 1), "validation"),
        ({"train": [0, 1, 2, 2, 1] * 2}, (8, None, 2), "test"),
    ],
)
def test_roles_of_the_splits(root, splits, sizes, tested):
    write_set(root, splits=splits)
    found = named.named("tiny")
    assert tuple(None if part is None else len(part) for part in found) == sizes
    assert (found.train.about.split, found.test.about.split) == ("train", tested)


def test_a_set_without_a_training_split_is_refused(root):
    write_set(root, splits={"test": [0, 1]})
    with pytest.raises(Refused, match="has no split to train on; it has test"):
        named.named("tiny")


def test_digits_by_name():
    assert [len(part) for part in named.named("digits")] == [1262, 180, 355]


def test_parts_and_statistics_of_a_prepared_set(root):
    write_set(root, splits={"train": [0, 1, 2] * 4})
    source = tfds.source("tiny", "train")
    rest, part = cut(source, 0.25, seed=0)
    assert sorted(part.labels) == [0, 1, 2]
    assert len(rest) == 9
    pixels = np.stack([source[i]["image"] for i in range(12)]).reshape(-1, 3).astype(float)
    mean, std = measure(source)
    np.testing.assert_allclose(mean, pixels.mean(0), rtol=1e-12)
    np.testing.assert_allclose(std, pixels.std(0), rtol=1e-12)


# --- preparing


class Generated(tfds_library.core.GeneratorBasedBuilder, skip_registration=True):
    """A set as TFDS generates one; needs no network, and as its pictures are PNG, no TensorFlow."""

    VERSION = tfds_library.core.Version("1.0.0")
    fail = False
    name = "generated"
    meanwhile: ClassVar[list[bool]] = []

    def _info(self):
        return self.dataset_info_from_configs(
            features=F.FeaturesDict(
                {"image": F.Image(shape=(5, 4, 3)), "label": F.ClassLabel(names=CLASSES)}
            ),
            supervised_keys=("image", "label"),
            homepage="http://nowhere.invalid/",
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(6), "test": self._generate_examples(3)}

    def _generate_examples(self, count):
        for i in range(count):
            if self.fail and i == 2:
                raise OSError("the archive\nis damaged")
            self.meanwhile.append(tfds.prepared("generated"))
            yield i, {"image": io.BytesIO(png(pixels_of(i, (5, 4, 3)), None)), "label": i % 3}


@pytest.fixture
def generated(root, monkeypatch):
    """`generated` is a known name, TensorFlow seems installed, and its host answers."""
    monkeypatch.setattr(tfds, "known", lambda name, also=(): name)
    monkeypatch.setattr(prepare, "_builder", lambda name: Generated(data_dir=root))
    monkeypatch.setattr(prepare.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(prepare, "unreachable", lambda urls: None)
    return root


def test_prepare_writes_array_record_once(generated):
    Generated.meanwhile.clear()
    found = named.named("generated")
    assert Generated.meanwhile == [False] * 9
    assert (len(found.train), len(found.test), found.train.about.classes) == (6, 3, CLASSES)
    assert list((generated / "generated" / "1.0.0").glob("*.array_record-*"))
    assert not list((generated / "generated" / "1.0.0").glob("*.tfrecord-*"))
    named.named("generated")


def test_preparing_that_fails_says_why_in_one_line_and_leaves_nothing(generated, monkeypatch):
    monkeypatch.setattr(Generated, "fail", True)
    with pytest.raises(
        Refused, match=r"could not be prepared under .*archive is damaged"
    ) as refused:
        named.named("generated")
    assert "\n" not in str(refused.value)
    assert not tfds.prepared("generated")
    monkeypatch.setattr(Generated, "fail", False)
    assert len(named.named("generated").train) == 6


def test_without_a_network_preparing_is_refused_soon(root, generated, monkeypatch):
    monkeypatch.setattr(prepare, "unreachable", UNREACHABLE)
    monkeypatch.setattr(prepare, "PROBE", 1.0)
    began = time.monotonic()
    with pytest.raises(Refused, match=r"no network .*nowhere\.invalid.*TFDS_DATA_DIR.*prepare"):
        named.named("generated")
    assert time.monotonic() - began < 9


UNREACHABLE = prepare.unreachable


@pytest.fixture
def direct(monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def answering(status):
    """A server on this machine that gives every request one answer, or none; its address."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        held = []
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            held.append(connection)
            if status:
                connection.recv(65536)
                connection.sendall(f"HTTP/1.0 {status} x\r\n\r\n".encode())
                connection.close()

    threading.Thread(target=serve, daemon=True).start()
    return server, f"http://127.0.0.1:{server.getsockname()[1]}/file"


@pytest.mark.parametrize(
    ("status", "silent"),
    [(200, None), (403, None), (404, None), (503, "HTTP 503"), (407, "HTTP 407")],
)
def test_a_host_that_answers_is_reachable_a_gateway_that_cannot_is_not(direct, status, silent):
    server, url = answering(status)
    with server:
        assert UNREACHABLE([url], 5.0) == (silent and f"{url.split('/')[2]}: {silent}")


def test_a_host_that_never_answers_and_a_name_lookup_that_hangs_are_bounded(direct, monkeypatch):
    server, url = answering(None)
    with server:
        began = time.monotonic()
        assert "127.0.0.1" in UNREACHABLE([url], 0.3)
        assert time.monotonic() - began < 2
    released = threading.Event()

    def hang(*args, **keywords):
        released.wait(30)
        raise OSError("given up")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    began = time.monotonic()
    assert UNREACHABLE(["http://x.invalid/"], 0.3) == "x.invalid: no answer in 0.3 s"
    assert time.monotonic() - began < 2
    released.set()


def test_one_host_of_several_is_enough_and_none_needs_none(direct):
    server, url = answering(200)
    with server:
        assert UNREACHABLE(["http://127.0.0.1:9/", url], 5.0) is None
    assert UNREACHABLE([], 5.0) is None


def test_a_proxy_of_the_environment_is_used(direct, monkeypatch):
    server, url = answering(200)
    monkeypatch.setenv("http_proxy", url.removesuffix("/file"))
    with server:
        assert UNREACHABLE(["http://nowhere.invalid/"], 5.0) is None


def test_the_command_refuses_with_2_and_one_line(root):
    run = subprocess.run(
        [sys.executable, "-m", "train.data.prepare", "cifra10"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 2
    assert run.stderr.splitlines() == [
        "data='cifra10' is unknown; nearest: cifar10, cifar100, cifar10_n, cifar10_h"
    ]
