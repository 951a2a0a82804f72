"""Progress: work that may take a while tells whoever listens; where nobody does, it is silent.

A command line listens (`train.bars`). Worker processes do not, and neither does who calls `run`.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol

COMPILING = 2.0
"""Seconds after which it is worth telling that XLA compiles."""


class Work(Protocol):
    """One thing that is being done."""

    def advance(self, count: int) -> None:
        """So many more of its parts are done."""
        ...

    def end(self) -> None:
        """It is done, or it failed."""
        ...


class Listener(Protocol):
    """Who shows it."""

    def begin(self, what: str, total: int | None, after: float) -> Work:
        """See `working`."""
        ...


_listeners: list[Listener] = []


@contextlib.contextmanager
def heard(by: Listener) -> Iterator[None]:
    """Within it, what is worked at in this process is told to a listener, of all its threads."""
    _listeners.append(by)
    try:
        yield
    finally:
        _listeners.remove(by)


@contextlib.contextmanager
def working(
    what: str, total: int | None = None, *, after: float = 1.0
) -> Iterator[Callable[[int], None]]:
    """Tell of work while it is done.

    Args:
        what: in words that go on "reading …".
        total: how many parts it has, where that is known.
        after: seconds from which on it is worth telling.

    Yields:
        What is called with the number of parts that were done.
    """
    if not _listeners:
        yield lambda count: None
        return
    work = _listeners[-1].begin(what, total, after)
    try:
        yield work.advance
    finally:
        work.end()


def told(what: str, total: int) -> Iterator[int]:
    """0 .. total - 1, as `working` on each."""
    with working(what, total) as advance:
        for i in range(total):
            yield i
            advance(1)


def compiling(what: str, first: bool) -> contextlib.AbstractContextManager[object]:
    """Around the call of a compiled function: the first one compiles, which is told of."""
    if not first:
        return contextlib.nullcontext()
    return working(f"compiling {what}", after=COMPILING)
