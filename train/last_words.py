"""Last words: what is said of a process that its runtime has ended before it could speak.

JAX's runtime ends a process within a second, in C++, where the machine of the first process goes
away. So each process of several has a child, which does nothing until its parent is gone, looks
which of the others is silent, says so, and ends. This file is run by itself and imports little.
"""

import contextlib
import json
import pathlib
import subprocess
import sys
import time
from typing import Any

FOLDER = "processes"
"""Of a work directory: a file a process, with what it has come to."""
BYE = "bye"
SURE = 4.0
"""Seconds in which a file that a process writes every second must change."""


def file_of(folder: pathlib.Path, index: int) -> pathlib.Path:
    """Where a process says where it is."""
    return folder / f"{index}.json"


def read(folder: pathlib.Path, index: int, token: str) -> dict[str, Any]:
    """What a process has written since this start; {} where it has not, or is just writing."""
    try:
        file = file_of(folder, index)
        told = json.loads(file.read_text())
        if not isinstance(told, dict) or told.get("token") != token:
            return {}
        return {**told, "touched": file.stat().st_mtime_ns}
    except (OSError, ValueError):
        return {}


def listening(
    folder: pathlib.Path, index: int, count: int, token: str, again: str
) -> "subprocess.Popen[str]":
    """Start the child of process `index` of `count`."""
    return subprocess.Popen(
        [
            *(sys.executable, "-I", "-S", __file__),
            *(str(folder.absolute()), str(index), str(count), token, again),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,  # Ctrl-C is for its parent
    )


def quiet(child: "subprocess.Popen[str]") -> None:
    """Its parent ends as it should."""
    with contextlib.suppress(OSError):
        child.communicate(BYE)
    child.wait()


def main() -> None:
    """Of the child."""
    folder, index, count, token, again = sys.argv[1:]
    if sys.stdin.read() == BYE:
        return
    others = [other for other in range(int(count)) if other != int(index)]
    before = {other: read(pathlib.Path(folder), other, token) for other in others}
    time.sleep(SURE)
    silent = [
        f"process {other} ({told.get('who', 'unknown')})"
        for other, told in before.items()
        if read(pathlib.Path(folder), other, token) == told
    ]
    who = ", ".join(silent)
    too = f"; no sign of life of {who} either, which may have ended first" if silent else ""
    print(
        f"error: process {index} was ended by JAX's runtime or by the system{too}. "
        f"The last checkpoint stays.\nTo go on, start all again, this one with\n  {again}",
        file=sys.stderr,
        flush=True,
    )


if __name__ == "__main__":
    main()
