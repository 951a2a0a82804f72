"""Convolutions by each engine against sums over taps in float64, and against lax transformed."""

import functools
import itertools
import math
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.test_util import check_grads

from experiments.benchmark.collectives import Collective, collectives
from models import backends
from models.backends import convolution, pure, xla
from models.backends.onednn import engine as onednn
from models.layers.conv import pad_width

NAMES = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}


@pytest.fixture(params=["onednn", "jax"])
def engine(request):
    if request.param == "jax":
        return pure.engine()
    request.getfixturevalue("extension")
    return onednn.ENGINE


def random(seed, *shape, dtype=np.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def close(actual, expected, tolerance=1e-5):
    """To that part of the largest value expected, leaf by leaf."""

    def check(a, b):
        a, b = np.float64(a), np.float64(b)
        assert np.isfinite(b).all()
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(np.abs(b).max(), 1e-30))

    jax.tree.map(check, actual, expected)


def taps(x, w, strides, dilations, pads):
    """Each tap of the kernel, and where it meets the padded input."""
    sizes = [n + sum(p) for n, p in zip(x.shape[1:-1], pads, strict=True)]
    windows = w.shape[: len(sizes)]
    axes = list(zip(sizes, windows, strides, dilations, strict=True))
    out = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in axes]
    for tap in np.ndindex(*windows):
        moves = zip(tap, strides, dilations, out, strict=True)
        yield tap, tuple(slice(t * d, t * d + s * (n - 1) + 1, s) for t, s, d, n in moves)


def definition(x, w, strides, dilations, pads, groups, ct=None):
    """(y, x's gradient, w's gradient) in float64, the gradients for the cotangent `ct(y.shape)`."""
    x, w = np.float64(x), np.float64(w)
    each = list(taps(x, w, strides, dilations, pads))
    wide = np.pad(x, [(0, 0), *pads, (0, 0)])
    wide = wide.reshape(*wide.shape[:-1], groups, -1)
    kernel = w.reshape(*w.shape[:-1], groups, -1)
    y = sum(np.einsum("n...gc,cgo->n...go", wide[:, *at], kernel[tap]) for tap, at in each)
    flat = y.reshape(*y.shape[:-2], -1)
    ct = np.float64(ct(flat.shape)).reshape(y.shape)
    dx, dw = np.zeros_like(wide), np.zeros_like(kernel)
    for tap, at in each:
        dx[:, *at] += np.einsum("n...go,cgo->n...gc", ct, kernel[tap])
        met = wide[:, *at].reshape(-1, *wide.shape[-2:])
        dw[tap] = np.einsum("ngc,ngo->cgo", met, ct.reshape(-1, *ct.shape[-2:]))
    inner = tuple(slice(a, a + n) for (a, _), n in zip(pads, x.shape[1:-1], strict=True))
    return flat, dx[:, *inner].reshape(x.shape), dw.reshape(w.shape)


