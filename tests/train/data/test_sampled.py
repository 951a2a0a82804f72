"""Bytes that stand for a file."""

import hashlib
import os

import pytest

from train.data.sampled import SAMPLE, TOGETHER, sampled
from train.refusal import Refused


def digest(content):
    return hashlib.sha256(content).digest()


@pytest.mark.parametrize("size", [0, 1, SAMPLE, 3 * SAMPLE])
def test_a_small_file_is_read_whole(tmp_path, size):
    content = os.urandom(size)
    (tmp_path / "x").write_bytes(content)
    assert sampled([str(tmp_path / "x")]) == [(size, digest(content))]


def test_of_a_large_one_the_beginning_the_middle_and_the_end(tmp_path):
    size = 100_000
    content = bytearray(os.urandom(size))
    middle = (size - SAMPLE) // 2
    wanted = content[:SAMPLE] + content[middle : middle + SAMPLE] + content[-SAMPLE:]
    (tmp_path / "x").write_bytes(content)
    assert sampled([str(tmp_path / "x")]) == [(size, digest(wanted))]
    for at in (0, size // 2, size - 1):
        (tmp_path / "x").write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert sampled([str(tmp_path / "x")]) != [(size, digest(wanted))]


def test_in_order_and_what_is_no_file(tmp_path):
    count = 2 * TOGETHER + 1
    for i in range(count):
        (tmp_path / str(i)).write_bytes(b"%d" % i)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "gone").symlink_to("nothing")
    odd = [
        *(str(tmp_path / name) for name in ("pipe", "gone", "none", "x" * 300)),
        "a\0b",
        "/dev/zero",
    ]
    found = sampled([*(str(tmp_path / str(i)) for i in range(count)), *odd])
    assert found[:count] == [(len(str(i)), digest(b"%d" % i)) for i in range(count)]
    assert found[count:] == [(-1, b"")] * len(odd)
    assert sampled([]) == []


def test_a_file_that_is_not_given_is_refused(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(b"x")

    def refuse(path, flags):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(Refused, match="x cannot be read: Permission denied"):
        sampled([str(tmp_path / "x")])
