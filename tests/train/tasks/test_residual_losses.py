"""Losses of residuals, by hand and by optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from train.tasks.residual_losses import absolute, huber, squared

RESIDUALS = jnp.array([-3.0, -1.5, -0.5, 0.0, 0.25, 1.5, 4.0])


def test_squared_and_absolute_by_hand():
    np.testing.assert_array_equal(squared(RESIDUALS), [9, 2.25, 0.25, 0, 0.0625, 2.25, 16])
    np.testing.assert_array_equal(absolute(RESIDUALS), [3, 1.5, 0.5, 0, 0.25, 1.5, 4])


@pytest.mark.parametrize("delta", [0.3, 1.0, 1.5])
def test_huber_and_its_slope_are_optaxs(delta):
    ours, theirs = huber(delta), lambda r: optax.losses.huber_loss(r, delta=delta)
    np.testing.assert_allclose(ours(RESIDUALS), theirs(RESIDUALS), rtol=1e-6)
    slope = jax.grad(lambda r: ours(r).sum())(RESIDUALS)
    np.testing.assert_allclose(slope, np.clip(RESIDUALS, -delta, delta), rtol=1e-6)


@pytest.mark.parametrize("loss", [squared, absolute, huber()])
def test_at_0_loss_and_slope_are_0_and_types_stay(loss):
    assert jax.value_and_grad(loss)(0.0) == (0, 0)
    for dtype in (jnp.bfloat16, jnp.float32):
        assert loss(jnp.ones(2, dtype)).dtype == dtype


def test_huber_of_what_is_far_off_is_finite():
    assert jax.value_and_grad(huber())(jnp.float32(1e30)) == (np.float32(1e30), 1)


@pytest.mark.parametrize("delta", [0.0, -1.0, np.inf, np.nan])
def test_a_delta_that_is_none_is_refused(delta):
    with pytest.raises(ValueError, match=f"delta={delta}"):
        huber(delta)
