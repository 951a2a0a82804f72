"""The regression task: every number worked out by hand; images and signals through a whole run."""

import json
import sys
from dataclasses import dataclass
from functools import partial
from types import ModuleType

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from models.layers.norm import BatchNorm
from train import optim
from train.data.arrays import Arrays
from train.data.named import Splits
from train.data.source import About
from train.experiment import Parts
from train.opened import opened
from train.report.regression import regression_part
from train.run import run
from train.tasks.inputs import first_variables
from train.tasks.regression import regression
from train.tasks.residual_losses import absolute, huber
from train.tasks.task import Ratio
from train.trained import Trained, descent


class Fixed(nn.Module):
    """Outputs that stand in the signal: (B, K, 1) -> (B, K), times a parameter."""

    @nn.compact
    def __call__(self, x, *, train, length=None):
        return x[..., 0] * self.param("scale", nn.initializers.ones, ())


VARIABLES = {"params": {"scale": jnp.ones(())}}
OUT = np.array([[1.0, 2], [0, -1], [5, 5]])
TARGET = np.array([[14.0, 24], [10, 18], [0, 0]])


def task(**fields):
    fields = {"target_mean": (10.0, 20.0), "target_std": (2.0, 4.0)} | fields
    return regression(Fixed(), targets=("a", "b"), mean=(0.0,), std=(1.0,), **fields)


def batch(valid=(True, True, False), out=OUT, target=TARGET):
    return {
        "signal": jnp.asarray(out, jnp.float32)[..., None],
        "target": jnp.asarray(target, jnp.float32),
        "valid": jnp.asarray(valid),
        "index": jnp.arange(len(out), dtype=jnp.int32),
    }


# Standardised targets (2, 1), (0, -0.5): residuals (-1, 1), (0, -0.5).
def test_loss_by_hand():
    loss, aux = task().loss(VARIABLES, batch(), jax.random.key(0))
    assert loss == pytest.approx((1 + 0.125) / 2)
    assert aux.sums["loss"] == Ratio(1.125, 2)
    assert aux.sums["mae"] == Ratio(3 + 1, 2)  # (2 + 4) / 2 and (0 + 2) / 2, in the targets' unit
    assert aux.collections == {}


@pytest.mark.parametrize(
    ("residual_loss", "expected"), [(absolute, 1.25 / 2), (huber(0.5), (0.375 + 0.0625) / 2)]
)
def test_other_losses_by_hand(residual_loss, expected):
    loss, _ = task(residual_loss=residual_loss).loss(VARIABLES, batch(), jax.random.key(0))
    assert loss == pytest.approx(expected)


@pytest.mark.parametrize("junk", [7e9, np.nan, np.inf])
def test_a_padded_row_weighs_nothing(junk):
    target = np.where([[False], [False], [True]], junk, TARGET)

    def of(variables):
        return task().loss(variables, batch(target=target), jax.random.key(0))[0]

    loss, slope = jax.value_and_grad(of)(VARIABLES)
    assert loss == pytest.approx(1.125 / 2)
    assert slope["params"]["scale"] == pytest.approx(0.5 * (2 * -1 * 1 + 2 * 1 * 2 + 1) / 2)
    sums, _ = task().measure(VARIABLES, batch(target=target))
    assert sums == {"loss": Ratio(1.125, 2), "count": 2}


def test_an_empty_batch_has_loss_0_and_gradient_0():
    def of(variables):
        return task().loss(variables, batch(valid=[False] * 3), jax.random.key(0))[0]

    loss, slope = jax.value_and_grad(of)(VARIABLES)
    assert (loss, slope["params"]["scale"]) == (0, 0)


def test_what_is_predicted_is_in_the_unit_of_the_targets():
    found = task().predict(VARIABLES, task().inputs(batch()))
    assert found["target"].tolist() == [[12, 28], [10, 16], [20, 40]]


def summary_of(one, parts):
    """The sums and records of batches, as `train.evaluate` adds them."""
    sums, kept = {}, []
    for part in parts:
        found, records = jax.device_get(one.measure(VARIABLES, part))
        for row in np.flatnonzero(part["valid"]):
            own, keep = one.score(
                {name: value[row] for name, value in records.items()},
                {"target": np.asarray(part["target"][row])},
            )
            sums = jax.tree.map(np.add, sums, own) if "residuals" in sums else {**sums, **own}
            kept.append(keep)
        sums["loss"] = found["loss"]
        sums["count"] = len(kept)
    return one.summarise(sums, kept)


def test_summary_by_hand_and_by_scikit_learn():
    found = summary_of(task(scale=(1.0, 2.0)), [batch()])
    truth, guess = TARGET[:2], np.array([[12.0, 28], [10, 16]])
    assert found.scalars["mae"] == mean_absolute_error(truth, guess) == 2
    assert found.scalars["rmse"] == pytest.approx(root_mean_squared_error(truth, guess))
    assert found.scalars["mse"] == pytest.approx((4 + 0 + 16 + 4) / 4)
    assert found.scalars["r2"] == pytest.approx(r2_score(truth, guess))
    assert found.scalars["mase"] == pytest.approx((1 / 1 + 3 / 2) / 2)
    assert found.scalars["count"] == 2
    assert found.scalars["loss"] == pytest.approx(1.125 / 2)
    assert [row["name"] for row in found.tables["targets"]] == ["a", "b"]
    assert [row["mae"] for row in found.tables["targets"]] == [1, 3]
    assert [one["index"] for one in found.tables["worst"]] == [0, 1]
    predictions = found.tables["predictions"]
    assert predictions.indices == [0, 1]
    assert predictions.columns == {
        "truth a": [14, 10],
        "prediction a": [12, 10],
        "truth b": [24, 18],
        "prediction b": [28, 16],
    }