# x, w, strides, padding, dilations, groups
CASES = {
    "1-D": ((3, 17, 8), (5, 8, 6), (1,), "SAME", (1,), 1),
    "1-D, stride 2, even kernel": ((2, 16, 4), (4, 4, 8), (2,), "SAME", (1,), 1),
    "1-D, stride 3, asymmetric": ((1, 13, 16), (5, 16, 3), (3,), [(0, 4)], (1,), 1),
    "1-D, dilated": ((2, 21, 8), (3, 8, 8), (1,), "VALID", (4,), 1),
    "1-D, depthwise": ((2, 12, 16), (3, 1, 16), (1,), [(2, 0)], (1,), 16),
    "1-D, one channel": ((5, 40, 1), (7, 1, 1), (2,), [(3, 3)], (1,), 1),
    "1-D, causal": ((2, 20, 8), (3, 8, 6), (1,), [(2, 0)], (1,), 1),
    "1-D, causal, dilated": ((2, 20, 8), (3, 8, 6), (1,), [(8, 0)], (4,), 1),
    "1-D, dilated beyond the series": ((3, 9, 8), (3, 8, 8), (1,), [(32, 0)], (16,), 1),
    "1-D, dilated, stride 2": ((2, 21, 8), (3, 8, 8), (2,), [(4, 1)], (2,), 1),
    "1-D, wide": ((3, 40, 32), (3, 32, 40), (1,), [(1, 1)], (1,), 1),
    "1x1": ((3, 5, 7, 8), (1, 1, 8, 16), (1, 1), "SAME", (1, 1), 1),
    "1x1, stride 2": ((2, 7, 6, 8), (1, 1, 8, 16), (2, 2), "VALID", (1, 1), 1),
    "1x1, stride 3, padded": ((2, 7, 6, 8), (1, 1, 8, 4), (3, 3), [(1, 0), (0, 2)], (1, 1), 1),
    "3x3": ((2, 8, 8, 16), (3, 3, 16, 16), (1, 1), "SAME", (1, 1), 1),
    "3x3, stem": ((5, 9, 9, 3), (3, 3, 3, 16), (1, 1), "SAME", (1, 1), 1),
    "3x3, stride 2": ((3, 8, 8, 16), (3, 3, 16, 32), (2, 2), [(1, 1), (1, 1)], (1, 1), 1),
    "3x3, stride 3": ((1, 11, 9, 8), (3, 3, 8, 8), (3, 3), "SAME", (1, 1), 1),
    "3x3, strides differ": ((2, 9, 10, 8), (3, 3, 8, 8), (1, 2), "SAME", (1, 1), 1),
    "7x7, stride 2": ((1, 20, 22, 3), (7, 7, 3, 8), (2, 2), [(3, 3), (3, 3)], (1, 1), 1),
    "not square": ((2, 10, 6, 5), (2, 5, 5, 7), (1, 1), [(1, 0), (4, 1)], (1, 1), 1),
    "even kernel, stride 2": ((2, 9, 7, 8), (4, 2, 8, 8), (2, 2), "SAME", (1, 1), 1),
    "stride above the kernel": ((2, 9, 10, 16), (2, 2, 16, 8), (3, 3), "VALID", (1, 1), 1),
    "rows left over": ((1, 10, 10, 8), (3, 3, 8, 8), (3, 3), [(0, 1), (1, 0)], (1, 1), 1),
    "dilated": ((1, 12, 11, 8), (3, 3, 8, 8), (1, 1), "SAME", (2, 3), 1),
    "dilated, stride 2": ((2, 12, 11, 8), (3, 3, 8, 8), (2, 2), "SAME", (2, 2), 1),
    "groups": ((2, 8, 8, 12), (3, 3, 4, 6), (1, 1), "SAME", (1, 1), 3),
    "groups, stride 2": ((3, 8, 7, 16), (3, 3, 8, 16), (2, 2), [(0, 1), (1, 1)], (1, 1), 2),
    "depthwise": ((2, 9, 9, 16), (3, 3, 1, 16), (1, 1), "SAME", (1, 1), 16),
    "depthwise, twice, stride 2": ((1, 9, 9, 8), (3, 3, 1, 16), (2, 2), "SAME", (1, 1), 8),
    "the kernel is the image": ((3, 5, 4, 8), (5, 4, 8, 10), (1, 1), "VALID", (1, 1), 1),
    "padding beyond the kernel": ((2, 3, 4, 8), (2, 2, 8, 8), (1, 1), [(3, 2), (0, 4)], (1, 1), 1),
    # Of 32 channels and more, where a backend may take another algorithm.
    "wide": ((5, 15, 13, 32), (3, 3, 32, 40), (1, 1), "SAME", (1, 1), 1),
    "wide, valid": ((2, 7, 6, 33), (3, 3, 33, 32), (1, 1), "VALID", (1, 1), 1),
    "wide, asymmetric": ((3, 5, 8, 32), (3, 3, 32, 33), (1, 1), [(2, 0), (0, 5)], (1, 1), 1),
    "wide, one pixel": ((3, 1, 1, 64), (3, 3, 64, 32), (1, 1), "SAME", (1, 1), 1),
    "wide, one block and a rest": ((3, 11, 10, 48), (3, 3, 48, 80), (1, 1), "SAME", (1, 1), 1),
    "wide, of no vector": ((2, 5, 7, 40), (3, 3, 40, 56), (1, 1), "SAME", (1, 1), 1),
    "wide, large": ((2, 4, 4, 144), (3, 3, 144, 128), (1, 1), "SAME", (1, 1), 1),
    "narrow": ((3, 9, 8, 16), (3, 3, 16, 16), (1, 1), "SAME", (1, 1), 1),
    "narrow to wide": ((2, 7, 6, 16), (3, 3, 16, 32), (1, 1), "VALID", (1, 1), 1),
    "wide, beyond the kernel": ((1, 4, 5, 32), (3, 3, 32, 32), (1, 1), [(3, 0), (1, 4)], (1, 1), 1),
}
HALF = [
    "1-D, causal, dilated",
    "1-D, stride 2, even kernel",
    "3x3",
    "3x3, stride 2",
    "1x1",
    "groups",
    "depthwise",
    "wide",
]


