import hashlib
import os
import pathlib
import pickle

import numpy as np
import pytest
from image_files import classes, pixels, save

from train.data.decode import Unreadable
from train.data.folder import folder
from train.data.layout import layout
from train.data.named import named
from train.data.subset import subset
from train.refusal import Refused


def test_examples_in_order_of_class_and_name(tmp_path):
    classes(tmp_path, {"dog": 2, "cat": 3})
    save(tmp_path / "cat" / "deep" / "x.PNG", pixels(2, 2, seed=9))
    (tmp_path / "dog" / "notes.txt").write_text("no image")
    save(tmp_path / "stray.jpg", pixels(2, 2))
    (tmp_path / "gone").symlink_to("nothing")
    (tmp_path / "dog" / ".hidden.png").write_bytes(b"no image")
    classes(tmp_path / ".trash", {"owl": 1})
    source = folder(tmp_path)
    assert source.about.classes == ("cat", "dog")
    assert (source.about.shape, source.about.split, source.about.mirror) == (None, "train", None)
    np.testing.assert_array_equal(source.labels, np.int32([0, 0, 0, 0, 1, 1]), strict=True)
    np.testing.assert_array_equal(source[1]["image"], pixels(3, 4, seed=101), strict=True)
    np.testing.assert_array_equal(source[3]["image"], pixels(2, 2, seed=9), strict=True)
    assert set(source[4]) == {"image", "label"}
    assert source.notes == (
        f"Not used: 1 file in {tmp_path}, no picture: 1 .txt (dog/notes.txt).",
        f"Not used: 1 picture in {tmp_path} itself, of no class: stray.jpg.",
        f"Links to nothing in {tmp_path}, which can't be read: gone.",
    )
    assert source.truth(4) == {"label": 1}
    assert source.name(3) == str(tmp_path / "cat" / "deep" / "x.PNG")
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again[5]["image"], pixels(3, 4, seed=1))
    for outside in (-1, 6):
        with pytest.raises(IndexError):
            source[outside]
        with pytest.raises(IndexError):
            source.truth(outside)
        with pytest.raises(IndexError):
            source.name(outside)


def test_classes_are_sorted_by_code_point_whatever_the_form(tmp_path):
    names = ["a", "Z", "10", "9", "é", "e\u0301a", "z", "_"]  # é is composed, éa is not
    classes(tmp_path, dict.fromkeys(names, 1))
    assert folder(tmp_path).about.classes == ("10", "9", "Z", "_", "a", "z", "é", "éa")


def test_the_training_splits_classes_are_every_splits(tmp_path):
    classes(tmp_path / "train", {"a": 2, "b": 1, "c": 1})
    classes(tmp_path / "val", {"c": 2, "b": 1})
    classes(tmp_path / "test", {"a": 1, "b": 1, "c": 1})
    source = folder(tmp_path, "validation")
    assert source.about.classes == ("a", "b", "c")
    np.testing.assert_array_equal(source.labels, [1, 2, 2])
    found = named(f"folder:{tmp_path}")
    assert [len(part) for part in found] == [4, 3, 3]
    assert [part.about.split for part in found] == ["train", "validation", "test"]
    assert found.train.about.name == tmp_path.name
    (tmp_path / "val" / "d").mkdir()
    assert folder(tmp_path, "validation").notes == (
        f"Not used: folders in {tmp_path / 'val'} without a picture: d.",
    )
    save(tmp_path / "val" / "d" / "0.png", pixels(2, 2))
    with pytest.raises(Refused, match=r"val/d' is a class that .*/train' does not have"):
        folder(tmp_path, "validation")
    (tmp_path / "val" / "d").rename(tmp_path / "val" / "A")
    with pytest.raises(Refused, match=r"val/A' is a class that .* does not have; it has 'a'"):
        folder(tmp_path, "validation")


def test_pictures_of_the_test_split_are_in_no_other(tmp_path):
    for split, name in (("Train", "1"), ("Test", "2")):
        for each in ("cat", "dog"):
            save(tmp_path / split / each / f"{name}.png", pixels(2, 2))
    found = named(f"folder:{tmp_path}")
    assert found.train.about.classes == ("cat", "dog")
    assert (len(found.train), found.validation, len(found.test)) == (2, None, 2)
    assert {pathlib.Path(found.train.name(i)).name for i in range(2)} == {"1.png"}
    assert {pathlib.Path(found.test.name(i)).name for i in range(2)} == {"2.png"}


