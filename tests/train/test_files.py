"""Files: whole or not at all, under a file-size limit, without descriptors, in no directory."""

import contextlib
import errno
import os
import resource
import shutil
import signal

import pytest

from train.files import NOT_GIVEN, Growing, WriteFailed, cause, stated, write
from train.stop import Stop


@contextlib.contextmanager
def limit(which, value):
    soft, hard = resource.getrlimit(which)
    resource.setrlimit(which, (value, hard))
    try:
        yield
    finally:
        resource.setrlimit(which, (soft, hard))


@pytest.mark.parametrize("content", ["", "a ± b\n", b"\xff\0", "x" * 100_000])
def test_what_is_written_is_there(tmp_path, content):
    path = tmp_path / "file"
    path.write_text("before, and longer than some")
    write(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("inside", [contextlib.nullcontext, Stop])
def test_a_file_too_large_leaves_what_stood_there(tmp_path, inside):
    path = tmp_path / "file"
    write(path, "before")
    with inside(), limit(resource.RLIMIT_FSIZE, 100), pytest.raises(WriteFailed) as caught:
        write(path, "x" * 101)
    assert str(caught.value) == f"{path} could not be written: File too large"
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_no_descriptor_is_left(tmp_path):
    with limit(resource.RLIMIT_NOFILE, 3), pytest.raises(WriteFailed) as caught:
        write(tmp_path / "file", "")
    with limit(resource.RLIMIT_NOFILE, 3), pytest.raises(WriteFailed, match="Too many open"):
        Growing(tmp_path / "file")
    assert str(caught.value) == f"{tmp_path / 'file'} could not be written: Too many open files"
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupted(number):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "file", "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("opened", [lambda path: write(path, ""), Growing])
@pytest.mark.parametrize(
    ("name", "words"), [("none/file", "FileNotFoundError"), ("a/file", "NotADirectoryError")]
)
def test_nowhere_to_write(tmp_path, opened, name, words):
    (tmp_path / "a").write_text("a file")
    with pytest.raises(WriteFailed, match=f"{name} could not be written: {words}"):
        opened(tmp_path / name)


def test_what_is_no_file_stays_what_it_is(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reading = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write(tmp_path / "pipe", "one\n")
    assert os.read(reading, 10) == b"one\n"
    os.close(reading)
    assert [each.name for each in tmp_path.iterdir()] == ["pipe"]


def test_additions_are_whole_and_kept_by_no_one(tmp_path):
    path = tmp_path / "file"
    path.write_text("one\n")
    growing = Growing(path)
    growing.add("twö\n")
    assert path.read_text() == "one\ntwö\n"  # before it is closed
    with limit(resource.RLIMIT_FSIZE, 20), pytest.raises(WriteFailed, match="File too large"):
        growing.add("x" * 100)  # of which ten would have fitted
    assert path.read_text() == "one\ntwö\n"
    growing.add(b"three\n", durable=True)
    growing.close()
    growing.close()
    assert path.read_text() == "one\ntwö\nthree\n"


def test_the_signal_of_a_file_too_large_is_ignored_while_a_run_listens():
    with Stop():
        assert signal.getsignal(signal.SIGXFSZ) == signal.SIG_IGN


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "?", "/a"), "No space left on device"),
        (OSError(errno.EDQUOT, "?"), "Disk quota exceeded"),
        (ValueError('OUT_OF_RANGE: "/a": [OS error 27: File too large]'), "File too large"),
        (ValueError("first\nsecond"), "ValueError: first"),
        (PermissionError(errno.EACCES, "Permission denied", "/a"), "PermissionError: [Errno 13]"),
        (AssertionError(), "AssertionError"),
    ],
)
def test_the_cause_is_one_line(error, words):
    assert cause(error).startswith(words)
    assert "\n" not in cause(error)


@pytest.fixture
def said():
    return []


