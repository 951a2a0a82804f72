"""Alike: values, functions and recipes that come to the same, and those that do not."""

from dataclasses import dataclass, replace
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy_detector
from toy_detector import Config

from train.alike import made_by, same, same_run
from train.prepared import prepare


@dataclass
class Point:
    x: int
    to: object = None


@dataclass
class Pair:
    x: int
    to: object = None


@dataclass
class Holds:
    block: type


def adding(n, *, more=0):
    return lambda x, factor=2: n + factor * x + more


def counting(n):
    def down(x):
        return down(x - n) if x else 0

    return down


VALUES = [
    lambda n: n,
    lambda n: float(n),
    lambda n: str(n),
    lambda n: [n, (n, {"a": n})],
    lambda n: np.array([n, 2]),
    lambda n: jnp.array([n, 2]),
    lambda n: {"a": n},
    lambda n: Point(1, Point(n)),
    lambda n: adding(n),
    lambda n: adding(0, more=n),
    lambda n: counting(n),
    lambda n: partial(adding(1), factor=n),
    lambda n: Point(n).__repr__,
    lambda n: nn.Dense(n, kernel_init=partial(nn.initializers.constant(1.0), dtype=jnp.float32)),
    lambda n: optax.chain(optax.trace(n / 10), optax.scale_by_schedule(lambda step: step * n)),
]


@pytest.mark.parametrize("of", VALUES)
def test_what_is_made_alike_is_the_same(of):
    assert same(of(3), of(3))
    assert not same(of(3), of(4))


def test_what_only_looks_alike_is_not():
    assert not same(1, 1.0)
    assert not same((1,), [1])
    assert not same(adding(1), lambda x, factor=2: 1 + factor * x)
    assert not same({"a": 1}, {"a": 1, "b": 2})
    assert not same(np.zeros(2), np.zeros(2, np.float32))
    assert not same(np.zeros((1, 2)), np.zeros((2, 1)))
    assert not same(object(), object())
    assert not same(nn.Dense, nn.DenseGeneral)  # classes whose fields have the same defaults
    assert not same(Point, Pair)
    assert not same(partial(Holds, Point), partial(Holds, Pair))
    assert not same(Holds(Point), Holds(Pair))


def made(**fields):
    return made_by(prepare(toy_detector, replace(Config(devices=1), **fields)))


def test_recipes_are_the_same_run_where_all_that_they_come_to_is():
    first = made()
    assert same_run(first, made(workdir=None))
    assert same_run(first, made(epochs=10, steps=None))  # of 96 examples, 16 at a time
    assert same_run(first, made(clip_norm=1.0))  # which its optimiser does not read
    for fields in (
        {"learning_rate": 0.1},
        {"ema": 0.0},
        {"ema": 0.8},
        {"warmup_steps": 3},
        {"weight_decay": 0.01},
        {"steps": 61},
        {"seed": 1},
        {"seeds_as": "vmap", "seeds": (0, 1), "weights": "last"},
    ):
        assert not same_run(first, made(**fields)), fields


def test_parts_that_cannot_be_taken_apart_are_taken_to_differ():
    def optimizer(hyper):
        raise TypeError

    first = made()
    first = first._replace(parts=first.parts._replace(optimizer=optimizer))
    assert not same_run(first, made())


def test_recipes_of_other_data_are_other_runs(monkeypatch):
    first, original = made(), toy_detector.splits
    second = made()
    assert same_run(first, second)
    second = second._replace(config=replace(second.config, validation=0.2))

    def splits(config):
        data = original(config)
        other = toy_detector.scenes(96, 5, "train")
        return data if config.validation == first.config.validation else data._replace(train=other)

    monkeypatch.setattr(toy_detector, "splits", splits)
    assert not same_run(first, second)
