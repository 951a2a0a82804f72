import hashlib
import pickle

import numpy as np
import pytest
from tfds_set import F, write_set

from train.data.arrays import Arrays
from train.data.digits import originals
from train.data.keys import Wanted
from train.data.named import named
from train.data.scene_sets import digit_scenes, fashion_scenes, scenes_of
from train.data.source import About
from train.refusal import Refused


@pytest.mark.parametrize(
    ("split", "count", "digest"),
    [
        ("train", 20_000, "7a56a69a99978249"),
        ("validation", 500, "37485a9d1d614622"),
        ("test", 500, "f2340e5e1c790a64"),
    ],
)
def test_the_benchmark_is_frozen(split, count, digest):
    source = digit_scenes(split)
    assert len(source) == count
    found = hashlib.sha256()
    for i in range(10):
        scene = source[i]
        for key in ("image", "mask", "boxes", "box_label"):
            found.update(scene[key].tobytes())
    assert found.hexdigest()[:16] == digest


def test_a_scene_alone_is_the_scene_in_order_and_its_truth():
    source = digit_scenes("train")
    scene = source[19_999]
    kinds = {key: (value.dtype, value.shape[1:]) for key, value in scene.items()}
    assert kinds == {
        "image": (np.uint8, (96, 3)),
        "mask": (np.uint8, (96,)),
        "boxes": (np.float32, (4,)),
        "box_label": (np.int32, ()),
    }
    truth = source.truth(19_999)
    assert set(truth) == {"mask", "boxes", "box_label"}
    for key, value in truth.items():
        np.testing.assert_array_equal(scene[key], value, strict=True)
    again = pickle.loads(pickle.dumps(source))[19_999]
    np.testing.assert_array_equal(again["image"], scene["image"])
    for outside in (-1, 20_000):
        with pytest.raises(IndexError):
            source[outside]


def test_each_box_is_its_masks_extent_and_none_overlap():
    source = digit_scenes("test")
    counts = []
    for i in range(60):
        truth = source.truth(i)
        counts.append(len(truth["boxes"]))
        drawn = np.zeros((96, 96), int)
        for box, label in zip(truth["boxes"].astype(int), truth["box_label"], strict=True):
            x0, y0, x1, y1 = box
            drawn[y0:y1, x0:x1] += 1
            inside = truth["mask"][y0:y1, x0:x1] == label + 1
            for lines in (inside, inside.T):
                assert lines[0].any()
                assert lines[-1].any()
        assert drawn.max() <= 1
        assert not truth["mask"][drawn == 0].any()
    assert min(counts) == 0
    assert 6 <= max(counts) <= 8


def test_about():
    about = digit_scenes("validation").about
    assert (about.name, about.split, about.mirror) == ("digit_scenes", "validation", False)
    assert about.shape == (96, 96, 3)
    assert about.classes == tuple("0123456789")
    assert about.mask_classes == ("background", *"0123456789")
    assert len(set(about.colours)) == len(about.colours) == 11
    assert len({digit_scenes(split).fingerprint for split in ("train", "validation", "test")}) == 3
    with pytest.raises(Refused, match="split='val' is unknown; nearest: test, train, validation"):
        digit_scenes("val")


def test_any_small_grey_set_composes():
    digits = originals("test")
    bright = np.stack([digits[i]["image"] for i in range(len(digits))]) * np.uint8(15)
    known = About(name="b", split="test", classes=tuple("0123456789"), mirror=True, shape=(8, 8, 1))
    source = scenes_of(
        Arrays({"image": bright, "label": digits.labels}, known), "b_scenes", "test", full=240
    )
    assert (source.about.name, source.about.mirror) == ("b_scenes", True)
    for i in range(5):  # the same values, scaled
        wanted = digit_scenes("test")[i]
        for key, value in source[i].items():
            np.testing.assert_array_equal(value, wanted[key], strict=True)


def test_a_picture_without_ink_is_left_out():
    pictures = np.zeros((2, 3, 5, 1), np.uint8)
    pictures[1] = 255
    known = About(name="x", split="train", classes=("no", "yes"), mirror=True, shape=(3, 5, 1))
    source = scenes_of(Arrays({"image": pictures, "label": [0, 1]}, known), "x", "train")
    found = [source[i]["box_label"] for i in range(20)]
    assert {*np.concatenate(found)} == {1}
    assert len(source.about.colours) == 3


@pytest.mark.parametrize("shape", [(4, 4, 3), (1, 4, 1)])
def test_pictures_that_do_not_compose_are_refused(shape):
    known = About(name="x", split="train", classes=("a",), mirror=True, shape=shape)
    pictures = Arrays({"image": np.zeros((1, *shape), np.uint8), "label": [0]}, known)
    with pytest.raises(Refused, match=r"data='x' has images of shape .*grey ones"):
        scenes_of(pictures, "x", "train")


def test_fashion_scenes_are_divided_before_they_are_composed(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SVERTKA_CACHE", str(tmp_path / "cache"))
    features = F.FeaturesDict(
        {"image": F.Image(shape=(4, 4, 1)), "label": F.ClassLabel(names="ab")}
    )
    grey = [np.full((4, 4, 1), 100 + 5 * i, np.uint8) for i in range(20)]
    write_set(
        tmp_path,
        name="fashion_mnist",
        features=features,
        images=grey,
        splits={"train": [0] * 10 + [1] * 10, "test": [1]},
    )
    parts = [fashion_scenes(split) for split in ("train", "validation", "test")]
    assert [len(part._pictures) for part in parts] == [18, 2, 1]
    assert [len(part) for part in parts] == [20_000, 500, 500]
    assert parts[0].about.mirror
    assert parts[0].about.classes == ("a", "b")
    found = named("fashion_scenes", want="boxes")
    assert {*np.concatenate([found.test.truth(i)["box_label"] for i in range(9)])} == {1}


def test_only_what_is_wanted_is_given(tmp_path, monkeypatch):
    monkeypatch.setenv("SVERTKA_CACHE", str(tmp_path))
    source = digit_scenes("test")
    for want, keys in (("boxes", {"boxes", "box_label"}), ("mask", {"mask"})):
        part = Wanted(source, want)
        assert set(part.truth(0)) == keys
        assert set(part[0]) == set(part.__getitems__([1, 0])[1]) == keys | {"image"}
        assert (len(part), part.about, part.fingerprint) == (500, source.about, source.fingerprint)
        found = named("digit_scenes", want=want)
        assert [len(each) for each in found] == [20_000, 500, 500]
        assert set(found.test.truth(3)) == keys
    with pytest.raises(Refused, match="data='digit_scenes' has no label; it has boxes, mask"):
        named("digit_scenes")
