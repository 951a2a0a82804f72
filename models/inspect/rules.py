"""How a reach goes through each primitive: what its outputs depend on."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from models.inspect.reach import (
    FAR,
    Reach,
    Shape,
    aligned,
    at,
    joined,
    listed,
    over,
    placed,
    settled,
    shortest,
    union,
    windowed,
)
from models.inspect.reshape import moving, reshaped

Reaches = Sequence[Reach | None]
Constant = Callable[[], Any]


class Call(NamedTuple):
    """An equation.

    Attributes:
        equation: of the traced program.
        shapes, outs: of operands and results.
        known: of each operand what computes it, if it depends on neither inputs nor parameters.
        positions: of each operand the axes along which its reach moves, on any axis of the input.
    """

    equation: Any
    shapes: Sequence[Shape]
    outs: Sequence[Shape]
    known: Sequence[Constant | None]
    positions: Sequence[frozenset[int]]

    @property
    def params(self) -> dict[str, Any]:
        """Of the equation."""
        return dict(self.equation.params)


def everything(reach: Reach | None, shape: Shape, rank: int) -> Reach | None:
    """A result of `rank`, each of whose values depends on all of an operand."""
    if reach is None:
        return None
    return placed(over(reach, range(len(shape)), shape), [None] * len(shape), rank)


def elementwise(call: Call, reaches: Reaches) -> Reach | None:
    """Each value depends on those at its place."""
    out = call.outs[0]
    found: Reach | None = None
    for reach, shape in zip(reaches, call.shapes, strict=True):
        if reach is not None and len(shape) < len(out):  # a scalar
            reach = everything(reach, shape, len(out))
        found = union(found, reach, out)
    return found


def convolution(call: Call, reaches: Reaches) -> Reach | None:
    """`conv_general_dilated`; what the kernel depends on, everything does."""
    params, out = call.params, call.outs[0]
    numbers, kernel = params["dimension_numbers"], call.shapes[1]
    reach = reaches[0]
    found = everything(reaches[1], kernel, len(out))
    if reach is None:
        return found
    batch, channel, *spatial = numbers.lhs_spec
    for number, axis in enumerate(spatial):
        step = params["rhs_dilation"][number]
        reach = windowed(
            reach,
            axis,
            out[numbers.out_spec[2 + number]],
            start=-params["padding"][number][0],
            stride=params["window_strides"][number],
            taps=range(0, step * kernel[numbers.rhs_spec[2 + number]], step),
            spread=params["lhs_dilation"][number],
        )
    groups, features = params["feature_group_count"], out[numbers.out_spec[1]]
    reach = grouped(reach, channel, groups, features)
    if params["batch_group_count"] > 1:
        reach = over(reach, (batch,), call.shapes[0])
    places = [0] * len(out)
    for own, new in zip(numbers.lhs_spec, numbers.out_spec, strict=True):
        places[own] = new
    return union(placed(reach, places, len(out)), found, out)


def grouped(reach: Reach, channel: int, groups: int, features: int) -> Reach:
    """The union over the channels of a group, for each of its features."""
    shape = reach.first.shape
    if shape[channel] == 1:
        return reach
    parts = (*shape[:channel], groups, -1, *shape[channel + 1 :])
    first = reach.first.reshape(parts).min(channel + 1)
    last = reach.last.reshape(parts).max(channel + 1)
    if groups > 1:
        first, last = (t.repeat(features // groups, channel) for t in (first, last))
    return reach._replace(first=first, last=last)


def window(call: Call, reaches: Reaches) -> Reach | None:
    """Windows of `reduce_window`, along every axis."""
    params, reach = call.params, reaches[0]
    for axis, size in enumerate(params["window_dimensions"]):
        step = params["window_dilation"][axis]
        if reach is not None:
            reach = windowed(
                reach,
                axis,
                call.outs[0][axis],
                start=-params["padding"][axis][0],
                stride=params["window_strides"][axis],
                taps=range(0, step * size, step),
                spread=params["base_dilation"][axis],
            )
    return reach


def pad(call: Call, reaches: Reaches) -> Reach | None:
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


def slice_(call: Call, reaches: Reaches) -> Reach | None:
    """Fixed places."""
    starts = call.params["start_indices"]
    return taken(reaches[0], starts, call.params["strides"] or [1] * len(starts), call.outs[0])


def split(call: Call, reaches: Reaches) -> list[Reach | None]:
    """Several slices along an axis."""
    axis, start, found = call.params["axis"], 0, []
    for out, size in zip(call.outs, call.params["sizes"], strict=True):
        starts = [start if i == axis else 0 for i in range(len(out))]
        found.append(taken(reaches[0], starts, [1] * len(out), out))
        start += int(size)
    return found


def reverse(call: Call, reaches: Reaches) -> Reach | None:
    """Axes the other way round."""
    reach, shape = reaches[0], call.shapes[0]
    for axis in call.params["dimensions"]:
        if reach is not None and (reach.axis == axis or reach.first.shape[axis] > 1):
            places = shape[axis] - 1 - np.arange(reach.first.shape[axis])
            first, last = at(reach, axis, places)
            shift = -reach.shift if reach.axis == axis else reach.shift
            reach = reach._replace(first=first, last=last, shift=shift)
    return reach


def transpose(call: Call, reaches: Reaches) -> Reach | None:
    """Axes in another order."""
    order = call.params["permutation"]
    return reaches[0] and placed(reaches[0], np.argsort(order).tolist(), len(order))


def broadcast(call: Call, reaches: Reaches) -> Reach | None:
    """New axes, and those of one position repeated."""
    places, out = call.params["broadcast_dimensions"], call.outs[0]
    reach, shape = reaches[0], call.shapes[0]
    if reach is None:
        return None
    axis = reach.axis
    if axis is not None and shape[axis] == 1 and out[places[axis]] > 1:
        reach = Reach(*at(reach, axis, np.arange(1)), reach.extent)
    return placed(reach, places, len(out))


def squeeze(call: Call, reaches: Reaches) -> Reach | None:
    """Axes of one position gone."""
    reach, rank = reaches[0], len(call.outs[0])
    kept = iter(range(rank))
    gone = call.params["dimensions"]
    places = [None if i in gone else next(kept) for i in range(len(call.shapes[0]))]
    return None if reach is None else placed(reach, places, rank)


def reshape(call: Call, reaches: Reaches) -> Reach | None:
    """See `models.inspect.reshape`."""
    if reaches[0] is None:
        return None
    return reshaped(reaches[0], call.shapes[0], call.outs[0], call.positions[0])


def concatenate(call: Call, reaches: Reaches) -> Reach | None:
    """Along channels, each with its own; along positions the longest is what the array is, and the
    others are its border: padding by edges, around the ends, by reflection."""
    axis, out = call.params["dimension"], call.outs[0]
    sizes = [shape[axis] for shape in call.shapes]
    longest = max(range(len(sizes)), key=sizes.__getitem__)
    alone = sizes.count(sizes[longest]) == 1
    if alone and axis in call.positions[longest] and not any(r and r.flat for r in reaches):
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
        parts = [listed(r, shape) for r, shape in zip(parts, call.shapes, strict=True)]
    parts = aligned(parts, out)
    alike = all(part.first.shape[axis] == 1 for part in parts) and all(
        np.array_equal(part.first, parts[0].first) and np.array_equal(part.last, parts[0].last)
        for part in parts
    )
    if alike:
        return parts[0]
    shape = [max(part.first.shape[i] for part in parts) for i in range(len(out))]
    tables = []
    for which in ("first", "last"):
        each = [
            np.broadcast_to(getattr(part, which), (*shape[:axis], size, *shape[axis + 1 :]))
            for part, size in zip(parts, sizes, strict=True)
        ]
        tables.append(np.concatenate(each, axis))
    moves = parts[0]
    return moving(Reach(tables[0], tables[1], extent, moves.axis, moves.shift, moves.flat))


def stack(call: Call, reaches: Reaches) -> Reach | None:
    """A new axis, and then concatenated along it."""
    axis, rank = call.params["axis"], len(call.outs[0])
    places = [i + (i >= axis) for i in range(rank - 1)]
    there = [None if r is None else placed(r, places, rank) for r in reaches]
    shapes = [(*shape[:axis], 1, *shape[axis:]) for shape in call.shapes]
    positions = [frozenset(places[i] for i in each) for each in call.positions]

    class Along(NamedTuple):
        params: dict[str, Any]

    made = call._replace(equation=Along({"dimension": axis}), shapes=shapes, positions=positions)
    return concatenate(made, there)


def reduced(call: Call, reaches: Reaches) -> Reach | None:
    """Sums, maxima and the like along whole axes."""
    axes, shape = call.params["axes"], call.shapes[0]
    kept = iter(range(len(shape)))
    places = [None if i in axes else next(kept) for i in range(len(shape))]
    found: Reach | None = None
    for reach in reaches:
        if reach is not None:
            one = placed(over(reach, axes, shape), places, len(call.outs[0]))
            found = union(found, one, call.outs[0])
    return found


def cumulative(call: Call, reaches: Reaches) -> Reach | None:
    """Everything up to a place, or from it on."""
    axis, back = call.params["axis"], call.params["reverse"]
    if reaches[0] is None:
        return None
    reach = listed(reaches[0], call.shapes[0])
    first, last = (np.flip(t, axis) if back else t for t in (reach.first, reach.last))
    first, last = np.minimum.accumulate(first, axis), np.maximum.accumulate(last, axis)
    first, last = (np.flip(t, axis) if back else t for t in (first, last))
    return reach._replace(first=first, last=last)


def along_last(call: Call, reaches: Reaches) -> list[Reach | None]:
    """`sort` and `top_k`: each value depends on all along an axis, of every operand."""
    axis = call.params.get("dimension", call.params.get("axis", -1)) % len(call.shapes[0])
    found: Reach | None = None
    for reach, shape in zip(reaches, call.shapes, strict=True):
        found = union(found, reach and over(reach, (axis,), shape), shape)
    return [found] * len(call.outs)


def product(call: Call, reaches: Reaches) -> Reach | None:
    """`dot_general`: sums along whole axes; by a known matrix, as in resizing, of its non-zeros."""
    contracted, batched = call.params["dimension_numbers"]
    out, count = call.outs[0], len(batched[0])
    found: Reach | None = None
    free = [
        [i for i in range(len(shape)) if i not in contracted[n] and i not in batched[n]]
        for n, shape in enumerate(call.shapes)
    ]
    for number, (reach, shape) in enumerate(zip(reaches, call.shapes, strict=True)):
        if reach is None:
            continue
        start = count if number == 0 else count + len(free[0])
        places: list[int | None] = [None] * len(shape)
        for place, axis in enumerate(batched[number]):
            places[axis] = place
        for place, axis in enumerate(free[number], start):
            places[axis] = place
        other, known = 1 - number, call.known[1 - number]
        axes = contracted[number]
        matrix = known is not None and len(axes) == 1 and len(call.shapes[other]) == 2
        if matrix and not count and (reach.axis in axes or reach.first.shape[axes[0]] > 1):
            weights = np.asarray(known(), np.float64)  # type: ignore[misc]
            if contracted[other] == (1,):
                weights = weights.T
            reach = through(reach, axes[0], weights)
            places[axes[0]] = len(free[0]) if number == 0 else 0
        else:
            reach = over(reach, axes, shape)
        found = union(found, placed(reach, places, len(out)), out)
    return found


def through(reach: Reach, axis: int, weights: np.ndarray) -> Reach:
    """An axis brought to another size by a matrix (positions, outputs)."""
    size, outputs = weights.shape
    used = np.abs(weights) > 1e-6 * np.abs(weights).max(initial=0)
    columns = np.arange(outputs)
    low = np.where(used.any(0), used.argmax(0), 0)
    high = np.where(used.any(0), size - 1 - used[::-1].argmax(0), -1)
    spans_all = size > 1 and bool((low == 0).all() and (high == size - 1).all())
    lattice = reach.axis == axis and not spans_all
    if lattice:
        # As many outputs as `many` move the window by `step`. What an edge cuts off one of them
        # another shows.
        common = math.gcd(size, outputs)
        many, step = outputs // common, size // common
        turn, phase = np.divmod(columns, many)
        begin, end = np.full(many, FAR), np.full(many, -FAR)
        np.minimum.at(begin, phase, low - step * turn)
        np.maximum.at(end, phase, high - step * turn)
        ahead = step * turn
        same = (np.maximum(begin[phase] + ahead, 0) == low) & (
            np.minimum(end[phase] + ahead, size - 1) == high
        )
        lattice = bool(same.all())
    if lattice:
        again = reach.period // math.gcd(reach.period, step)
        columns = np.arange(many * again)
        turn, phase = np.divmod(columns, many)
        low, high = begin[phase] + step * turn, end[phase] + step * turn
        shift = reach.shift * step * again // reach.period
    else:
        reach = listed(reach, (1,) * axis + (size,)) if reach.axis == axis else reach
        shift = reach.shift
    width = int((high - low).max(initial=0)) + 1
    places = low[:, None] + np.arange(width)[None]
    there = places <= high[:, None]
    if not lattice:
        there &= used[np.clip(places, 0, size - 1), np.arange(outputs)[:, None]]
    first, last = at(reach, axis, places.ravel())
    made = joined(reach, axis, first, last, there, shift)
    return made if lattice else settled(made) if spans_all else made


def gather(call: Call, reaches: Reaches) -> Reach | None:
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


def compressed(reach: Reach) -> Reach:
    """A table without axes along which nothing differs."""
    first, last = reach.first, reach.last
    for axis in range(first.ndim):
        parts = first.take([0], axis), last.take([0], axis)
        if (first == parts[0]).all() and (last == parts[1]).all():
            first, last = parts
    return reach._replace(first=first, last=last)


def dynamic_slice(call: Call, reaches: Reaches) -> Reach | None:
    """As `slice` where the places are known, else all along the axes that are cut."""
    shape, out, reach = call.shapes[0], call.outs[0], reaches[0]
    starts = call.known[1:]
    if all(start is not None for start in starts):
        whole = [int(start()) for start in starts]  # type: ignore[misc]
        fixed = [min(max(s, 0), n - m) for s, n, m in zip(whole, shape, out, strict=True)]
        return taken(reach, fixed, [1] * len(shape), out)
    cut = [i for i, size in enumerate(out) if size < shape[i]]
    found = reach and over(reach, cut, shape)
    for one, size in zip(reaches[1:], call.shapes[1:], strict=True):
        found = union(found, everything(one, size, len(out)), out)
    return found


def update(call: Call, reaches: Reaches) -> Reach | None:
    """`scatter` and `dynamic_update_slice`: the operand, and anywhere what is put into it."""
    out, found = call.outs[0], reaches[0]
    for reach, shape in zip(reaches[1:], call.shapes[1:], strict=True):
        found = union(found, everything(reach, shape, len(out)), out)
    return found


def each(call: Call, reaches: Reaches) -> list[Reach | None]:
    """Every operand as it is."""
    return list(reaches)


ELEMENTWISE = """
abs acos acosh add add_any and asin asinh atan atan2 atanh bitcast_convert_type cbrt ceil clamp clz
convert_element_type copy copy_p cos cosh digamma div eq erf erf_inv erfc exp exp2 expm1 floor ge gt
imag integer_pow is_finite le lgamma log log1p logistic lt max min mul ne neg nextafter not or
population_count pow real reduce_precision rem round rsqrt select_n shift_left
shift_right_arithmetic shift_right_logical sign sin sinh sqrt square stop_gradient sub tan tanh xor
sharding_constraint name
""".split()
REDUCE = "sum max min prod and or xor".split()
WINDOW = ["reduce_window", *(f"reduce_window_{of}" for of in ("sum", "max", "min"))]
UPDATE = ["scatter", *(f"scatter-{of}" for of in ("add", "mul", "min", "max"))]

Rule = Callable[[Call, Reaches], "Reach | None | list[Reach | None]"]
RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, elementwise),
    **dict.fromkeys((f"reduce_{of}" for of in REDUCE), reduced),
    **dict.fromkeys(("argmax", "argmin"), reduced),
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"), cumulative),
    **dict.fromkeys(WINDOW, window),
    **dict.fromkeys(("sort", "top_k"), along_last),
    **dict.fromkeys([*UPDATE, "dynamic_update_slice"], update),
    **dict.fromkeys(("optimization_barrier", "device_put"), each),
    "broadcast_in_dim": broadcast,
    "concatenate": concatenate,
    "conv_general_dilated": convolution,
    "dot_general": product,
    "dynamic_slice": dynamic_slice,
    "gather": gather,
    "pad": pad,
    "reshape": reshape,
    "rev": reverse,
    "slice": slice_,
    "split": split,
    "squeeze": squeeze,
    "stack": stack,
    "transpose": transpose,
}
