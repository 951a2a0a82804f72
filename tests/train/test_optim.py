"""Schedules, decay, averages: values worked out by hand, and optax's own forms beside them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from train import optim
from train.tasks.task import Ratio


@pytest.mark.parametrize(
    ("step", "factor"),
    [(0, 1.0), (31_999, 1.0), (32_000, 0.1), (47_999, 0.1), (48_000, 0.01), (63_999, 0.01)],
)
def test_steps_are_the_papers(step, factor):
    # He et al. 2015, 4.2: 0.1, divided by 10 at 32k and 48k iterations, ends at 64k.
    assert optim.steps(64_000, (1 / 2, 3 / 4))(jnp.int32(step)) == pytest.approx(factor)


@pytest.mark.parametrize(
    ("step", "factor"), [(0, 1.0), (25, 0.5 * (1 + np.cos(np.pi / 4))), (50, 0.5), (100, 0.0)]
)
def test_cosine(step, factor):
    assert optim.cosine(100)(jnp.int32(step)) == pytest.approx(factor, abs=1e-6)


@pytest.mark.parametrize(("step", "factor"), [(0, 0.25), (1, 0.5), (3, 1.0), (4, 1.0), (99, 1.0)])
def test_a_warmed_schedule_rises_to_its_peak(step, factor):
    assert optim.warmed(lambda step: 1.0, 4)(jnp.int32(step)) == factor


def test_no_warmup_changes_nothing():
    assert optim.warmed(lambda step: 1.0, 0)(jnp.int32(0)) == 1.0


def test_one_step_of_sgd_by_hand():
    params = {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([3.0])}
    grads = {"kernel": jnp.array([[0.5, 0.5]]), "bias": jnp.array([-1.0])}
    transform = optax.chain(
        optax.add_decayed_weights(0.1, optim.kernels),
        optax.trace(0.9, nesterov=False),
        optim.scale_by_rate(lambda step: 1.0, jnp.float32(0.2)),
    )
    state = transform.init(params)
    updates, state = transform.update(grads, state, params)
    params = optax.apply_updates(params, updates)
    # kernel: v = g + 0.1 w = (0.6, 0.3); w - 0.2 v. bias: not decayed; 3 + 0.2.
    np.testing.assert_allclose(params["kernel"], [[0.88, -2.06]], rtol=1e-6)
    np.testing.assert_allclose(params["bias"], [3.2], rtol=1e-6)
    updates, state = transform.update(grads, state, params)
    params = optax.apply_updates(params, updates)
    # v' = 0.9 v + g + 0.1 w = (0.54 + 0.588, 0.27 + 0.294); bias: 0.9 (-1) - 1 = -1.9.
    np.testing.assert_allclose(params["kernel"], [[0.88 - 0.2256, -2.06 - 0.1128]], rtol=1e-6)
    np.testing.assert_allclose(params["bias"], [3.58], rtol=1e-6)


def test_the_rate_that_was_used_stands_in_the_state():
    transform = optim.scale_by_rate(optim.steps(4, (1 / 2,)), jnp.float32(0.5))
    state, rates = transform.init(jnp.ones(())), []
    for _ in range(4):
        update, state = transform.update(jnp.ones(()), state)
        assert update == -state.learning_rate
        rates.append(float(state.learning_rate))
    assert rates == pytest.approx([0.5, 0.5, 0.05, 0.05])


def test_a_gentle_start_ends_when_the_network_learns():
    rate = optim.scale_by_rate(lambda step: 1.0, jnp.float32(0.1))
    transform = optim.gentle_until_learning(rate, 0.1, below=0.8, memory=0.5)
    state, rates = transform.init(jnp.ones(())), []
    # Errors 0.9, 0.5, 0.9, 0.9; their averages from 1: 0.95, 0.725, …: learns at the second.
    for right in (1, 5, 1, 1):
        update, state = transform.update(jnp.ones(()), state, sums={"accuracy": Ratio(right, 10)})
        assert update == -state.rate.learning_rate
        rates.append(float(state.rate.learning_rate))
    assert rates == pytest.approx([0.01, 0.1, 0.1, 0.1])


def test_the_average_leaves_the_initial_values_and_copies_integers():
    average = optim.moving_average(0.5)
    before = {"params": {"w": jnp.zeros(2)}, "batch_stats": {"n": jnp.int32(0)}}
    now = {"params": {"w": jnp.ones(2)}, "batch_stats": {"n": jnp.int32(7)}}
    first = average(before, now, jnp.int32(1))  # decay min(0.5, 2/11)
    np.testing.assert_allclose(first["params"]["w"], 9 / 11, rtol=1e-6)
    assert first["batch_stats"]["n"] == 7
    later = average(before, now, jnp.int32(1000))
    np.testing.assert_allclose(later["params"]["w"], 0.5, rtol=1e-6)


def test_decay_is_for_kernels():
    params = {"conv": {"kernel": jnp.ones((3, 3, 1, 2)), "bias": jnp.ones(2)}}
    assert optim.kernels(params) == {"conv": {"kernel": True, "bias": False}}


@pytest.mark.usefixtures("strict_dtypes")
def test_our_arithmetic_promotes_nothing():
    step = jnp.int32(3)
    optim.moving_average(0.9)({"w": jnp.ones(2)}, {"w": jnp.ones(2)}, step)
    optim.warmed(lambda step: 1.0, 5)(step)
    transform = optim.scale_by_rate(lambda step: 1.0, jnp.float32(1))
    updates, _ = transform.update(jnp.ones(2, jnp.bfloat16), transform.init(jnp.ones(2)))
    assert updates.dtype == jax.numpy.bfloat16


def test_adamw_is_optaxs_with_a_schedule_that_is_kept():
    params = {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([3.0])}
    ours = optim.adamw(optim.scale_by_rate(optim.cosine(10), jnp.float32(0.1)), weight_decay=0.3)
    theirs = optax.adamw(optax.cosine_decay_schedule(0.1, 10), weight_decay=0.3, mask=optim.kernels)
    a, b, first, second = params, params, ours.init(params), theirs.init(params)
    for step in range(4):
        grads = jax.tree.map(lambda p, step=step: jnp.sin(p + step), params)
        updates, first = ours.update(grads, first, a)
        a = optax.apply_updates(a, updates)
        updates, second = theirs.update(grads, second, b)
        b = optax.apply_updates(b, updates)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), a, b)


def test_the_first_step_of_muon_by_hand():
    """A kernel moves by the nearest orthogonal matrix, at Adam's size; a bias as under NAdam."""
    params = {"kernel": jnp.ones((3, 3, 2, 5)), "bias": jnp.array([3.0, 1.0])}
    gradient = np.random.default_rng(0).normal(size=(18, 5))
    grads = {"kernel": jnp.asarray(gradient.reshape(3, 3, 2, 5), jnp.float32)}
    grads |= {"bias": jnp.array([-5.0, 1e-3])}
    rate = optim.scale_by_rate(lambda step: 1.0, jnp.float32(0.1))
    made = optim.muon(rate, weight_decay=0.5)
    updates, state = made.update(grads, made.init(params), params)
    u, _, v = np.linalg.svd(gradient, full_matrices=False)
    expected = -0.1 * (0.2 * 18**0.5 * u @ v + 0.5)
    # Five steps of Newton and Schulz bring singular values to 0.7..1.2, not to 1.
    found = np.reshape(updates["kernel"], (18, 5))
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.98
    values = np.linalg.svd((-found / 0.1 - 0.5) / (0.2 * 18**0.5))[1]
    assert 0.65 < values.min() <= values.max() < 1.25
    # Nesterov's look ahead in Adam: 0.9 (0.1 g) / (1 - 0.9^2) + g, over |g|.
    ahead = 0.1 * (0.9 * 0.1 / 0.19 + 1)
    np.testing.assert_allclose(updates["bias"], [ahead, -ahead], rtol=1e-4)
    rates = optax.tree.get_all_with_path(state, "learning_rate")
    assert [float(value) for _, value in rates] == [pytest.approx(0.1)]


