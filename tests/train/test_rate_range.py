"""The range test: a curve whose steepest point is known, a quadratic whose limit is known."""

from types import SimpleNamespace

import flax.struct
import numpy as np
import pytest

from train.rate_range import Tried, read, smooth, tried
from train.refusal import Refused
from train.tasks.task import Ratio


class State(flax.struct.PyTreeNode):
    """A weight, and the rate that moves it."""

    hyper: dict
    weight: float


def prepared(curvature, noise=0.0, hyper=None):
    """Gradient descent on curvature / 2 w²: it diverges from the rate 2 / curvature.

    Batches are not the set: `noise` is added to the gradient, and taken from it, in turn.
    """

    def step(state, data, payload):
        loss = curvature / 2 * state.weight**2
        rate = float(state.hyper["learning_rate"])
        sums = {"loss": Ratio(loss, 1.0), "nonfinite": int(not np.isfinite(loss))}
        slope = curvature * state.weight + (noise if payload % 2 else -noise)
        return state.replace(weight=state.weight - rate * slope), sums

    def payloads(start):
        yield from range(10**6)

    hyper = {"learning_rate": 1.0} if hyper is None else hyper
    return SimpleNamespace(
        start=lambda seed: State(hyper, 1.0),
        step=step,
        loader=SimpleNamespace(data=None, payloads=payloads),
    )


HOW = {"lowest": 1e-6, "highest": 1e3, "updates": 300, "seed": 0}


def test_a_quadratic_is_lost_where_gradient_descent_is_unstable():
    tested = tried(prepared(10.0, noise=0.3), **HOW)
    assert tested.stopped
    np.testing.assert_allclose(tested.rates, np.geomspace(1e-6, 1e3, 300)[: len(tested.rates)])
    found = read(tested)
    assert found.last == pytest.approx(2 / 10, rel=0.2)
    assert 1e-3 < found.steepest < found.least < 0.3


def test_what_does_not_diverge_says_so():
    tested = tried(prepared(1.0), lowest=1e-6, highest=0.5, updates=100, seed=0)
    assert not tested.stopped
    assert len(tested.losses) == 100
    assert read(tested).last is None


def test_the_steepest_rate_of_a_known_curve():
    rates = np.geomspace(1e-6, 1, 400)
    falling = 2.3 / (1 + (rates / 3e-3) ** 2)  # in log(rate) steepest at 3e-3
    found = read(Tried(rates, falling, False))
    assert found.steepest == pytest.approx(3e-3, rel=0.05)
    assert found.last is None
    rising = falling + np.where(rates > 0.1, 23 * (rates - 0.1), 0.0)
    found = read(Tried(rates, rising, True))
    assert found.steepest == pytest.approx(3e-3, rel=0.05)
    assert found.last == pytest.approx(0.15, rel=0.08)  # half of 2.3 is lost there
    assert 0.04 < found.least < 0.12


def test_a_last_loss_that_is_not_finite():
    rates = np.geomspace(1e-4, 1, 50)
    losses = np.r_[np.linspace(2, 1, 49), np.nan]
    found = read(Tried(rates, losses, True))
    assert found.last == rates[48]
    assert np.isnan(found.smoothed[49])
    assert np.isfinite(found.smoothed[:49]).all()
    with pytest.raises(Refused, match="after 2 updates: begin lower"):
        read(Tried(rates[:2], losses[:2], True))


def test_the_smoothing_has_no_lag():
    np.testing.assert_allclose(smooth(np.full(30, 2.5)), 2.5)
    line = np.arange(200.0)
    np.testing.assert_allclose(smooth(line)[50:150], line[50:150])


def test_a_recipe_without_a_rate_is_refused():
    with pytest.raises(Refused, match="no learning rate"):
        tried(prepared(1.0, hyper={}), **HOW)
