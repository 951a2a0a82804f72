import multiprocessing
import os
import pickle
import tempfile
import threading
import warnings

import numpy as np
import pytest

from train.data import cache, scenes
from train.data.cache import Cached
from train.data.scene_sets import digit_scenes
from train.data.source import About
from train.refusal import Refused

ROW = np.dtype(
    [("image", "u1", (2, 3, 1)), ("boxes", "<f4", (3, 4)), ("box_label", "<i4", 3), ("count", "u1")]
)


class Slow:
    """Five examples, of 0, 1, 2, 0, 1 boxes; counts how often each is made."""

    about = About(name="slow", split="train", classes=("a", "b"), mirror=True, shape=(2, 3, 1))
    fingerprint = "f"

    def __init__(self):
        self.made = []

    def __len__(self):
        return 5

    def __getitem__(self, i):
        self.made.append(i)
        return {"image": np.full((2, 3, 1), 50 * i, np.uint8), **self.truth(i)}

    def truth(self, i):
        n = i % 3
        boxes = np.arange(4 * n, dtype=np.float32).reshape(n, 4)
        return {"boxes": boxes, "box_label": np.arange(n, dtype=np.int32)}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SVERTKA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "PAGE", 2)
    return tmp_path / "cache"


def pages(folder):
    return sorted(folder.rglob("*.page"))


def check(source, indices=range(5)):
    for i in indices:
        example, wanted = source[i], Slow()[i]
        assert example.keys() == wanted.keys()
        for key, value in wanted.items():
            np.testing.assert_array_equal(example[key], value, strict=True)


def test_each_example_is_made_once_and_only_the_pages_asked_for(folder):
    slow = Slow()
    source = Cached(slow, ROW)
    assert (len(source), source.about, source.fingerprint) == (5, Slow.about, "f")
    check(source, [3])
    assert (slow.made, len(pages(folder))) == ([2, 3], 1)
    check(source)
    check(source)
    assert (sorted(slow.made), len(pages(folder))) == ([0, 1, 2, 3, 4], 3)
    assert not [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".page"]
    later = Slow()
    check(Cached(later, ROW))
    check(pickle.loads(pickle.dumps(Cached(later, ROW))))
    assert later.made == []
    assert set(source.truth(2)) == {"boxes", "box_label"}
    source[0]["image"][:] = 7  # what is read is the reader's own
    check(source)
    for outside in (-1, 5):
        with pytest.raises(IndexError):
            source[outside]


def test_another_fingerprint_row_or_page_is_another_cache(folder, monkeypatch):
    check(Cached(Slow(), ROW))
    other = Slow()
    other.fingerprint = "g"
    check(Cached(other, ROW))
    check(Cached(Slow(), np.dtype([*ROW.descr[:-1], ("count", "<u2")])))
    monkeypatch.setattr(cache, "PAGE", 5)
    check(Cached(Slow(), ROW))
    assert len({path.parent for path in pages(folder)}) == 4


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: bytes([content[0] ^ 1]) + content[1:],
        lambda content: bytes(len(content) - 1) + b"\1",
    ],
)
def test_a_damaged_page_is_made_again(folder, damage):
    check(Cached(Slow(), ROW))
    path = pages(folder)[0]
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    slow = Slow()
    check(Cached(slow, ROW))
    assert slow.made == [0, 1]
    assert path.read_bytes() == whole


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o007, 0o660)])
def test_pages_may_be_read_by_whom_the_umask_lets(folder, mask, mode):
    before = os.umask(mask)
    try:
        check(Cached(Slow(), ROW))
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in pages(folder)} == {mode}


def test_an_interrupted_page_counts_for_nothing(folder, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        Cached(Slow(), ROW)[0]
    assert not pages(folder)
    monkeypatch.undo()
    monkeypatch.setenv("SVERTKA_CACHE", str(folder))
    check(Cached(Slow(), ROW))


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_is_said_once_and_examples_are_made_as_they_are_read(folder, monkeypatch, call):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, full)
    slow = Slow()
    source = Cached(slow, ROW)
    with pytest.warns(UserWarning, match=r"slow is made anew as it is read.*No space left"):
        check(source, [0])
    check(source)
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_a_folder_that_cannot_be_made_is_said_once(folder):
    folder.write_text("a file in the way")
    source = Cached(Slow(), ROW)
    with pytest.warns(UserWarning, match="it cannot be kept in"):
        check(source, [0])
    check(source)


