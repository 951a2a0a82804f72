"""A refusal names the field, the value, and what may have been meant."""

import pytest

from train.refusal import Refused, choose

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
