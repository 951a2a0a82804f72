"""What people and Kaggle call their splits."""

import pytest

from train.data.split_names import role, roles, says_nothing

TRAIN = (
    "train", "Train", "TRAIN", "Training", "training_set", "seg_train", "train_images", "Train-Set",
    "trainset", "train2017", "images_train", "training data",
)  # fmt: skip
VALIDATION = ("val", "Val", "valid", "VALIDATION", "dev", "devel", "validation_set", "val_images")
TEST = ("test", "Test", "Testing", "seg_test", "testing_set", "test1", "TestSet")


@pytest.mark.parametrize(
    ("names", "role"),
    [
        (TRAIN, "train"),
        (VALIDATION, "validation"),
        (TEST, "test"),
        (("eval", "Evaluation"), "test"),
    ],
)
def test_the_usual_names(names, role):
    assert roles(names) == dict.fromkeys(names, role)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("Training", "train"),
        ("train_set", "train"),
        ("valset", "validation"),
        ("Test2007", "test"),
        ("train_images", None),  # beside train_masks, say
        ("trainval", None),
        ("train_val", None),
        ("trainers", None),
        ("test_tube", None),
        ("set", None),
        ("", None),
    ],
)
def test_a_name_by_itself(name, split):
    assert role(name) == split


def test_names_that_mean_no_split():
    others = ["seg_pred", "pred", "unlabeled", "cat", "trains", "invalid", "testament", "trainval"]
    assert roles([*others, "cat_train", "train_test"]) == {}
    assert roles(["pets_train", "pets_test", "cats_val"]) == {
        "pets_train": "train",
        "pets_test": "test",
    }
    assert roles(["trainA", "testA", "valB"]) == {"trainA": "train", "testA": "test"}


def test_eval_is_what_is_missing():
    assert roles(["train", "eval"])["eval"] == "test"
    assert roles(["train", "val", "eval"])["eval"] == "test"
    assert roles(["train", "test", "eval"])["eval"] == "validation"
    assert roles(["train", "val", "test", "eval"])["eval"] == "test"  # two: refused


def test_names_of_pictures_without_labels():
    assert all(map(says_nothing, ["images", "unknown", "test_images", "Unlabeled", "test1"]))
    assert not any(map(says_nothing, ["cat", "cat_images", "0", "12"]))
