"""Fused batch normalisation against the plain one in float64, and transformed."""

import functools
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from models.backends import normalisation
from models.backends.normalisation import NormEngine
from models.backends.onednn import engine as onednn
from models.layers import norm


@pytest.fixture(params=["onednn", "jax"])
def engine(request):
    if request.param == "jax":
        return NormEngine()
    request.getfixturevalue("extension")
    return onednn.NORM


EPSILON = 1e-5
FORMS = [(None, False), (None, True), (nn.relu, False), (nn.relu, True)]
SHAPES = {
    "2 x 1": (2, 1),
    "2 x 3": (2, 3),
    "5 x 16": (5, 16),
    "1 x 7 x 3": (7, 1, 1, 3),
    "4099 x 1": (4099, 1),
    "2001 x 3": (3, 23, 29, 3),
    "4114 x 16": (2, 11, 11, 17, 16),
    "255 x 40": (5, 51, 40),
    "211 x 600": (211, 600),
    "3 x 600": (3, 600),
}


def operands(shape, dtype=np.float32, mean=0.0):
    """x, scale, bias, add."""
    rng = np.random.default_rng(0)
    channels = shape[-1]
    x = rng.normal(size=shape) * rng.uniform(0.5, 3, channels) + rng.normal(size=channels) + mean
    scale = rng.uniform(0.5, 2, channels) * rng.choice([-1, 1], channels)
    bias, add = rng.normal(size=channels), rng.normal(size=shape)
    vectors = (jnp.asarray(v, jnp.float32) for v in (scale, bias))
    return jnp.asarray(x, dtype), *vectors, jnp.asarray(add, dtype)


def fused(engine, form):
    """(x, scale, bias, add) -> (y, mean, var)."""
    act, adds = form

    def apply(x, scale, bias, add):
        how = {"epsilon": EPSILON, "act": act, "add": add if adds else None, "dtype": x.dtype}
        return normalisation.batch_normalise(x, scale, bias, **how, engine=engine)

    return apply


def plain(form):
    """The same, of which the dtype is the operands'."""
    act, adds = form

    def apply(x, scale, bias, add):
        how = {"epsilon": EPSILON, "act": act, "add": add if adds else None, "dtype": x.dtype}
        return norm.batch_normalise(x, scale, bias, **how)

    return apply


def cotangents(shape, dtype, pre):
    """Of (y, mean, var); 0 where y is so near 0 that rounding decides on which side of the ReLU."""
    rng = np.random.default_rng(1)
    of_y = np.where(np.abs(pre) < 0.02, 0, rng.normal(size=shape))
    vectors = (jnp.asarray(rng.normal(size=shape[-1]), jnp.float32) for _ in range(2))
    return jnp.asarray(of_y, dtype), *vectors


def everything(of_form, given, cts):
    """Value and gradients of each form."""
    out = []
    for form, ct in zip(FORMS, cts, strict=True):
        value, back = jax.vjp(of_form(form), *given)
        out.append((value, back(ct)))
    return out


def near(actual, expected, tolerance, scale=0.0):
    actual, expected = np.float64(actual), np.float64(expected)
    largest = max(np.abs(expected).max(), scale)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * largest)


