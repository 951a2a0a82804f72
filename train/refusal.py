"""Refused, failed: what a user asked for cannot be, or a run cannot go on; said in one line."""

import difflib
from collections.abc import Iterable


class Refused(Exception):
    """A request that cannot be met. The command line prints it alone and exits with 2.

    No ValueError: what builds a `Config` from a command line would put that in words of its own.
    """


class Failed(Exception):
    """A run that cannot go on. The command line prints it alone and exits with 1."""


def choose(field: str, value: str, valid: Iterable[str]) -> str:
    """`value` itself, where it is one of `valid`.

    Raises:
        Refused: it is not; names the nearest valid ones, or all where they are few.
    """
    names = sorted(valid)
    if value in names:
        return value
    near = difflib.get_close_matches(value.lower(), names, n=4, cutoff=0.5)
    if not near and len(names) <= 40:
        near = names
    hint = f"; nearest: {', '.join(near)}" if near else ""
    raise Refused(f"{field}={value!r} is unknown{hint}")
