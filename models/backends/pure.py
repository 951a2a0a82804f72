"""Convolutions in JAX alone, with the gradients that XLA is slow at on a CPU as matrix products.

XLA's forward convolution and its gradient to the input at stride 1 are good. The gradient to the
kernel is not, least of all inside `lax.scan`; nor is that to the input of a strided convolution,
which is a transposed convolution.
"""

import itertools
import math
from functools import cache, partial

import jax
import jax.numpy as jnp
from jax import lax

from models.backends import stock
from models.backends.convolution import Engine, Geometry, mapped
from models.layers.conv import CHANNELS_LAST

BLOCK = 5 << 20
"""Bytes of windows that one product reads: what measured best for caches of 1 MB a core."""
NARROW = 64
"""Values in a window below which XLA's own gradient was not slower; along one axis it never was."""


@cache
def engine(shards: int = 1) -> Engine:
    """For batches that are split over that many devices."""
    return Engine(forward, data, partial(weights, shards=shards))


def forward(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """`Engine.forward`: XLA's; a strided 1x1 is a product of every strides-th pixel."""
    if set(geometry.kernel) == {1} and set(geometry.pads) == {(0, 0)} and geometry.groups == 1:
        steps = tuple(slice(None, None, stride) for stride in geometry.strides)
        w = w.reshape(w.shape[0], *w.shape[-2:])
        return jnp.einsum("s...c,sco->s...o", x[:, :, *steps], w)
    return stock.forward(x, w, geometry)


def data(y: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """`Engine.data`: a dense convolution by the mirrored kernel, at a stride one for each phase.

    XLA's own is this too at stride 1, but inside `lax.scan` it walks the kernel backwards instead,
    value by value. (Of a grouped one that is what XLA is better at.)
    """
    strided, dilated = (set(each) != {1} for each in (geometry.strides, geometry.dilations))
    if (strided and dilated) or (geometry.groups != 1 and not strided):
        return stock.data(y, w, geometry)
    return mapped(partial(phases, geometry=geometry), y, w)


def phases(y: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """x at s q + r takes the kernel's taps k with d k = r + pad (mod s) alone; s or d is 1."""
    rank = len(geometry.size)
    whole = tuple(-(-n // s) for n, s in zip(geometry.size, geometry.strides, strict=True))
    channels = w.shape[-2] * geometry.groups
    parts = []
    for phase in itertools.product(*map(range, geometry.strides)):
        taps, pads = [], []
        for axis, (r, n) in enumerate(zip(phase, whole, strict=True)):
            s, d = geometry.strides[axis], geometry.dilations[axis]
            before, k = geometry.pads[axis][0], geometry.kernel[axis]
            first = (r + before) % s
            reach = d * (len(range(first, k, s)) - 1)
            # The last tap of the phase meets y at q + (r + before - first) / s - reach.
            start = (r + before - first) // s - reach
            taps.append(slice(first, None, s))
            pads.append((-start, n + start + reach - y.shape[1 + axis], 0))
        part = w[tuple(taps)]
        if 0 in part.shape:
            parts.append(jnp.zeros((y.shape[0], *whole, channels), y.dtype))
            continue
        # As an array of its own: with negative padding XLA's convolution on a CPU may read beyond.
        moved = lax.pad(y, jnp.zeros((), y.dtype), [(0, 0, 0), *pads, (0, 0, 0)])
        parts.append(
            lax.conv_general_dilated(
                moved,
                mirrored(part, geometry.groups),
                (1,) * rank,
                "VALID",
                rhs_dilation=geometry.dilations,
                dimension_numbers=CHANNELS_LAST[rank],
                feature_group_count=geometry.groups,
            )
        )
    # (phases…, N, q…, C) -> (N, q, phase, …, C), of which the size of x is kept.
    grid = jnp.stack(parts).reshape(*geometry.strides, *parts[0].shape)
    order = [rank, *(i for axis in range(rank) for i in (rank + 1 + axis, axis)), 2 * rank + 1]
    full = [q * s for q, s in zip(whole, geometry.strides, strict=True)]
    x = grid.transpose(order).reshape(y.shape[0], *full, channels)
    return x[:, *(slice(n) for n in geometry.size)]


def mirrored(w: jax.Array, groups: int) -> jax.Array:
    """(k…, C / groups, O) -> (k…, O / groups, C), each spatial axis the other way round."""
    *kernel, inputs, outputs = w.shape
    apart = jnp.flip(w, range(len(kernel))).reshape(*kernel, inputs, groups, outputs // groups)
    return apart.swapaxes(-1, -3).reshape(*kernel, outputs // groups, groups * inputs)


def weights(x: jax.Array, y: jax.Array, geometry: Geometry, *, shards: int = 1) -> jax.Array:
    """`Engine.weights`: sum over parts of the batch of (windows of x)^T y.

    A part is strided over the batch, so that each device's share of it is the same size and no
    activation moves between them.
    """
    values = math.prod(geometry.kernel) * x.shape[-1]
    if geometry.groups == shards == 1 and (values < NARROW or len(geometry.kernel) == 1):
        return mapped(partial(dense, geometry=geometry), x, y)
    if geometry.groups != 1 or values < NARROW:
        return stock.weights(x, y, geometry)
    size = values * math.prod(geometry.out) * x.dtype.itemsize
    share, rest = divmod(x.shape[1], shards)
    if rest:
        return stock.weights(x, y, geometry)
    fits = [n for n in range(1, share + 1) if share % n == 0 and n * size <= BLOCK]
    part = shards * max(fits, default=1)
    return mapped(partial(products, geometry=geometry, part=part, shards=shards), x, y)


def dense(x: jax.Array, y: jax.Array, *, geometry: Geometry) -> jax.Array:
    """See `weights`: XLA's own way, a convolution by y, in the form that is fast in a scan too."""
    x = jnp.pad(x, [(0, 0), *geometry.pads, (0, 0)])
    reach = [
        s * (n - 1) + d * (k - 1) + 1
        for k, d, s, n in zip(*axes(geometry), strict=True)  # the rest was not seen at the stride
    ]
    w = lax.conv_general_dilated(
        jnp.swapaxes(x[:, *map(slice, reach)], 0, -1),
        jnp.moveaxis(y, 0, -2),
        geometry.dilations,
        "VALID",
        rhs_dilation=geometry.strides,
        dimension_numbers=CHANNELS_LAST[len(reach)],
    )
    return jnp.moveaxis(w, 0, -2)


def products(
    x: jax.Array, y: jax.Array, *, geometry: Geometry, part: int, shards: int
) -> jax.Array:
    """See `weights`; `part` examples at a time.

    Several devices add up what is their own, and all of it once at the end: else XLA would do so at
    every turn of the loop.
    """
    x = jnp.pad(x, [(0, 0), *geometry.pads, (0, 0)])
    count = x.shape[0] // part
    x, y = (a.reshape(part, count, *a.shape[1:]) for a in (x, y))
    wide = jnp.promote_types(x.dtype, jnp.float32)

    def product(i: jax.Array) -> jax.Array:
        of_x, of_y = (lax.dynamic_index_in_dim(a, i, axis=1, keepdims=False) for a in (x, y))
        windows = jnp.concatenate(
            [of_x[:, *tap] for tap in itertools.product(*map(steps, *axes(geometry)))], -1
        )
        if count > 1 and shards > 1:
            of_x, of_y = (a.reshape(shards, -1, a.shape[-1]) for a in (windows, of_y))
            own = ((1,), (1,)), ((0,), (0,))
            return lax.dot_general(of_x, of_y, own, preferred_element_type=wide)
        contract = tuple(range(windows.ndim - 1))
        return lax.dot_general(
            windows, of_y, ((contract, contract), ((), ())), preferred_element_type=wide
        )

    if count == 1:
        total = product(jnp.int32(0))
    else:
        shape = math.prod(geometry.kernel) * x.shape[-1], y.shape[-1]
        zeros = jnp.zeros(shape if shards == 1 else (shards, *shape), wide)
        total = lax.fori_loop(0, count, lambda i, total: total + product(i), zeros)
        total = total if shards == 1 else total.sum(0)
    return total.reshape(*geometry.kernel, x.shape[-1], y.shape[-1]).astype(x.dtype)


def axes(geometry: Geometry) -> tuple[tuple[int, ...], ...]:
    """What `steps` reads, each over the spatial axes."""
    return geometry.kernel, geometry.dilations, geometry.strides, geometry.out


def steps(kernel: int, dilation: int, stride: int, out: int) -> list[slice]:
    """Where each tap of the kernel meets an axis of the padded input."""
    return [
        slice(k * dilation, k * dilation + stride * (out - 1) + 1, stride) for k in range(kernel)
    ]