def test_threads_make_a_page_once(folder):
    slow = Slow()
    source = Cached(slow, ROW)
    threads = [threading.Thread(target=check, args=(source,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(slow.made) == [0, 1, 2, 3, 4]


def _read(root):
    os.environ["SVERTKA_CACHE"] = root
    cache.PAGE = 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(Cached(Slow(), ROW))


def test_processes_at_once_are_safe(folder):
    context = multiprocessing.get_context("forkserver")
    processes = [context.Process(target=_read, args=(str(folder),)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(pages(folder)) == 3


def test_where_it_lies_by_default(monkeypatch, tmp_path):
    monkeypatch.delenv("SVERTKA_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.directory() == tmp_path / ".cache" / "svertka"
    monkeypatch.setenv("SVERTKA_CACHE", "~/mine")
    assert cache.directory() == tmp_path / "mine"


def test_without_a_home_it_lies_below_the_temporary_directory_and_says_so(
    monkeypatch, tmp_path, capsys
):
    monkeypatch.delenv("SVERTKA_CACHE", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(cache, "PAGE", 2)
    check(Cached(Slow(), ROW))
    check(Cached(Slow(), ROW))
    own = tmp_path / f"svertka-{os.getuid()}"
    assert len(pages(own)) == 3
    assert own.stat().st_mode & 0o777 == 0o700
    assert capsys.readouterr().err == (
        f"slow is kept in {own}, since no home can be written; SVERTKA_CACHE names another place.\n"
    )


class Many:
    """Boxes, proposals, masks, targets and signals, of differing numbers."""

    about = About(name="many", split="train", classes=("a", "b"), mirror=True)
    fingerprint = "m"

    def __len__(self):
        return 4

    def __getitem__(self, i):
        boxes = np.arange(4 * (i % 3), dtype=np.float32).reshape(-1, 4)
        return {
            "signal": np.full((i + 1, 2), i, np.float32),
            "mask": np.full((2, 3), i, np.uint8),
            "target": np.array([i, -i], np.float32),
            "boxes": boxes,
            "box_crowd": np.ones(len(boxes), bool),
            "proposals": np.full((3 - i, 4), i, np.float32),
            "proposal_valid": np.arange(3 - i) > 0,
        }

    truth = __getitem__


FIELDS = [
    ("signal", "<f4", (4, 2)),
    ("mask", "u1", (2, 3)),
    ("target", "<f4", 2),
    ("boxes", "<f4", (2, 4)),
    ("box_crowd", "?", 2),
    ("proposals", "<f4", (3, 4)),
    ("proposal_valid", "?", 3),
]
COUNTS = [("count", "u1"), ("proposals_count", "<u2"), ("signal_count", "<u4")]


def test_every_ragged_key_is_kept_with_its_number(folder):
    row = np.dtype(FIELDS + COUNTS)
    for source in (Cached(Many(), row), Cached(Many(), row)):  # made, then read
        for i in range(4):
            example, wanted = source[i], Many()[i]
            assert example.keys() == wanted.keys()
            for key, value in wanted.items():
                np.testing.assert_array_equal(example[key], value, strict=True)
    assert len(pages(folder)) == 2


def test_a_row_that_does_not_hold_its_examples_is_refused(folder):
    small = [("boxes", "<f4", (1, 4)) if name[0] == "boxes" else name for name in FIELDS]
    with pytest.raises(Refused, match=r"example 2 of many/train has 2 of boxes; its row has 1"):
        Cached(Many(), np.dtype(small + COUNTS))[2]
    with pytest.raises(ValueError, match="`count` is of one kind of key"):
        Cached(Many(), np.dtype(FIELDS + COUNTS[:2]))


def test_the_benchmark_s_pages_are_those_of_before(folder, monkeypatch):
    """Where they lie, since composing them takes minutes; and what a row of them becomes."""
    monkeypatch.setattr(cache, "PAGE", 250)
    source = Cached(digit_scenes("test"), scenes.ROW)
    assert source._folder.name == "digit_scenes-test-7dfd54b08ae51d67"
    assert scenes.ROW.itemsize == 37025
    assert set(source._counts) == {"boxes", "box_label"}
