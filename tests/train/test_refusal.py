"""A refusal names the field, the value, and what may have been meant."""

import pytest

from train.refusal import Refused, choose, refuse_indivisible

NAMES = ["resnet20", "resnet110", "vgg16"]


def test_a_valid_name_passes():
    assert choose("model", "vgg16", NAMES) == "vgg16"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("resnet21", r"model='resnet21' is unknown; nearest: resnet20, resnet110"),
        ("VGG16", r"model='VGG16' is unknown; nearest: vgg16"),
        ("zzz", r"model='zzz' is unknown; nearest: resnet110, resnet20, vgg16"),  # few: all
    ],
)
def test_the_nearest_are_named(value, message):
    with pytest.raises(Refused, match=message):
        choose("model", value, NAMES)


def test_of_many_names_three_are_listed():
    with pytest.raises(Refused, match=r"; there are 50, such as resnet0, resnet1, resnet10$"):
        choose("model", "zzz", [f"resnet{n}" for n in range(50)])


def test_of_no_names_none_is_listed():
    with pytest.raises(Refused, match=r"model='zzz' is unknown$"):
        choose("model", "zzz", [])


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ((30, 4), "batch_size=30 can't be divided among 4 devices: take 28 or 32"),
        ((3, 4), "batch_size=3 can't be divided among 4 devices: take 4"),
        ((30, 1, 4), "batch_size=30 can't be divided into accumulation=4 slices: take 28 or 32"),
        (
            (30, 2, 2),
            "batch_size=30 can't be divided into 4 slices (2 devices x accumulation=2): "
            "take 28 or 32",
        ),
    ],
)
def test_a_batch_that_can_not_be_divided_names_those_that_can(sizes, words):
    with pytest.raises(Refused) as refused:
        refuse_indivisible(*sizes)
    assert str(refused.value) == words


def test_a_batch_that_can_be_divided_is_none_to_refuse():
    refuse_indivisible(24, 4, 3)
