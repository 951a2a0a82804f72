"""Work that takes a while is told of, once somebody listens, and shown line by line or as a bar."""

import contextlib
import io
import sys
import threading
import time

import numpy as np
import pytest
import toy_detector
from image_files import classes
from rich.console import Console

from train import bars
from train.bars import Bars, shown
from train.data import cache
from train.data.cache import Cached
from train.data.folder import folder
from train.data.scene_sets import digit_scenes
from train.data.scenes import ROW
from train.data.statistics import measure
from train.data.subset import labels, subset, with_classes
from train.files import WriteFailed
from train.prepared import prepare
from train.progress import compiling, heard, told, working
from train.session import session
from train.terminal import Terminal


class Heard:
    """What was begun, how far it came, and whether it ended."""

    def __init__(self):
        self.works = []

    def begin(self, what, total, after):
        work = {"what": what, "total": total, "after": after, "done": 0, "ended": False}
        self.works.append(work)

        class Of:
            def advance(self, count):
                work["done"] += count

            def end(self):
                work["ended"] = True

        return Of()


@pytest.fixture
def listener():
    by = Heard()
    with heard(by):
        yield by


def test_nobody_listens_and_nothing_is_done():
    with working("reading", 3) as advance:
        advance(2)
    assert list(told("reading", 3)) == [0, 1, 2]


def test_who_listens_is_told_and_of_the_end_after_a_failure_too(listener):
    with contextlib.suppress(KeyError), working("reading", 3, after=0.25) as advance:
        advance(2)
        raise KeyError
    assert list(told("measuring", 2)) == [0, 1]
    with compiling("the step", True), compiling("the step", False):
        pass
    assert [(w["what"], w["total"], w["after"], w["done"]) for w in listener.works] == [
        ("reading", 3, 0.25, 2),
        ("measuring", 2, 1.0, 2),
        ("compiling the step", None, 2.0, 0),
    ]
    assert all(work["ended"] for work in listener.works)


def test_the_listener_goes_where_its_block_ends(listener):
    inner = Heard()
    with heard(inner), working("a"):
        pass
    with working("b"):
        pass
    assert ([w["what"] for w in inner.works], [w["what"] for w in listener.works]) == (["a"], ["b"])