def test_muon_is_optaxs():
    """Over some steps, for kernels that are long, wide, square, of dependent columns, or unused."""
    random = np.random.default_rng(1)
    shapes = {"long": (3, 3, 4, 8), "wide": (2, 16), "square": (6, 6), "dependent": (3, 3, 2, 5)}
    params = {name: jnp.asarray(random.normal(size=shape)) for name, shape in shapes.items()}
    params |= {"unused": jnp.ones((3, 2)), "bias": jnp.ones(3)}
    ours = optim.muon(optim.scale_by_rate(optim.cosine(10), jnp.float32(0.1)), weight_decay=0.3)
    theirs = optax.contrib.muon(
        optax.cosine_decay_schedule(0.1, 10),
        weight_decay=0.3,
        consistent_rms=0.2,
        muon_weight_dimension_numbers=lambda params: jax.tree.map(
            lambda p: (
                optax.contrib.MuonDimensionNumbers(tuple(range(p.ndim - 1)), p.ndim - 1)
                if p.ndim > 1
                else None
            ),
            params,
        ),
    )
    a, b, first, second = params, params, ours.init(params), theirs.init(params)
    for _ in range(3):
        grads = {name: jnp.asarray(random.normal(size=p.shape)) for name, p in params.items()}
        grads["unused"] = jnp.zeros((3, 2))
        grads["dependent"] = grads["dependent"].at[..., 3].set(grads["dependent"][..., 1])
        updates, first = ours.update(grads, first, a)
        a = optax.apply_updates(a, updates)
        updates, second = theirs.update(grads, second, b)
        b = optax.apply_updates(b, updates)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-4), a, b)


