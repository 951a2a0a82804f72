"""XLA's convolution behind slices: the values, and when the program is JAX's own.

That it is right at any shape and however transformed is `fuzz.py`'s.
"""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax

from models.backends import xla

NAMES = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC")}


def random(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def gradients(conv):
    return lambda x, w: jax.grad(lambda x, w: jnp.sin(conv(x, w)).sum(), (0, 1))(x, w)


def second(conv):
    return lambda x, w: jax.grad(
        lambda x, w: sum(g.sum() ** 2 for g in gradients(conv)(x, w)), (0, 1)
    )(x, w)


def paddings(function, *operands):
    """Every padding that the program of a function holds, before it is optimised."""
    text = jax.jit(function).lower(*operands).as_text()
    found = re.findall(r"window = \{[^}]*?pad = (\[\[.*?\]\])", text)
    assert found or "stablehlo.convolution" not in text
    return [int(n) for one in found for n in re.findall(r"-?\d+", one)]


@pytest.mark.parametrize("pads", [(-3, 1), (-1, 1), (1, -1), (-2, -2), (-3, 4)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_crop_is_a_slice(pads, channels):
    x, w = random(0, 2, 8, channels), random(1, 3, channels, 2)
    kept = np.asarray(x)[:, max(-pads[0], 0) : 8 - max(-pads[1], 0)]
    kept = np.pad(np.float64(kept), [(0, 0), [max(side, 0) for side in pads], (0, 0)])
    expected = [
        [
            sum(np.correlate(one[:, c], np.float64(w[:, c, o]), "valid") for c in range(channels))
            for o in range(2)
        ]
        for one in kept
    ]
    actual = xla.conv_general_dilated(x, w, (1,), [pads], dimension_numbers=NAMES[1])
    np.testing.assert_allclose(actual.transpose(0, 2, 1), expected, rtol=1e-4, atol=1e-5)


def test_a_crop_that_ends_in_a_hole():
    """Every crop of 1 . . 2 . . 3, seen through a kernel of one value."""
    x = jnp.array([1.0, 2, 3])[None, :, None]
    whole = np.array([1.0, 0, 0, 2, 0, 0, 3])
    crops = [(a, b) for a, b in itertools.product(range(-7, 2), range(-7, 2)) if a + b >= -7]

    @jax.jit
    def run(x):
        conv = functools.partial(xla.conv_general_dilated, dimension_numbers=NAMES[1])
        return [conv(x, jnp.ones((1, 1, 1)), (1,), [pads], (3,))[0, :, 0] for pads in crops]

    for (before, after), actual in zip(crops, run(x), strict=True):
        padded = np.pad(whole, (max(before, 0), max(after, 0)))
        expected = padded[max(-before, 0) : len(padded) - max(-after, 0)]
        np.testing.assert_array_equal(actual, expected, err_msg=f"{before}, {after}")


# x, w, strides, padding, dilations of input and kernel
NEGATIVE = {
    "asked for": ((2, 8, 3), (3, 3, 2), (1,), [(-3, 1)], (1,), (1,)),
    "on one axis": ((2, 6, 5, 3), (3, 3, 3, 2), (1, 1), [(1, 1), (2, -1)], (1, 1), (1, 1)),
    "beyond the kernel": ((2, 6, 5, 3), (2, 2, 3, 2), (1, 1), [(3, 1), (0, 2)], (1, 1), (1, 1)),
    "rows left over": ((2, 6, 8, 3), (1, 1, 3, 2), (2, 2), "VALID", (1, 1), (1, 1)),
    "of a second derivative": ((2, 1, 1, 3), (3, 3, 3, 2), (1, 1), "SAME", (1, 1), (1, 1)),
    "a dilated input": ((2, 4, 4, 3), (3, 3, 3, 2), (1, 2), [(-3, 2), (0, 3)], (2, 3), (1, 2)),
}


@pytest.mark.parametrize("case", NEGATIVE)
def test_no_program_pads_by_less_than_nothing(case):
    x, w, strides, padding, spread, dilations = NEGATIVE[case]
    conv, stock = (
        functools.partial(
            one.conv_general_dilated,
            window_strides=strides,
            padding=padding,
            lhs_dilation=spread,
            rhs_dilation=dilations,
            dimension_numbers=NAMES[len(strides)],
        )
        for one in (xla, lax)
    )
    operands = random(0, *x), random(1, *w)
    theirs = [paddings(how(stock), *operands) for how in (gradients, second)]
    assert min(map(min, theirs)) < 0  # the check can fail
    for how in (gradients, second):
        assert min(paddings(how(conv), *operands)) >= 0
    mapped = lambda x, w: jax.vmap(gradients(conv))(jnp.stack([x, x]), jnp.stack([w, w]))  # noqa: E731
    assert min(paddings(mapped, *operands)) >= 0


def test_the_program_without_a_crop_is_jaxs_even_where_a_derivative_has_one():
    x, w = random(0, 2, 8, 8, 3), random(1, 1, 1, 3, 4)
    how = {"window_strides": (2, 2), "padding": "VALID", "dimension_numbers": NAMES[2]}
    ours, theirs = (functools.partial(one.conv_general_dilated, **how) for one in (xla, lax))
    texts = [jax.jit(lambda x, w, f=f: f(x, w)).lower(x, w).as_text() for f in (ours, theirs)]
    assert texts[0] == texts[1]
    for a, b in zip(jax.jit(gradients(ours))(x, w), jax.jit(gradients(theirs))(x, w), strict=True):
        np.testing.assert_array_equal(a, b)


ORDINARY = {
    "3x3": ((2, 8, 8, 4), (3, 3, 4, 6), {"padding": "SAME"}),
    "3x3, stride 2": ((2, 8, 8, 4), (3, 3, 4, 6), {"window_strides": (2, 2), "padding": "SAME"}),
    "7x7, stride 2": (
        (2, 15, 15, 3),
        (7, 7, 3, 4),
        {"window_strides": (2, 2), "padding": [(3, 3)] * 2},
    ),
    "dilated": ((2, 9, 9, 4), (3, 3, 4, 4), {"rhs_dilation": (2, 2), "padding": "same"}),
    "depthwise": ((2, 8, 8, 4), (3, 3, 1, 4), {"padding": "SAME", "feature_group_count": 4}),
    "transposed": ((2, 4, 4, 4), (2, 2, 4, 2), {"padding": [(1, 1)] * 2, "lhs_dilation": (2, 2)}),
    "NCHW": ((2, 4, 8, 8), (6, 4, 3, 3), {"padding": "SAME_LOWER", "dimension_numbers": None}),
}


@pytest.mark.parametrize("case", ORDINARY)
def test_an_ordinary_convolution_is_jaxs(case):
    x, w, how = ORDINARY[case]
    how = {"window_strides": (1, 1), "dimension_numbers": NAMES[2]} | how
    ours, theirs = (functools.partial(one.conv_general_dilated, **how) for one in (xla, lax))
    for transformed in (lambda f: f, gradients, second):
        texts = [
            str(jax.make_jaxpr(transformed(f))(random(0, *x), random(1, *w)))
            for f in (ours, theirs)
        ]
        assert texts[0] == texts[1]


def test_it_is_jaxs_where_no_derivative_has_a_negative_padding_and_only_there(fuzz):
    sizes = range(1, 5), range(1, 4), (1, 2, 3), range(-2, 4), range(-2, 4), (1, 2, 3), (1, 2)
    seen = set()
    for size, kernel, stride, before, after, spread, dilation in itertools.product(*sizes):
        axis = size, kernel, stride, (before, after), spread, dilation
        if (size - 1) * spread + before + after < dilation * (kernel - 1):
            continue  # not one window
        expected = all(min(pads) >= 0 for _, _, _, pads, _, _ in fuzz.derivatives(axis))
        assert xla.never_negative(*axis) is expected, axis
        seen.add(expected)
    assert seen == {True, False}


WRONG = {
    "cropped to less than nothing": {"padding": [(-5, -5), (0, 0)]},
    "channels": {"feature_group_count": 3},
    "no numbers": {"padding": [(-1.5, 1), (0, 0)]},
    "no pairs": {"padding": [-1, 1]},
    "one axis": {"padding": [(-1, 1)]},
    "strides": {"window_strides": (1,)},
    "a name": {"padding": "FULL"},
    "dilated, a name": {"padding": "SAME", "lhs_dilation": (2, 2)},
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_jaxs_error(case):
    how = {"window_strides": (1, 1), "padding": [(-1, 1), (0, 0)], "dimension_numbers": NAMES[2]}
    x, w = random(0, 2, 6, 5, 4), random(1, 3, 3, 4, 2)
    messages = []
    for conv in (xla.conv_general_dilated, lax.conv_general_dilated):
        with pytest.raises((TypeError, ValueError, RuntimeError)) as error:
            conv(x, w, **how | WRONG[case])
        messages.append(f"{error.type}: {error.value}")
    assert messages[0] == messages[1]


def test_an_output_of_another_type_and_its_gradients():
    x, w = (
        random(i, *shape).astype(jnp.bfloat16) for i, shape in enumerate([(2, 6, 3), (2, 3, 2)])
    )
    how = {"dimension_numbers": NAMES[1], "preferred_element_type": jnp.float32}
    y, back = jax.vjp(lambda x, w: xla.conv_general_dilated(x, w, (1,), [(-2, 3)], **how), x, w)
    wide = jnp.pad(x[:, 2:], [(0, 0), (0, 3), (0, 0)])
    theirs = functools.partial(lax.conv_general_dilated, window_strides=(1,), padding="VALID")
    expected, theirs_back = jax.vjp(lambda x, w: theirs(x, w, **how), wide, w)
    assert y.dtype == jnp.float32
    np.testing.assert_array_equal(y, expected)
    of_x, of_w = back(y)
    assert (of_x.dtype, of_w.dtype) == (jnp.bfloat16, jnp.bfloat16)
    np.testing.assert_array_equal(of_x[:, 2:], theirs_back(y)[0][:, :4])
    np.testing.assert_array_equal(of_w, theirs_back(y)[1])


def test_vmap_over_nothing_is_empty():
    conv = functools.partial(
        xla.conv_general_dilated,
        window_strides=(1,),
        padding=[(-2, 1)],
        dimension_numbers=NAMES[1],
    )
    assert jax.vmap(conv)(jnp.ones((0, 2, 6, 3)), jnp.ones((0, 2, 3, 4))).shape == (0, 2, 4, 4)
    assert jax.vmap(conv, (None, 3))(jnp.ones((2, 6, 3)), jnp.ones((2, 3, 4, 0))).shape[0] == 0


def test_a_crop_is_exported_for_any_batch():
    def total(x, w):
        how = {"window_strides": (1,), "padding": [(-3, 2)], "dimension_numbers": NAMES[1]}
        return xla.conv_general_dilated(x, w, **how).sum()

    (batch,) = export.symbolic_shape("batch")
    x, w = random(0, 3, 8, 2), random(1, 2, 2, 4)
    given = jax.ShapeDtypeStruct((batch, 8, 2), jnp.float32)
    program = export.export(jax.jit(jax.grad(total, (0, 1))))(given, w)
    expected = jax.grad(total, (0, 1))(x, w)
    jax.tree.map(np.testing.assert_array_equal, program.call(x, w), expected)
