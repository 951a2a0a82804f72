"""Assessment: a split in its order, compiled once; and what a summary becomes on the disk."""

import types
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.assess import assess, finite, outcome
from train.data.arrays import Arrays
from train.data.order import once
from train.data.resident import Resident
from train.data.source import About
from train.experiment import Parts
from train.mesh import make_mesh
from train.stop import Interrupted
from train.tasks.classification import classification
from train.tasks.task import Summary

SOURCE = Arrays(
    {
        "image": np.array([[9, 0], [0, 9], [9, 0], [0, 9], [9, 0]], np.uint8)[:, None, :, None],
        "label": np.array([0, 1, 0, 1, 1], np.int32),
    },
    About("two", "test", ("a", "b"), mirror=False),
)
TRACED = []


class Scaled(nn.Module):
    """The logits are the pixels, times a number."""

    @nn.compact
    def __call__(self, x, *, train):
        TRACED.append(train)
        return x[:, 0, :, 0] * self.param("by", nn.initializers.ones, ())


@pytest.fixture
def measured():
    """(what measures, what was asked of the loaders)"""
    TRACED.clear()
    mesh, asked = make_mesh(jax.devices()[:1]), []

    def load(split, source, **how):
        asked.append((split, source, how))
        return Resident(source, mesh=mesh, batch_size=2, **how)

    task = classification(Scaled(), num_classes=2, mean=(0,), std=(1,))
    parts = Parts(Scaled(), task, None, {}, None, "accuracy", [])
    return assess(parts, load, mesh, "test", SOURCE), asked


def by(number):
    return {"params": {"by": jnp.float32(number)}}


def test_a_split_is_measured_in_its_order_by_any_weights_and_compiled_once(measured):
    of, asked = measured
    assert asked == [("test", SOURCE, {"order": once})]  # no transform: nothing is augmented
    right = of(by(1))
    traced = len(TRACED)
    assert (right.scalars["count"], right.scalars["accuracy"]) == (5, pytest.approx(4 / 5))
    assert of(by(-1)).scalars["accuracy"] == pytest.approx(1 / 5)
    assert len(TRACED) == traced  # once, for whatever weights
    assert not any(TRACED)
    assert len(asked) == 1


def test_what_asks_to_stop_is_asked(measured):
    of, _ = measured
    asked = iter([False, True])
    with pytest.raises(Interrupted):
        of(by(1), partial(next, asked))
    assert of(by(1)).scalars["count"] == 5  # and it measures the whole split again


def test_an_outcome_says_of_what_it_is():
    config = types.SimpleNamespace(data="digits", model="mlp", seed=3, steps=10, batch_size=32)
    summary = Summary({"accuracy": np.float32(0.5), "loss": float("nan"), "count": 7}, {})
    assert outcome("experiments.toy", config, 8, summary) == {
        "experiment": "experiments.toy",
        "data": "digits",
        "model": "mlp",
        "seed": 3,
        "steps": 10,
        "examples": 320,
        "evaluated_step": 8,
        "test/accuracy": 0.5,
        "test/loss": None,
        "test/count": 7,
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.5, 0.5),
        (7, 7),
        (np.float32(0.25), 0.25),
        (np.int64(2**40), 2**40),
        (jnp.float32(0.25), 0.25),
        (float("nan"), None),
        (float("-inf"), None),
        (np.float32("inf"), None),
        (None, None),
    ],
)
def test_what_json_has_no_number_for_is_null(value, expected):
    found = finite(value)
    assert found == expected
    assert type(found) is type(expected)