def test_without_a_scale_there_is_no_mase_and_without_examples_no_figure():
    found = task().summarise({"loss": Ratio(0.0, 0.0), "count": 0}, [])
    assert "mase" not in found.scalars
    assert all(np.isnan(found.scalars[name]) for name in ("mae", "rmse", "r2"))
    assert found.scalars["count"] == 0


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"target_std": 0.0}, "target_std=0.0 must be positive and finite"),
        ({"target_std": (1.0, 2, 3)}, "is not one number, or one of 2 targets"),
        ({"target_mean": np.nan}, "target_mean=nan must be finite"),
        ({"scale": 0.0}, "scale=0.0 must be positive"),
    ],
)
def test_numbers_that_are_none_are_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        task(**fields)


def test_no_target_is_refused():
    with pytest.raises(ValueError, match=r"targets=\(\)"):
        regression(Fixed(), targets=(), mean=(0.0,), std=(1.0,))


@pytest.mark.parametrize("function", ["loss", "measure"])
def test_a_network_of_other_targets_is_refused(function):
    arguments = (jax.random.key(0),) if function == "loss" else ()
    with pytest.raises(AssertionError, match="3"):
        getattr(task(), function)(VARIABLES, batch(out=np.zeros((3, 3))), *arguments)


# --- a whole run --------------------------------------------------------------------------------


class Pooled(nn.Module):
    """(B, …, C) -> (B, K): a convolution, global average pooling and a linear head."""

    num_classes: int

    @nn.compact
    def __call__(self, x, *, train, length=None):
        x = nn.relu(nn.Conv(8, (3,) * (x.ndim - 2))(x))
        axes = tuple(range(1, x.ndim - 1))
        if length is None:
            return nn.Dense(self.num_classes)(x.mean(axes))
        there = jnp.arange(x.shape[1])[None, :] < length[:, None]
        x = jnp.where(there[..., None], x, 0).sum(1) / jnp.maximum(length, 1)[:, None]
        return nn.Dense(self.num_classes)(x)


@dataclass(frozen=True, kw_only=True)
class Config(Trained):
    """The recipe of a run in this test."""

    data: str = "image"
    model: str = "pooled"
    steps: int | None = 60
    batch_size: int | None = 16
    learning_rate: float = 0.05
    evaluate_every: int | None = 30


def source(data, split, count, seed):
    """What is asked of an example: its mean and its spread; they vary from example to example."""
    rng = np.random.default_rng(seed)
    level, spread = rng.uniform(60, 180, (count, 1, 1, 1)), rng.uniform(5, 50, (count, 1, 1, 1))
    x = level + spread * rng.choice([-1, 1], (count, 6, 6, 1))
    about = About(data, split, (), mirror=None, shape=(6, 6, 1), targets=("level", "spread"))
    target = np.float32(np.stack([level, spread], -1).reshape(count, 2))
    if data == "image":
        return Arrays({"image": x.round().astype(np.uint8), "target": target}, about)
    length = rng.integers(20, 37, count).astype(np.int32)
    signal = np.float32(x.reshape(count, 36, 1))
    signal[np.arange(36)[None] >= length[:, None]] = 0
    return Arrays(
        {"signal": signal, "length": length, "target": target},
        About(data, split, (), mirror=None, shape=(36, 1), targets=("level", "spread")),
    )


def splits(config):
    return Splits(
        source(config.data, "train", 128, 0),
        source(config.data, "validation", 20, 1),
        source(config.data, "test", 37, 2),
    )


def build(config, about, *, conv=None, norm=BatchNorm):
    network = Pooled(len(about.targets))
    return Parts(
        network=network,
        task=regression(
            network,
            targets=about.targets,
            mean=about.mean,
            std=about.std,
            target_mean=(120.0, 27.5),
            target_std=(35.0, 13.0),
        ),
        transform=None,
        rank="-rmse",
        report=[regression_part],
        init=partial(first_variables, network),
        **descent(config, optim.adamw, optim.cosine(config.steps)),
    )


@pytest.fixture
def module(monkeypatch):
    made = ModuleType("regressing")
    made.Config, made.build, made.splits = Config, build, splits
    monkeypatch.setitem(sys.modules, "regressing", made)
    return made


@pytest.mark.parametrize("data", ["image", "signal"])
def test_a_run_of_images_and_of_padded_signals(tmp_path, module, data):
    summary = run(module, Config(data=data, workdir=tmp_path, devices=1))
    assert summary.scalars["count"] == 37
    assert summary.scalars["r2"] > 0.8
    lines = (tmp_path / "predictions.csv").read_text().splitlines()
    assert lines[0] == "index,truth level,prediction level,truth spread,prediction spread"
    assert len(lines) == 38
    rows = np.array([line.split(",") for line in lines[1:]], np.float64)
    truth, guess = rows[:, [1, 3]], rows[:, [2, 4]]
    for name, theirs in (
        ("mae", mean_absolute_error),
        ("rmse", root_mean_squared_error),
        ("r2", r2_score),
    ):
        assert summary.scalars[name] == pytest.approx(theirs(truth, guess), rel=1e-4), name
    page = (tmp_path / "report.html").read_text()
    for words in ("level", "spread", "Predictions and truth", "Farthest off"):
        assert words in page, words
    assert json.loads((tmp_path / "summary.json").read_text())["test/count"] == 37
    again = opened(tmp_path)
    x = again.parts.task.inputs(
        {
            key: jnp.asarray(value)[None]
            for key, value in splits(again.config).test[0].items()
            if key != "target"
        }
    )
    one = again.parts.task.predict(again.variables, x)["target"][0]
    np.testing.assert_allclose(one, guess[0], rtol=1e-4)