def explicit(x, w, strides, padding, dilations):
    """A pair for each axis."""
    if not isinstance(padding, str):
        return padding
    axes = zip(x[1:-1], w[:-2], strides, dilations, strict=True)
    return [pad_width(n, k, s, padding, d) for n, k, s, d in axes]


def three(conv):
    """Its value and both gradients, compiled together."""

    def run(x, w, ct):
        y, back = jax.vjp(conv, x, w)
        return y, *back(ct.astype(y.dtype))

    return jax.jit(run)


def check_case(case, engine, dtype=np.float32, tolerance=1e-5):
    x_shape, w_shape, strides, padding, dilations, groups = case
    x, w = random(0, *x_shape, dtype=dtype), random(1, *w_shape, dtype=dtype)
    pads = explicit(x_shape, w_shape, strides, padding, dilations)
    ct = functools.lru_cache(lambda shape: random(2, *shape, dtype=dtype))
    expected = definition(x, w, strides, dilations, pads, groups, ct)
    conv = functools.partial(
        convolution.conv_general_dilated,
        window_strides=strides,
        padding=padding,
        rhs_dilation=dilations,
        dimension_numbers=NAMES[len(strides)],
        feature_group_count=groups,
        engine=engine,
    )
    assert "convolution_forward" in str(jax.make_jaxpr(conv)(x, w))  # and not a fallback
    actual = three(conv)(x, w, ct(expected[0].shape))
    assert {leaf.dtype for leaf in actual} == {np.dtype(dtype)}
    close(actual, expected, tolerance)


@pytest.mark.parametrize("case", CASES)
def test_value_and_gradients_are_the_definitions(engine, case):
    check_case(CASES[case], engine)


@pytest.mark.parametrize("case", HALF)
def test_bfloat16_is_float32_of_the_same_inputs(engine, case):
    check_case(CASES[case], engine, jnp.bfloat16, 2**-7)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", ["1-D, stride 3, asymmetric", "1-D, causal, dilated"])
@pytest.mark.parametrize("backend", ["jax", "onednn", "xla"])
def test_float64_has_all_its_digits(request, backend, case):
    """No engine reaches it: the values and gradients are XLA's."""
    if backend == "onednn":
        request.getfixturevalue("extension")
    conv = backends.choose(backend, jax.devices()[:1]).conv_general_dilated
    x_shape, w_shape, strides, pads, dilations, _ = CASES[case]
    x, w = random(0, *x_shape, dtype=np.float64), random(1, *w_shape, dtype=np.float64)
    ct = functools.lru_cache(lambda shape: random(2, *shape, dtype=np.float64))
    expected = definition(x, w, strides, dilations, pads, 1, ct)
    how = {"rhs_dilation": dilations, "dimension_numbers": NAMES[1]}
    actual = three(functools.partial(conv, window_strides=strides, padding=pads, **how))(
        x, w, ct(expected[0].shape)
    )
    assert {leaf.dtype for leaf in actual} == {np.dtype("float64")}
    close(actual, expected, 1e-12)


@pytest.mark.usefixtures("extension")
def test_bfloat16_is_float32_inside_where_the_cpu_has_none(monkeypatch):
    engine = onednn.ENGINE
    monkeypatch.setattr(onednn.build, "computes_bfloat16", lambda: False)
    engine = engine._replace(
        **{which: functools.partial(onednn.convolve, which) for which in engine._fields}
    )  # as equal partials are one key of a cache
    check_case(CASES["3x3, stride 2"], engine, jnp.bfloat16, 2**-7)


@pytest.mark.parametrize("case", ["3x3", "3x3, stride 2", "not square", "dilated, stride 2"])
def test_the_batch_in_parts_is_the_batch(monkeypatch, case):
    # Nothing fits, so that the kernel's gradient takes one example at a time.
    monkeypatch.setattr(pure, "BLOCK", 1)
    monkeypatch.setattr(pure, "NARROW", 1)
    check_case(CASES[case], pure.engine())


# --- the public function ---------------------------------------------------------------------


def both(engine, *arguments, **keywords):
    """Ours and lax's, of the same call."""
    ours = convolution.conv_general_dilated(*arguments, **keywords, engine=engine)
    return ours, lax.conv_general_dilated(*arguments, **keywords)


