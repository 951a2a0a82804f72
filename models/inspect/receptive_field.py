"""The receptive field of a network: on which part of its input each output and layer depends.

    fields = receptive_field(models.create("resnet50", num_classes=1000).backbone, (1, 224, 224, 3))
    fields.layers["stage4_block3"][0].size       # (427, 427) pixels
    fields.outputs[-1].stride                    # (32, 32)

It is read from the traced program, whatever the modules in it are: output position i depends on the
input's positions from stride * i + offset on, `size` of them. What stands in between and has no way
to the output, as between the taps of a dilated kernel, is counted in. Nothing is clipped: near the
border a field reaches into the padding, and may be larger than the input. See Araujo et al. 2019,
"Computing receptive fields of convolutional neural networks" (Distill), for these quantities.

A layer that resizes makes fields of different size and distance repeat: those of a transposed
convolution of 3 steps at stride 2 are alternately of one position and of two. `size` is the largest
then, `stride` the mean, and `at` tells each.

Exact for what the networks here consist of, with three exceptions on the side of too much: places
that are computed from the input (regions of interest, a gather by indices) are taken to be
anywhere; a loop over slices reads all of them in each turn; numbers that cancel, and weights that
are 0, count as any others. Border that is no zeros (edges repeated, a series around its ends) is
taken as zeros are.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from models.inspect.reach.dependence import Value, Walk
from models.inspect.reach.interval import FAR, Reach
from models.inspect.traced import TAG, Traced, traced


@dataclass(frozen=True)
class Span:
    """The receptive field along one axis of the input.

    Attributes:
        extent: size of that axis.
        first, last: what output positions 0, 1, … depend on, one period of them; 0 and -1 of one
            that depends on nothing; () where nothing of the input is read.
        shift: how far the next period is moved.
        axis: of the output, along which it moves; None where it does not.
    """

    extent: int
    first: tuple[int, ...]
    last: tuple[int, ...]
    shift: int = 0
    axis: int | None = None

    @property
    def whole(self) -> bool:
        """Whether every output depends on all of the axis, wherever it is."""
        return self.axis is None and self.size == self.extent

    @property
    def size(self) -> int:
        """Positions of the largest field; 0 where nothing is read."""
        spans = zip(self.first, self.last, strict=True)
        return max((last - first + 1 for first, last in spans), default=0)

    @property
    def stride(self) -> int | Fraction | None:
        """Input positions from one output to the next, on average; None where the field does not
        move along one axis, and evenly."""
        if self.axis is None:
            return None
        mean = Fraction(self.shift, len(self.first))
        return mean.numerator if mean.denominator == 1 else mean

    @property
    def offset(self) -> int | None:
        """Where the field of output 0 begins; below 0 in the padding. None where there is none."""
        return self.first[0] if self.first and self.first[0] <= self.last[0] else None

    def at(self, position: int, *, clip: bool = False) -> tuple[int, int]:
        """First and last input position that an output depends on; last < first where on none.

        Args:
            position: of the output along `axis`; of no matter where the field does not move.
            clip: leave the padding out.
        """
        if not self.first:
            return 0, -1
        turn, phase = divmod(position, len(self.first)) if self.axis is not None else (0, 0)
        first, last = (ends[phase] + turn * self.shift for ends in (self.first, self.last))
        return (max(first, 0), min(last, self.extent - 1)) if clip else (first, last)


@dataclass(frozen=True)
class Field:
    """The receptive field of an array: a `Span` for each spatial axis of the input."""

    spans: tuple[Span, ...]

    @property
    def size(self) -> tuple[int, ...]:
        """Along each axis, see `Span`."""
        return tuple(span.size for span in self.spans)

    @property
    def stride(self) -> tuple[int | Fraction | None, ...]:
        """Along each axis, see `Span`."""
        return tuple(span.stride for span in self.spans)

    @property
    def offset(self) -> tuple[int | None, ...]:
        """Along each axis, see `Span`."""
        return tuple(span.offset for span in self.spans)

    def __str__(self) -> str:
        """ "43/8" of 43x43 pixels, 8 to the next; "all"; "" where nothing is read."""
        if not any(self.size):
            return ""
        if all(span.whole for span in self.spans):
            return "all"
        sizes = ["all" if span.whole else str(span.size) for span in self.spans]
        strides = [str(stride) for stride in self.stride if stride is not None]
        moves = f"/{alike(strides)}" if len(strides) == len(sizes) else ""
        return alike(sizes) + moves


class Fields(NamedTuple):
    """Of a network.

    Attributes:
        outputs: as the network's, with a `Field` for each array.
        layers: module path, joined by "/" -> the fields of the arrays that it yields, call by call.
    """

    outputs: Any
    layers: dict[str, list[Field]]


def receptive_field(network: nn.Module, *inputs: Any, train: bool = False, **named: Any) -> Fields:
    """The receptive fields in the first of the inputs, (B, spatial…, C).

    Args:
        network: any Linen module. In training, BatchNorm makes each value depend on all.
        *inputs: of its call, each a shape with its batch axis, of float32 then, or anything with
            `shape` and `dtype`.
        train: given to networks that take it.
        **named: inputs by their name: `length=jax.ShapeDtypeStruct((1,), "int32")`.

    Raises:
        UnknownPrimitive: of `models.inspect.errors`, names it.
        ValueError: what the network says to its inputs.
    """
    return fields(traced(network, inputs, named, train))


def fields(found: Traced) -> Fields:
    """Of a call that is traced."""
    image = jax.tree.leaves(found.inputs)[0]
    extents = image.shape[1:-1]
    layers: dict[str, list[Field]] = {}

    def named(name: str, aval: Any, reaches: tuple[Reach | None, ...]) -> None:
        if name.startswith(TAG):
            path = "/".join(found.calls.paths[int(name.removeprefix(TAG))])
            layers.setdefault(path, []).append(field(reaches, extents))

    def first(axis: int, size: int) -> Reach:
        table = np.zeros((1,) * len(image.shape), np.int64)
        return Reach(table, table, size, axis + 1, 1)

    walk = Walk(len(extents), named)
    arguments = [Value(walk.nothing) for _ in found.program.jaxpr.invars]
    start = len(jax.tree.leaves(found.variables))
    arguments[start] = Value(tuple(first(axis, size) for axis, size in enumerate(extents)))
    results = [field(value.reaches, extents) for value in walk.run(found.program, arguments)]
    layers[""] = results
    return Fields(jax.tree.unflatten(jax.tree.structure(found.results), results), layers)


def field(reaches: tuple[Reach | None, ...], extents: tuple[int, ...]) -> Field:
    """The record of an array."""
    return Field(tuple(map(span, reaches, extents)))


def span(reach: Reach | None, extent: int) -> Span:
    """The record along one axis: the union over channels, and where nothing repeats over all."""
    if reach is None:
        return Span(extent, (), ())
    axis = None if reach.flat else reach.axis
    others = tuple(i for i in range(reach.first.ndim) if i != axis)
    first, last = reach.first.min(others), reach.last.max(others)
    there, far = first <= last, first <= -FAR
    if axis is not None and there.any() and not far.any():
        begin, end = np.where(there, first, 0), np.where(there, last, -1)
        ends = tuple(begin.tolist()), tuple(end.tolist())
        return Span(extent, *ends, reach.shift, axis)
    if axis is not None or reach.static:
        low, high = max(int(first.min()), 0), min(int(last.max()), extent - 1)
        return Span(extent, (low,), (high,)) if low <= high else Span(extent, (), ())
    # Fields of other places, in one list: the largest of them.
    largest = int((reach.last - reach.first).argmax())
    low, high = int(reach.first.flat[largest]), int(reach.last.flat[largest])
    if low == -FAR:
        low, high = 0, extent - 1
    return Span(extent, (low,), (high,)) if low <= high else Span(extent, (), ())


def alike(each: list[str]) -> str:
    """One of them where all are equal, else joined."""
    return each[0] if len(set(each)) == 1 else "x".join(each)
