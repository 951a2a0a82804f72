"""Losses of boxes: torchvision's numbers and gradients, values by hand, and what does not count."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.tasks.detection.box_losses import giou_loss, sigmoid_focal, smooth_l1

GOLDEN = np.load(pathlib.Path(__file__).parents[3] / "golden" / "torchvision_boxes.npz")
LOGITS, TARGET = GOLDEN["logits"], GOLDEN["target"]
EVERY = jnp.ones(6, bool)


@pytest.mark.parametrize("beta", [0.0, 1 / 9, 1.0])
def test_smooth_l1_equals_torch(beta):
    loss, slope = jax.value_and_grad(smooth_l1)(LOGITS, TARGET, EVERY, beta=beta)
    np.testing.assert_allclose(loss, GOLDEN[f"smooth/{beta:.2f}"], rtol=1e-6)
    np.testing.assert_allclose(slope, GOLDEN[f"smooth/{beta:.2f}/gradient"], rtol=1e-5, atol=1e-7)


def test_focal_equals_torchvision():
    loss, slope = jax.value_and_grad(sigmoid_focal)(LOGITS, TARGET, EVERY)
    np.testing.assert_allclose(loss, GOLDEN["focal"], rtol=1e-5)
    np.testing.assert_allclose(slope, GOLDEN["focal/gradient"], rtol=1e-4, atol=1e-6)


def test_giou_equals_torchvision():
    moved = GOLDEN["first"][:7] + np.float32([0.5, 0.25, 1.5, 0.75])
    loss, slope = jax.value_and_grad(giou_loss)(moved, GOLDEN["second"], jnp.ones(7, bool))
    np.testing.assert_allclose(loss, GOLDEN["giou_loss"], rtol=1e-5)
    np.testing.assert_allclose(slope, GOLDEN["giou_loss/gradient"], rtol=1e-3, atol=1e-5)


def test_by_hand():
    one = jnp.ones(1, bool)
    distance = jnp.asarray([[0.5, 3.0, 0.0, -2.0]])
    target = jnp.zeros((1, 4))
    np.testing.assert_allclose(smooth_l1(distance, target, one), 0.125 + 2.5 + 1.5)
    np.testing.assert_allclose(smooth_l1(distance, target, one, beta=2.0), 0.0625 + 2 + 1)
    boxes = jnp.asarray([[0.0, 0, 2, 2]]), jnp.asarray([[1.0, 1, 3, 3]])
    np.testing.assert_allclose(giou_loss(*boxes, one), 1 - (1 / 7 - 2 / 9), rtol=1e-6)
    zero = jnp.zeros((1, 2)), jnp.asarray([[0.0, 1.0]])
    np.testing.assert_allclose(sigmoid_focal(*zero, one), np.log(2) / 4, rtol=1e-6)
    np.testing.assert_allclose(
        sigmoid_focal(*zero, one, alpha=0.5, gamma=0.0), np.log(2), rtol=1e-6
    )


LOSSES = pytest.mark.parametrize("loss", [smooth_l1, giou_loss, sigmoid_focal])


@LOSSES
def test_what_does_not_count_may_hold_anything(loss):
    generator = np.random.default_rng(1)
    predicted, target = np.float32(generator.random((2, 6, 4)))
    counted = np.asarray([True, False, True, False, False, True])
    few = loss(predicted[counted], target[counted], counted[counted])
    predicted[1], target[3], predicted[4] = np.nan, np.inf, -np.inf
    whole, slope = jax.value_and_grad(loss)(predicted, target, counted)
    np.testing.assert_allclose(whole, few, rtol=1e-6)
    np.testing.assert_array_equal(slope[~counted], 0)
    assert np.isfinite(slope).all()
    none, slope = jax.value_and_grad(loss)(predicted, target, counted & False)
    assert none == 0
    np.testing.assert_array_equal(slope, 0)


@LOSSES
def test_gradients_stay_finite_where_nothing_differs_and_far_out(loss):
    same = jnp.zeros((2, 4))
    for values in (same, same + 1e4, same - 1e4):
        slope = jax.grad(loss)(values, same, jnp.ones(2, bool))
        assert np.isfinite(slope).all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_focal_gradients_of_what_is_certain(gamma):
    logits = jnp.asarray([[200.0, -200.0]])
    slope = jax.grad(sigmoid_focal)(
        logits, jnp.asarray([[1.0, 0.0]]), jnp.ones(1, bool), gamma=gamma
    )
    np.testing.assert_allclose(slope, 0, atol=1e-6)


@LOSSES
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_sums_are_in_float32_at_least(loss, dtype, x64):
    values = jnp.ones((2, 4), dtype)
    expected = "float64" if dtype == "float64" else "float32"
    assert loss(values, values, jnp.ones(2, bool)).dtype == jnp.dtype(expected)


@pytest.mark.parametrize(
    ("loss", "change", "message"),
    [
        (smooth_l1, {"beta": -1.0}, "beta=-1.0"),
        (sigmoid_focal, {"alpha": -1.0}, "alpha=-1.0"),
        (sigmoid_focal, {"gamma": -0.5}, "gamma=-0.5"),
    ],
)
def test_refusals(loss, change, message):
    with pytest.raises(ValueError, match=message):
        loss(LOGITS, TARGET, EVERY, **change)
