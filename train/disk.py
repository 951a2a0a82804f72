"""Disk: what a run's checkpoints take there, said before it trains."""

import heapq
import itertools
import os
import shutil
from pathlib import Path
from typing import Any

import jax

from train.state import State

OVERHEAD = 50_000
"""Bytes of a checkpoint beside its arrays, about."""


def checkpoint_bytes(state: State) -> int:
    """What a checkpoint takes at most; it is compressed, by a tenth where numbers are random."""
    return OVERHEAD + sum(leaf.nbytes for leaf in jax.tree.leaves(state))


def saves(config: Any, most: int) -> int:
    """How many checkpoints a run makes from its first step to its last, up to `most`."""
    every = [range(n, config.steps + 1, n) for n in (config.evaluate_every, config.save_every)]
    steps = itertools.groupby(heapq.merge(*every, (config.steps,)))
    return sum(1 for _ in itertools.islice(steps, most))


def taken(state: State, config: Any, path: Path, keep: int) -> list[str]:
    """Lines about the checkpoints of a run in `path`: what they take, and whether there is room.

    Args:
        state: of the run.
        config: its `Config`.
        path: its directory.
        keep: how many of the newest are kept, beside the best.
    """
    one = checkpoint_bytes(state)
    count = saves(config, keep + 1)
    if count == 1:
        lines = [f"Its checkpoint takes up to {size(one)}."]
    elif count <= keep:
        lines = [f"Its {count} checkpoints take up to {size(count * one)}, {size(one)} each."]
    else:
        which = f"the newest {keep} and the best"
        lines = [f"Checkpoints take up to {size(count * one)}: {which}, {size(one)} each."]
    # Until the newest is whole, none goes.
    wanted = saves(config, keep + 2) * one - folder_bytes(path / "checkpoints")
    try:
        free = shutil.disk_usage(path).free
    except OSError:
        return lines
    if free < wanted:
        lines.append(
            f"The disk may fill up: {size(wanted)} more may be needed, and {size(free)} are free "
            f"for {path}."
        )
    return lines


def folder_bytes(path: str | Path) -> int:
    """Of all files in a folder, as long as they are; what can't be read or goes meanwhile is 0."""
    total = 0
    try:
        with os.scandir(path) as entries:
            for each in entries:
                try:
                    if each.is_dir(follow_symlinks=False):
                        total += folder_bytes(each.path)
                    else:
                        total += each.stat(follow_symlinks=False).st_size
                except OSError:
                    continue
    except OSError:
        pass
    return total


def size(count: int) -> str:
    """Bytes as people read them.

    >>> size(999), size(61_234), size(1_200_000_000)
    ('1 kB', '61 kB', '1.2 GB')
    """
    number, units = max(count, 1000) / 1000, ["kB", "MB", "GB", "TB"]
    while number >= 999.5 and len(units) > 1:
        number, units = number / 1000, units[1:]
    digits = 1 if number < 9.95 and units[0] != "kB" else 0
    return f"{number:.{digits}f} {units[0]}"
