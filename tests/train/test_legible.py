import os

import pytest

from train.legible import legible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("猫 кот ไทย \U0001f408 naïve $x^2$ <b>\xa0", "猫 кот ไทย \U0001f408 naïve $x^2$ <b>\xa0"),
        (os.fsdecode(b"caf\xe9"), r"caf\xe9"),
        ("half \ud83d", r"half \ud83d"),
        ("a\nb\tc\x00\x7f\x85", r"a\nb\tc\x00\x7f\x85"),
        ("gpj.\u202ecat", r"gpj.\u202ecat"),
        ("\u2028\ufffe\U0001ffff", r"\u2028\ufffe\U0001ffff"),
        ("", ""),
    ],
)
def test_what_cannot_be_shown_is_escaped(text, shown):
    assert legible(text) == shown
    legible(text).encode()