def wide(tree):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), tree)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("shape", "dtype", "tolerance"),
    [(shape, np.float32, 1e-5) for shape in SHAPES]
    + [(shape, jnp.bfloat16, 2**-7) for shape in ("2 x 3", "2001 x 3", "255 x 40", "3 x 600")],
)
def test_value_and_gradients_are_the_plain_ones(engine, shape, dtype, tolerance):
    shape = SHAPES[shape]
    given = operands(shape, dtype)
    cts = []
    for _, adds in FORMS:
        pre, *_ = plain((None, adds))(*wide(given))
        cts.append(cotangents(shape, dtype, np.asarray(pre)))
    expected = jax.jit(functools.partial(everything, plain))(wide(given), wide(cts))
    actual = jax.jit(functools.partial(everything, functools.partial(fused, engine)))(given, cts)
    std = np.sqrt(np.var(np.float64(given[0]), tuple(range(len(shape) - 1))).min() + EPSILON)
    for form, ours, theirs in zip(FORMS, actual, expected, strict=True):
        (y, mean, var), (dx, dscale, dbias, dadd) = ours
        (y_, mean_, var_), (dx_, dscale_, dbias_, dadd_) = theirs
        assert (y.dtype, dx.dtype, dadd.dtype) == (dtype,) * 3
        assert {leaf.dtype for leaf in (mean, var, dscale, dbias)} == {np.dtype(np.float32)}
        near(y, y_, tolerance)
        near(mean, mean_, 1e-5, 1.0)
        near(var, var_, 1e-5)
        # Two rows of +-1 cancel: what is left is measured by what was subtracted.
        near(dx, dx_, tolerance, 2 / std)
        near(dscale, dscale_, 1e-5, 2.0)
        near(dbias, dbias_, 1e-5, 2.0)
        assert form[1] or not np.asarray(dadd, np.float32).any()
        if form[1]:
            near(dadd, dadd_, tolerance)


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
@pytest.mark.parametrize("form", FORMS)
def test_the_program_holds_the_fused_form(engine, form, dtype):
    given = operands((6, 4), dtype)
    text = str(jax.make_jaxpr(fused(engine, form))(*given))
    assert "batch_norm_forward" in text


@pytest.mark.parametrize("shape", [(67, 61, 5), (8192, 64)], ids=str)
def test_a_large_mean_does_not_hide_the_variance(engine, shape):
    x, scale, bias, add = operands(shape, mean=1e4)
    y, mean, var = jax.jit(fused(engine, (None, False)))(x, scale, bias, add)
    exact = np.float64(x).reshape(-1, shape[-1])
    np.testing.assert_allclose(mean, exact.mean(0), rtol=1e-6)
    np.testing.assert_allclose(var, exact.var(0), rtol=1e-5)
    factor = np.float64(scale) / np.sqrt(exact.var(0) + EPSILON)
    expected = (exact - exact.mean(0)) * factor + np.float64(bias)
    np.testing.assert_allclose(np.reshape(y, exact.shape), expected, atol=0.02)


def test_a_constant_channel_is_its_bias(engine):
    x = jnp.full((1000, 3), 7.3, jnp.float32)
    scale, bias = jnp.full(3, 2.0), jnp.asarray([-1.0, 0.0, 2.5])
    y, mean, var = fused(engine, (None, False))(x, scale, bias, x)
    np.testing.assert_allclose(mean, x[0], rtol=1e-6)
    np.testing.assert_allclose(var, 0, atol=1e-9)
    np.testing.assert_allclose(y, np.broadcast_to(bias, y.shape), atol=5e-3)


@pytest.mark.parametrize("form", [(None, False), (nn.relu, True)], ids=["plain", "fused"])
def test_what_is_not_finite_stays_so(engine, form):
    x, scale, bias, add = operands((64, 8))
    y, mean, var = fused(engine, form)(x.at[5, 3].set(jnp.nan), scale, bias, add)
    for value in (mean, var):
        assert np.isnan(value).tolist() == [i == 3 for i in range(8)]
    assert np.isnan(y[:, 3]).all()
    assert np.isfinite(np.delete(y, 3, 1)).all()


# --- transformations ------------------------------------------------------------------------


def loss(apply, cts):
    """Of all three results; a value near 0 weighs nothing."""

    def of(*given):
        y, mean, var = apply(*given)
        of_y, of_mean, of_var = (ct.astype(y.dtype) for ct in cts)
        return (of_y * jnp.sin(y)).sum() + (of_mean * mean**2).sum() + (of_var * jnp.sin(var)).sum()

    return of


def all_of(f):
    return jax.grad(f, (0, 1, 2, 3))


def hvp_reverse(f, given, moves):
    return all_of(
        lambda *given: sum((g * m).sum() for g, m in zip(all_of(f)(*given), moves, strict=True))
    )(*given)


def scanned(f, given):
    x, *others = given

    def body(total, factor):
        return total + f(x * factor, *others), factor

    return jax.lax.scan(body, jnp.zeros((), x.dtype), jnp.asarray([1.0, 1.5, 0.5], x.dtype))[0]


