"""Quiet: what Orbax says of itself, and of failures that it raises besides, is not printed."""

import asyncio
import contextlib
import logging
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

RAISED_TOO = {"async_checkpointer.py", "checkpoint_manager.py", "future.py"}
"""Files of Orbax that log the errors of a save, each with its traceback; `wait` raises them too."""


def quieten() -> None:
    """From here on, in this process; may be called again.

    Where one array can't be written, Orbax closes its event loop on the writes of all others. Each
    of these then fails too, which asyncio logs, or has no one to answer, in a thread of C++, whose
    error Python prints. The save raises the first error, which says it all.
    """
    logging.getLogger("absl").addFilter(worth_hearing)
    logging.getLogger("asyncio").addFilter(not_of_a_write)
    if not isinstance(sys.unraisablehook, Unanswered):
        sys.unraisablehook = Unanswered(sys.unraisablehook)


def nothing_more() -> None:
    """Once a save has failed: what of it had not begun is not missed, in this process.

    Python warns of each coroutine that was never awaited, and of each event loop that was never
    closed; without descriptors Orbax leaves many of both.
    """
    warnings.filterwarnings("ignore", "coroutine '.*' was never awaited", RuntimeWarning)
    warnings.filterwarnings("ignore", "unclosed event loop", ResourceWarning)


class Unanswered:
    """A `sys.unraisablehook` that doesn't hear of event loops which are closed, or never opened."""

    def __init__(self, hook: Callable[["sys.UnraisableHookArgs"], Any]):
        self.hook = hook

    def __call__(self, what: "sys.UnraisableHookArgs") -> None:
        if not unanswered(what):
            self.hook(what)


def unanswered(what: "sys.UnraisableHookArgs") -> bool:
    """Whether the error is asyncio's own, called by no Python code: its loop is closed, or ends
    without the pair of sockets that it got no descriptors for.
    """
    files = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(what.exc_traceback)]
    said = str(what.exc_value)
    known = (what.exc_type is RuntimeError and said == "Event loop is closed") or (
        what.exc_type is AttributeError and said.endswith("has no attribute '_ssock'")
    )
    return (
        known
        and bool(files)
        and all(Path(file).parent == Path(asyncio.__file__).parent for file in files)
    )


def not_of_a_write(record: logging.LogRecord) -> bool:
    """A filter: of what asyncio logs, nothing about a coroutine or a file of Orbax's."""
    trace = record.exc_info[2] if record.exc_info else None
    files = [Path(frame.f_code.co_filename) for frame, _ in traceback.walk_tb(trace)]
    said = record.getMessage()
    return not any("orbax" in file.parts for file in files) and not any(
        of_orbax in said for of_orbax in ("/orbax/checkpoint/", ".orbax-checkpoint-tmp")
    )


@contextlib.contextmanager
def abandoned_unheard() -> Iterator[None]:
    """Where one array can't be read, Orbax closes its event loop on the reads of all others.

    What these complain of as they end, each with a page of text, is not heard; anything else is.
    """
    hook = sys.unraisablehook
    sys.unraisablehook = lambda what: None if from_a_read(what) else hook(what)
    logging.getLogger("asyncio").addFilter(nothing)
    try:
        yield
    finally:
        logging.getLogger("asyncio").removeFilter(nothing)
        sys.unraisablehook = hook


def nothing(record: logging.LogRecord) -> bool:
    """A filter: nothing passes."""
    return False


def from_a_read(what: "sys.UnraisableHookArgs") -> bool:
    """Whether a coroutine or an event loop of Orbax's complains."""
    codes = [frame.f_code for frame, _ in traceback.walk_tb(what.exc_traceback)]
    if (coroutine := getattr(what.object, "cr_code", None)) is not None:
        codes.append(coroutine)
    return any({"orbax", "asyncio"} & {*Path(code.co_filename).parts} for code in codes)


def worth_hearing(record: logging.LogRecord) -> bool:
    """A filter: of what Orbax logs, the errors that it doesn't raise besides; all from others."""
    path = Path(record.pathname)
    if "orbax" not in path.parts:
        return True
    return record.levelno >= logging.ERROR and path.name not in RAISED_TOO