# x, w, padding, lhs_dilation, rhs_dilation, groups
TRANSPOSED = {
    "1-D": ((2, 7, 8), (4, 8, 6), [(2, 2)], (2,), (1,), 1),
    "stride 2": ((2, 5, 4, 8), (3, 3, 8, 16), [(1, 1), (1, 1)], (2, 2), (1, 1), 1),
    "stride 2, output padded": ((3, 5, 4, 8), (3, 3, 8, 4), [(1, 2), (1, 2)], (2, 2), (1, 1), 1),
    "stride 3, asymmetric": ((1, 4, 5, 8), (4, 3, 8, 5), [(3, 0), (1, 2)], (3, 3), (1, 1), 1),
    "strides differ": ((2, 5, 4, 8), (3, 2, 8, 6), [(2, 2), (1, 0)], (1, 2), (1, 1), 1),
    "dilated": ((2, 5, 4, 8), (3, 3, 8, 6), [(4, 3), (2, 4)], (2, 2), (2, 2), 1),
    "groups": ((2, 5, 4, 8), (3, 3, 4, 6), [(1, 1), (2, 2)], (2, 2), (1, 1), 2),
    "depthwise": ((1, 5, 4, 8), (2, 2, 1, 16), [(1, 1), (1, 1)], (2, 2), (1, 1), 8),
    "cropped": ((1, 5, 4, 8), (3, 3, 8, 4), [(-1, 0), (0, -2)], (2, 2), (1, 1), 1),
    "beyond the kernel": ((1, 5, 4, 8), (2, 2, 8, 4), [(3, 1), (1, 2)], (2, 2), (1, 1), 1),
    "beyond it after": ((1, 5, 4, 8), (2, 2, 8, 4), [(0, 1), (1, 4)], (2, 2), (1, 1), 1),
}


@pytest.mark.parametrize("case", TRANSPOSED)
def test_a_dilated_input_is_a_transposed_convolution(engine, case):
    x_shape, w_shape, padding, spread, dilations, groups = TRANSPOSED[case]
    x, w = random(0, *x_shape), random(1, *w_shape)
    keywords = {
        "window_strides": (1,) * len(spread),
        "padding": padding,
        "lhs_dilation": spread,
        "rhs_dilation": dilations,
        "dimension_numbers": NAMES[len(spread)],
        "feature_group_count": groups,
    }
    ours = functools.partial(convolution.conv_general_dilated, **keywords, engine=engine)
    # Held to sums by `fuzz.py`; JAX's own may be wrong beyond the kernel.
    theirs = functools.partial(xla.conv_general_dilated, **keywords)
    ct = random(2, *jax.eval_shape(theirs, x, w).shape)
    close(three(ours)(x, w, ct), three(theirs)(x, w, ct))
    taken = "convolution_data" in str(jax.make_jaxpr(ours)(x, w))
    assert taken is not case.startswith("beyond")


X, W = (2, 6, 5, 8), (3, 3, 8, 4)
LAST = NAMES[2]
# x, w, dtype, keywords
FALLBACKS = {
    "3-D": ((1, 4, 4, 4, 2), (2, 2, 2, 2, 3), "float32", {"dimension_numbers": NAMES[3]}),
    "float16": (X, W, "float16", {}),
    "float64": (X, W, "float64", {}),
    "NCHW": ((2, 8, 6, 5), (4, 8, 3, 3), "float32", {"dimension_numbers": None}),
    "NHWC and OIHW": (X, (4, 8, 3, 3), "float32", {"dimension_numbers": ("NHWC", "OIHW", "NHWC")}),
    "NHWC -> NCHW": (X, W, "float32", {"dimension_numbers": ("NHWC", "HWIO", "NCHW")}),
    "negative padding": (X, W, "float32", {"padding": [(-1, 1), (1, -1)]}),
    "negative padding after": (X, W, "float32", {"padding": [(1, 1), (2, -1)]}),
    "a grouped batch": (X, W, "float32", {"batch_group_count": 2}),
    "a type that is preferred": (X, W, "bfloat16", {"preferred_element_type": jnp.float32}),
    "dilated and strided": (
        X,
        W,
        "float32",
        {"lhs_dilation": (2, 2), "window_strides": (2, 2), "padding": [(1, 1), (1, 1)]},
    ),
    "SAME_LOWER": (X, W, "float32", {"padding": "SAME_LOWER"}),
    "no window fits": (X, W, "float32", {"padding": "VALID", "rhs_dilation": (3, 2)}),
    "no examples": ((0, 6, 5, 8), W, "float32", {}),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", FALLBACKS)
def test_what_an_engine_does_not_reach_is_xlas(case):
    x_shape, w_shape, dtype, keywords = FALLBACKS[case]
    x, w = random(0, *x_shape, dtype=dtype), random(1, *w_shape, dtype=dtype)
    rank = x.ndim - 2
    keywords = {"window_strides": (1,) * rank, "padding": "SAME", "dimension_numbers": LAST} | (
        keywords
    )
    ours = convolution.conv_general_dilated(x, w, **keywords, engine=pure.engine())
    theirs = xla.conv_general_dilated(x, w, **keywords)
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)
    traced = functools.partial(convolution.conv_general_dilated, **keywords, engine=pure.engine())
    assert "convolution_" not in str(jax.make_jaxpr(traced)(x, w))


