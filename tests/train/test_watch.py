"""What a process does once another one is silent, stuck or ended."""

import contextlib
import json
import os
import subprocess
import sys
import time

import pytest
from processes import within

from train import last_words, processes, watch
from train.watch import Watch

TOKEN = "abc"


@pytest.fixture
def first_of_two(monkeypatch):
    monkeypatch.setattr(processes, "HERE", processes.Joined(0, 2))


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(watch, "TOUCH", 0.02)
    monkeypatch.setattr(watch, "SILENT", 0.5)
    monkeypatch.setattr(watch, "SILENT_AFTER_ERROR", 0.2)
    monkeypatch.setattr(watch, "GRACE", 0.2)


class Other:
    """The other process, as its file shows it."""

    def __init__(self, folder, token=TOKEN):
        folder.mkdir(exist_ok=True)
        self.file = last_words.file_of(folder, 1)
        self.told = {"token": token, "who": "far, 7", "ended": None, "patience": 0.4}
        self.told |= {"tick": 0, "place": 0}

    def write(self, **more):
        self.told |= {"tick": self.told["tick"] + 1, **more}
        part = self.file.with_suffix(".new")
        part.write_text(json.dumps(self.told))
        part.replace(self.file)


@contextlib.contextmanager
def watching(path):
    (path / watch.FOLDER).mkdir()
    codes = []
    here = Watch(path, TOKEN, again="python it.py", end=codes.append)
    here.start()
    try:
        yield here, codes, Other(path / watch.FOLDER)
    finally:
        here.stop()


def test_while_both_go_on_nothing_ends(tmp_path, first_of_two, quick, capsys):
    with watching(tmp_path) as (here, codes, other):
        for place in range(60):
            here.beat(0.4)
            other.write(place=place)
            time.sleep(0.02)
        assert not codes
        mine = last_words.read(tmp_path / watch.FOLDER, 0, TOKEN)
        assert mine["place"] >= 55
        assert mine["patience"] == 0.4
    assert capsys.readouterr().err == ""


def test_silent(tmp_path, first_of_two, quick, capsys):
    with watching(tmp_path) as (_here, codes, other):
        other.write()
        assert within(5, lambda: codes)
    assert codes == [1]
    err = capsys.readouterr().err
    assert err.startswith("error: process 1 (far, 7) has been silent for")
    assert err.endswith("this one with\n  python it.py\n")


def test_one_that_never_came_is_silent_too(tmp_path, first_of_two, quick, capsys):
    with watching(tmp_path) as (_, codes, _):
        assert within(5, lambda: codes)
    assert "process 1 has been silent" in capsys.readouterr().err


def test_what_an_earlier_start_has_left_says_nothing(tmp_path, first_of_two, quick):
    with watching(tmp_path) as (_, codes, _):
        old = Other(tmp_path / watch.FOLDER, "old")
        until = time.monotonic() + 5
        while not codes and time.monotonic() < until:
            old.write(ended="long ago")
            time.sleep(0.02)
    assert codes == [1]  # silent, for all that it writes


def alive(other, codes, seconds):
    """It goes on writing, but not further, until this one ends."""
    until = time.monotonic() + seconds
    while not codes and time.monotonic() < until:
        other.write()
        time.sleep(0.02)


def test_stuck_is_who_is_behind_and_comes_no_further(tmp_path, first_of_two, quick, capsys):
    with watching(tmp_path) as (here, codes, other):
        for _ in range(5):
            here.beat()
        other.write(place=4)
        alive(other, codes, 5)
    assert codes == [1]
    assert "process 1 (far, 7) is stuck: it has come no further" in capsys.readouterr().err


def test_who_is_as_far_is_waited_for(tmp_path, first_of_two, quick):
    """It may be that this process is who is late."""
    with watching(tmp_path) as (here, codes, other):
        for _ in range(5):
            here.beat()
        other.write(place=5)
        alive(other, codes, 1.2)
        assert not codes
        # From when it is behind it has its time, however long it stood there before.
        here.beat()
        began = time.monotonic()
        alive(other, codes, 5)
        assert codes == [1]
        assert time.monotonic() - began > 0.3


def test_what_takes_long_may(tmp_path, first_of_two, quick):
    with watching(tmp_path) as (here, codes, other):
        here.beat()
        other.write(patience=60.0)
        alive(other, codes, 1.2)
        assert not codes


def test_one_that_says_why_it_ends(tmp_path, first_of_two, quick, capsys):
    with watching(tmp_path) as (_, codes, other):
        other.write(ended="no space left")
        assert within(5, lambda: codes)
    assert "process 1 (far, 7) can't go on: no space left." in capsys.readouterr().err


def test_after_a_failed_collective_the_silent_one_is_named_sooner(
    tmp_path, first_of_two, quick, monkeypatch
):
    monkeypatch.setattr(watch, "SILENT", 60)
    with watching(tmp_path) as (here, codes, other):
        other.write()
        began = time.monotonic()
        here.blamed()
        assert codes == [1]
        assert time.monotonic() - began < 5


def test_a_clock_that_goes_back_changes_nothing(tmp_path, first_of_two, quick, monkeypatch):
    with watching(tmp_path) as (here, codes, other):
        monkeypatch.setattr(time, "time", lambda: 0.0)
        for place in range(40):
            here.beat(0.4)
            other.write(place=place)
            os.utime(other.file, (1, 1))
            time.sleep(0.02)
        assert not codes


def last(path, *, bye):
    """What the child says where its parent ends."""
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", last_words.__file__, path, "1", "3", TOKEN, "python it.py"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return child.communicate(last_words.BYE if bye else "")[1]


def test_the_last_words_name_who_is_silent(tmp_path):
    for index, who in ((0, "near, 5"), (2, "far, 7")):
        told = {"token": TOKEN, "who": who}
        last_words.file_of(tmp_path, index).write_text(json.dumps(told))
    assert last(tmp_path, bye=False) == (
        "error: process 1 was ended by JAX's runtime or by the system; no sign of life of process "
        "0 (near, 5), process 2 (far, 7) either, which may have ended first. The last checkpoint "
        "stays.\n"
        "To go on, start all again, this one with\n  python it.py\n"
    )


def test_a_process_that_ends_as_it_should_has_none(tmp_path):
    assert last(tmp_path, bye=True) == ""
