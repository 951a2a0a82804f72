"""Convolutions of random shapes by every backend, held to sums in float64: fuzz.py [numbers].

python tests/models/backends/fuzz.py --cases 5000       # those from 0 on
python tests/models/backends/fuzz.py 17 1203            # these alone

A case is drawn from its number: its shapes, strides, dilations of both operands, groups, padding of
any sign, layout, dtype, and how it is transformed. What fails is printed with its number.
"""

import argparse
import itertools
import math
import sys
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from models import backends

SEED = 24
DTYPES = ("float32", "float32", "bfloat16", "float16", "float64")
# (x, kernel, y) of one and two spatial axes; a case is in the first, or moved from it and back.
LAYOUTS = {
    1: [("NWC", "WIO", "NWC"), ("NCW", "OIW", "NCW"), ("WNC", "IWO", "CNW")],
    2: [("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW"), ("HWNC", "IHOW", "CNHW")],
}
BRIEF = {"xla_backend_optimization_level": 1}
"""Of programs that run once: the time goes into LLVM."""


class Case(NamedTuple):
    """One convolution; a tuple has a value for each spatial axis, channels are those of a group."""

    number: int
    batch: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    spread: tuple[int, ...]
    dilations: tuple[int, ...]
    groups: int
    channels: int
    features: int
    dtype: str
    layout: int
    of_batch: bool
    transformed: str

    @property
    def axes(self):
        """Of each spatial axis, what its derivatives depend on."""
        moves = self.strides, self.pads, self.spread, self.dilations
        return list(zip(self.size, self.kernel, *moves, strict=True))

    @property
    def padded(self):
        """Sizes of the dilated and padded input."""
        axes = zip(self.size, self.spread, self.pads, strict=True)
        return [(n - 1) * d + 1 + sum(pads) for n, d, pads in axes]

    @property
    def out(self):
        """Sizes of y."""
        axes = zip(self.padded, self.kernel, self.strides, self.dilations, strict=True)
        return [max((n - d * (k - 1) - 1) // s + 1, 0) for n, k, s, d in axes]


def drawn(number):
    """The case of that number."""
    rng = np.random.default_rng((SEED, number))

    def pick(*values):
        return values[rng.integers(len(values))]

    while True:
        rank, signs = pick(1, 2), pick((1,), (-1, 1))
        size = tuple(int(n) for n in rng.integers(1, 9 if rank == 1 else 7, rank))
        kernel = tuple(int(n) for n in rng.integers(1, 5 if rank == 1 else 4, rank))
        # As networks have them, and any.
        moves = [[pick(1, 1, 2, 3) if pick(0, 1) else 1 for _ in size] for _ in range(3)]
        most = pick(1, 2, 5)
        pads = [tuple(pick(*signs) * int(n) for n in rng.integers(0, most + 1, 2)) for _ in size]
        groups, channels, features = pick(1, 1, 2, 3), pick(1, 2, 3, 8), pick(1, 2, 3, 8)
        if pick(*range(6)) == 0:
            groups, channels, features = pick(4, 8), 1, pick(1, 2)
        case = Case(
            number=number,
            batch=pick(1, 2, 3),
            size=size,
            kernel=kernel,
            strides=tuple(moves[0]),
            pads=tuple(pads),
            spread=tuple(moves[1]),
            dilations=tuple(moves[2]),
            groups=groups,
            channels=channels,
            features=features,
            dtype=pick(*DTYPES),
            layout=pick(0, 0, 0, 0, 1, 2),
            of_batch=pick(*range(8)) == 0,
            transformed=pick(*TRANSFORMED),
        )
        # Few outputs are empty, and no input is cropped to less than nothing: JAX refuses that.
        allowed = min(case.padded) >= 0 and (0 not in case.out or pick(*range(10)) == 0)
        if allowed and not aborts(case):
            return case


def derivatives(axis):
    """An axis of a convolution, and the same of all its derivatives, which are convolutions.

    It is (size, kernel, stride, padding, dilation of the input, dilation of the kernel).
    """
    found, new = set(), {axis}
    while new:
        found |= new
        new = {one for axis in new for one in derived(*axis)} - found
    return found


def derived(size, kernel, stride, pads, spread, dilation):
    """Of the first derivatives, in the input and in the kernel, as JAX's rules have them."""
    before, after = pads
    reach, whole = dilation * (kernel - 1), (size - 1) * spread + 1
    span = whole + before + after - reach - 1
    if span < 0:  # not one window
        return ()
    out, span = span // stride + 1, span - span % stride
    of_input = reach - before, whole + before - span - 1
    of_kernel = before, span + reach + 1 - whole - before
    return (
        (out, kernel, spread, of_input, stride, dilation),
        (size, out, dilation, of_kernel, spread, stride),
    )


def aborts(case):
    """Whether XLA (jax 0.10) may end the process, as it compiles the case or a derivative.

    An axis of this form it takes for one of groups, whatever its size, when it swaps the operands
    for the sake of another axis (SwapConvOperands in its algebraic simplifier).
    """
    return len(case.size) > 1 and any(
        kernel == spread > 1 and stride == kernel - 1 and pads == (0, 0) and dilation == 1
        for axis in case.axes
        for _, kernel, stride, pads, spread, dilation in derivatives(axis)
    )


# --- the definition ---------------------------------------------------------------------------


class Definition:
    """The three functions of a case as sums over taps, in float64.

    x (N, spatial…, C), w (spatial…, C / groups, O), y (N, spatial…, O).
    """

    def __init__(self, case):
        self.case = case
        axes = list(zip(case.size, case.spread, case.pads, case.padded, strict=True))
        at = [before + d * np.arange(n) for n, d, (before, _), _ in axes]
        seen = [(p >= 0) & (p < padded) for p, (*_, padded) in zip(at, axes, strict=True)]
        self.kept = np.ix_(*seen)
        """Of x, the positions that are not cropped; and where they lie in the padded input."""
        self.places = np.ix_(*(p[s] for p, s in zip(at, seen, strict=True)))

    def taps(self):
        """Each tap of the kernel, and where it meets the padded input."""
        case = self.case
        for tap in itertools.product(*map(range, case.kernel)):
            moves = zip(tap, case.dilations, case.strides, case.out, strict=True)
            yield tap, tuple(d * t + s * np.arange(n) for t, d, s, n in moves)

    def wide(self, x):
        """(N, padded…, groups, C / groups)."""
        case = self.case
        wide = np.zeros((len(x), *case.padded, x.shape[-1]))
        wide[:, *self.places] = x[:, *self.kept]
        return self.split(wide)

    def split(self, a):
        """The last axis by groups."""
        groups = self.case.groups
        return a.reshape(*a.shape[:-1], groups, a.shape[-1] // groups)

    def joined(self, a):
        """The same, back."""
        return a.reshape(*a.shape[:-2], a.shape[-2] * a.shape[-1])

    def forward(self, x, w):
        case, wide, w = self.case, self.wide(x), self.split(w)
        y = np.zeros((len(x), *case.out, *w.shape[-2:]))
        for tap, at in self.taps():
            y += np.einsum("n...gc,cgo->n...go", wide[:, *np.ix_(*at)], w[tap])
        return self.joined(y)

    def data(self, y, w):
        case, y, w = self.case, self.split(y), self.split(w)
        wide = np.zeros((len(y), *case.padded, case.groups, case.channels))
        for tap, at in self.taps():
            wide[:, *np.ix_(*at)] += np.einsum("n...go,cgo->n...gc", y, w[tap])
        x = np.zeros((len(y), *case.size, case.groups * case.channels))
        x[:, *self.kept] = self.joined(wide)[:, *self.places]
        return x

    def weights(self, x, y):
        case, wide, y = self.case, self.wide(x), self.split(y)
        w = np.zeros((*case.kernel, case.channels, case.groups, case.features))
        for tap, at in self.taps():
            met = wide[:, *np.ix_(*at)]
            rows = (one.reshape(math.prod(one.shape[:-2]), *one.shape[-2:]) for one in (met, y))
            w[tap] = np.einsum("ngc,ngo->cgo", *rows)
        return self.joined(w)


# --- the transformations ----------------------------------------------------------------------
# Of each, what is computed from two inputs, kernels and cotangents, and what that must be.


def vjp(conv, x, w, ct):
    """y and both gradients."""
    y, back = jax.vjp(conv, x, w)
    return y, *back(ct)


def gradients(conv):
    """As a function of all that they depend on."""
    return lambda x, w, ct: vjp(conv, x, w, ct)[1:]


def over_seeds(conv, axes, x, w, ct):
    """Of the convolutions along an axis of x, of w or of both: the last spatial one, and the last.

    A cotangent is that of all.
    """
    x, w = (
        one if axis is None else jnp.moveaxis(one, 0, axis)
        for one, axis in zip((x, w), axes, strict=True)
    )
    y, of_x, of_w = vjp(jax.vmap(conv, axes), x, w, ct)
    of_x, of_w = (
        one if axis is None else jnp.moveaxis(one, axis, 0)
        for one, axis in zip((of_x, of_w), axes, strict=True)
    )
    return y, of_x, of_w


def scanned(conv, x, w):
    """The sum over the leading axis of x."""
    first = conv(x[0], w)
    return jax.lax.scan(lambda total, x: (total + conv(x, w), None), first, x[1:])[0]


COMPUTED = {
    "vjp": lambda c, x, w, ct: vjp(c, x[0], w[0], ct[0]),
    "remat": lambda c, x, w, ct: vjp(jax.checkpoint(c), x[0], w[0], ct[0]),
    "jvp": lambda c, x, w, ct: jax.jvp(c, (x[0], w[0]), (x[1], w[1])),
    "forward over reverse": lambda c, x, w, ct: jax.jvp(
        gradients(c), (x[0], w[0], ct[0]), (x[1], w[1], ct[1])
    )[1],
    "reverse over reverse": lambda c, x, w, ct: jax.vjp(gradients(c), x[0], w[0], ct[0])[1](
        (x[1], w[1])
    ),
    "vmap of vjp": lambda c, x, w, ct: jax.vmap(lambda *all: vjp(c, *all))(x, w, ct),
    "vmap of remat": lambda c, x, w, ct: jax.vmap(lambda *all: vjp(jax.checkpoint(c), *all))(
        x, w, ct
    ),
    "vjp of vmap over x": lambda c, x, w, ct: over_seeds(c, (1, None), x, w[0], ct),
    "vjp of vmap over w": lambda c, x, w, ct: over_seeds(c, (None, -1), x[0], w, ct),
    "vjp of vmap": lambda c, x, w, ct: over_seeds(c, (2, 1), x, w, ct),
    "scan": lambda c, x, w, ct: vjp(lambda x, w: scanned(c, x, w), x, w[0], ct[0]),
}


def three(f, x, w, ct):
    return f.forward(x, w), f.data(ct, w), f.weights(x, ct)


def each(f, x, w, ct):
    apart = [three(f, *of) for of in zip(x, w, ct, strict=True)]
    return tuple(map(np.stack, zip(*apart, strict=True)))


def shared_kernel(f, x, w, ct):
    y, of_x, of_w = each(f, x, np.stack([w, w]), ct)
    return y, of_x, of_w.sum(0)


def shared_input(f, x, w, ct):
    y, of_x, of_w = each(f, np.stack([x, x]), w, ct)
    return y, of_x.sum(0), of_w


def total(f, x, w, ct):
    y, of_x, of_w = shared_kernel(f, x, w, np.stack([ct, ct]))
    return y.sum(0), of_x, of_w


EXPECTED = {
    "vjp": lambda f, x, w, ct: three(f, x[0], w[0], ct[0]),
    "remat": lambda f, x, w, ct: three(f, x[0], w[0], ct[0]),
    "jvp": lambda f, x, w, ct: (
        f.forward(x[0], w[0]),
        f.forward(x[1], w[0]) + f.forward(x[0], w[1]),
    ),
    "forward over reverse": lambda f, x, w, ct: (
        f.data(ct[0], w[1]) + f.data(ct[1], w[0]),
        f.weights(x[1], ct[0]) + f.weights(x[0], ct[1]),
    ),
    "reverse over reverse": lambda f, x, w, ct: (
        f.data(ct[0], w[1]),
        f.weights(x[1], ct[0]),
        f.forward(x[1], w[0]) + f.forward(x[0], w[1]),
    ),
    "vmap of vjp": each,
    "vmap of remat": each,
    "vjp of vmap over x": lambda f, x, w, ct: shared_kernel(f, x, w[0], ct),
    "vjp of vmap over w": lambda f, x, w, ct: shared_input(f, x[0], w, ct),
    "vjp of vmap": each,
    "scan": lambda f, x, w, ct: total(f, x, w[0], ct[0]),
}
TRANSFORMED = tuple(COMPUTED)


# --- one case ---------------------------------------------------------------------------------


def of_case(conv, case):
    """The convolution of a case, from channels last to channels last."""
    rank = len(case.size)
    first, layout = LAYOUTS[rank][0], LAYOUTS[rank][case.layout]
    orders = [[a.index(axis) for axis in b] for a, b in zip(first, layout, strict=True)]
    to_x, to_w, from_y = *orders[:2], np.argsort(orders[2])
    of_batch = case.of_batch and case.groups > 1

    def run(x, w):
        if of_batch:  # (N, …, groups C) -> (groups N, …, C)
            x = jnp.moveaxis(x.reshape(*x.shape[:-1], case.groups, -1), -2, 0)
            x = x.reshape(-1, *x.shape[2:])
        y = conv(
            x.transpose(to_x),
            w.transpose(to_w),
            case.strides,
            case.pads,
            lhs_dilation=case.spread,
            rhs_dilation=case.dilations,
            dimension_numbers=layout,
            feature_group_count=1 if of_batch else case.groups,
            batch_group_count=case.groups if of_batch else 1,
        )
        return y.transpose(from_y)

    return run


def convolutions():
    """Those of the backends that there are here, by name."""
    found = {}
    for name in backends.NAMES:
        try:
            found[name] = backends.choose(name, jax.devices()[:1]).conv_general_dilated
        except backends.Missing as missing:
            print(f"without {name}: {missing}", file=sys.stderr)
    return found


def faults(case, convs):
    """What is wrong, a line for each backend that is; compiled together."""
    rng = np.random.default_rng((SEED, case.number, 1))
    shapes = (
        (2, case.batch, *case.size, case.groups * case.channels),
        (2, *case.kernel, case.channels, case.groups * case.features),
        (2, case.batch, *case.out, case.groups * case.features),
    )
    with jax.enable_x64(case.dtype == "float64"):
        operands = [rng.normal(size=shape).astype(jnp.dtype(case.dtype)) for shape in shapes]
        wide = [one.astype(np.float64) for one in operands]
        definition, expected = Definition(case), EXPECTED[case.transformed]
        right = expected(definition, *wide)
        # The same sums of absolute values: what a rounding error is a part of.
        most = expected(definition, *map(np.abs, wide))
        epsilon = float(jnp.finfo(case.dtype).eps)
        found = []

        def run(*operands):
            return {
                name: COMPUTED[case.transformed](of_case(conv, case), *operands)
                for name, conv in convs.items()
            }

        try:
            results = jax.jit(run, compiler_options=BRIEF)(*operands)
        except Exception as error:
            return [f"{type(error).__name__}: {error}".splitlines()[0]]
        for name, result in results.items():
            for i, (a, b, scale) in enumerate(zip(result, right, most, strict=True)):
                if a.shape != b.shape or a.dtype != case.dtype:
                    found.append(f"{name}: result {i} is {a.dtype}{a.shape}, not {b.shape}")
                    continue
                off = np.abs(np.asarray(a, np.float64) - b)
                if not (off <= 4 * epsilon * scale + np.finfo(np.float32).tiny).all():
                    worst = np.nanmax(off / np.maximum(scale, 1e-30)) / epsilon
                    found.append(f"{name}: result {i} is off by {worst:.3g} roundings of its sum")
    return found


def fuzz(numbers, report=print):
    """How many of these cases fail; a line is reported for each."""
    convs, failed = convolutions(), 0
    for count, number in enumerate(numbers):
        if count % 250 == 249:
            jax.clear_caches()  # of programs that won't run again
        case = drawn(number)
        if found := faults(case, convs):
            failed += 1
            report(f"fuzz.py {number}: {'; '.join(found)}; {case}")
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("numbers", nargs="*", type=int, help="cases; by default those from 0 on")
    parser.add_argument("--cases", type=int, default=300, help="how many")
    arguments = parser.parse_args()
    numbers = arguments.numbers or range(arguments.cases)
    began = time.perf_counter()
    failed = fuzz(numbers, lambda line: print(line, flush=True))
    print(f"{failed} of {len(numbers)} fail; {time.perf_counter() - began:.0f} s")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