WRONG = {
    "channels": (X, (3, 3, 7, 4), {}),
    "channels of a group": (X, W, {"feature_group_count": 2}),
    "features of a group": (X, (3, 3, 4, 3), {"feature_group_count": 2}),
    "no groups": (X, W, {"feature_group_count": 0}),
    "groups below 0": (X, W, {"feature_group_count": -1}),
    "ranks": (X, (3, 8, 4), {}),
    "no spatial axis": ((2, 8), (8, 4), {"dimension_numbers": None, "window_strides": ()}),
    "strides": (X, W, {"window_strides": (1,)}),
    "a stride of 0": (X, W, {"window_strides": (0, 1)}),
    "a stride below 0": (X, W, {"window_strides": (1, -1)}),
    "pads": (X, W, {"padding": [(1, 1)]}),
    "too many pads": (X, W, {"padding": [(1, 1)] * 3}),
    "a name": (X, W, {"padding": "FULL"}),
    "dilations": (X, W, {"rhs_dilation": (1,)}),
    "a dilation of 0": (X, W, {"rhs_dilation": (1, 0)}),
    "input dilations": (X, W, {"lhs_dilation": (2,)}),
    "an input dilation of 0": (X, W, {"lhs_dilation": (0, 1)}),
    "transposed, channels": (
        X,
        (3, 3, 7, 4),
        {"lhs_dilation": (2, 2), "padding": [(1, 1), (1, 1)]},
    ),
    "transposed, wide, channels": (
        (2, 6, 5, 64),
        (3, 3, 32, 64),
        {"lhs_dilation": (1, 2), "padding": [(1, 1), (1, 1)]},
    ),
    "transposed, groups": (
        X,
        (3, 3, 4, 3),
        {"lhs_dilation": (2, 2), "padding": [(1, 1), (1, 1)], "feature_group_count": 2},
    ),
    "transposed, a name": (X, W, {"lhs_dilation": (2, 2), "padding": "SAME"}),
}


ERRORS = TypeError, ValueError, RuntimeError, KeyError, IndexError, ZeroDivisionError


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize(
    "case",
    WRONG,
)
def test_what_is_wrong_is_laxs_error(engine, case):
    x_shape, w_shape, keywords = WRONG[case]
    x, w = random(0, *x_shape), random(1, *w_shape)
    keywords = {"window_strides": (1, 1), "padding": "SAME", "dimension_numbers": LAST} | keywords
    with pytest.raises(ERRORS) as theirs:
        jax.block_until_ready(lax.conv_general_dilated(x, w, **keywords))
    with pytest.raises(ERRORS) as ours:
        jax.block_until_ready(convolution.conv_general_dilated(x, w, **keywords, engine=engine))
    assert ours.type is theirs.type
    assert str(ours.value).splitlines()[0] == str(theirs.value).splitlines()[0]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("types", [("float32", "bfloat16"), ("float32", "float64"), ("int32",) * 2])
def test_other_types_are_laxs_error_or_result(engine, types):
    x, w = random(0, *X).astype(types[0]), random(1, *W).astype(types[1])
    arguments = x, w, (1, 1), "SAME"
    try:
        theirs = lax.conv_general_dilated(*arguments, dimension_numbers=LAST)
    except TypeError as error:
        with pytest.raises(TypeError, match=re.escape(str(error))):
            convolution.conv_general_dilated(*arguments, dimension_numbers=LAST, engine=engine)
    else:
        ours, _ = both(engine, *arguments, dimension_numbers=LAST)
        np.testing.assert_array_equal(ours, theirs)


def test_numpy_arrays_and_numbers_are_taken(engine):
    x, w = np.asarray(random(0, *X)), np.asarray(random(1, *W))
    ours, theirs = both(
        engine,
        x,
        w,
        [np.int64(2), 1],
        [[np.int32(1), 0], (1, 1)],
        dimension_numbers=lax.conv_dimension_numbers(X, W, LAST),
        precision="highest",
        feature_group_count=np.int64(1),
    )
    close(ours, theirs)


# --- transformations ------------------------------------------------------------------------