def test_a_file_deleted_under_a_run_is_put_back_with_what_it_held(tmp_path, said):
    path = tmp_path / "folder" / "file"
    path.parent.mkdir()
    growing = Growing(path, say=said.append, own_folder=True)
    growing.add("one\n")
    for number, gone in enumerate((path.unlink, lambda: shutil.rmtree(path.parent)), 2):
        gone()
        growing.add(f"{number}\n")
        assert path.read_text() == "one\n" + "".join(f"{k}\n" for k in range(2, number + 1))
        assert said.pop() == f"{path} was deleted, and is put back."
        growing.add("")
        assert said == []
    growing.close()
    assert [*path.parent.iterdir()] == [path]


@pytest.mark.parametrize(("file", "own_folder"), [("tensorboard/file", True), ("file", False)])
def test_a_run_whose_directory_is_gone_ends_in_a_line(tmp_path, said, file, own_folder):
    path = tmp_path / "run" / file
    path.parent.mkdir(parents=True)
    growing = Growing(path, say=said.append, own_folder=own_folder)
    growing.add("one\n")
    shutil.rmtree(tmp_path / "run")
    for _ in range(2):
        with pytest.raises(WriteFailed, match="file could not be written: FileNotFoundError"):
            growing.add("two\n")
    assert [*tmp_path.iterdir()] == []
    growing.close()


def test_where_there_is_no_room_to_put_it_back_the_next_try_does(tmp_path, said):
    path = tmp_path / "file"
    growing = Growing(path, say=said.append)
    growing.add("x" * 100)
    path.unlink()
    with limit(resource.RLIMIT_FSIZE, 50), pytest.raises(WriteFailed, match="File too large"):
        growing.add("y")
    assert [*tmp_path.iterdir()] == []
    growing.add("y")
    assert path.read_text() == "x" * 100 + "y"
    assert len(said) == 1
    growing.close()


def test_a_file_that_an_editor_replaced_is_added_to(tmp_path, said):
    path = tmp_path / "file"
    growing = Growing(path, say=said.append)
    growing.add("one\n")
    (tmp_path / "new").write_text("edited\n")
    (tmp_path / "new").replace(path)
    growing.add("two\n")
    growing.add("three\n")
    assert path.read_text() == "edited\ntwo\nthree\n"
    assert said == [f"{path} was replaced by another file, to which more is added."]
    growing.close()


def test_what_was_added_outlives_what_cannot_be_opened_in_its_place(tmp_path, said):
    path = tmp_path / "file"
    growing = Growing(path, say=said.append)
    growing.add("one\n")
    path.unlink()
    path.mkdir()
    for _ in range(2):
        with pytest.raises(WriteFailed, match="file could not be written: IsADirectoryError"):
            growing.add("two\n")
    assert said == []
    path.rmdir()
    growing.add("two\n")
    assert path.read_text() == "one\ntwo\n"
    assert said == [f"{path} was deleted, and is put back."]
    growing.close()


def test_a_file_that_was_cut_is_said_once(tmp_path, said):
    path = tmp_path / "file"
    path.write_text("before\n")
    growing = Growing(path, say=said.append)
    growing.add("one\n")
    path.write_text("")
    growing.add("two\n")
    growing.add("three\n")
    assert path.read_text() == "two\nthree\n"
    assert said == [f"{path} was cut short by somebody else: what it held is lost."]
    growing.close()


def test_a_pipe_is_no_file_that_could_be_gone(tmp_path, said):
    os.mkfifo(tmp_path / "pipe")
    reading = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    growing = Growing(tmp_path / "pipe", say=said.append)
    (tmp_path / "pipe").unlink()
    growing.add("one\n")
    assert os.read(reading, 10) == b"one\n"
    os.close(reading)
    growing.close()
    assert said == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EMFILE, "?"), "Too many open files"),
        (ValueError("Error reading: [OS error 13: Permission denied]"), "Permission denied"),
        (OSError(errno.EIO, "Input/output error"), None),
        (ValueError("other"), None),
    ],
)
def test_what_is_not_said_of_a_file(error, words):
    assert stated(error, NOT_GIVEN) == words
