"""A convolution and its two gradients, as primitives that differentiate into one another.

Input x, kernel w and output y stand in one relation, and each is bilinear in the other two:

    forward(x, w) -> y        data(y, w) -> x        weights(x, y) -> w

The transpose of each in either argument is another of the three, so that `jvp`, `grad`, `vmap` and
any mixture of them end in the same three functions, which a backend computes as it can (`Engine`).

Arrays have a leading axis S of independent convolutions, 1 but under `vmap`:
x (S, N, spatial…, C), w (S, spatial…, C / groups, O), y (S, N, spatial…, O).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from models.backends import xla
from models.layers.conv import output_size, pad_width

Pair = tuple[int, int]


class Geometry(NamedTuple):
    """How the kernel moves, and the sizes that the operands of a gradient do not tell."""

    size: tuple[int, ...]
    """Of x, a number for each spatial axis."""
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[Pair, ...]
    groups: int

    @property
    def out(self) -> tuple[int, ...]:
        """Size of y."""
        axes = zip(self.size, self.kernel, self.strides, self.pads, self.dilations, strict=True)
        return tuple(output_size(*axis) for axis in axes)


class Engine(NamedTuple):
    """A backend: the three functions, each (a, b, geometry) -> the third array."""

    forward: Callable[[jax.Array, jax.Array, Geometry], jax.Array]
    data: Callable[[jax.Array, jax.Array, Geometry], jax.Array]
    weights: Callable[[jax.Array, jax.Array, Geometry], jax.Array]


def bind(which: str, a: jax.Array, b: jax.Array, geometry: Geometry, engine: Engine) -> jax.Array:
    """One of the three, to be differentiated, mapped and compiled."""
    return PRIMITIVES[which].bind(a, b, geometry=geometry, engine=engine)


def shape(which: str, a: Any, b: Any, geometry: Geometry) -> tuple[int, ...]:
    """Of the result."""
    if which == "forward":
        return (*a.shape[:2], *geometry.out, b.shape[-1])
    if which == "data":
        return (*a.shape[:2], *geometry.size, b.shape[-2] * geometry.groups)
    return (a.shape[0], *geometry.kernel, a.shape[-1] // geometry.groups, b.shape[-1])


def batched(which: str, operands: Any, axes: Any, **static: Any) -> tuple[jax.Array, int]:
    """Under `vmap`: a mapped axis joins N where the kernel is shared, and S elsewhere."""
    a, b = operands
    size = next(x.shape[i] for x, i in zip(operands, axes, strict=True) if i is not None)
    if axes[1] is None and which != "weights":
        a = jnp.moveaxis(a, axes[0], 1)
        joined = a.reshape(a.shape[0], size * a.shape[2], *a.shape[3:])
        out = bind(which, joined, b, **static)
        return out.reshape(out.shape[0], size, a.shape[2], *out.shape[2:]), 1
    a, b = (at_front(x, axis, size) for x, axis in zip(operands, axes, strict=True))
    out = bind(which, merged(a), merged(b), **static)
    return out.reshape(size, -1, *out.shape[1:]), 0


def at_front(x: jax.Array, axis: int | None, size: int) -> jax.Array:
    """The mapped axis first; repeated where there is none."""
    return jnp.broadcast_to(x, (size, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)


def merged(x: jax.Array) -> jax.Array:
    """The first two axes as one."""
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


def mapped(function: Callable[..., Any], *operands: jax.Array) -> Any:
    """A function of one convolution, over S. XLA handles an axis of size 1 less well than none."""
    if operands[0].shape[0] > 1:
        return jax.vmap(function)(*operands)
    return jax.tree.map(lambda y: y[None], function(*(x[0] for x in operands)))


def primitive(which: str) -> Primitive:
    """Evaluated, staged, mapped and compiled; its derivative is told below."""

    def compute(a: jax.Array, b: jax.Array, *, geometry: Geometry, engine: Engine) -> jax.Array:
        return getattr(engine, which)(a, b, geometry)

    def abstract(a: Any, b: Any, *, geometry: Geometry, engine: Engine) -> Any:
        return jax.core.ShapedArray(shape(which, a, b, geometry), a.dtype)

    new = Primitive(f"convolution_{which}")
    new.def_impl(jax.jit(compute, static_argnames=("geometry", "engine")))
    new.def_abstract_eval(abstract)
    mlir.register_lowering(new, mlir.lower_fun(compute, multiple_results=False))
    batching.primitive_batchers[new] = partial(batched, which)
    return new


PRIMITIVES = {which: primitive(which) for which in Engine._fields}
for which, by_first, by_second in (
    ("forward", lambda ct, x, w: ("data", ct, w), lambda ct, x, w: ("weights", x, ct)),
    ("data", lambda ct, y, w: ("forward", ct, w), lambda ct, y, w: ("weights", ct, y)),
    ("weights", lambda ct, x, y: ("data", y, ct), lambda ct, x, y: ("forward", x, ct)),
):
    rules = [
        lambda ct, a, b, rule=rule, **static: bind(*rule(ct, a, b), **static)
        for rule in (by_first, by_second)
    ]
    ad.defbilinear(PRIMITIVES[which], *rules)


def conv_general_dilated(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[Pair],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    *,
    engine: Engine,
    **other: Any,
) -> jax.Array:
    """`jax.lax.conv_general_dilated` by an engine, or XLA's where the engine's three do not reach.

    They reach channels-last convolutions in one and two dimensions of float32 and bfloat16,
    without a batch grouping or a negative padding; and those with a dilated input and no stride,
    which are transposed convolutions: `data` of the mirrored kernel.
    """
    rank = lhs.ndim - 2
    ones = (1,) * rank
    spread = tuple(lhs_dilation or ones)
    strides, dilations = tuple(window_strides), tuple(rhs_dilation or ones)
    stock = partial(
        xla.conv_general_dilated,
        lhs,
        rhs,
        strides,
        padding,
        lhs_dilation=spread,
        rhs_dilation=dilations,
        dimension_numbers=dimension_numbers,
        feature_group_count=feature_group_count,
        batch_group_count=batch_group_count,
        precision=precision,
        preferred_element_type=preferred_element_type,
        **other,
    )
    moves = (strides, spread, dilations)
    if rhs.ndim != lhs.ndim or any(len(v) != rank or min(v, default=0) < 1 for v in moves):
        return stock()
    axes = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    last = (0, rank + 1, *range(1, rank + 1))
    known = (
        rank in (1, 2)
        and (axes.lhs_spec, axes.out_spec) == (last, last)
        and axes.rhs_spec == (rank + 1, rank, *range(rank))
        and lhs.dtype == rhs.dtype
        and lhs.dtype in (jnp.float32, jnp.bfloat16)
        and preferred_element_type in (None, lhs.dtype)
        and batch_group_count == 1
        and feature_group_count > 0
        and lhs.shape[-1] == rhs.shape[rank] * feature_group_count
        and rhs.shape[-1] % feature_group_count == 0
        and not any(value is not None for value in other.values())
        and 0 not in lhs.shape + rhs.shape
        and (spread == ones or strides == ones)
    )
    if not known:
        return stock()
    kernel = rhs.shape[:rank]
    size = tuple((n - 1) * d + 1 for n, d in zip(lhs.shape[1:-1], spread, strict=True))
    if isinstance(padding, str):
        if padding not in ("SAME", "VALID") or spread != ones:
            return stock()
        padding = [
            pad_width(*axis)
            for axis in zip(size, kernel, strides, [padding] * rank, dilations, strict=True)
        ]
    pads = xla.pairs(padding)
    if pads is None or len(pads) != rank:
        return stock()
    if spread == ones:
        if min(map(min, pads)) < 0:
            return stock()
        geometry = Geometry(
            lhs.shape[1:-1], kernel, strides, dilations, pads, int(feature_group_count)
        )
        if min(geometry.out) < 1:
            return stock()
        return bind("forward", lhs[None], rhs[None], geometry, engine)[0]
    # The convolution whose gradient this is: from the output here to the input here.
    reach = [d * (k - 1) for k, d in zip(kernel, dilations, strict=True)]
    cropped = tuple((r - b, r - a) for r, (b, a) in zip(reach, pads, strict=True))
    out = tuple(n + b + a - r for n, (b, a), r in zip(size, pads, reach, strict=True))
    if min(map(min, cropped)) < 0 or min(out) < 1:
        return stock()
    geometry = Geometry(out, kernel, spread, dilations, cropped, int(feature_group_count))
    mirrored = swapped(jnp.flip(rhs, range(rank)), feature_group_count)
    return bind("data", lhs[None], mirrored[None], geometry, engine)[0]


def swapped(w: jax.Array, groups: int) -> jax.Array:
    """(spatial…, I / groups, O) -> (spatial…, O / groups, I), group by group."""
    *spatial, inputs, outputs = w.shape
    w = w.reshape(*spatial, inputs, groups, outputs // groups)
    return w.swapaxes(-1, -3).reshape(*spatial, outputs // groups, groups * inputs)