def conv_of(conv):
    """At a stride, large enough that no engine leaves it to XLA."""
    return functools.partial(
        conv, window_strides=(2, 1), padding=[(1, 1), (0, 2)], dimension_numbers=LAST
    )


def scanned(conv, x, w):
    def body(total, part):
        return total + jnp.sin(conv(part, w)).sum(), part.sum()

    return lax.scan(body, jnp.float32(0), jnp.stack([x, 2 * x, x - 1]))[0]


def loss(conv):
    return lambda x, w: jnp.sin(conv(x, w)).sum()


def hvp_forward(f, x, w, dx, dw):
    return jax.jvp(jax.grad(f, (0, 1)), (x, w), (dx, dw))[1]


def hvp_reverse(f, x, w, dx, dw):
    def along(x, w):
        of_x, of_w = jax.grad(f, (0, 1))(x, w)
        return (of_x * dx).sum() + (of_w * dw).sum()

    return jax.grad(along, (0, 1))(x, w)


def linearized(conv, x, w, dx, dw):
    y, along = jax.linearize(conv, x, w)
    return y, along(dx, dw), along(x, dw)


def seeds(x, n=3):
    """One more leading axis, its slices all different."""
    return jnp.stack([x * (1 + i / 4) + i / 50 for i in range(n)])


# Each (conv, x, w, dx, dw) -> arrays.
TRANSFORMED = {
    "jvp": lambda c, x, w, dx, dw: jax.jvp(c, (x, w), (dx, dw)),
    "jvp in x": lambda c, x, w, dx, dw: jax.jvp(lambda x: c(x, w), (x,), (dx,)),
    "linearize": linearized,
    "jacfwd": lambda c, x, w, *_: jax.jacfwd(lambda b: c(x, w * b).sum((0, 1)))(w[:1, :1, :1]),
    "jacrev": lambda c, x, w, *_: jax.jacrev(lambda b: c(x, w * b).sum((0, 1)))(w[:1, :1, :1]),
    "grad": lambda c, x, w, *_: jax.value_and_grad(loss(c), (0, 1))(x, w),
    "forward over reverse": lambda c, *all: hvp_forward(loss(c), *all),
    "reverse over reverse": lambda c, *all: hvp_reverse(loss(c), *all),
    "third": lambda c, x, w, dx, dw: jax.grad(
        lambda w: sum(part.sum() for part in hvp_forward(loss(c), x, w, dx, dw))
    )(w),
    "vmap over x": lambda c, x, w, *_: jax.vmap(c, (0, None))(seeds(x), w),
    "vmap over x, last": lambda c, x, w, *_: jax.vmap(c, (4, None), 2)(
        jnp.moveaxis(seeds(x), 0, 4), w
    ),
    "vmap over w": lambda c, x, w, *_: jax.vmap(c, (None, 0))(x, seeds(w)),
    "vmap over both": lambda c, x, w, *_: jax.vmap(c, (0, 1))(
        seeds(x), jnp.moveaxis(seeds(w), 0, 1)
    ),
    "vmap of grad": lambda c, x, w, *_: jax.vmap(jax.grad(loss(c), (0, 1)))(seeds(x), seeds(w)),
    "vmap of grad, shared x": lambda c, x, w, *_: jax.vmap(jax.grad(loss(c), (0, 1)), (None, 0))(
        x, seeds(w)
    ),
    "vmap of grad, shared w": lambda c, x, w, *_: jax.vmap(jax.grad(loss(c), (0, 1)), (0, None))(
        seeds(x), w
    ),
    "grad of vmap": lambda c, x, w, *_: jax.grad(
        lambda x, w: jax.vmap(loss(c), (0, None))(x, w).sum(), (0, 1)
    )(seeds(x), w),
    "grad of vmap over w": lambda c, x, w, *_: jax.grad(
        lambda x, w: jax.vmap(loss(c), (None, 0))(x, w).sum(), (0, 1)
    )(x, seeds(w)),
    "nested vmap": lambda c, x, w, *_: jax.vmap(jax.vmap(c, (0, None)), (None, 0))(
        seeds(x, 2), seeds(w)
    ),
    "nested vmap of grad": lambda c, x, w, *_: jax.vmap(
        jax.vmap(jax.grad(loss(c), (0, 1)), (0, None)), (0, 0)
    )(seeds(seeds(x, 2)), seeds(w)),
    "vmap of a product": lambda c, x, w, dx, dw: jax.vmap(
        lambda x, w: hvp_forward(loss(c), x, w, dx, dw)
    )(seeds(x, 2), seeds(w, 2)),
    "scan": lambda c, x, w, *_: jax.value_and_grad(functools.partial(scanned, c), (0, 1))(x, w),
    "vmap of a scan": lambda c, x, w, *_: jax.vmap(
        jax.grad(functools.partial(scanned, c), (0, 1)), (None, 0)
    )(x, seeds(w, 2)),
    "checkpoint": lambda c, x, w, *_: jax.grad(loss(jax.checkpoint(c)), (0, 1))(x, w),
    "checkpoint of a scan": lambda c, x, w, dx, dw: hvp_forward(
        jax.checkpoint(functools.partial(scanned, c)), x, w, dx, dw
    ),
}
SHAPES = (2, 5, 4, 8), (3, 3, 8, 4)
# Sums of about 1, whose sine keeps their digits.
OPERANDS = tuple(random(i, *SHAPES[i % 2]) * (1, 0.1)[i % 2] for i in range(4))