@pytest.mark.parametrize("shape", [(2, 3, 4), (4, 24), (4, 4)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.usefixtures("strict_dtypes")
def test_orthogonal_changes_singular_values_alone(shape, dtype):
    """Each by the polynomial, five times; nothing of the size is lost."""
    x = jnp.asarray(40 * np.random.default_rng(2).normal(size=shape), dtype)
    u, s, v = np.linalg.svd(np.asarray(x, np.float64).reshape(-1, shape[-1]), full_matrices=False)
    size = np.sqrt((s**2).sum())
    s /= size
    for _ in range(5):
        s = 3.4445 * s - 4.775 * s**3 + 2.0315 * s**5
    found = optim.orthogonal(x)
    assert found.dtype == dtype
    expected = (size * (u * s) @ v).reshape(shape)
    error = 2e-5 if dtype == jnp.float32 else 4e-3
    np.testing.assert_allclose(np.asarray(found, np.float64), expected, atol=error * size)


def test_muon_clips_first():
    params = {"bias": jnp.zeros(2)}
    rate = optim.scale_by_rate(optim.cosine(10), jnp.float32(0.1))
    made = optim.muon(rate, weight_decay=0.0, clip_norm=1e-9)
    updates, _ = made.update({"bias": jnp.array([3.0, 4.0])}, made.init(params), params)
    clipped, ahead = np.array([0.6e-9, 0.8e-9]), 0.1 * (0.9 * 0.1 / 0.19 + 1)
    np.testing.assert_allclose(updates["bias"], -ahead * clipped / (clipped + 1e-8), rtol=1e-4)


def test_adamw_clips_first():
    params = {"kernel": jnp.zeros((1, 2))}
    rate = optim.scale_by_rate(optim.cosine(10), jnp.float32(0.1))
    made = optim.adamw(rate, weight_decay=0.0, clip_norm=1e-9)
    updates, _ = made.update({"kernel": jnp.array([[3.0, 4.0]])}, made.init(params), params)
    # The first step's averages are the gradient and its square: g / (|g| + 1e-8).
    clipped = np.array([[0.6e-9, 0.8e-9]])
    np.testing.assert_allclose(updates["kernel"], -0.1 * clipped / (clipped + 1e-8), rtol=1e-5)
