"""One process at a time in a work directory."""

import errno
import os
import signal
import stat
import subprocess
import sys
import threading

import pytest

from train.lock import in_use, locked
from train.refusal import Refused

HOLD = """
import pathlib, sys, time
from train.lock import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(100)
"""


@pytest.fixture
def held(tmp_path):
    """A directory that another process holds, and that process."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield tmp_path, process
    process.kill()
    process.communicate()


def test_a_second_process_is_refused_in_a_line_that_names_the_first(held):
    path, process = held
    with pytest.raises(Refused) as caught, locked(path):
        pass
    assert str(caught.value) == (
        f"workdir={str(path)!r} is in use by another run (process {process.pid})"
    )


def test_a_lock_file_that_somebody_deletes_lets_no_second_one_in(held):
    path, process = held
    (path / ".lock").unlink()
    assert in_use(path)
    with pytest.raises(Refused, match=r"is in use by another run$"), locked(path):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not in_use(path)
    with locked(path):
        assert (path / ".lock").read_text() == f"{os.getpid()}\n"


def test_a_run_of_an_earlier_version_holds_the_file_alone(tmp_path):
    import fcntl

    with (tmp_path / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert in_use(tmp_path)
        with pytest.raises(Refused, match="in use"), locked(tmp_path):
            pass


def test_where_directories_have_no_locks_the_file_has_one(tmp_path, monkeypatch):
    """As on NFS."""
    import fcntl

    flock = fcntl.flock

    def of_files(descriptor, how):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EBADF, "")
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", of_files)
    with locked(tmp_path):
        assert in_use(tmp_path)
        with pytest.raises(Refused, match=f"process {os.getpid()}"), locked(tmp_path):
            pass
    assert not in_use(tmp_path)


def test_a_killed_process_lets_go(held):
    path, process = held
    process.send_signal(signal.SIGKILL)
    process.wait()
    with locked(path):
        assert (path / ".lock").read_text() == f"{os.getpid()}\n"


def test_one_after_the_other(tmp_path):
    for _ in range(2):
        with locked(tmp_path):
            pass


def test_a_directory_that_is_not_there(tmp_path):
    with pytest.raises(Refused, match="can't be written: No such file"), locked(tmp_path / "a"):
        pass


def test_who_asks_whether_it_is_in_use_stands_in_no_run_s_way(tmp_path):
    import fcntl

    with (tmp_path / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # as `in_use` does for an instant
        threading.Timer(0.01, fcntl.flock, (file, fcntl.LOCK_UN)).start()
        with locked(tmp_path):
            pass


def test_whether_it_is_in_use(held, tmp_path_factory):
    path, process = held
    assert in_use(path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not in_use(path)
    with locked(path):  # asking holds nothing
        pass
    other = tmp_path_factory.mktemp("other")
    assert not in_use(other)
    assert list(other.iterdir()) == []
