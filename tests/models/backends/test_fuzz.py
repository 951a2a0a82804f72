"""The fuzz beside this file: some of its cases, and many."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from jax import lax

CASES, PART = 150, 50
MANY, LARGE = 5000, 500


def check(fuzz, numbers):
    lines = []
    fuzz.fuzz(numbers, lines.append)
    assert not lines, "\n".join(["", *lines])


@pytest.mark.parametrize("first", range(0, CASES, PART))
def test_random_convolutions_are_their_sums(fuzz, first):
    check(fuzz, range(first, first + PART))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, MANY, LARGE))
def test_many_random_convolutions_are_their_sums(fuzz, first):
    check(fuzz, range(first, first + LARGE))


def test_a_tap_that_meets_padding_alone_has_a_gradient_of_zero():
    """3 taps over inputs of one value, in bfloat16 and groups: oneDNN leaves two as they were."""
    script = pathlib.Path(__file__).with_name("fuzz.py")
    found = subprocess.run(
        [sys.executable, script, "4456"],
        env=os.environ | {"MALLOC_PERTURB_": "85"},  # glibc fills memory: what is not written shows
        cwd=script.parents[3],
        capture_output=True,
        text=True,
    )
    assert found.stdout.startswith("0 of 1 fail"), found


def test_a_convolution_that_is_wrong_is_found_and_named(fuzz, monkeypatch):
    def wrong(*arguments, **keywords):
        return lax.conv_general_dilated(*arguments, **keywords) * 1.01

    case = fuzz.drawn(0)._replace(dtype="float32")
    monkeypatch.setattr(fuzz, "drawn", lambda number: case._replace(number=number))
    monkeypatch.setattr(fuzz, "convolutions", lambda: {"wrong": wrong})
    lines = []
    assert fuzz.fuzz([7], lines.append) == 1
    assert lines[0].startswith("fuzz.py 7: wrong: result 0 is off by")


def test_the_definition_by_hand(fuzz):
    # Of 1 . 2 . 3 the first and the hole behind it are cropped; two zeros come after.
    case = fuzz.drawn(0)._replace(
        batch=1,
        size=(3,),
        kernel=(2,),
        strides=(2,),
        pads=((-2, 2),),
        spread=(2,),
        dilations=(2,),
        groups=1,
        channels=1,
        features=1,
    )
    f = fuzz.Definition(case)
    x, w = np.array([1.0, 2, 3])[None, :, None], np.array([1.0, 10])[:, None, None]
    # 2 . 3 . . under 1 . 10
    np.testing.assert_array_equal(f.forward(x, w)[0, :, 0], [32, 3])
    y = np.array([1.0, 100])[None, :, None]
    np.testing.assert_array_equal(f.data(y, w)[0, :, 0], [0, 1, 110])
    np.testing.assert_array_equal(f.weights(x, y)[:, 0, 0], [302, 3])


def test_cases_differ_and_are_the_same_again(fuzz):
    cases = [fuzz.drawn(number) for number in range(200)]
    assert cases == [fuzz.drawn(number) for number in range(200)]
    assert {case.transformed for case in cases} == set(fuzz.TRANSFORMED)
    assert {case.dtype for case in cases} == set(fuzz.DTYPES)
    assert any(0 in case.out for case in cases)
    mixed = [case for case in cases if any(a * b < 0 for a, b in case.pads)]
    assert len(mixed) > len(cases) / 20
