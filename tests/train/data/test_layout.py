"""Which folder is which split: as people and Kaggle name them."""

import pytest
from image_files import classes, pixels, save

from train.data.layout import check_folder, layout, meant_instead
from train.refusal import Refused


@pytest.mark.parametrize("train", ["TRAIN", "training_set", "train_images"])
def test_splits_in_any_case(tmp_path, train):
    for split in (train, "Val", "Testing"):
        classes(tmp_path / split, {"cat": 1, "dog": 1})
    assert layout(tmp_path) == (
        {
            "train": tmp_path / train,
            "validation": tmp_path / "Val",
            "test": tmp_path / "Testing",
        },
        (),
    )


def test_a_folder_of_the_same_name_is_entered(tmp_path):
    """As Kaggle's set of Intel's images."""
    for split in ("seg_train", "seg_test"):
        classes(tmp_path / split / split, {"sea": 1, "street": 1})
    save(tmp_path / "seg_pred" / "seg_pred" / "1.jpg", pixels(2, 2))
    found, notes = layout(tmp_path)
    assert found == {
        "train": tmp_path / "seg_train" / "seg_train",
        "test": tmp_path / "seg_test" / "seg_test",
    }
    assert notes == (f"Not used, as no split: seg_pred in {tmp_path}.",)


@pytest.mark.parametrize(
    ("others", "split"),
    [(("train",), "test"), (("train", "val"), "test"), (("train", "test"), "validation")],
)
def test_eval_is_the_split_that_is_missing(tmp_path, others, split):
    for each in (*others, "eval"):
        classes(tmp_path / each, {"a": 1})
    assert layout(tmp_path).splits[split] == tmp_path / "eval"


@pytest.mark.parametrize("names", [("train", "Training"), ("seg_train", "train")])
def test_two_folders_of_one_split_are_refused(tmp_path, names):
    for name in (*names, "test"):
        classes(tmp_path / name, {"a": 1})
    with pytest.raises(Refused) as refused:
        layout(tmp_path)
    assert all(name in str(refused.value) for name in names)


def test_what_lies_beside_the_splits_is_said_in_a_line(tmp_path):
    for name in ("train", "pred", "unlabeled", "__MACOSX", ".cache"):
        classes(tmp_path / name, {"a": 1, "b": 1})
    save(tmp_path / "stray.jpg", pixels(2, 2))
    (tmp_path / "labels.csv").write_text("")
    (tmp_path / "val").symlink_to("gone")
    found, notes = layout(tmp_path)
    assert [*found] == ["train"]
    assert notes == (
        f"Not used, as no split: pred, unlabeled, .cache, __MACOSX in {tmp_path}.",
        f"Not used: 1 picture in {tmp_path} itself, of no class: stray.jpg.",
        f"Links to nothing in {tmp_path}: val.",
    )


@pytest.mark.parametrize("place", ["test", "test/test", "test/unknown", "test/images"])
def test_a_test_folder_without_labels_is_no_split(tmp_path, place):
    classes(tmp_path / "train", {"cat": 1, "dog": 1})
    save(tmp_path / place / "1.jpg", pixels(2, 2))
    found, notes = layout(tmp_path)
    assert [*found] == ["train"]
    (note,) = notes
    assert f"{tmp_path / 'test'} has no folder with pictures, one a class" in note


def test_a_test_split_of_one_class_with_a_number_is_one(tmp_path):
    classes(tmp_path / "train", {"0": 1, "1": 1})
    classes(tmp_path / "test", {"1": 1})
    assert layout(tmp_path) == ({"train": tmp_path / "train", "test": tmp_path / "test"}, ())


def test_a_split_that_is_a_link_to_another_is_said(tmp_path):
    classes(tmp_path / "train", {"cat": 1, "dog": 1})
    (tmp_path / "test").symlink_to("train")
    (note,) = layout(tmp_path).notes
    assert note == f"{tmp_path / 'test'} is the folder of the train split too, by a link."


def test_a_class_may_be_called_as_a_split(tmp_path):
    classes(tmp_path, {"car": 1, "train": 1, "invalid": 1, "valid": 1, "empty": 0})
    (tmp_path / "train").rename(tmp_path / "Train")
    with pytest.raises(Refused, match="Train, valid hold pictures and no folders"):
        layout(tmp_path)  # two splits
    (tmp_path / "valid").rename(tmp_path / "vali")
    found, (note,) = layout(tmp_path)
    assert found == {"train": tmp_path}
    assert "Train holds pictures and no folders: it is taken for a class" in note


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (("train/1.jpg", "test/1.jpg"), "test, train hold pictures and no folders, one a class"),
        (("train/1.jpg", "test1/1.jpg", "sample/1.jpg"), "test1, train hold pictures and no"),
        (("cat/1.jpg", "dog/1.jpg", "test/1.jpg"), "test' holds .* move it away"),
        (("train/1.jpg",), "train holds pictures and no folders"),
        (("val/a/1.jpg", "test/a/1.jpg"), "has no training split: .*it has val, test"),
        (("Train/1.jpg", "Test/a/1.jpg"), "it has Test; .*Train has no folder with pictures"),
        (
            ("cat/train/1.jpg", "cat/test/1.jpg", "dog/Train/1.jpg", "dog/Val/1.jpg"),
            "inside 'cat'; wanted",
        ),
        (("cat/1.jpg", "dog/train/1.jpg", "dog/test/1.jpg"), "inside 'dog'; wanted"),
        (
            ("set/Train/a/1.jpg", "set/Test/a/1.jpg", "docs/1.png"),
            "inside 'set'; is folder:.*/set meant",
        ),
        (("train/train/a/1.jpg", "train/test/a/1.jpg"), "inside 'train'; is folder:.*/train meant"),
    ],
)
def test_splits_that_cannot_be_read_are_refused(tmp_path, make, words):
    for name in make:
        save(tmp_path / name, pixels(2, 2))
    with pytest.raises(Refused, match=words) as refused:
        layout(tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        (".", "pets"),
        ("pets", None),
        ("pets/cat", "pets"),
        ("deep", "deep/a/b"),
        ("split", "split/data"),
        ("lone", None),
        ("none", None),
    ],
)
def test_the_path_that_is_probably_meant(tmp_path, asked, meant):
    root = tmp_path / "root"
    classes(root / "pets", {"cat": 1, "dog": 1})
    (root / "notes").mkdir()
    other = tmp_path / "other"
    classes(other / "deep/a/b", {"cat": 1, "dog": 1})
    for split in ("train", "val"):
        classes(other / "split/data" / split, {"cat": 1, "dog": 1})
    classes(other / "lone", {"cat": 1})
    (other / "none").mkdir()
    base = root if (root / asked).is_dir() else other
    assert meant_instead(base / asked) == (None if meant is None else base / meant)


def test_a_folder_that_is_not_there_is_said_with_one_that_is_near(tmp_path):
    for name in ("pets", *map(str, range(100))):
        (tmp_path / name).mkdir()
    (tmp_path / "pets.zip").write_text("")
    (tmp_path / "link").symlink_to("gone")
    for asked, said in [
        ("Pest/x/y", f"there is no folder {tmp_path}/Pest; nearest: {tmp_path}/pets"),
        ("zebra", f"there is no folder {tmp_path}/zebra"),
        ("pets.zip", f"{tmp_path}/pets.zip is a file, no folder; unpack it"),
        ("link", f"{tmp_path}/link is a link to nothing"),
    ]:
        with pytest.raises(Refused) as refused:
            check_folder("data='x'", tmp_path / asked)
        assert str(refused.value) == f"data='x': {said}"
    check_folder("data='x'", tmp_path)