@functools.cache
def laxs(name):
    conv = conv_of(lax.conv_general_dilated)
    return jax.jit(functools.partial(TRANSFORMED[name], conv))(*OPERANDS)


@pytest.mark.parametrize("name", TRANSFORMED)
def test_transformed_it_is_lax_transformed(engine, name):
    conv = conv_of(functools.partial(convolution.conv_general_dilated, engine=engine))
    ours = jax.jit(functools.partial(TRANSFORMED[name], conv))(*OPERANDS)
    close(ours, laxs(name), 2e-5)


@pytest.mark.parametrize("spread", [(1, 1), (2, 1)], ids=["forward", "transposed"])
def test_derivatives_are_finite_differences(engine, spread):
    def conv(x, w):
        return convolution.conv_general_dilated(
            x,
            w,
            (1, 1),
            [(1, 0), (1, 1)],
            lhs_dilation=spread,
            dimension_numbers=LAST,
            engine=engine,
        )

    operands = random(0, 1, 3, 3, 2), random(1, 2, 2, 2, 3)
    check_grads(conv, operands, order=2, modes=("fwd", "rev"), atol=0.02, rtol=0.02)


def test_the_program_holds_the_three_and_no_other(engine):
    conv = conv_of(functools.partial(convolution.conv_general_dilated, engine=engine))
    text = str(jax.make_jaxpr(jax.grad(loss(conv), (0, 1)))(*OPERANDS[:2]))
    assert all(f"convolution_{which}" in text for which in ("forward", "data", "weights"))
    assert "conv_general_dilated" not in text


def test_donated_buffers(engine):
    def steps(conv, w, **how):
        step = jax.jit(lambda x, w: w - 0.01 * jax.grad(loss(conv), 1)(x, w), **how)
        for _ in range(3):
            w = step(OPERANDS[0], w)
        return w

    ours = conv_of(functools.partial(convolution.conv_general_dilated, engine=engine))
    start = OPERANDS[1] + 0
    after = steps(ours, start, donate_argnums=1)
    assert start.is_deleted()
    close(after, steps(conv_of(lax.conv_general_dilated), OPERANDS[1]))


# --- several devices ------------------------------------------------------------------------

MOVES = re.compile(r"= (.*?) (?:all-gather|all-to-all|collective-permute)(?:-start)?\(")


def moved(compiled):
    """Sizes, in elements, of what moves between devices, but for what is summed."""
    lines = MOVES.findall(compiled.as_text())
    shapes = [shape for line in lines for shape in re.findall(r"\[([\d,]*)\]", line)]
    return [math.prod(int(n) for n in shape.split(",") if n) for shape in shapes]


class Network(nn.Module):
    """Strided and not, narrow and wide, a shortcut of 1x1, and normalisation."""

    backend: backends.Backend

    @nn.compact
    def __call__(self, x):
        conv = functools.partial(
            nn.Conv, use_bias=False, conv_general_dilated=self.backend.conv_general_dilated
        )
        x = self.backend.norm()(conv(8, (3, 3))(x), train=True, act=nn.relu)
        y = self.backend.norm()(conv(12, (3, 3), strides=2)(x), train=True, act=nn.relu)
        y = self.backend.norm()(
            conv(12, (3, 3))(y), train=True, add=conv(12, (1, 1), strides=2)(x), act=nn.relu
        )
        return nn.Dense(5)(y.mean((1, 2)))


def gradient(backend, wrap=lambda f: f):
    def loss(params, x):
        y, stats = wrap(
            lambda params, x: Network(backend).apply({"params": params}, x, mutable="batch_stats")
        )(params, x)
        return (y**2).mean(), stats

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