def test_a_class_without_a_test_picture_is_a_class(tmp_path):
    classes(tmp_path / "train", {"a": 1, "b": 1})
    classes(tmp_path / "test", {"a": 0, "b": 1})
    source = folder(tmp_path, "test")
    assert (source.about.classes, [*source.labels], source.notes) == (("a", "b"), [1], ())


def test_one_level_is_cut_by_class_and_the_cut_is_the_recipes(tmp_path):
    classes(tmp_path, {"a": 10, "train": 5})  # a class may be called so
    assert layout(tmp_path).splits == {"train": tmp_path}
    found = named(f"folder:{tmp_path}")
    assert (len(found.train), found.validation, len(found.test)) == (12, None, 3)
    assert sorted(found.test.labels) == [0, 0, 1]
    assert found.test.about.split == "test"
    assert found.train.notes == found.test.notes == folder(tmp_path).notes
    assert "is taken for a class" in folder(tmp_path).notes[0]
    again = named(f"folder:{tmp_path}")
    np.testing.assert_array_equal(
        [example["image"] for example in map(found.test.__getitem__, range(3))],
        [example["image"] for example in map(again.test.__getitem__, range(3))],
    )


def test_a_validation_split_alone_is_the_test(tmp_path):
    classes(tmp_path / "train", {"a": 2, "b": 1})
    classes(tmp_path / "validation", {"a": 1})
    found = named(f"folder:{tmp_path}")
    assert (found.validation, found.test.about.split) == (None, "validation")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "holds no folder, one for a class"),
        (
            lambda root: save(root / "a.png", pixels(2, 2)),
            r"holds 1 picture \(a\.png\) and no folder, one for a class",
        ),
        (lambda root: classes(root, {"a": 1, "b": 0}), r"/b' is a class without an image"),
        (lambda root: classes(root / "train", {"a": 0, "b": 2}), r"train/a' is a class without"),
        (lambda root: classes(root, {"a": 1}), "has one class, 'a': nothing to tell apart$"),
        (
            lambda root: classes(root / "pets", {"a": 1, "b": 1}),
            r"has one class, 'pets': nothing to tell apart; is folder:\S+/pets meant\?$",
        ),
        (
            lambda root: classes(root / "x/data/train", {"a": 1, "b": 1}),
            r"has one class, 'x': .* is folder:\S+/x/data meant\?$",
        ),
        (
            lambda root: [
                classes(root / "x" / each, {"a": 1, "b": 1}) for each in ("Train", "Val")
            ],
            r"has one class, 'x': .* is folder:\S+/x meant\?$",
        ),
        (
            lambda root: (classes(root / "images", {"a": 1, "b": 1}), (root / "notes").mkdir()),
            r"/notes' is a class without an image; is folder:\S+/images meant\?$",
        ),
    ],
)
def test_an_empty_folder_and_a_class_without_an_image_are_refused(tmp_path, make, message):
    make(tmp_path)
    with pytest.raises(Refused, match=message):
        named(f"folder:{tmp_path}")


def test_a_damaged_image_names_its_file_and_index(tmp_path):
    classes(tmp_path, {"a": 4})
    (tmp_path / "a" / "2.png").write_bytes((tmp_path / "a" / "2.png").read_bytes()[:50])
    (tmp_path / "a" / "3.png").unlink()
    source = folder(tmp_path)
    (tmp_path / "a" / "1.png").unlink()
    for i, reason in ((2, "cannot be decoded"), (1, "the file does not exist")):
        assert source.truth(i) == {"label": 0}
        with pytest.raises(Unreadable, match=rf"a/{i}\.png, example {i}: {reason}"):
            source[i]


def test_an_image_is_upright(tmp_path):
    save(tmp_path / "a" / "0.jpg", pixels(20, 40), 6)
    assert folder(tmp_path)[0]["image"].shape == (40, 20, 3)


