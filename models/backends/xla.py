"""`jax.lax.conv_general_dilated`, its input sliced where padding is negative, on a CPU.

There XLA's convolution with negative padding may read beyond its input (jax 0.10): a value may be
off by anything. Such padding need not be asked for. The derivatives of a convolution are
convolutions, and their padding is negative where this one's is beyond the reach of the kernel, or
where a stride leaves positions over.

A convolution none of whose derivatives has negative padding is JAX's own, as it is. Any other is a
primitive of the same name and parameters, and of the same program but for the slices, so that its
derivatives, of any order, come by here again. On other platforms its program is JAX's.
"""

from collections.abc import Callable, Sequence
from functools import partial
from operator import index
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

Pair = tuple[int, int]


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
    **other: Any,
) -> jax.Array:
    """`jax.lax.conv_general_dilated`, its errors included."""
    how = {
        "window_strides": window_strides,
        "padding": padding,
        "lhs_dilation": lhs_dilation,
        "rhs_dilation": rhs_dilation,
        "dimension_numbers": dimension_numbers,
        "feature_group_count": feature_group_count,
        "batch_group_count": batch_group_count,
        "precision": precision,
        "preferred_element_type": preferred_element_type,
    }
    plain: Callable[..., jax.Array] = partial(lax.conv_general_dilated, **how, **other)
    rank = lhs.ndim - 2
    strides, spread, dilations = (
        (1,) * rank if each is None else tuple(each)
        for each in (window_strides, lhs_dilation, rhs_dilation)
    )
    known = (
        rhs.ndim == lhs.ndim
        and 0 not in lhs.shape + rhs.shape
        and all(len(v) == rank and min(v, default=0) > 0 for v in (strides, spread, dilations))
        and not any(value is not None for value in other.values())
    )
    if not known:
        return plain(lhs, rhs)
    spec = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    size = [lhs.shape[axis] for axis in spec.lhs_spec[2:]]
    kernel = [rhs.shape[axis] for axis in spec.rhs_spec[2:]]
    if not all(isinstance(n, int) for n in (*size, *kernel)):  # but symbols, of an export
        return plain(lhs, rhs)
    if isinstance(padding, str):
        if padding.upper() not in ("SAME", "SAME_LOWER", "VALID") or set(spread) != {1}:
            return plain(lhs, rhs)
        window = [dilated(k, d) for k, d in zip(kernel, dilations, strict=True)]
        padding = lax.padtype_to_pads(size, window, strides, padding)
    pads = pairs(padding)
    if pads is None or len(pads) != rank:
        return plain(lhs, rhs)
    moves = zip(size, kernel, strides, pads, spread, dilations, strict=True)
    if all(never_negative(*axis) for axis in moves):
        return plain(lhs, rhs)
    params = how | {
        "window_strides": tuple(map(int, strides)),
        "padding": pads,
        "lhs_dilation": tuple(map(int, spread)),
        "rhs_dilation": tuple(map(int, dilations)),
        "dimension_numbers": spec,
        "feature_group_count": int(feature_group_count),
        "batch_group_count": int(batch_group_count),
    }
    jax.eval_shape(plain, lhs, rhs)  # for its errors
    return CONVOLUTION.bind(jnp.asarray(lhs), jnp.asarray(rhs), **params)


def pairs(padding: Sequence[Any]) -> tuple[Pair, ...] | None:
    """As whole numbers; None where it is something else."""
    try:
        return tuple((index(before), index(after)) for before, after in padding)
    except (TypeError, ValueError):
        return None


def dilated(size: int, dilation: int) -> int:
    """From the first of `size` positions that far apart to the last."""
    return (size - 1) * dilation + 1


def never_negative(
    size: int, kernel: int, stride: int, pads: Pair, spread: int, dilation: int
) -> bool:
    """Whether no derivative has negative padding, of any order; all arguments are of one axis.

    Those of the first are, with r positions left over behind the last window,
    (reach - before, reach - after + r) for the input and (before, after - r) for the kernel. Theirs
    are these again, and span - before and span - after + r, as the output is the kernel of one.
    """
    before, after = pads
    reach = dilation * (kernel - 1)
    left = dilated(size, spread) + before + after - reach - 1
    if left < 0:  # not one window
        return False
    rest = left % stride
    most = min(reach, left - rest)
    return 0 <= before <= most and 0 <= after - rest <= most


