"""Mask values: what the files of a set's masks hold, where its list of classes leaves that open."""

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from train.data.batch import IGNORE
from train.data.decode import content, reason
from train.data.legend import Legend, plain
from train.data.masks import drawn
from train.progress import working
from train.refusal import Refused

MOST = 2000
"""Masks that are read for the classes of a set without a list, evenly spread."""
CERTAIN = 16
"""So many masks that hold 255 and nothing else but 0 settle what it means."""
CLASSES = 64
"""Different values beyond which they are taken for shades, not classes."""

SHADES = {(0, 0, 0), (IGNORE, IGNORE, IGNORE)}
"""Where a set's own colours have both, 0 and 255 are these two."""


class Settled(NamedTuple):
    """A legend, and in a line what was assumed; "" if nothing was."""

    legend: Legend
    note: str = ""


def settled(legend: Legend, files: Sequence[pathlib.Path]) -> Settled:
    """Of two classes whose masks hold 0 and 255 alone, the second is 255, and no pixel is ignored.

    Masks are read in an order that is spread over the set until one of them decides: one that holds
    another value, or a few that hold 255. Later ones that disagree are refused as they are read.

    Args:
        legend: of the set. Only one of two classes, whose values were not said, is looked into.
        files: the masks of the training split.

    Raises:
        Refused: the legend has one class alone.
    """
    if len(legend.names) < 2:
        names = ",".join(legend.names)
        where = f"{legend.origin!r}" if legend.origin else f"classes={names!r}"
        raise Refused(
            f"{where}: masks of one class have nothing to tell apart; the background is a class "
            f"too, --classes background,{names}"
        )
    if len(legend.names) != 2 or legend.said:
        return Settled(legend)
    seen = 0
    with working("looking at what masks hold", len(files)) as advance:
        for _, values in _read(_spread(files), []):
            advance(1)
            if values is None:
                return Settled(legend)  # in colour
            held = set(np.unique(values).tolist())
            if held - {0, IGNORE} or (legend.painted and set(legend.colours) >= SHADES):
                return Settled(legend)
            seen += IGNORE in held
            if seen == CERTAIN:
                break
    if not seen:
        return Settled(legend)
    second = legend.names[1]
    return Settled(
        dataclasses.replace(legend, values=(0, IGNORE), said=True),
        f"The masks hold 0 and {IGNORE} alone: {IGNORE} is {second!r} (a list with {second}=1 "
        "has it ignored).",
    )


def derived(where: str, files: Sequence[pathlib.Path]) -> Settled:
    """The classes of a set without a list: the values that its masks hold, by which they are named.

    255 is ignored beside 0, 1, 2 and so on; it is a class beside 0 alone.

    Args:
        where: names the set, for the refusal.
        files: the masks of the training split; of more than `MOST` a spread part is read.

    Raises:
        Refused: masks in colour, values of which it is not clear whether 255 is one, more than
            `CLASSES` of them, or fewer than two.
    """
    some = [files[i * len(files) // MOST] for i in range(MOST)] if len(files) > MOST else files
    held: set[int] = set()
    faults: list[Exception] = []
    with working("reading masks for their classes", len(some)) as advance:
        for path, values in _read(some, faults):
            advance(1)
            if values is None:
                raise Refused(
                    f"{where}: {path} is in colour, and nothing says which colour is which class: "
                    "a labelmap.txt in that folder does (a line each, NAME:RED,GREEN,BLUE::), or "
                    "--classes background=#000000,road=#804080"
                )
            held |= set(np.unique(values).tolist())
            if len(held) > CLASSES:
                raise Refused(
                    f"{where}: its masks hold more than {CLASSES} values, up to {max(held)}: if "
                    "these are classes, name them in a classes.txt in that folder, one a line"
                )
    if not held and faults:
        raise Refused(f"{where}: none of its masks can be read; the first: {faults[0]}")
    rest = sorted(held - {IGNORE})
    shown = ", ".join(map(str, sorted(held)))
    if IGNORE not in held:
        found = rest
    elif rest == [0]:
        found = [0, IGNORE]
    elif rest == list(range(len(rest))):
        found = rest
    else:
        raise Refused(
            f"{where}: its masks hold {shown}, and nothing says whether {IGNORE} is a class: name "
            f"them, --classes {','.join(f'NAME={v}' for v in rest[:2])},… ({IGNORE} is ignored "
            "unless a name has it)"
        )
    if len(found) < 2:
        raise Refused(f"{where}: its masks hold {shown or 'nothing'}: classes are two at least")
    usual = plain([str(value) for value in found])
    ignored = f"; {IGNORE} is ignored" if held - {*found} else ""
    how = "all" if len(some) == len(files) else f"{len(some):,} of"
    return Settled(
        dataclasses.replace(usual, values=tuple(found), said=True),
        f"No list of classes: they are the values that {how} {len(files):,} training masks hold, "
        f"{', '.join(map(str, found))}{ignored}. A classes.txt or --classes names them.",
    )


def _read(
    files: Sequence[pathlib.Path], faults: list[Exception]
) -> Iterator[tuple[pathlib.Path, np.ndarray | None]]:
    """Values of masks, None of one in colour. What can't be read is its example's fault, later."""
    for path in files:
        try:
            values = drawn(content(path, 0)).values
        except MemoryError:
            raise
        except Refused as error:
            faults.append(error)
        except Exception as error:
            faults.append(ValueError(f"{path}: {reason(error)}"))
        else:
            yield path, values


def _spread(files: Sequence[pathlib.Path]) -> list[pathlib.Path]:
    """All of them, in an order in which the first few are from everywhere."""
    step = max(1, len(files) // CERTAIN)
    return [path for start in range(step) for path in files[start::step]]
