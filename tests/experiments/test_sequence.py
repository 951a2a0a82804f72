"""Classifying signals: recipes, what is refused, a whole run, and what it is read by."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import evaluate, sequence
from train import cli
from train.data.source import About
from train.opened import opened
from train.refusal import Refused

ABOUT = About(
    "drawn", "train", ("a", "b", "c"), mirror=None, shape=(24, 2), mean=(0.5, 2.0), std=(1.0, 3.0)
)
TINY = sequence.Config(data="series:x", model="linear1d", steps=10, batch_size=4, warmup_steps=0)


@pytest.mark.parametrize(
    ("data", "model"),
    [
        ("auto", "resnet1d_small"),
        ("mnist1d", "resnet1d_small"),
        ("series:a.csv", "resnet1d"),
        ("wav:sounds", "m5"),
        ("speech_commands", "m5"),
    ],
)
def test_a_set_has_its_recipe(data, model):
    config = sequence.recipe(data)
    assert config.data == ("mnist1d" if data == "auto" else data)
    assert config.model == model
    assert sequence.recipe(data, "tcn").model == "tcn"
    assert sequence.recipe(data, optimizer="sgd").learning_rate == 0.05


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"model": "resnet18"}, "experiments/classify.py trains it"),
        ({"model": "tcm"}, "tcn"),
        ({"shift": 1.5}, "shift=1.5"),
        ({"mask": 1.0}, "mask=1.0"),
        ({"noise": -1.0}, "noise=-1.0"),
        ({"ends": "mirror"}, "ends='mirror'"),
        ({"permutation": (0, 2)}, r"permutation=\(0, 2\)"),
    ],
)
def test_fields_that_make_no_sense_are_refused(fields, said):
    with pytest.raises(Refused, match=said):
        dataclasses.replace(TINY, **fields)


def test_a_permutation_is_of_the_signals_length():
    with pytest.raises(Refused, match="permutation of 3 steps"):
        sequence.build(dataclasses.replace(TINY, permutation=(2, 0, 1)), ABOUT)
    ragged = dataclasses.replace(ABOUT, ragged=True)
    whole = tuple(range(24))
    with pytest.raises(Refused, match="several lengths"):
        sequence.build(dataclasses.replace(TINY, permutation=whole), ragged)


@pytest.mark.parametrize("mixing", ["mixup", "cutmix"])
def test_signals_of_several_lengths_are_not_mixed(mixing):
    config = dataclasses.replace(TINY, **{mixing: 1.0})
    assert sequence.build(config, ABOUT).transform is not None
    with pytest.raises(Refused, match=f"{mixing}=1.0"):
        sequence.build(config, dataclasses.replace(ABOUT, ragged=True))


def test_the_steps_come_in_the_order_of_the_permutation():
    order = tuple(reversed(range(24)))
    task = sequence.build(dataclasses.replace(TINY, permutation=order), ABOUT).task
    signal = jnp.arange(48.0).reshape(1, 24, 2)
    values, _ = task.inputs({"signal": signal})
    np.testing.assert_allclose(values[0, 0], [(46 - 0.5) / 1, (47 - 2) / 3], rtol=1e-6)


def test_augmentation_changes_what_it_should_and_keeps_padding_silent():
    fields = {"shift": 0.5, "gain": 0.5, "noise": 0.1, "mask": 0.3}
    ragged = dataclasses.replace(ABOUT, ragged=True)
    transform = sequence.build(dataclasses.replace(TINY, **fields), ragged).transform
    batch = {
        "signal": jnp.ones((3, 24, 2)).at[1, 10:].set(0).at[2].set(0),
        "length": jnp.array([24, 10, 0], jnp.int32),
        "label": jnp.zeros(3, jnp.int32),
    }
    after = transform(jax.random.key(0), batch)
    assert not np.allclose(after["signal"][0], batch["signal"][0])
    assert not after["signal"][1, 10:].any()
    assert not after["signal"][2].any()
    assert sequence.build(TINY, ABOUT).transform is None


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short run of MNIST-1D from the command line."""
    path = tmp_path_factory.mktemp("run")
    arguments = (
        "--model", "linear1d", "--steps", 30, "--batch-size", 50, "--learning-rate", 0.01,
        "--warmup-steps", 0, "--devices", 1, "--validation", 0.1, "--weights", "best",
        "--evaluate-every", 15, "--workdir", path,
    )  # fmt: skip
    assert cli.command_line(sequence.NAME, [*map(str, arguments)]) == 0
    return path


def test_a_run_of_signals_learns_and_leaves_its_page(run):
    summary = json.loads((run / "summary.json").read_text())
    assert summary["test/count"] == 1000
    assert summary["test/accuracy"] > 0.13
    page = (run / "report.html").read_text()
    assert "signals of 40 steps, 1 channel" in page
    assert "Confusion matrix" in page
    assert len((run / "predictions.csv").read_text().splitlines()) == 1001


def test_it_is_read_again_without_its_data_and_measured_again(run, capsys):
    again = opened(run)
    x = again.parts.task.inputs({"signal": jnp.zeros((2, 40, 1))})
    scores = again.parts.task.predict(again.variables, x)
    np.testing.assert_allclose(scores.sum(1), 1, rtol=1e-6)
    summary = evaluate.main(evaluate.Config(run=run))
    expected = json.loads((run / "summary.json").read_text())["test/accuracy"]
    assert summary.scalars["accuracy"] == pytest.approx(expected)
    assert "examples 1000" in " ".join(capsys.readouterr().out.split())


def test_it_goes_on_where_it_stopped(run, capsys):
    assert cli.command_line(sequence.NAME, ["--workdir", str(run)]) == 0
    assert "at its last step, 30" in " ".join(capsys.readouterr().out.split())
