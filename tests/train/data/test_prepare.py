"""Preparing: what is written beside its place, whatever another process does meanwhile."""

import os

import pytest

from train.data.prepare import _replace


def test_two_that_write_one_file_at_once_write_two(tmp_path):
    path = tmp_path / "set"

    def slowly(part):
        part.write_bytes(b"half")
        _replace(path, lambda other: other.write_bytes(b"whole"))
        assert path.read_bytes() == b"whole"
        part.write_bytes(part.read_bytes() + b" and half")

    _replace(path, slowly)
    assert path.read_bytes() == b"half and half"
    assert os.listdir(tmp_path) == ["set"]


def test_one_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "set"
    path.write_bytes(b"old")

    def fails(part):
        part.write_bytes(b"half")
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        _replace(path, fails)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["set"]
