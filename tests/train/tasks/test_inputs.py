"""What a network reads of a batch: images; signals and their length; a classifier of either."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.augment import chain, mixup
from train.tasks.classification import classification
from train.tasks.inputs import Signal, applied, first_variables, normalised


class Mean(nn.Module):
    """(B, L, C) -> (B, 3): a linear layer on the mean of the real steps."""

    @nn.compact
    def __call__(self, x, *, train, length=None):
        count = x.shape[1] if length is None else jnp.maximum(length, 1)[:, None]
        return nn.Dense(3)(x.sum(1) / count)


SIGNAL = jnp.array([[[1.0, 10], [3, 10], [9, 30]], [[5.0, 20], [7, 7], [np.e, -1]]])


def batch(length=None, **more):
    made = {
        "signal": SIGNAL,
        "label": jnp.array([0, 2], jnp.int32),
        "valid": jnp.ones(2, bool),
        "index": jnp.arange(2, dtype=jnp.int32),
    }
    return made | ({} if length is None else {"length": jnp.asarray(length, jnp.int32)}) | more


def test_a_signal_is_normalised_by_channel():
    values, length = normalised(batch(), (1.0, 10.0), (2.0, 5.0))
    assert length is None
    np.testing.assert_allclose(values[0], [[0, 0], [1, 0], [4, 4]])


def test_padding_is_0_whatever_stood_there():
    values, length = normalised(batch([3, 1]), (1.0, 10.0), (2.0, 5.0))
    assert length.tolist() == [3, 1]
    np.testing.assert_allclose(values[1], [[2, 2], [0, 0], [0, 0]])
    assert values.dtype == np.float32


def test_time_may_come_in_another_order():
    order = np.array([2, 0, 1])
    values, _ = normalised(batch(), (0.0,) * 2, (1.0,) * 2, lambda x: x[:, order])
    np.testing.assert_array_equal(values, SIGNAL[:, order])


def test_a_network_is_told_the_length():
    network = Mean()
    x = Signal(jnp.where(jnp.arange(3)[None, :, None] < 1, SIGNAL, 0), jnp.array([1, 1]))
    variables = first_variables(network, jax.random.key(0), x)
    alone = network.apply(variables, SIGNAL[:, :1], train=False)
    np.testing.assert_allclose(applied(network, variables, x, train=False), alone, rtol=1e-6)


@pytest.fixture(scope="module")
def fitted():
    network = Mean()
    task = classification(network, num_classes=3, mean=(0.0, 1.0), std=(1.0, 2.0))
    first = task.inputs(batch([3, 1]))
    return task, first_variables(network, jax.random.key(0), first)


def test_classification_of_padded_signals_is_that_of_each_alone(fitted):
    task, variables = fitted
    whole = task.measure(variables, batch([3, 1]))
    alone = [
        task.measure(
            variables,
            {key: value[i : i + 1] for key, value in batch().items()}
            | {"signal": SIGNAL[i : i + 1, :length]},
        )
        for i, length in enumerate((3, 1))
    ]
    total = sum(float(one.sums["loss"].total) for one in alone)
    assert float(whole.sums["loss"].total) == pytest.approx(total, rel=1e-5)
    matrix = sum(np.asarray(one.sums["confusion"]) for one in alone)
    np.testing.assert_array_equal(whole.sums["confusion"], matrix)
    assert whole.records["index"].tolist() == [0, 1]
    loss, aux = task.loss(variables, batch([3, 1]), jax.random.key(0))
    assert float(loss) == pytest.approx(total / 2, rel=1e-5)
    assert aux.collections == {}
    scores = task.predict(variables, task.inputs(batch([3, 1])))
    np.testing.assert_allclose(scores.sum(1), 1, rtol=1e-6)


def test_a_signal_of_length_0_has_finite_losses_and_slopes(fitted):
    task, variables = fitted

    def of(params):
        return task.loss({"params": params}, batch([3, 0]), jax.random.key(0))[0]

    loss, slope = jax.value_and_grad(of)(variables["params"])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((loss, slope)))


def test_signals_that_were_mixed_have_distributions(fitted):
    task, variables = fitted
    mixed = chain(mixup(1.0, 3))(jax.random.key(0), batch())
    assert mixed["label"].shape == (2, 3)
    loss, _ = task.loss(variables, mixed, jax.random.key(0))
    losses = -jax.nn.log_softmax(Mean().apply(variables, *task.inputs(mixed)[:1], train=False))
    assert float(loss) == pytest.approx(float((losses * mixed["label"]).sum(-1).mean()), rel=1e-5)
