"""The one table of keys: what the docstring says of them, and who reads it."""

import re

import numpy as np

from train.data import batch
from train.data.batch import COORDINATES, INPUTS, KEYS, RAGGED, rows_of
from train.data.keys import WANTS


def test_the_docstring_s_table_has_the_table_s_keys():
    rows = re.findall(r"^\| (`[^|]+) \|", batch.__doc__, re.MULTILINE)
    assert [key for row in rows for key in re.findall(r"`(\w+)`", row)] == [*KEYS]


def test_the_docstring_s_types_are_the_table_s():
    rows = re.findall(r"^\| (`[^|]+) \| ([^|]+) \|", batch.__doc__, re.MULTILINE)
    for names, said in rows:
        types = re.findall(r"float32|int32|bool|uint8", said)
        for i, name in enumerate(re.findall(r"`(\w+)`", names)):
            row = KEYS[name]
            assert np.dtype(row.dtype or np.uint8).name == types[min(i, len(types) - 1)], name


def test_what_is_read_from_the_table():
    assert COORDINATES == ("boxes", "proposals")
    assert INPUTS == ("image", "signal", "length", "proposals", "proposal_valid")
    assert RAGGED == {"boxes": "box_valid", "proposals": "proposal_valid", "signal": "length"}
    for key, row in KEYS.items():
        assert (row.ragged == "") == (row.valid == ""), key
        assert not row.ragged or row.valid in KEYS, key
        assert row.moves != "corners" or row.shape[1:] == (4,), key
    example = dict.fromkeys(("image", "boxes", "box_label", "box_crowd", "proposals", "own"))
    assert rows_of("boxes", example) == ["boxes", "box_label", "box_crowd"]
    assert rows_of("signal", example) == []


def test_what_is_wanted_comes_with_what_is_read():
    assert {want: {*keys} - {*INPUTS} for want, keys in WANTS.items()} == {
        "label": {"label"},
        "boxes": {"boxes", "box_label", "box_valid", "box_crowd", "box_difficult"},
        "mask": {"mask"},
        "target": {"target"},
    }
    assert all({*keys} >= {*INPUTS} for keys in WANTS.values())
