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


def refuse_indivisible(batch: int, devices: int, accumulation: int = 1) -> None:
    """Refuse a batch that devices, and slices one after the other, can't share evenly.

    Raises:
        Refused: names the sizes next to it that can be had.
    """
    parts = devices * accumulation
    if batch % parts == 0:
        return
    if accumulation == 1:
        how = f"among {devices} devices"
    elif devices == 1:
        how = f"into accumulation={accumulation} slices"
    else:
        how = f"into {parts} slices ({devices} devices x accumulation={accumulation})"
    below = batch // parts * parts
    near = " or ".join(str(size) for size in (below, below + parts) if size)
    raise Refused(f"batch_size={batch} can't be divided {how}: take {near}")