def test_what_reads_a_set_tells(listener, tmp_path, monkeypatch):
    monkeypatch.setenv("SVERTKA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "PAGE", 2)
    scenes = subset(Cached(digit_scenes("test"), ROW), range(4))
    with_classes(scenes, 1)
    measure(scenes)
    classes(tmp_path / "set", {"a": 2, "b": 1})
    labels(subset(Without(folder(tmp_path / "set")), [0, 2]))
    said = [(w["what"].partition(" (")[0], w["total"], w["done"]) for w in listener.works]
    assert said == [
        ("reading the masks of digit_scenes/test", 4, 4),
        ("measuring digit_scenes/test", 4, 4),
        ("composing digit_scenes/test", None, 0),  # said once, not page by page
        ("reading the labels of set/train", 3, 3),
    ]
    assert str(tmp_path / "cache") in listener.works[2]["what"]


def test_a_run_tells_what_it_does_before_its_first_line(listener, tmp_path):
    config = toy_detector.Config(devices=1, steps=1, workdir=tmp_path)
    prepared = prepare(toy_detector, config)
    with session(prepared, tmp_path):
        pass
    prepared.assess("test")(prepared.start(np.uint32(0)).evaluated)
    said = [(w["what"], w["after"] <= 2) for w in listener.works]
    assert said[0] == ("reading squares", True)
    assert [what for what, _ in said[1:]] == [
        "measuring squares/train",
        "reading squares/train into memory",
        "digesting the data",
        "compiling the first weights",
        "reading squares/test into memory",
        "compiling the evaluation",
    ]
    assert [w["done"] for w in listener.works[1:3]] == [96, 96]


class Without:
    """A source that does not have its labels at hand."""

    def __init__(self, source):
        self.about, self.truth, self._length = source.about, source.truth, len(source)

    def __len__(self):
        return self._length


def lines(console):
    return console.file.getvalue().splitlines()


def waited(console, text):
    """Until it is said, or ten seconds."""
    for _ in range(1000):
        if text in console.file.getvalue():
            return
        time.sleep(0.01)
    raise AssertionError(console.file.getvalue())


@pytest.fixture
def plain():
    console = Console(file=io.StringIO(), width=100)
    with shown(console):
        yield console


def test_what_is_quick_is_not_shown(plain):
    with working("reading", 3, after=60) as advance, working("compiling", after=60):
        advance(3)
    assert lines(plain) == []


def test_plain_lines(plain, monkeypatch):
    monkeypatch.setattr(bars, "BETWEEN_LINES", 0.0)
    with working("reading digits", after=0.01):
        waited(plain, "Reading")
        with working("measuring digits", 1200, after=0.01) as advance:
            waited(plain, "Measuring")
            advance(600)
            advance(600)
    found = lines(plain)
    assert found[:2] == ["Reading digits…", "Measuring digits: 0 of 1,200"]
    assert found[2].startswith("Measuring digits: 600 of 1,200, 0:0")
    assert found[-1].startswith("Measuring digits: done in 0:0")
    assert len(found) == 5


def test_plain_lines_are_some_seconds_apart(plain):
    with working("measuring", 1200, after=0.01) as advance:
        waited(plain, "Measuring")
        for _ in range(100):
            advance(1)
    assert lines(plain) == ["Measuring: 0 of 1,200"]


def test_what_fails_is_not_done(plain):
    with contextlib.suppress(KeyError), working("measuring", 2, after=0.01):
        waited(plain, "Measuring")
        raise KeyError
    assert len(lines(plain)) == 1


@pytest.mark.parametrize("width", [20, 40, 100])
def test_a_terminal_has_a_bar_that_goes(width):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, _environ={})
    with shown(console), working("measuring digits", 200, after=0.01) as advance:
        waited(console, "Measuring")
        with working("compiling", after=0.01):  # a line above it
            waited(console, "Compiling…")
        with working("reading", 3, after=0.01):  # one bar at a time
            waited(console, "Reading: 0 of 3")
        time.sleep(bars.BETWEEN_FRAMES)
        advance(100)
    said = console.file.getvalue()
    assert ("100 of 200" in said) == (width > 20)
    assert "done" not in said
    assert said.count("\x1b[?25l") == 1
    assert said.index("\x1b[?25h") < said.index("Compiling")  # the cursor stays
    assert said.endswith("\x1b[2K")  # nothing is left of it


def test_a_line_goes_above_the_live_line_of_training(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setenv("TERM", "xterm")
    console = Console(force_terminal=True, width=100)
    training = Terminal(Console(force_terminal=True, width=100), 10)
    with shown(console):
        training.train(1, {"loss": 1.5}, epoch=1.0)
        for total in (None, 3):  # a bar would be a second live line
            with working("reading the test split", total, after=0.0):
                time.sleep(0.2)
        training.close()
    said = sys.stdout.getvalue()
    for line in ("Reading the test split…", "Reading the test split: 0 of 3"):
        before, _, after = said.partition(line)
        assert before.endswith("\x1b[2K")  # the live line is wiped first
        assert after.startswith("\n")
        assert "loss" in before
        assert "loss" in after  # and drawn again


def test_output_that_can_t_be_written_ends_the_work():
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    def work(advance):
        for _ in range(1000):
            advance(0)
            time.sleep(0.01)

    # A timer finds out, and the thread that works says so.
    with (
        shown(Console(file=Full())),
        working("reading", 2, after=0.0) as advance,
        pytest.raises(WriteFailed, match="the output could not be written: No space left"),
    ):
        work(advance)


def test_threads_may_work_at_once(plain):
    def work():
        with working("reading", 50, after=0.0) as advance:
            for _ in range(50):
                advance(1)
                time.sleep(0.001)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lines(plain).count("Reading: done in 0:00") == 4


def test_bars_let_go_of_the_line():
    by = Bars(Console(file=io.StringIO(), force_terminal=True, _environ={}))
    work = by.begin("a", 2, 0.0)
    waited(by.console, "0 of 2")
    assert by.bar is work
    work.end()
    assert by.bar is None
    assert np.isfinite(work.began)
