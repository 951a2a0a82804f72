"""Processes that a test has started: `import processes` in a test."""

import gc
import os
import pathlib
import time

OTHERS = set()
"""Processes that tests before this one have started, and that have not ended yet."""


def children():
    """Ids of the processes of this one, but for `OTHERS`."""
    found = pathlib.Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [pid for pid in map(int, found) if pid not in OTHERS]


def begin():
    """From here on, `children` are those that come."""
    gc.collect()
    OTHERS.clear()
    OTHERS.update(children())


def within(seconds, holds):
    """Whether it comes to hold."""
    limit = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > limit:
            return False
        time.sleep(0.02)
    return True
