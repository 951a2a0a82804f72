"""How a reach goes through what moves values: padding, slices, other axes, joining."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import jax
import numpy as np
from jax import lax

from models.inspect.reach.equation import Equation, Reaches
from models.inspect.reach.interval import (
    FAR,
    Reach,
    Shape,
    aligned,
    at,
    compressed,
    everything,
    first_alone,
    listed,
    over,
    placed,
    union,
    windowed,
)
from models.inspect.reach.reshape import moving, reshaped


def pad(call: Equation, reaches: Reaches) -> Reach | None:
    """What is padded reaches on as what is beside it does."""
    reach = reaches[0]
    for axis, (before, _, between) in enumerate(call.params["padding_config"]):
        if reach is not None:
            reach = windowed(reach, axis, call.outs[0][axis], start=-before, spread=between + 1)
    return reach


def taken(reach: Reach | None, starts: Sequence[int], strides: Sequence[int], out: Shape) -> Any:
    """A slice."""
    for axis, (start, stride) in enumerate(zip(starts, strides, strict=True)):
        if reach is not None:
            reach = windowed(reach, axis, out[axis], start=start, stride=stride)
    return reach


def slice_(call: Equation, reaches: Reaches) -> Reach | None:
    """Fixed places."""
    starts = call.params["start_indices"]
    return taken(reaches[0], starts, call.params["strides"] or [1] * len(starts), call.outs[0])


def split(call: Equation, reaches: Reaches) -> list[Reach | None]:
    """Several slices along an axis."""
    axis, start, found = call.params["axis"], 0, []
    for out, size in zip(call.outs, call.params["sizes"], strict=True):
        starts = [start if i == axis else 0 for i in range(len(out))]
        found.append(taken(reaches[0], starts, [1] * len(out), out))
        start += int(size)
    return found


def unstack(call: Equation, reaches: Reaches) -> list[Reach | None]:
    """Each position of an axis, which goes."""
    gone, shape = call.params["axis"], call.shapes[0]
    one = tuple(1 if axis == gone else size for axis, size in enumerate(shape))
    places = [None if axis == gone else axis - (axis > gone) for axis in range(len(shape))]
    found: list[Reach | None] = []
    for position in range(len(call.outs)):
        starts = [position if axis == gone else 0 for axis in range(len(shape))]
        part = taken(reaches[0], starts, [1] * len(shape), one)
        found.append(None if part is None else placed(part, places, len(shape) - 1))
    return found


def reverse(call: Equation, reaches: Reaches) -> Reach | None:
    """Axes the other way round."""
    reach, shape = reaches[0], call.shapes[0]
    for axis in call.params["dimensions"]:
        if reach is not None and (reach.axis == axis or reach.first.shape[axis] > 1):
            places = shape[axis] - 1 - np.arange(reach.first.shape[axis])
            first, last = at(reach, axis, places)
            shift = -reach.shift if reach.axis == axis else reach.shift
            reach = reach._replace(first=first, last=last, shift=shift)
    return reach


def transpose(call: Equation, reaches: Reaches) -> Reach | None:
    """Axes in another order."""
    order, reach = call.params["permutation"], reaches[0]
    return None if reach is None else placed(reach, np.argsort(order).tolist(), len(order))


def broadcast(call: Equation, reaches: Reaches) -> Reach | None:
    """New axes, and those of one position repeated."""
    places, out = call.params["broadcast_dimensions"], call.outs[0]
    reach, shape = reaches[0], call.shapes[0]
    if reach is None:
        return None
    axis = reach.axis
    if axis is not None and shape[axis] == 1 and out[places[axis]] > 1:
        reach = first_alone(reach)
    return placed(reach, places, len(out))


def tile(call: Equation, reaches: Reaches) -> Reach | None:
    """All of the array again and again along axes."""
    reps, reach = call.params["reps"], reaches[0]
    if reach is None:
        return None
    if reach.axis is not None and reps[reach.axis] > 1:
        reach = listed(reach, call.shapes[0])
    first, last = (
        np.tile(t, [n if size > 1 else 1 for n, size in zip(reps, t.shape, strict=True)])
        for t in (reach.first, reach.last)
    )
    if reach.axis is not None:  # along it a table of one period says all
        return reach._replace(first=first, last=last)
    return moving(compressed(reach._replace(first=first, last=last)))


def squeeze(call: Equation, reaches: Reaches) -> Reach | None:
    """Axes of one position gone."""
    reach, rank = reaches[0], len(call.outs[0])
    kept = iter(range(rank))
    gone = call.params["dimensions"]
    places = [None if i in gone else next(kept) for i in range(len(call.shapes[0]))]
    return None if reach is None else placed(reach, places, rank)


def reshape(call: Equation, reaches: Reaches) -> Reach | None:
    """See `models.inspect.reshape`."""
    if reaches[0] is None:
        return None
    return reshaped(reaches[0], call.shapes[0], call.outs[0], call.positions[0])


def concatenate(call: Equation, reaches: Reaches) -> Reach | None:
    """See `in_a_row`."""
    axis = call.params["dimension"]
    return in_a_row(reaches, axis, call.shapes, call.positions, call.outs[0])


def stack(call: Equation, reaches: Reaches) -> Reach | None:
    """A new axis, and then in a row along it."""
    axis, out = call.params["axis"], call.outs[0]
    rank = len(out)
    places = [i + (i >= axis) for i in range(rank - 1)]
    there = [None if r is None else placed(r, places, rank) for r in reaches]
    shapes = [(*shape[:axis], 1, *shape[axis:]) for shape in call.shapes]
    return in_a_row(there, axis, shapes, [frozenset()] * len(shapes), out)


def in_a_row(
    reaches: Reaches,
    axis: int,
    shapes: Sequence[Shape],
    positions: Sequence[frozenset[int]],
    out: Shape,
) -> Reach | None:
    """Along channels, each with its own; along positions the longest is what the array is, and the
    others are its border if they move as it does or not at all, and no wider:
    padding by edges, around the ends, by reflection.

    Args:
        reaches, shapes: of arrays.
        axis: along which they are joined.
        positions: see `Equation`.
        out: the shape of the result.
    """
    sizes = [shape[axis] for shape in shapes]
    longest = sizes.index(max(sizes))
    alone = sizes.count(sizes[longest]) == 1
    moving_on = [r for r in reaches if r is not None and r.axis == axis]
    alike = len({Fraction(abs(r.shift), r.period) for r in moving_on}) < 2
    flat = any(r.flat for r in moving_on)
    border = all(is_border(one, reaches[longest]) for one in reaches)
    if alone and alike and axis in positions[longest] and not flat and border:
        reach = reaches[longest]
        start = -sum(sizes[:longest])
        return None if reach is None else windowed(reach, axis, out[axis], start=start)
    there = [r for r in reaches if r is not None]
    if not there:
        return None
    extent, ones = there[0].extent, (1,) * len(out)
    nothing = Reach(np.full(ones, FAR), np.full(ones, -FAR), extent)
    parts = [nothing if r is None else r for r in reaches]
    if any(r.axis == axis for r in parts):
        parts = [listed(r, shape) for r, shape in zip(parts, shapes, strict=True)]
    parts = aligned(parts, shapes)
    common = [max(part.first.shape[i] for part in parts) for i in range(len(out))]
    first, last = (
        np.concatenate(
            [
                np.broadcast_to(table, (*common[:axis], size, *common[axis + 1 :]))
                for table, size in zip(tables, sizes, strict=True)
            ],
            axis,
        )
        for tables in zip(*((part.first, part.last) for part in parts), strict=True)
    )
    moves = parts[0]
    made = Reach(first, last, extent, moves.axis, moves.shift, moves.flat)
    return moving(compressed(made))


def is_border(one: Reach | None, whole: Reach | None) -> bool:
    """Whether an array may be copied from another one: no value of it depends on more positions at
    once, as a mean of all would."""
    if one is None or whole is None:
        return one is None
    return bool((one.last - one.first).max() <= (whole.last - whole.first).max())


def dynamic_slice(call: Equation, reaches: Reaches) -> Reach | None:
    """As `slice` where the places are known, else all along the axes that are cut."""
    shape, out, reach = call.shapes[0], call.outs[0], reaches[0]
    starts = call.known[1:]
    if all(start is not None for start in starts):
        whole = [int(start()) for start in starts]  # type: ignore[misc]
        fixed = [min(max(s, 0), n - m) for s, n, m in zip(whole, shape, out, strict=True)]
        return taken(reach, fixed, [1] * len(shape), out)
    cut = [i for i, size in enumerate(out) if size < shape[i]]
    found = None if reach is None else over(reach, cut, shape)
    for one, size in zip(reaches[1:], call.shapes[1:], strict=True):
        found = union(found, everything(one, size, len(out)), out)
    return found


def gather(call: Equation, reaches: Reaches) -> Reach | None:
    """Places that are known give what is there; others, all along the axes that they choose."""
    numbers, sizes = call.params["dimension_numbers"], call.params["slice_sizes"]
    (shape, chosen), out = call.shapes[:2], call.outs[0]
    reach, places = reaches[0], call.known[1]
    if reach is not None and places is not None:
        reach = listed(reach, shape)
        tables = []
        for table, absent in ((reach.first, FAR), (reach.last, -FAR)):
            full = np.broadcast_to(table, shape).astype(np.int32)
            params = {**call.params, "fill_value": absent}
            with jax.ensure_compile_time_eval():
                tables.append(call.equation.primitive.bind(full, places(), **params))
        first, last = (np.asarray(t, np.int64) for t in tables)
        return moving(compressed(Reach(first, last, reach.extent)))
    found: Reach | None = None
    if reach is not None:
        gone = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
        partly = [i for i, size in enumerate(shape) if i in gone or sizes[i] < size]
        offsets = iter(numbers.offset_dims)
        axes = [None if i in gone else next(offsets) for i in range(len(shape))]
        found = placed(over(reach, partly, shape), axes, len(out))
    if reaches[1] is not None:
        batch = [i for i in range(len(out)) if i not in numbers.offset_dims]
        axes = [*batch, None]
        by = placed(over(reaches[1], [len(chosen) - 1], chosen), axes, len(out))
        found = union(found, by, out)
    return found


def scatter(call: Equation, reaches: Reaches) -> Reach | None:
    """What is put at places that are known is there, and what is overwritten is not; at others it
    may be anywhere."""
    places = call.known[1]
    if places is None:
        return update(call, reaches)
    there = [reach for reach in (reaches[0], reaches[2]) if reach is not None]
    tables = []
    for which, absent, joint in (("first", FAR, lax.scatter_min), ("last", -FAR, lax.scatter_max)):
        full = [
            np.broadcast_to(absent if r is None else getattr(listed(r, shape), which), shape)
            for r, shape in ((reaches[0], call.shapes[0]), (reaches[2], call.shapes[2]))
        ]
        names = ("dimension_numbers", "indices_are_sorted", "unique_indices", "mode")
        put = lax.scatter if call.name == "scatter" else joint
        how = {name: call.params[name] for name in names}
        into, values = (table.astype(np.int32) for table in full)
        with jax.ensure_compile_time_eval():
            tables.append(np.asarray(put(into, places(), values, **how), np.int64))
    return moving(compressed(Reach(tables[0], tables[1], there[0].extent)))


def dynamic_update(call: Equation, reaches: Reaches) -> Reach | None:
    """A window of the operand replaced; what was there is counted in."""
    starts, out, reach = call.known[2:], call.outs[0], reaches[1]
    if any(start is None for start in starts) or reach is None:
        return update(call, reaches)
    for axis, start in enumerate(starts):
        first = int(start())  # type: ignore[misc]
        fixed = min(max(first, 0), out[axis] - call.shapes[1][axis])
        if call.shapes[1][axis] < out[axis]:
            reach = windowed(reach, axis, out[axis], start=-fixed)
    return union(reaches[0], reach, out)


def update(call: Equation, reaches: Reaches) -> Reach | None:
    """The operand, and anywhere what is put into it."""
    out, found = call.outs[0], reaches[0]
    for reach, shape in zip(reaches[1:], call.shapes[1:], strict=True):
        found = union(found, everything(reach, shape, len(out)), out)
    return found


def each(call: Equation, reaches: Reaches) -> list[Reach | None]:
    """Every operand as it is."""
    return list(reaches)
