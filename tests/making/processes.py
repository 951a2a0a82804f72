"""Processes that a test has started: `import processes` in a test."""

import os
import pathlib
import time


def children():
    """Ids of the processes of this one."""
    found = pathlib.Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in found]


def within(seconds, holds):
    """Whether it comes to hold."""
    limit = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > limit:
            return False
        time.sleep(0.02)
    return True