# Each (apply, cts, given, moves) -> arrays.
TRANSFORMED = {
    "jvp": lambda f, cts, given, moves: jax.jvp(f, given, moves),
    "jvp in x": lambda f, cts, given, moves: jax.jvp(
        lambda x: f(x, *given[1:]), given[:1], moves[:1]
    ),
    "linearize": lambda f, cts, given, moves: jax.linearize(f, *given)[1](*moves),
    "gradient of the mean": lambda f, cts, given, moves: jax.grad(
        lambda x: (cts[1] * f(x, *given[1:])[1]).sum()
    )(given[0]),
    "gradient of the variance": lambda f, cts, given, moves: jax.grad(
        lambda x: (cts[2] * f(x, *given[1:])[2]).sum()
    )(given[0]),
    "forward over reverse": lambda f, cts, given, moves: jax.jvp(
        all_of(loss(f, cts)), given, moves
    )[1],
    "reverse over reverse": lambda f, cts, given, moves: hvp_reverse(loss(f, cts), given, moves),
    "reverse over forward": lambda f, cts, given, moves: all_of(
        lambda *given: jax.jvp(loss(f, cts), given, moves)[1]
    )(*given),
    "checkpoint": lambda f, cts, given, moves: all_of(jax.checkpoint(loss(f, cts)))(*given),
    "scan": lambda f, cts, given, moves: jax.grad(functools.partial(scanned, loss(f, cts)))(given),
    "vmap over seeds": lambda f, cts, given, moves: jax.vmap(all_of(loss(f, cts)))(
        *(jnp.stack([a, a * 1.25, a - 0.125]) for a in given)
    ),
    "vmap over x": lambda f, cts, given, moves: jax.vmap(
        all_of(loss(f, cts)), (1, None, None, None)
    )(jnp.stack([given[0], given[0] * 1.25], 1), *given[1:]),
    "vmap over scale": lambda f, cts, given, moves: jax.vmap(
        all_of(loss(f, cts)), (None, 0, None, None)
    )(given[0], jnp.stack([given[1], given[1] * 1.25]), *given[2:]),
    "grad of vmap": lambda f, cts, given, moves: jax.grad(
        lambda scale: jax.vmap(lambda x: loss(f, cts)(x, scale, *given[2:]))(
            jnp.stack([given[0], given[0] * 1.25])
        ).sum()
    )(given[1]),
    "nested vmap of a product": lambda f, cts, given, moves: jax.vmap(
        jax.vmap(
            lambda x, scale: jax.jvp(all_of(loss(f, cts)), (x, scale, *given[2:]), moves)[1],
            (0, None),
        ),
        (None, 0),
    )(jnp.stack([given[0], given[0] * 1.25]), jnp.stack([given[1], given[1] * 1.25])),
}


def far_from_zero(given, form):
    """`add` moved so that no value of y is near 0, nor of its neighbours above."""
    x, scale, bias, add = given
    pre = np.asarray(plain((None, form[1]))(*wide(given))[0])
    return x, scale, bias, jnp.asarray(np.float32(add) + np.sign(pre) * 2, x.dtype)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("name", "form"),
    [(name, FORMS[3]) for name in TRANSFORMED]
    + [(name, FORMS[2]) for name in ("reverse over reverse", "vmap over seeds")],
)
def test_transformed_it_is_the_plain_one_transformed(engine, name, form):
    shape = (7, 9, 5)
    given = far_from_zero(operands(shape), form)
    rng = np.random.default_rng(2)
    moves = tuple(jnp.asarray(rng.normal(size=a.shape), a.dtype) for a in given)
    # Nothing near the corner of the ReLU counts, for any of the seeds.
    near_zero = np.zeros(shape, bool)
    for factors in ((1, 1), (1.25, 1), (0.5, 1), (1.5, 1), (1, 1.25)):
        x, scale, bias, add = wide(given)
        pre = plain((None, form[1]))(x * factors[0], scale * factors[1], bias, add)[0]
        near_zero |= np.abs(np.asarray(pre)) < 1e-3
    for i in (1.25, -0.125):
        seed = [a * i if i > 1 else a + i for a in wide(given)]
        near_zero |= np.abs(np.asarray(plain((None, form[1]))(*seed)[0])) < 1e-3
    of_y, *others = cotangents(shape, np.float32, np.ones(shape))
    cts = jnp.where(near_zero, 0, of_y), *others
    run = TRANSFORMED[name]
    expected = jax.jit(functools.partial(run, plain(form)))(wide(cts), wide(given), wide(moves))
    actual = jax.jit(functools.partial(run, fused(engine, form)))(cts, given, moves)

    def check(a, b):
        if form[0] and name in ("jvp", "jvp in x", "linearize") and a.shape == shape:
            a, b = (np.where(near_zero, 0, value) for value in (a, b))
        near(a, b, 2e-5, 1.0)

    jax.tree.map(check, actual, expected)


