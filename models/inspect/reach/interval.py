"""Reach: the input positions that each value of an array depends on, along one axis of the input.

They are kept as intervals, first and last. Along one axis of the array they repeat: the intervals
of position i + period are those of i, moved on by `shift`. So a table of one period says all
positions, those before and behind the array too: a window near the border is as large as one in the
middle.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

FAR = 2**30
"""Beyond any position. An interval from -FAR to FAR is the whole axis, from FAR to -FAR nothing."""

Shape = tuple[int, ...]
Table = np.ndarray


class Reach(NamedTuple):
    """Of all values of an array.

    Attributes:
        first, last: int64, with the array's axes: of size 1 where positions do not differ, a period
            along `axis`, else as the array.
        extent: size of the input's axis.
        axis: of the array, along which intervals move; None where a table says all there is.
        shift: from one period to the next.
        flat: whether `axis` holds more than one axis of positions, in a row.
    """

    first: Table
    last: Table
    extent: int
    axis: int | None = None
    shift: int = 0
    flat: bool = False

    @property
    def period(self) -> int:
        """Positions in the table along `axis`."""
        return 1 if self.axis is None else self.first.shape[self.axis]

    @property
    def static(self) -> bool:
        """Whether it is the same everywhere."""
        return self.axis is None and self.first.size == 1


def whole(rank: int, extent: int) -> Reach:
    """Everywhere all of the axis."""
    first = np.full((1,) * rank, -FAR)
    return Reach(first, -first, extent)


def moved(values: Table, by: Table | int) -> Table:
    """Positions moved; what is far stays there."""
    return np.where(np.abs(values) >= FAR // 2, values, values + by)


def at(reach: Reach, axis: int, positions: Table) -> tuple[Table, Table]:
    """First and last at positions along an axis, which may lie beyond it: nothing is there but
    where the reach repeats or does not change."""
    size = reach.first.shape[axis]
    if reach.axis == axis:
        turn, phase = np.divmod(positions, size)
        by = (turn * reach.shift).reshape((-1,) + (1,) * (reach.first.ndim - axis - 1))
        return moved(reach.first.take(phase, axis), by), moved(reach.last.take(phase, axis), by)
    if size == 1:
        return reach.first, reach.last
    inside = (positions >= 0) & (positions < size)
    taken = np.where(inside, positions, 0)
    inside = inside.reshape((-1,) + (1,) * (reach.first.ndim - axis - 1))
    first, last = (table.take(taken, axis) for table in (reach.first, reach.last))
    return np.where(inside, first, FAR), np.where(inside, last, -FAR)


def windowed(
    reach: Reach,
    axis: int,
    length: int,
    *,
    start: int = 0,
    stride: int = 1,
    taps: Sequence[int] = (0,),
    spread: int = 1,
) -> Reach:
    """Output j reads the positions start + stride j + tap of the axis.

    Args:
        reach: of the array.
        axis: of the array.
        length: outputs.
        start, stride, taps: see above.
        spread: distance that the array's values are brought to before, with nothing between.
    """
    size = reach.first.shape[axis]
    lattice = reach.axis == axis
    if size == 1 and not lattice:
        return reach
    count, shift = length, reach.shift
    if lattice:
        count = size * spread // math.gcd(size * spread, stride)
        shift = reach.shift * stride * count // (size * spread)
    places = start + stride * np.arange(count)[:, None] + np.asarray(taps)[None]
    turn, rest = np.divmod(places, spread)
    first, last = at(reach, axis, turn.ravel())
    return joined(reach, axis, first, last, rest == 0, shift)


def joined(reach: Reach, axis: int, first: Table, last: Table, there: Table, shift: int) -> Reach:
    """The union over taps: tables of (outputs x taps) along an axis; `there` says which count."""
    before, after = first.shape[:axis], first.shape[axis + 1 :]
    mask = there.reshape(there.shape + (1,) * len(after))
    first, last = (table.reshape(before + there.shape + after) for table in (first, last))
    first = np.where(mask, first, FAR).min(axis + 1)
    last = np.where(mask, last, -FAR).max(axis + 1)
    return shortest(reach._replace(first=first, last=last, shift=shift))


def shortest(reach: Reach) -> Reach:
    """With the shortest table that says the same."""
    axis = reach.axis
    if axis is None:
        return reach
    period, shift = reach.period, reach.shift
    divisor = 2
    while divisor <= period and period <= 4096:
        if period % divisor or shift % divisor:
            divisor += 1
            continue
        short = reach._replace(
            first=reach.first.take(range(period // divisor), axis),
            last=reach.last.take(range(period // divisor), axis),
            shift=shift // divisor,
        )
        found = at(short, axis, np.arange(period))
        if not all(map(np.array_equal, found, (reach.first, reach.last))):
            divisor += 1
            continue
        reach, period, shift = short, short.period, short.shift
    return reach._replace(axis=None, flat=False) if period == 1 and shift == 0 else reach


def listed(reach: Reach, shape: Shape) -> Reach:
    """Every position of the array in the table, and none beyond."""
    axis = reach.axis
    if axis is None:
        return reach
    return Reach(*at(reach, axis, np.arange(shape[axis])), reach.extent)


def first_alone(reach: Reach) -> Reach:
    """At the first position, where there is no other."""
    return reach if reach.axis is None else listed(reach, (1,) * reach.first.ndim)


def over(reach: Reach, axes: Iterable[int], shape: Shape) -> Reach:
    """The union along axes of the array, which keep a size of 1."""
    axes, axis = tuple(axes), reach.axis
    if axis is not None and axis in axes:
        ends = np.arange(shape[axis])
        if len(ends) > 2 * reach.period:
            ends = np.concatenate([ends[: reach.period], ends[-reach.period :]])
        reach = Reach(*at(reach, axis, ends), reach.extent)
    first, last = reach.first.min(axes, keepdims=True), reach.last.max(axes, keepdims=True)
    return settled(reach._replace(first=first, last=last))


def settled(reach: Reach) -> Reach:
    """What covers the axis is the whole axis."""
    if reach.axis is not None:
        return reach
    covered = (reach.first <= 0) & (reach.last >= reach.extent - 1)
    first, last = np.where(covered, -FAR, reach.first), np.where(covered, FAR, reach.last)
    return reach._replace(first=first, last=last)


def union(one: Reach | None, other: Reach | None, shape: Shape) -> Reach | None:
    """What depends on both arrays, of one shape."""
    if one is None or other is None:
        return other if one is None else one
    one, other = aligned((one, other), (shape, shape))
    first, last = np.minimum(one.first, other.first), np.maximum(one.last, other.last)
    return shortest(one._replace(first=first, last=last))


def aligned(reaches: Sequence[Reach], shapes: Sequence[Shape]) -> list[Reach]:
    """The same ones, moving along the same axis with one period, or listed."""
    found = [settled(reach) if reach.static else reach for reach in reaches]
    moves = [reach for reach in found if reach.axis is not None]
    if not moves:
        return found
    axis, period = moves[0].axis, math.lcm(*(reach.period for reach in moves))
    assert axis is not None
    shifts = {reach.shift * (period // reach.period) for reach in moves}
    if (
        any(reach.axis != axis for reach in moves)
        or len(shifts) > 1
        or not all(reach.axis is not None or everywhere(reach, axis) for reach in found)
    ):
        return [listed(reach, shape) for reach, shape in zip(found, shapes, strict=True)]
    (shift,) = shifts
    flat = any(reach.flat for reach in moves)
    return [
        Reach(*at(reach, axis, np.arange(period)), reach.extent, axis, shift, flat)
        for reach in found
    ]


def everywhere(reach: Reach, axis: int) -> bool:
    """Whether it is all or nothing, the same along an axis."""
    far = (np.abs(reach.first) >= FAR) & (np.abs(reach.last) >= FAR)
    return reach.first.shape[axis] == 1 and bool(far.all())


def placed(reach: Reach, places: Sequence[int | None], rank: int) -> Reach:
    """With axis i of the array at places[i] of another of `rank`; None where it is gone: its
    positions in the table are joined, one of them where it moves along it."""
    gone = tuple(i for i, place in enumerate(places) if place is None)
    if reach.axis in gone:
        reach = first_alone(reach)
    first, last = reach.first.min(gone), reach.last.max(gone)
    kept = [place for place in places if place is not None]
    order = sorted(range(len(kept)), key=kept.__getitem__)
    shape = [1] * rank
    for i in order:
        shape[kept[i]] = first.shape[i]
    first, last = (np.transpose(table, order).reshape(shape) for table in (first, last))
    axis = None if reach.axis is None else places[reach.axis]
    return reach._replace(first=first, last=last, axis=axis)


def everything(reach: Reach | None, shape: Shape, rank: int) -> Reach | None:
    """A result of `rank`, each of whose values depends on all of an operand."""
    if reach is None:
        return None
    return placed(over(reach, range(len(shape)), shape), [None] * len(shape), rank)


def compressed(reach: Reach) -> Reach:
    """With a size of 1 where nothing differs along an axis."""
    first, last = reach.first, reach.last
    for axis in range(first.ndim):
        if axis == reach.axis or first.shape[axis] == 1:
            continue
        parts = first.take([0], axis), last.take([0], axis)
        if (first == parts[0]).all() and (last == parts[1]).all():
            first, last = parts
    return reach._replace(first=first, last=last)