@pytest.mark.parametrize("block", [1, pure.BLOCK], ids=["in parts", "whole"])
@pytest.mark.parametrize("wrap", [lambda f: f, jax.checkpoint], ids=["plain", "checkpoint"])
def test_a_sharded_batch_stays_where_it_is(monkeypatch, block, wrap):
    monkeypatch.setattr(pure, "BLOCK", block)
    devices = jax.devices()[:4]
    backend = backends.choose("jax", devices)
    x = random(0, 8, 8, 8, 3)
    params = Network(backends.XLA).init(jax.random.key(0), x)["params"]
    expected = gradient(backends.XLA)(params, x)
    mesh = Mesh(np.array(devices), ("data",))
    split = NamedSharding(mesh, PartitionSpec("data"))
    whole = NamedSharding(mesh, PartitionSpec())
    operands = jax.device_put(params, whole), jax.device_put(x, split)
    compiled = gradient(backend, wrap).lower(*operands).compile()
    assert "all-reduce" in compiled.as_text()
    assert moved(compiled) == []
    actual = compiled(*operands)
    (value, stats), grads = actual
    close(value, expected[0][0])
    close(stats, expected[0][1], 1e-4)
    close(grads, expected[1], 1e-4)
    # The check itself can fail.
    gathered = jax.jit(lambda x: x + 1, out_shardings=whole).lower(operands[1]).compile()
    assert x.size in moved(gathered)


def test_parts_of_a_kernels_gradient_are_summed_over_the_devices_once(monkeypatch):
    monkeypatch.setattr(pure, "BLOCK", 1)
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
    split = NamedSharding(mesh, PartitionSpec(None, "data"))
    x, y = random(0, 1, 16, 6, 6, 8), random(1, 1, 16, 6, 6, 12)
    geometry = convolution.Geometry((6, 6), (3, 3), (1, 1), (1, 1), ((1, 1), (1, 1)), 1)
    weights = functools.partial(pure.engine(4).weights, geometry=geometry)
    whole = NamedSharding(mesh, PartitionSpec())
    operands = jax.device_put((x, y), split)
    compiled = jax.jit(weights, out_shardings=whole).lower(*operands).compile()
    assert " while(" in compiled.as_text()
    assert collectives(compiled.as_text()) == [Collective("all-reduce", 9 * 8 * 12 * 4, 4)]
    close(compiled(*operands), pure.engine().weights(x, y, geometry))


@pytest.mark.parametrize("length", [3, 6])
def test_a_batch_that_does_not_divide_by_the_devices(length):
    check_case(((length, 8, 8, 8), (3, 3, 8, 8), (1, 1), "SAME", (1, 1), 1), pure.engine(4))


def test_every_combination_of_a_small_strided_axis():
    """The phases of a strided gradient: each residue, with taps and without."""
    for n, k, s, before, after in itertools.product((4, 5), (1, 2, 3), (2, 3), (0, 1), (0, 2)):
        if n + before + after < k:
            continue
        geometry = convolution.Geometry((n,), (k,), (s,), (1,), ((before, after),), 1)
        w = np.float32(np.arange(1, k * 2 + 1)).reshape(1, k, 1, 2)
        y = np.float32(np.arange(1, 2 * math.prod(geometry.out) + 1)).reshape(1, 1, -1, 2)
        actual = pure.data(jnp.asarray(y), jnp.asarray(w), geometry)
        zeros = np.zeros((1, n, 1))
        ct = lambda shape, y=y: y[0]  # noqa: E731
        _, expected, _ = definition(zeros, w[0], (s,), (1,), [(before, after)], 1, ct)
        np.testing.assert_allclose(actual[0], expected, rtol=1e-6, err_msg=str(geometry))


@pytest.mark.parametrize("channels", [3, 8])
def test_inside_a_scan_every_convolution_is_in_the_form_that_xla_is_fast_at(channels):
    """Batch, space, channels; of another layout XLA makes loops there, 15 times slower."""
    conv = functools.partial(
        convolution.conv_general_dilated,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=NAMES[2],
        engine=pure.engine(),
    )

    def total(x, w):
        return scanned(lambda x, w: sum(map(jnp.sum, jax.grad(loss(conv), (0, 1))(x, w))), x, w)

    operands = random(0, 2, 6, 6, channels), random(1, 3, 3, channels, 8)
    text = jax.jit(total).lower(*operands).compile().as_text()
    forms = re.findall(r"convolution\(.*dim_labels=(\w+->\w+)", text)
    assert len(forms) >= 2
    assert set(forms) == {"b01f_01io->b01f"}
