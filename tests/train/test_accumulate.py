"""Accumulation against the whole batch: a linear regression by hand, slices, keys, collections."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.accumulate import accumulated
from train.tasks.task import Aux, Ratio

RNG = np.random.default_rng(0)
X, Y, W = (np.float32(RNG.normal(size=size)) for size in ((8, 3), 8, 3))
BATCH = {"x": jnp.asarray(X), "y": jnp.asarray(Y), "index": jnp.arange(8)}
KEY = jax.random.key(3)
SLICES = pytest.mark.parametrize("n", [1, 2, 4, 8])


def regression(variables, batch, key):
    """Mean square of a linear fit; its collection forgets a half at every call."""
    error = batch["x"] @ variables["params"]["w"] - batch["y"]
    seen = {"mean": variables["stats"]["mean"] / 2 + batch["y"].mean(), "calls": jnp.int32(1)}
    seen["calls"] += variables["stats"]["calls"]
    sums = {
        "loss": Ratio((error**2).sum(), jnp.float32(len(error))),
        "above": (error > 0).sum(),
        "classes": jnp.zeros(4, jnp.int32).at[batch["index"] % 4].add(1),
    }
    return jnp.mean(error**2), Aux({"stats": seen}, sums)


def run(n, loss=regression):
    variables = {"w": jnp.asarray(W)}, {"stats": {"mean": jnp.float32(0), "calls": jnp.int32(0)}}
    return jax.jit(accumulated(n)(loss))(*variables, BATCH, KEY)


@SLICES
def test_the_gradient_is_that_of_the_whole_batch(n):
    (loss, aux), grads = run(n)
    error = np.float64(X) @ W - Y
    np.testing.assert_allclose(grads["w"], 2 / 8 * X.T @ error, rtol=1e-5)
    assert loss == pytest.approx((error**2).mean())
    assert (loss.dtype, grads["w"].dtype) == (np.float32, np.float32)
    # Sums add up, in the types they had.
    np.testing.assert_allclose(aux.sums["loss"], [(error**2).sum(), 8], rtol=1e-5)
    assert aux.sums["above"] == (error > 0).sum()
    assert aux.sums["classes"].tolist() == [2, 2, 2, 2]
    assert aux.sums["classes"].dtype == np.int32


@SLICES
def test_each_slice_goes_on_from_the_collections_of_the_one_before(n):
    (_, aux), _ = run(n)
    expected = 0.0
    for i in range(n):
        expected = expected / 2 + Y[i::n].mean()
    assert aux.collections["stats"]["mean"] == pytest.approx(expected, rel=1e-5)
    assert aux.collections["stats"]["calls"] == n


@pytest.mark.parametrize("n", [1, 2, 4])
def test_slice_i_is_every_nth_example_and_has_the_key_folded_with_i(n):
    seen = []

    def spy(variables, batch, key):
        jax.debug.callback(
            lambda index, key: seen.append((index.tolist(), key.tolist())),
            batch["index"],
            jax.random.key_data(key),
            ordered=True,
        )
        return jnp.sum(batch["x"] @ variables["params"]["w"]), Aux({}, {})

    accumulated(n)(spy)({"w": jnp.asarray(W)}, {}, BATCH, KEY)
    jax.effects_barrier()
    assert [index for index, _ in seen] == [[*range(i, 8, n)] for i in range(n)]
    keys = [jax.random.key_data(jax.random.fold_in(KEY, i)).tolist() for i in range(n)]
    assert [key for _, key in seen] == keys
    assert len({*map(tuple, keys)}) == n


def test_each_slice_normalises_over_itself():
    """Where the normaliser is not the number of examples, it is not the large batch's."""
    weight = np.float32([1, 3, 0, 0, 0, 0, 0, 0])

    def weighted(variables, batch, key):
        loss = (batch["weight"] * batch["x"][:, 0] * variables["params"]["w"]).sum()
        return loss / jnp.maximum(batch["weight"].sum(), 1), Aux({}, {})

    arguments = {"w": jnp.float32(1)}, {}, {**BATCH, "weight": jnp.asarray(weight)}, KEY
    (_, _), grads = jax.jit(accumulated(2)(weighted))(*arguments)
    # Example 0 is alone with its weight in slice 0, example 1 in slice 1.
    assert grads["w"] == pytest.approx((X[0, 0] + X[1, 0]) / 2, rel=1e-5)


def test_every_parameter_has_a_gradient_the_same_tree():
    def loss(variables, batch, key):
        params = variables["params"]
        return params["a"]["b"] * batch["y"].sum() + 0 * params["c"].sum(), Aux({}, {})

    params = {"a": {"b": jnp.float32(1)}, "c": jnp.ones((2, 2))}
    _, grads = jax.jit(accumulated(2)(loss))(params, {}, BATCH, KEY)
    assert grads["a"]["b"] == pytest.approx(Y.sum() / 2, rel=1e-5)
    assert grads["c"].tolist() == [[0, 0], [0, 0]]