def test_a_class_as_a_path_is_pointed_to_the_folder_above(tmp_path):
    classes(tmp_path / "pets", {"cat": 2, "dog": 1})
    with pytest.raises(Refused, match=r"2 pictures \(0.png, 1.png\) and .* is folder:\S+/pets m"):
        named(f"folder:{tmp_path}/pets/cat")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a/1.heic", r"formats that are not read: 2 .heic \(a/1.heic\); convert"),
        ("d/1.svg", r"formats that are not read: 1 .heic .*, 1 .svg \(d/1.svg\)"),
    ],
)
def test_a_format_that_is_not_read_is_named(tmp_path, name, message):
    classes(tmp_path, {"a": 1, "b": 1})
    for each in (name, "b/2.HEIC"):
        (tmp_path / each).parent.mkdir(exist_ok=True)
        (tmp_path / each).write_bytes(b"x")
    with pytest.raises(Refused, match=message):
        folder(tmp_path)


def test_a_class_of_other_files_says_which(tmp_path):
    classes(tmp_path, {"a": 1, "b": 0})
    (tmp_path / "b" / "x.npy").write_bytes(b"x")
    with pytest.raises(Refused, match=r"b' is a class without an image; it holds 1 .npy \(b/x"):
        folder(tmp_path)
    (tmp_path / "b" / "x.npy").unlink()
    (tmp_path / "b").rmdir()
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(Refused, match="b' is a link to a folder that is taken already"):
        folder(tmp_path)


def test_the_fingerprint_is_of_names_sizes_and_content(tmp_path):
    for place in ("x", "y", "z", "w", "v"):
        classes(tmp_path / place, {"a": 2, "b": 1})
    save(tmp_path / "z" / "b" / "0.png", pixels(9, 9))
    (tmp_path / "w" / "b" / "0.png").rename(tmp_path / "w" / "b" / "1.png")
    rewritten = tmp_path / "v" / "b" / "0.png"
    rewritten.write_bytes(rewritten.read_bytes()[::-1])
    os.utime(tmp_path / "y" / "b" / "0.png", (1, 1))  # a copy may have other times
    prints = [folder(tmp_path / place).fingerprint for place in "xyzwv"]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4
    assert all(one.startswith("2:") for one in prints)


def test_the_fingerprint_that_earlier_runs_recorded(tmp_path):
    """By hand: classes, then name, size and label of every file."""
    for name, size in (("a/x.png", 5), ("b/in/y.jpg", 7)):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(bytes(size))
    wanted = hashlib.sha256(b"a\nb\0a/x.png\x005\x000\0b/in/y.jpg\x007\x001").hexdigest()
    assert folder(tmp_path).earlier_fingerprint == wanted
    part = subset(folder(tmp_path), np.array([1, 0]))
    before = hashlib.sha256(wanted.encode() + np.array([1, 0], "<i8").tobytes()).hexdigest()
    assert part.earlier_fingerprint == before != part.fingerprint


def test_a_folder_that_can_not_be_listed_is_refused_in_one_line(tmp_path, monkeypatch):
    classes(tmp_path, {"a": 1})

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(Refused, match="can't be listed: Permission denied"):
        folder(tmp_path)


def test_what_is_called_a_picture_and_is_no_file_is_not_left_out(tmp_path):
    classes(tmp_path, {"a": 1})
    (tmp_path / "a" / "x.jpg").symlink_to(tmp_path / "gone")
    (tmp_path / "a" / "y.jpg").symlink_to("/dev/zero")
    (tmp_path / "a" / "z.jpg").mkdir()  # a folder like others
    source = folder(tmp_path)
    assert len(source) == 3
    assert len(source.fingerprint) == 66
    assert "which can't be read: a/x.jpg." in source.notes[0]
    for i, said in ((1, "does not exist"), (2, "it is a device")):
        with pytest.raises(Unreadable, match=rf"example {i}: .*{said}"):
            source[i]


def test_too_few_pictures_for_a_test_split_are_refused_as_such(tmp_path):
    classes(tmp_path, {"cat": 1, "dog": 1})
    with pytest.raises(Refused, match=r"has 2 examples and no test split: too few for one to be"):
        named(f"folder:{tmp_path}")
