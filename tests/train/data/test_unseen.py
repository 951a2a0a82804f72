"""Classes that one split lacks are said; what would have to be read for it is left alone."""

import numpy as np
import pytest

from train.data import subset as module
from train.data.arrays import Arrays
from train.data.decode import Unreadable
from train.data.source import About
from train.data.subset import at_hand, subset
from train.data.unseen import unseen, without_objects

NAMES = tuple("abcdefghijklmno")


def source(labels, split="train", names=NAMES[:4]):
    images = np.zeros((len(labels), 2, 2, 1), np.uint8)
    values = {"image": images, "label": np.array(labels, np.int32)}
    return Arrays(values, About("toy", split, names, mirror=None))


def test_nothing_is_said_where_nothing_is_missing():
    full = [0, 1, 2, 3]
    assert unseen({"train": source(full), "validation": None, "test": source(full)}) == ""
    # A class that is declared and used nowhere is nobody's concern.
    assert unseen({"train": source([0, 1]), "validation": source([1, 0]), "test": None}) == ""


def test_what_a_split_lacks_is_said_and_what_training_lacks_too():
    splits = {"train": source([0, 1, 2]), "validation": source([0, 1]), "test": source([1, 2, 3])}
    assert unseen(splits) == (
        "Of 4 classes, 1 without a train example: 'd'; 2 without a validation example: 'c', 'd'; "
        "1 without a test example: 'a'."
    )


def test_many_are_counted_and_ten_are_named():
    splits = {"train": source(range(15), names=NAMES), "test": source([0], names=NAMES)}
    said = unseen(splits)
    assert said.endswith("14 without a test example: " + str([*"bcdefghijk"])[1:-1] + ", ….")


def test_labels_of_a_part_are_at_hand():
    part = subset(subset(source([3, 2, 1, 0]), [0, 1, 3]), [2, 0])
    assert at_hand(part).tolist() == [0, 3]
    assert unseen({"train": part, "test": source([0])}) == (
        "Of 4 classes, 1 without a test example: 'd'."
    )


@pytest.mark.parametrize("values", [{"mask": np.zeros((3, 2, 2), np.uint8)}, {}])
def test_without_labels_nothing_is_known(values):
    about = About("toy", "train", (), mirror=None, mask_classes=("a", "b"))
    other = Arrays({"image": np.zeros((3, 2, 2, 1), np.uint8), **values}, about)
    assert at_hand(other) is None
    assert unseen({"train": other, "test": other}) == ""


def test_many_labels_are_not_read_for_this(monkeypatch):
    monkeypatch.setattr(module, "READ", 3)
    assert at_hand(source([0, 1, 2])) is not None
    assert at_hand(source([0, 1, 2, 3])) is None
    known = source([0, 1, 2, 3])
    known.__class__ = type("Known", (Arrays,), {"labels": None})
    known.labels = np.arange(4, dtype=np.int32)
    assert at_hand(known).tolist() == [0, 1, 2, 3]


BOX = [[1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("boxes", "others", "bare"),
    [
        (BOX, {}, False),
        ([], {}, True),
        ([[1, 2, 1, 4]], {}, True),  # no area
        (BOX, {"box_crowd": [True]}, True),
        (BOX * 2, {"box_crowd": [True, False], "box_difficult": [False, False]}, False),
        (BOX * 2, {"box_crowd": [True, False], "box_difficult": [False, True]}, True),
    ],
)
def test_splits_without_an_object_are_named(boxes, others, bare):
    class Boxes:
        def __init__(self, *truths):
            self.truths = truths

        def __len__(self):
            return len(self.truths)

        def truth(self, i):
            return {"boxes": np.array(self.truths[i], np.float32).reshape(-1, 4), **others}

    others = {key: np.array(value) for key, value in others.items()}
    splits = {"train": Boxes(boxes), "validation": None, "test": Boxes(boxes, boxes)}
    assert without_objects(splits) == (["train", "test"] if bare else [])
    assert without_objects({"train": source([0, 1])}) == []


def test_of_a_split_that_cannot_be_read_nothing_is_known():
    class Unread:
        def __len__(self):
            return 2

        def truth(self, i):
            raise Unreadable("a.png", i, "is no picture")

    assert without_objects({"train": Unread()}) == []