def test_derivatives_are_finite_differences(engine):
    x, scale, bias, add = operands((5, 3))
    apply = fused(engine, (None, True))
    options = {"atol": 0.05, "rtol": 0.05, "eps": 1e-2}
    check_grads(apply, (x, scale, bias, add), order=2, modes=("fwd", "rev"), **options)


# --- what an engine does not reach, and what is wrong --------------------------------------------


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("act", "dtype", "out"),
    [
        (None, "float64", "float64"),
        (nn.relu, "float16", "float16"),
        (nn.gelu, "float32", "float32"),
        (nn.relu, "float32", "bfloat16"),
        (nn.relu, "bfloat16", "float32"),
    ],
)
@pytest.mark.parametrize("adds", [False, True])
def test_what_an_engine_does_not_reach_is_plain(engine, act, dtype, out, adds):
    x, scale, bias, add = operands((6, 5, 4), dtype)
    if dtype == "float64":
        scale, bias = wide((scale, bias))
    how = {"epsilon": EPSILON, "act": act, "add": add if adds else None, "dtype": np.dtype(out)}
    ours = functools.partial(normalisation.batch_normalise, **how, engine=engine)
    expected = norm.batch_normalise(x, scale, bias, **how)
    actual = ours(x, scale, bias)
    for a, b in zip(actual, expected, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    assert "batch_norm_" not in str(jax.make_jaxpr(ours)(x, scale, bias))


def test_an_addition_that_spreads_is_plain(engine):
    x, scale, bias, add = operands((6, 4))
    how = {"epsilon": EPSILON, "act": None, "add": add[:1], "dtype": x.dtype}
    actual = normalisation.batch_normalise(x, scale, bias, **how, engine=engine)
    jax.tree.map(np.testing.assert_array_equal, actual, norm.batch_normalise(x, scale, bias, **how))


# In a process of its own: what must not crash may.
WRONG = """
import sys
import jax, jax.numpy as jnp
from models.backends import normalisation
from models.backends.onednn import engine
x, scale, bias = {operands}
how = dict(epsilon=1e-5, act=None, add=None, dtype=x.dtype)
engine.extension()
try:
    y = normalisation.batch_normalise(x, scale, bias, **how, engine=engine.NORM)
    print("computed", [bool(jnp.isfinite(part).all()) for part in y])
except Exception as error:
    print("refused", type(error).__name__, error)
"""


@pytest.mark.usefixtures("extension")
@pytest.mark.parametrize(
    ("what", "given"),
    [
        ("a short scale", "jnp.ones((64, 4096)), jnp.ones(1), jnp.ones(1)"),
        ("a short bias", "jnp.ones((64, 4096)), jnp.ones(4096), jnp.ones(4)"),
        ("a bias of another type", "jnp.ones((6, 4)), jnp.ones(4), jnp.ones(4, jnp.bfloat16)"),
        ("no rows", "jnp.ones((0, 4)), jnp.ones(4), jnp.ones(4)"),
    ],
)
def test_what_is_wrong_is_refused(what, given):
    script = WRONG.format(operands=given)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, f"{what}: {done.returncode}\n{done.stderr[-2000:]}"
    # What broadcasting or promotion gives a meaning is the plain form's, as are its errors.
    assert done.stdout.startswith("refused" if what == "a short bias" else "computed")
