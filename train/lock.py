"""Lock: one run at a time in a work directory."""

import contextlib
import errno
import os
import pathlib
import sys
import time
from collections.abc import Iterator

from train import processes
from train.refusal import Refused

LOCK = ".lock"
"""Name of the file; it stays, and means nothing once no process holds it."""
ASKED = 0.05
"""Seconds after which whoever asked `in_use` has let go."""


@contextlib.contextmanager
def locked(path: pathlib.Path) -> Iterator[None]:
    """While entered, no other process may enter the same directory; one that ends lets go of it.

    Where the system has no locks (Windows, some network file systems) nothing is locked.

    Args:
        path: a directory.

    Raises:
        Refused: another process is there, or the directory can't be written.
    """
    if sys.platform == "win32" or not processes.first():  # the first locks for all
        yield
        return
    import fcntl

    try:
        file = (path / LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        raise Refused(f"workdir={str(path)!r} can't be written: {error.strerror}") from None
    with file:
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:  # for an instant `in_use` holds it too
                time.sleep(ASKED)
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                file.seek(0)
                who = file.read().strip()
                who = f" (process {who})" if who else ""
                raise Refused(f"workdir={str(path)!r} is in use by another run{who}") from None
        with contextlib.suppress(OSError):  # for the message alone; a full disk holds the lock too
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
        yield


def in_use(path: pathlib.Path) -> bool:
    """Whether a process is at work in a directory; nothing in it changes."""
    if sys.platform == "win32":
        return False
    import fcntl

    try:
        with (path / LOCK).open(encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:  # none was, or the system has no locks
        return error.errno in (errno.EWOULDBLOCK, errno.EACCES) and os.access(path / LOCK, os.R_OK)
    return False
