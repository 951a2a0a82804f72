"""How a reach goes through a reshape: axes in a row, and a row in axes."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from models.inspect.reach.interval import (
    FAR,
    Reach,
    Shape,
    at,
    compressed,
    first_alone,
    listed,
    placed,
    shortest,
)


def reshaped(reach: Reach, old: Shape, new: Shape, positions: frozenset[int]) -> Reach:
    """The reach of x.reshape(new).

    Args:
        reach: of x.
        old: the shape of x.
        new: with as many values, at least one.
        positions: axes of x along which any reach of it moves.
    """
    done, after = 0, 0  # axes that have their new form; the first of what is left
    for olds, news in groups(old, new):
        sizes = old[after : after + olds]
        after += olds
        if olds and news:
            reach = merged(reach, done, sizes, {p - after + olds for p in positions})
            reach = split(reach, done, new[done : done + news])
        else:  # axes of one position, and nothing beside them
            axes = range(reach.first.ndim)
            more = news - olds
            places = [i if i < done else None if i < done + olds else i + more for i in axes]
            reach = placed(reach, places, len(axes) + more)
        done += news
    return moving(reach)


def groups(old: Shape, new: Shape) -> Iterator[tuple[int, int]]:
    """How many axes of each hold the same values, the fewest possible."""
    i = j = 0
    while i < len(old) or j < len(new):
        start, begin = i, j
        size, goal = 1, 1
        if i < len(old):
            size, i = old[i], i + 1
        if j < len(new):
            goal, j = new[j], j + 1
        while size != goal:
            if size < goal:
                size, i = size * old[i], i + 1
            else:
                goal, j = goal * new[j], j + 1
        # What has one position goes with its neighbour, so that there is always one.
        while i < len(old) and old[i] == 1 and (j == len(new) or new[j] != 1):
            i += 1
        while j < len(new) and new[j] == 1 and (i == len(old) or old[i] != 1):
            j += 1
        yield i - start, j - begin


def merged(reach: Reach, start: int, sizes: Sequence[int], positions: set[int]) -> Reach:
    """The axes from `start` on, of these sizes, in a row.

    Args:
        positions: which of them are axes of positions, counted from the first of them.
    """
    count = len(sizes)
    if count == 1:
        return reach
    axis = reach.axis
    tables = reach.first.shape[start : start + count]
    if axis is None or not start <= axis < start + count:
        return row(reach, start, count, (1,) * count if max(tables) == 1 else tuple(sizes))
    own = axis - start
    majors, minors = sizes[:own], sizes[own + 1 :]
    if sizes[own] == 1 and math.prod(sizes) > 1:
        return merged(first_alone(reach), start, sizes, positions)
    if max(tables[:own], default=1) > 1:
        return row(listed(reach, (1,) * axis + (sizes[own],)), start, count, tuple(sizes))
    shift, period = reach.shift, reach.period
    if math.prod(majors) > 1:  # it begins again
        first, last = at(reach, axis, np.arange(sizes[own]))
        reach, shift, period = reach._replace(first=first, last=last), 0, sizes[own]
    others = {p for p in positions if 0 <= p < count and p != own and sizes[p] > 1}
    flat = reach.flat or bool(others) or math.prod(majors) > 1
    made = row(reach, start, count, (*(1 for _ in majors), period, *minors))
    return shortest(made._replace(axis=start, shift=shift, flat=flat))


def row(reach: Reach, start: int, count: int, sizes: Shape) -> Reach:
    """The table's axes from `start` on brought to these sizes and put in a row."""
    shape = reach.first.shape
    full = (*shape[:start], *sizes, *shape[start + count :])
    flat = (*shape[:start], math.prod(sizes), *shape[start + count :])
    first, last = (np.broadcast_to(t, full).reshape(flat) for t in (reach.first, reach.last))
    axis = reach.axis
    if axis is not None and axis >= start + count:
        axis -= count - 1
    return reach._replace(first=first, last=last, axis=axis)


def split(reach: Reach, axis: int, sizes: Sequence[int]) -> Reach:
    """An axis as several, of `sizes`."""
    count = len(sizes)
    if count == 1:
        return reach
    shape = reach.first.shape
    before, after = shape[:axis], shape[axis + 1 :]
    first, last, moves, flat = reach.first, reach.last, reach.axis, reach.flat
    shift = reach.shift
    if moves == axis:
        major, *minors = [i for i, length in enumerate(sizes) if length > 1] or [0]
        rest = math.prod(sizes[i] for i in minors)
        turns = reach.period // math.gcd(reach.period, rest)
        table = [turns if i == major else length for i, length in enumerate(sizes)]
        shift = reach.shift * turns * rest // reach.period
        first, last = at(reach, axis, np.arange(turns * rest))
        moves = axis + major
        # The first of several axes in a row, when it has become an axis again, moves evenly.
        flat = flat and turns > 1
    else:
        table = [1] * count if shape[axis] == 1 else list(sizes)
        if moves is not None and moves > axis:
            moves += count - 1
    first, last = (t.reshape((*before, *table, *after)) for t in (first, last))
    return shortest(compressed(Reach(first, last, reach.extent, moves, shift, flat)))


def moving(reach: Reach) -> Reach:
    """A list of intervals that move on evenly along one axis repeats along it."""
    if reach.axis is not None or reach.first.ndim == 0:
        return reach
    long = [axis for axis, size in enumerate(reach.first.shape) if size > 1]
    if len(long) != 1:
        return reach
    (axis,) = long
    steps = {*np.diff(reach.first.ravel()), *np.diff(reach.last.ravel())}
    if len(steps) > 1 or steps == {0} or max(map(abs, steps)) > FAR // 2:
        return reach
    first, last = reach.first.take([0], axis), reach.last.take([0], axis)
    return Reach(first, last, reach.extent, axis, int(*steps))
