"""Lengths: known answers, JAX's shapes on a grid, and each series as it is alone."""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.layers.conv import CHANNELS_LAST
from models.layers.norm import BatchNorm
from models.sequence import lengths

PADS = (0, 0), (1, 1), (0, 4)
GRID = list(itertools.product((1, 2, 7, 12), (1, 2, 5), (1, 2, 3), (1, 2), PADS))


def column(*values):
    """One series of one channel."""
    return jnp.asarray(values, jnp.float32)[None, :, None]


def test_a_mean_and_a_last_step_are_of_what_is_no_padding():
    x = column(2, 4, 0, 0)
    for length, mean, last in ((2, 3, 4), (0, 0, 0), (1, 2, 2), (4, 1.5, 0)):
        n = jnp.array([length], jnp.int32)
        assert lengths.masked_mean(x, n).tolist() == [[mean]]
        assert lengths.last_step(x, n).tolist() == [[last]]
    assert lengths.masked_mean(x, None).tolist() == [[1.5]]
    assert lengths.last_step(x, None).tolist() == [[0]]


def test_of_nothing_the_gradient_is_0():
    n = jnp.array([0, 2], jnp.int32)
    x = jnp.ones((2, 3, 1))
    for read in (lengths.masked_mean, lengths.last_step):
        found = jax.grad(lambda x, read=read: read(x, n).sum())(x)
        assert found[0].tolist() == [[0], [0], [0]]
        assert float(found[1].sum()) == 1


def test_a_mean_in_half_precision_is_summed_in_full():
    x = jnp.full((1, 1000, 1), 1.0078125, jnp.bfloat16)
    mean = lengths.masked_mean(x, jnp.array([900], jnp.int32))
    assert mean.dtype == jnp.bfloat16
    assert float(mean[0, 0]) == 1.0078125


def test_the_mask():
    n = jnp.array([0, 2, 3], jnp.int32)
    assert lengths.mask(n, 3).tolist() == [[False] * 3, [True, True, False], [True] * 3]
    assert lengths.mask(None, 3) is None
    filled = jnp.full((3, 3, 1), jnp.inf)
    assert jnp.isfinite(lengths.zeroed(filled, n)).sum() == 4


def test_output_lengths_are_the_shapes_of_jax():
    found = []
    for size, kernel, stride, dilation, pads in GRID:
        if size + sum(pads) <= dilation * (kernel - 1):
            continue
        shapes = (
            jax.ShapeDtypeStruct((1, size, 1), "float32"),
            jax.ShapeDtypeStruct((kernel, 1, 1), "float32"),
        )
        y = jax.eval_shape(
            lambda x, w, s=stride, p=pads, d=dilation: jax.lax.conv_general_dilated(
                x, w, (s,), [p], rhs_dilation=(d,), dimension_numbers=CHANNELS_LAST[1]
            ),
            *shapes,
        )
        n = np.array([size], np.int32)
        assert lengths.output_length(n, kernel, stride, pads, dilation).tolist() == [y.shape[1]]
        found.append(y.shape[1])
    assert len(found) > 100
    none = lengths.output_length(jnp.array([0, 1, 3], jnp.int32), 5, 2)
    assert none.tolist() == [0, 0, 0]
    assert lengths.output_length(None, 3) is None
    with pytest.raises(ValueError, match="padding='SAME'"):
        lengths.output_length(none, 3, padding="SAME")


MOVES = [(1, 2, (4, 0)), (2, 1, (2, 2)), (3, 1, 0)]


@pytest.mark.parametrize(("stride", "dilation", "padding"), MOVES)
def test_a_padded_series_is_convolved_as_it_is_alone(stride, dilation, padding):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 11, 2)).astype(np.float32)
    n = np.array([11, 7, 6], np.int32)
    pads = padding if isinstance(padding, int) else [padding]
    conv = nn.Conv(3, (3,), strides=stride, kernel_dilation=dilation, padding=pads)
    w = jax.jit(conv.init)(jax.random.key(0), x)
    apply = jax.jit(functools.partial(conv.apply, method=lengths.convolved))
    y, left = apply(w, x, n)
    for row in range(3):
        alone, none = apply(w, x[row : row + 1, : n[row]], None)
        assert none is None
        assert left[row] == alone.shape[1]
        np.testing.assert_allclose(y[row, : left[row]], alone[0], atol=1e-6)


@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 3), (7, 0)])
def test_each_series_wraps_at_its_own_end(before, after):
    x = np.arange(1, 16, dtype=np.float32).reshape(3, 5, 1)
    n = np.array([5, 3, 0], np.int32)
    wrap = jax.jit(lengths.wrapped, static_argnums=(2, 3))
    whole, longer = wrap(x, n, before, after)
    assert whole.shape == (3, 5 + before + after, 1)
    assert longer.tolist() == [5 + before + after, 3 + before + after, 0]
    for row, size in enumerate(n.tolist()[:2]):
        expected = np.pad(np.asarray(x[row, :size, 0]), (before, after), mode="wrap")
        np.testing.assert_array_equal(whole[row, : len(expected), 0], expected)
        assert not whole[row, len(expected) :].any()
    plain, none = wrap(x, None, before, after)
    assert none is None
    np.testing.assert_array_equal(plain[0], whole[0])


@pytest.mark.parametrize("unbiased", [False, True])
def test_batch_statistics_are_those_of_the_valid_steps(unbiased):
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(3, 6, 2)) + 5).astype(np.float32)
    valid = np.arange(6)[None] < np.array([6, 2, 0])[:, None]
    norm = BatchNorm(unbiased=unbiased)
    variables = jax.jit(functools.partial(norm.init, train=True))(jax.random.key(0), x)
    apply = jax.jit(functools.partial(norm.apply, train=True, mutable="batch_stats"))
    y, found = apply(variables, x, valid=valid)
    flat, expected = apply(variables, x[valid])
    np.testing.assert_allclose(np.asarray(y)[valid], flat, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, expected)
    y, found = apply(variables, x, valid=np.zeros_like(valid))
    assert bool(jnp.isfinite(y).all())
    jax.tree.map(np.testing.assert_array_equal, found["batch_stats"], variables["batch_stats"])
