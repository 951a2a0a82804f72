"""Dataclasses to JSON and back: equal to what was written, or refused by the name of the field."""

import dataclasses
import json
import pathlib
from typing import Literal

import pytest

from train import encoding
from train.data.source import About


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    sides: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    steps: int
    rate: float = 0.1
    shapes: tuple[tuple[int, int], ...] = ()
    file: pathlib.Path | None = None
    by: Literal["resize", "pad"] = "resize"
    mirror: bool = True
    inner: Inner = Inner()


FULL = Config(
    steps=3,
    rate=2.0,
    shapes=((1, 2), (3, 4)),
    file=pathlib.Path("a/b"),
    by="pad",
    mirror=False,
    inner=Inner(sides=(5, 6)),
)


def through_json(value):
    return json.loads(json.dumps(encoding.plain(value)))


def test_what_is_read_equals_what_was_written():
    read = encoding.decoded(Config, through_json(FULL))
    assert read == FULL
    assert isinstance(read.shapes[1], tuple)
    assert isinstance(read.file, pathlib.Path)


def test_an_about_with_everything():
    about = About(
        name="a",
        split="train",
        classes=("x", "y"),
        mirror=True,
        shape=(8, 8, 3),
        mean=(1.0, 2.5, 3.0),
        std=(1.0, 1.0, 1.0),
        mask_classes=("ground", "x"),
        colours=((0, 0, 0), (1, 2, 3)),
        ids=(7, 9),
        mask_pixels=(10, 20, 3),
    )
    assert encoding.decoded(About, through_json(about)) == about


def test_a_field_that_was_added_since_takes_its_default():
    assert encoding.decoded(Config, {"steps": 1}) == Config(steps=1)


def test_an_integer_is_a_float():
    assert encoding.decoded(Config, {"steps": 1, "rate": 2}).rate == 2.0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "missing required field `steps`"),
        ({"steps": 1, "width": 2, "depth": 3}, "unknown fields: depth, width"),
        ({"steps": True}, "steps=True: expected `int`, got `bool`"),
        ({"steps": 60.5}, "steps=60.5: expected `int`, got `float`"),
        ({"steps": 1, "mirror": "no"}, "mirror='no': expected `bool`, got `str`"),
        ({"steps": 1, "by": "crop"}, "by='crop': invalid enum value"),
        (
            {"steps": 1, "shapes": [[1, 2], [3]]},
            r"shapes\[1\]=.*: expected `array` of length 2, got 1",
        ),
        ({"steps": 1, "inner": {"sides": ["a"]}}, "inner.sides.*: expected `int`, got `str`"),
        ({"steps": 1, "file": 3}, "file=3: "),
        ({"steps": None}, "steps=None: expected `int`, got `null`"),
    ],
)
def test_a_wrong_value_is_named(values, words):
    with pytest.raises(encoding.Wrong, match=words):
        encoding.decoded(Config, values)


def test_what_json_has_no_form_for():
    with pytest.raises(TypeError, match="complex has no form in JSON"):
        encoding.plain({"a": 1j})
