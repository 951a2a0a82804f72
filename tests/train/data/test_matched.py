"""Another source's classes by name, as indices of those that a run knows."""

import dataclasses

import numpy as np
import pytest

from train.data.arrays import Arrays
from train.data.matched import matched
from train.data.source import About
from train.data.subset import read
from train.refusal import Refused

IMAGES = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3, 1)
KNOWN = About("own", "train", ("cat", "dog", "eel"), mirror=True)


def source(classes=("eel", "cat", "dog"), **arrays):
    about = About("other", "test", classes, mirror=False, shape=(3, 3, 1))
    return Arrays({"image": IMAGES, "label": np.array([0, 2]), **arrays}, about)


def test_labels():
    found = matched(source(), KNOWN)
    assert found.about.classes == KNOWN.classes
    assert (found.about.name, found.about.split) == ("other", "test")
    assert [int(found[i]["label"]) for i in range(2)] == [2, 1]
    assert [int(found.truth(i)["label"]) for i in range(2)] == [2, 1]
    assert [int(one["label"]) for one in read(found, [1, 0])] == [1, 2]
    assert found[0]["label"].dtype == source()[0]["label"].dtype
    assert found.fingerprint == source().fingerprint
    noted = source()
    noted.notes = ("Not used: a.txt.",)
    assert matched(noted, KNOWN).notes == noted.notes


def test_boxes_and_masks():
    about = About("o", "test", ("b", "a"), False, (3, 3, 1), mask_classes=("ground", "y", "x"))
    mask = np.zeros((1, 3, 3), np.uint8)
    mask[0, 0] = 1, 2, 255
    boxes = [np.array([[0, 0, 2, 2], [0, 0, 1, 1]], np.float32)]
    given = Arrays(
        {"image": IMAGES[:1], "mask": mask, "boxes": boxes, "box_label": [np.array([1, 0])]}, about
    )
    colours = ((0, 0, 0), (1, 1, 1), (2, 2, 2))
    known = About("k", "t", ("a", "b"), False, mask_classes=("ground", "x", "y"), colours=colours)
    found = matched(given, known)
    assert found.truth(0)["mask"][0].tolist() == [2, 1, 255]
    assert found.truth(0)["box_label"].tolist() == [0, 1]
    np.testing.assert_array_equal(found.truth(0)["boxes"], boxes[0])
    assert found.about.colours == colours


def test_nothing_to_change():
    given = source(KNOWN.classes)
    assert matched(given, KNOWN) is given
    assert matched(given, KNOWN, 1) is given


def test_channels():
    found = matched(source(), KNOWN, 3)
    assert found.about.shape == (3, 3, 3)
    np.testing.assert_array_equal(found[1]["image"], IMAGES[1].repeat(3, -1))


def test_accents_composed_or_not():
    known = dataclasses.replace(KNOWN, classes=("caf\u00e9", "dog", "eel"))
    assert int(matched(source(("dog", "cafe\u0301", "eel")), known)[0]["label"]) == 1


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (("cat", "dog", "eel", "fox"), "it alone has 'fox'"),
        (("cat", "dog", "elk"), "it lacks 'eel'; it alone has 'elk'"),
        (tuple("abcdefg"), "it lacks 'cat', 'dog', 'eel'; it alone has 'a', 'b', 'c', 'd', …"),
        (("cat", "dog", "eel", "eel"), "it has 4 with names that occur twice, not 3"),
    ],
)
def test_other_classes_are_refused(classes, words):
    with pytest.raises(Refused, match="data='other' has other classes than the run: ") as refused:
        matched(source(classes), KNOWN)
    assert str(refused.value).endswith(words)
