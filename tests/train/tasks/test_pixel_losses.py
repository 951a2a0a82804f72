"""Losses of pixels against NumPy in float64, by hand, and where nothing counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from train.tasks.pixel_losses import cross_entropy, focal, soft_dice, weighted

CLASSES = 4
LOSSES = {
    "cross_entropy": cross_entropy(),
    "weighted cross_entropy": cross_entropy([1.0, 0.0, 2.0, 0.5]),
    "focal": focal(),
    "soft_dice": soft_dice(),
    "sum": weighted((1.0, cross_entropy()), (0.5, soft_dice())),
}


def drawn(shape=(2, 5, 6), seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(*shape, CLASSES)).astype(np.float32) * 3
    classes = rng.integers(0, CLASSES, shape).astype(np.uint8)
    counted = rng.random(shape) < 0.8
    return logits, np.where(counted, classes, 255).astype(np.uint8), counted


def reference(name, logits, classes, counted):
    """Pixel by pixel, in float64."""
    x, t = np.float64(logits[counted]), classes[counted].astype(int)
    logs, p = log_softmax(x, -1)[np.arange(len(t)), t], softmax(x, -1)
    if name == "cross_entropy":
        return -logs.mean()
    if name == "weighted cross_entropy":
        w = np.array([1.0, 0.0, 2.0, 0.5])[t]
        return -(w * logs).sum() / w.sum()
    if name == "focal":
        return -((1 - np.exp(logs)) ** 2 * logs).mean()
    dice = [
        1 - (2 * p[t == c, c].sum() + 1) / (p[:, c].sum() + (t == c).sum() + 1)
        for c in range(CLASSES)
        if (t == c).any()
    ]
    if name == "soft_dice":
        return np.mean(dice)
    return -logs.mean() + 0.5 * np.mean(dice)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("missing", [(), (2,), (0, 1, 3)])
def test_values(name, missing):
    logits, classes, counted = drawn()
    for c in missing:
        counted &= classes != c
    found = LOSSES[name](jnp.asarray(logits), jnp.asarray(classes), jnp.asarray(counted))
    assert found.dtype == jnp.float32
    assert found.shape == ()
    np.testing.assert_allclose(found, reference(name, logits, classes, counted), rtol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_what_does_not_count_changes_nothing(name):
    logits, classes, counted = drawn()
    value = jax.value_and_grad(LOSSES[name])
    first, gradient = value(jnp.asarray(logits), jnp.asarray(classes), jnp.asarray(counted))
    other = np.where(counted[..., None], logits, np.float32(1e4) * np.sign(logits))
    second, again = value(
        jnp.asarray(other), jnp.asarray(np.where(counted, classes, 3)), jnp.asarray(counted)
    )
    assert first == second
    np.testing.assert_array_equal(gradient, again)
    assert not np.any(np.asarray(gradient)[~counted])


@pytest.mark.parametrize("name", LOSSES)
def test_where_nothing_counts_loss_and_gradient_are_zero(name):
    logits, classes, counted = drawn()
    loss, gradient = jax.value_and_grad(LOSSES[name])(
        jnp.asarray(logits), jnp.asarray(np.full_like(classes, 255)), jnp.asarray(counted & False)
    )
    assert loss == 0
    np.testing.assert_array_equal(gradient, np.zeros_like(logits))


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_stay_finite_for_sure_logits(name):
    _, classes, counted = drawn()
    sure = np.where(np.arange(CLASSES) == classes[..., None], 200, -200).astype(np.float32)
    for x in (sure, -sure):
        loss, gradient = jax.value_and_grad(LOSSES[name])(
            jnp.asarray(x), jnp.asarray(classes), jnp.asarray(counted)
        )
        assert np.isfinite(loss)
        assert np.isfinite(gradient).all()


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", LOSSES)
def test_in_float64(name):
    logits, classes, counted = drawn()
    found = LOSSES[name](jnp.asarray(logits, "float64"), jnp.asarray(classes), jnp.asarray(counted))
    assert found.dtype == jnp.float64
    np.testing.assert_allclose(found, reference(name, logits, classes, counted), rtol=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_focal_of_other_powers(gamma):
    logits, classes, counted = drawn()
    logs = log_softmax(np.float64(logits[counted]), -1)
    logs = logs[np.arange(len(logs)), classes[counted].astype(int)]
    arguments = [jnp.asarray(x) for x in (logits, classes, counted)]
    loss, gradient = jax.value_and_grad(focal(gamma))(*arguments)
    np.testing.assert_allclose(loss, -((1 - np.exp(logs)) ** gamma * logs).mean(), rtol=1e-5)
    assert np.isfinite(gradient).all()
    if gamma == 0:
        _, of_entropy = jax.value_and_grad(cross_entropy())(*arguments)
        np.testing.assert_allclose(gradient, of_entropy, rtol=1e-5, atol=1e-8)


def test_dice_by_hand():
    """Four pixels of two classes, guessed as 0.75, 0.5, 0.5, 0.25 for the first."""
    guess = np.array([[0.75, 0.25], [0.5, 0.5], [0.5, 0.5], [0.25, 0.75]], np.float32)
    classes, counted = jnp.asarray([0, 0, 1, 1]), jnp.ones(4, bool)
    # Both classes: 2 * 1.25 / (2 + 2).
    found = soft_dice(smooth=0.0)(jnp.log(guess), classes, counted)
    assert found == pytest.approx(1 - 2.5 / 4)
    # Of the first alone, seen twice: 2 * 1.25 / (2 + 1.25); the second has nothing to overlap.
    found = soft_dice(smooth=0.0)(jnp.log(guess), classes, classes == 0)
    assert found == pytest.approx(1 - 2.5 / 3.25)


def test_a_perfect_prediction_has_no_dice_loss():
    classes = jnp.asarray([[[0, 1], [1, 3]]], jnp.uint8)
    logits = 200 * jax.nn.one_hot(classes, CLASSES)
    assert soft_dice()(logits, classes, classes < 9) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: cross_entropy([1.0, -1.0]), "weights"),
        (lambda: cross_entropy([0.0, 0.0]), "weights"),
        (lambda: cross_entropy([float("nan")]), "weights"),
        (lambda: focal(-1), "gamma=-1"),
        (lambda: soft_dice(float("inf")), "smooth=inf"),
        (lambda: weighted(), "weights"),
        (lambda: weighted((-1.0, focal())), "weights"),
    ],
)
def test_bad_values_are_named(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def test_weights_must_be_as_many_as_the_classes():
    logits, classes, counted = drawn()
    with pytest.raises(ValueError, match="4 classes"):
        cross_entropy([1.0, 2.0])(logits, classes, counted)
