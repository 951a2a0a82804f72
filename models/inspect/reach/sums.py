"""How a reach goes through what computes: values at one place, windows, sums along axes."""

import math

import numpy as np

from models.inspect.reach.equation import Equation, Reaches
from models.inspect.reach.interval import (
    FAR,
    Reach,
    at,
    everything,
    joined,
    listed,
    over,
    placed,
    settled,
    union,
    windowed,
)


def elementwise(call: Equation, reaches: Reaches) -> Reach | None:
    """Each value depends on those at its place."""
    out = call.outs[0]
    found: Reach | None = None
    for reach, shape in zip(reaches, call.shapes, strict=True):
        if reach is not None and len(shape) < len(out):  # a scalar
            reach = everything(reach, shape, len(out))
        found = union(found, reach, out)
    return found


def convolution(call: Equation, reaches: Reaches) -> Reach | None:
    """`conv_general_dilated`; what the kernel depends on, everything does."""
    params, out = call.params, call.outs[0]
    numbers, kernel = params["dimension_numbers"], call.shapes[1]
    reach = reaches[0]
    found = everything(reaches[1], kernel, len(out))
    if reach is None:
        return found
    batch, channel, *spatial = numbers.lhs_spec
    if reach.axis == channel:  # as of values of several places in channels
        reach = listed(reach, call.shapes[0])
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


def ours(call: Equation, reaches: Reaches) -> Reach | None:
    """A backend's convolution, and its gradient by the input, which is transposed: see
    `models.backends.convolution`."""
    geometry, out = call.params["geometry"], call.outs[0]
    reach = reaches[0]
    found = everything(reaches[1], call.shapes[1], len(out))
    if reach is None:
        return found
    if reach.axis == len(out) - 1:
        reach = listed(reach, call.shapes[0])
    forward = call.name == "convolution_forward"
    axes = zip(geometry.kernel, geometry.strides, geometry.dilations, geometry.pads, strict=True)
    for axis, (kernel, stride, step, (before, _)) in enumerate(axes, 2):
        reach = windowed(
            reach,
            axis,
            out[axis],
            start=-before if forward else before - step * (kernel - 1),
            stride=stride if forward else 1,
            taps=range(0, step * kernel, step),
            spread=1 if forward else stride,
        )
    return union(grouped(reach, len(out) - 1, geometry.groups, out[-1]), found, out)


def batch_statistics(call: Equation, reaches: Reaches) -> list[Reach | None]:
    """A backend's normalisation in training: every result depends on all of every operand."""
    results = []
    for out in call.outs:
        found: Reach | None = None
        for reach, shape in zip(reaches, call.shapes, strict=True):
            found = union(found, everything(reach, shape, len(out)), out)
        results.append(found)
    return results


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


def window(call: Equation, reaches: Reaches) -> Reach | None:
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


def reduced(call: Equation, reaches: Reaches) -> Reach | None:
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


def cumulative(call: Equation, reaches: Reaches) -> Reach | None:
    """Everything up to a place, or from it on."""
    axis, back = call.params["axis"], call.params["reverse"]
    if reaches[0] is None:
        return None
    reach = listed(reaches[0], call.shapes[0])
    first, last = (np.flip(t, axis) if back else t for t in (reach.first, reach.last))
    first, last = np.minimum.accumulate(first, axis), np.maximum.accumulate(last, axis)
    first, last = (np.flip(t, axis) if back else t for t in (first, last))
    return reach._replace(first=first, last=last)


def along_last(call: Equation, reaches: Reaches) -> list[Reach | None]:
    """`sort` and `top_k`: each value depends on all along an axis, of every operand."""
    axis = call.params.get("dimension", call.params.get("axis", -1)) % len(call.shapes[0])
    found: Reach | None = None
    for reach, shape in zip(reaches, call.shapes, strict=True):
        found = union(found, None if reach is None else over(reach, (axis,), shape), shape)
    return [found] * len(call.outs)


def product(call: Equation, reaches: Reaches) -> Reach | None:
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