def cropped(lhs: jax.Array, rhs: jax.Array, *, padding: tuple[Pair, ...], **how: Any) -> jax.Array:
    """The convolution, of the part of the input that it reads."""
    axes = how["dimension_numbers"].lhs_spec[2:]
    whole: Callable[..., jax.Array] = partial(lax.conv_general_dilated, padding=padding, **how)
    result = jax.eval_shape(whole, lhs, rhs)
    starts, stops, pads = [0] * lhs.ndim, list(lhs.shape), []
    for axis, sides, spread in zip(axes, padding, how["lhs_dilation"], strict=True):
        # A position that is cropped takes its holes along, of which those too many come back.
        cut = [-(min(side, 0) // spread) for side in sides]
        starts[axis], stops[axis] = cut[0], lhs.shape[axis] - cut[1]
        pads.append(tuple(side + spread * n for side, n in zip(sides, cut, strict=True)))
        if starts[axis] >= stops[axis]:
            return jnp.zeros(result.shape, result.dtype)
    if 0 in result.shape:
        return jnp.zeros(result.shape, result.dtype)
    if tuple(pads) == padding:
        return whole(lhs, rhs)
    return lax.conv_general_dilated(lax.slice(lhs, starts, stops), rhs, padding=pads, **how)


def of_input(ct: jax.Array, lhs: Any, rhs: jax.Array, **how: Any) -> jax.Array:
    """The transpose in the first operand: a convolution by the mirrored kernel."""
    if ct.size == 0:
        return jnp.zeros(lhs.aval.shape, lhs.aval.dtype)
    spec, batches = how["dimension_numbers"], how["batch_group_count"]
    groups = how["feature_group_count"] * batches
    outputs, inputs, *spatial = spec.rhs_spec
    kernel = lax.rev(rhs, spatial).astype(ct.dtype)
    pads = []
    for size, window, out, (before, _), stride, spread, dilation in axes_of(lhs.aval, rhs, ct, how):
        first = dilated(window, dilation) - 1 - before
        whole = dilated(size, spread) + dilated(window, dilation) - 1
        pads.append((first, whole - dilated(out, stride) - first))
    x = conv_general_dilated(
        ct,
        regrouped(kernel, outputs, inputs, groups),
        how["lhs_dilation"],
        pads,
        how["window_strides"],
        how["rhs_dilation"],
        lax.ConvDimensionNumbers(spec.out_spec, (inputs, outputs, *spatial), spec.lhs_spec),
        groups,
        precision=how["precision"],
        preferred_element_type=how["preferred_element_type"],
    )
    batch, channels = spec.lhs_spec[:2]
    return regrouped(x, channels, batch, batches).astype(lhs.aval.dtype)


def of_kernel(ct: jax.Array, lhs: jax.Array, rhs: Any, **how: Any) -> jax.Array:
    """The transpose in the second operand: a convolution of the input by the cotangent."""
    if ct.size == 0:
        return jnp.zeros(rhs.aval.shape, rhs.aval.dtype)
    spec = how["dimension_numbers"]
    operands = spec.lhs_spec, spec.out_spec, spec.rhs_spec
    pads = []
    for size, window, out, (before, _), stride, spread, dilation in axes_of(lhs, rhs.aval, ct, how):
        read = dilated(out, stride) + dilated(window, dilation) - 1
        pads.append((before, read - dilated(size, spread) - before))
    w = conv_general_dilated(
        lhs.astype(ct.dtype),
        ct,
        how["rhs_dilation"],
        pads,
        how["lhs_dilation"],
        how["window_strides"],
        lax.ConvDimensionNumbers(*((b, a, *spatial) for a, b, *spatial in operands)),
        how["batch_group_count"],
        how["feature_group_count"],
        precision=how["precision"],
        preferred_element_type=how["preferred_element_type"],
    )
    return w.astype(rhs.aval.dtype)


def axes_of(lhs: Any, rhs: Any, out: Any, how: dict[str, Any]) -> Any:
    """(size, kernel, size of the output, pads, stride, spread, dilation) of each spatial axis."""
    shapes = [
        [array.shape[axis] for axis in axes[2:]]
        for array, axes in zip((lhs, rhs, out), how["dimension_numbers"], strict=True)
    ]
    moves = (how[key] for key in ("padding", "window_strides", "lhs_dilation", "rhs_dilation"))
    return zip(*shapes, *moves, strict=True)


def regrouped(x: jax.Array, source: int, target: int, groups: int) -> jax.Array:
    """The groups of one axis become those of another."""
    if groups == 1:
        return x
    shape = list(x.shape)
    x = x.reshape(*shape[:source], groups, shape[source] // groups, *shape[source + 1 :])
    return joined(x, source, target)


def joined(x: jax.Array, source: int, target: int) -> jax.Array:
    """An axis put before another, counted without it, as one with that."""
    x = jnp.moveaxis(x, source, target)
    shape = x.shape
    return x.reshape(*shape[:target], shape[target] * shape[target + 1], *shape[target + 2 :])


def like(x: jax.Array, dim: int | None) -> jax.ShapeDtypeStruct:
    """One of those along a mapped axis."""
    shape = x.shape if dim is None else (*x.shape[:dim], *x.shape[dim + 1 :])
    return jax.ShapeDtypeStruct(shape, x.dtype)


def batched(operands: Any, dims: Any, **how: Any) -> tuple[jax.Array, int]:
    """Under `vmap`: the mapped axis joins the batch, the features, or the groups."""
    (lhs, rhs), (of_lhs, of_rhs) = operands, dims
    spec = how["dimension_numbers"]
    size = lhs.shape[of_lhs] if of_lhs is not None else rhs.shape[of_rhs]
    if size == 0:
        one = abstract(*(like(x, dim) for x, dim in zip(operands, dims, strict=True)), **how)
        return jnp.zeros((0, *one.shape), one.dtype), 0
    groups = "feature_group_count" if how["batch_group_count"] == 1 else "batch_group_count"
    axis = spec.out_spec[1]
    if of_rhs is None and how["batch_group_count"] == 1:
        lhs, axis = joined(lhs, of_lhs, spec.lhs_spec[0]), spec.out_spec[0]
    elif of_lhs is None and how[groups] == 1:
        rhs = joined(rhs, of_rhs, spec.rhs_spec[0])
    else:
        lhs, rhs = (
            jnp.broadcast_to(x, (size, *x.shape)) if dim is None else jnp.moveaxis(x, dim, 0)
            for x, dim in zip(operands, dims, strict=True)
        )
        into = spec.lhs_spec[1 if groups == "feature_group_count" else 0]
        lhs, rhs = joined(lhs, 0, into), joined(rhs, 0, spec.rhs_spec[0])
        how = how | {groups: size * how[groups]}
    out = conv_general_dilated(lhs, rhs, **how)
    shape = out.shape
    return out.reshape(*shape[:axis], size, shape[axis] // size, *shape[axis + 1 :]), axis


CONVOLUTION = Primitive("conv_general_dilated")
STATIC = (
    "window_strides",
    "padding",
    "lhs_dilation",
    "rhs_dilation",
    "dimension_numbers",
    "feature_group_count",
    "batch_group_count",
    "precision",
    "preferred_element_type",
)


def abstract(lhs: Any, rhs: Any, **how: Any) -> Any:
    """Shape and dtype of the result."""
    out = jax.eval_shape(partial(lax.conv_general_dilated, **how), lhs, rhs)
    return jax.core.ShapedArray(out.shape, out.dtype)


CONVOLUTION.def_impl(jax.jit(CONVOLUTION.bind, static_argnames=STATIC))
CONVOLUTION.def_abstract_eval(abstract)
for function, platform in ((lax.conv_general_dilated, None), (cropped, "cpu")):
    rule = mlir.lower_fun(function, multiple_results=False)
    mlir.register_lowering(CONVOLUTION, rule, platform=platform)
batching.primitive_batchers[CONVOLUTION] = batched
ad.defbilinear(CONVOLUTION, of_input, of_kernel)
