"""Refused, failed: what a user asked for cannot be, or a run cannot go on; said in one line."""

import difflib
from collections.abc import Iterable

FEW = 8
"""Up to so many valid values are all named."""


class Refused(Exception):
    """A request that cannot be met. The command line prints it alone and exits with 2.

    No ValueError: what builds a `Config` from a command line would put that in words of its own.
    """


class Failed(Exception):
    """A run that cannot go on. The command line prints it alone and exits with 1."""


def choose(field: str, value: str, valid: Iterable[str]) -> str:
    """`value` itself, where it is one of `valid`.

    Raises:
        Refused: it is not; names the nearest valid ones, or all where they are few, or how many
            there are.
    """
    names = sorted(valid)
    if value in names:
        return value
    near = difflib.get_close_matches(value.lower(), names, n=4, cutoff=0.5)
    if not near and len(names) <= FEW:
        near = names
    if near:
        hint = f"; nearest: {', '.join(near)}"
    else:
        hint = f"; there are {len(names)}, such as {', '.join(names[:3])}" if names else ""
    raise Refused(f"{field}={value!r} is unknown{hint}")
