"""Lock: one run at a time in a work directory."""

import contextlib
import errno
import os
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import IO

from train import processes
from train.refusal import Refused

LOCK = ".lock"
"""Name of the file; it stays, and means nothing once no process holds it."""
ASKED = 0.05
"""Seconds after which whoever asked `in_use` has let go."""
HELD = (errno.EWOULDBLOCK, errno.EACCES)
"""How a system says that another process holds a lock."""


@contextlib.contextmanager
def locked(path: pathlib.Path) -> Iterator[None]:
    """While entered, no other process may enter the same directory; one that ends lets go of it.

    The file `LOCK` is held, and the directory itself, which outlives that somebody deletes the
    file. Where the system has no locks (Windows, some network file systems) nothing is locked;
    where it has none of directories (NFS), the file alone is.

    Args:
        path: a directory.

    Raises:
        Refused: another process is there, or the directory can't be written.
    """
    if sys.platform == "win32" or not processes.first():  # the first locks for all
        yield
        return
    try:
        file = (path / LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        raise Refused(f"workdir={str(path)!r} can't be written: {error.strerror}") from None
    with file, _directory(path) as directory:
        if not (_taken(directory) and _taken(file.fileno())):
            raise Refused(f"workdir={str(path)!r} is in use by another run{_holder(file)}")
        with contextlib.suppress(OSError):  # for the message alone; a full disk holds the lock too
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
        yield


def in_use(path: pathlib.Path) -> bool:
    """Whether a process is at work in a directory; nothing in it changes."""
    if sys.platform == "win32":
        return False
    with _directory(path) as directory:
        if not _taken(directory, shared=True):
            return True
        try:
            with (path / LOCK).open(encoding="utf-8") as file:
                return not _taken(file.fileno(), shared=True)
        except OSError:  # none was, or it can't be read
            return False


@contextlib.contextmanager
def _directory(path: pathlib.Path) -> Iterator[int | None]:
    """A descriptor of a directory; None where it can't be had."""
    try:
        opened = os.open(path, os.O_RDONLY)
    except OSError:
        yield None
        return
    try:
        yield opened
    finally:
        os.close(opened)


def _taken(descriptor: int | None, *, shared: bool = False) -> bool:
    """Take the lock of what is open, until it is closed: not at all where there are no such locks.

    Returns:
        False where another process holds it.
    """
    if sys.platform == "win32" or descriptor is None:
        return True
    import fcntl

    how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
    try:
        try:
            fcntl.flock(descriptor, how)
        except OSError:
            if shared:
                raise
            time.sleep(ASKED)  # for an instant `in_use` holds it too
            fcntl.flock(descriptor, how)
    except OSError as error:
        return error.errno not in HELD
    return True


def _holder(file: IO[str]) -> str:
    """Who holds the lock, in words; "" where the file does not say."""
    file.seek(0)
    who = file.read().strip()
    return f" (process {who})" if who else ""
