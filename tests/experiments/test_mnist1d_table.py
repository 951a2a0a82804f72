"""MNIST-1D's table: its cells, its permutation, what it leaves behind."""

import json
import random
from types import SimpleNamespace

import numpy as np
import pytest

from experiments import mnist1d_table
from train import cli
from train.data.mnist1d import mnist1d
from train.metrics.spread import Spread
from train.refusal import Refused
from train.report.figures import own_settings


def test_the_cells_are_every_network_ordered_and_shuffled():
    cells = dict(mnist1d_table.cells(mnist1d_table.TABLE))
    assert [*cells] == [
        "linear1d", "linear1d_shuffled", "mlp1d", "mlp1d_shuffled", "cnn1d", "cnn1d_shuffled",
    ]  # fmt: skip
    for name, config in cells.items():
        model, _, shuffled = name.partition("_")
        assert config.model == model
        assert config.permutation == (mnist1d_table.PERMUTATION if shuffled else ())
        assert (config.seeds, config.learning_rate) == ((0, 1, 2, 3, 4), 0.01)
        assert (config.validation, config.weights) == (0, "last")
    assert (cells["mlp1d"].weight_decay, cells["mlp1d"].schedule) == (0.2, "cosine")
    assert (cells["cnn1d"].weight_decay, cells["cnn1d"].schedule) == (0.0, "constant")
    asked = dict(mnist1d_table.cells(mnist1d_table.replace(mnist1d_table.TABLE, weight_decay=0.3)))
    assert asked["mlp1d"].weight_decay == 0.3
    assert mnist1d_table.recipe(model="cnn1d") == mnist1d_table.replace(cells["cnn1d"], seeds=())
    assert mnist1d_table.recipe(model="mlp1d") == mnist1d_table.replace(cells["mlp1d"], seeds=())


def test_the_permutation_is_that_of_the_authors_code():
    before = random.getstate(), np.random.get_state()  # noqa: NPY002
    with own_settings():  # the package imports pyplot
        from mnist1d.data import get_dataset_args, make_dataset
    try:
        asked = {**get_dataset_args(as_dict=True), "shuffle_seq": True}
        shuffled = make_dataset(SimpleNamespace(**asked))["x"]
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
    source = mnist1d("train")
    ordered = np.stack([source[i]["signal"][:, 0] for i in range(50)])
    np.testing.assert_allclose(shuffled[:50], ordered[:, mnist1d_table.PERMUTATION], rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--model", "tcn"), "model='tcn'"),
        (("--data", "digits"), "data='digits'"),
        (("--permutation", "0", "1"), "permutation"),
    ],
)
def test_what_the_table_does_not_have_is_refused(arguments, said, capsys):
    assert cli.command_line(mnist1d_table.NAME, [*arguments]) == 2
    assert said in capsys.readouterr().err


def test_no_seeds_are_refused():
    with pytest.raises(Refused, match="seeds"):
        mnist1d_table.main(mnist1d_table.replace(mnist1d_table.TABLE, seeds=()))


def test_a_table_and_what_goes_on_with_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        mnist1d_table, "PUBLISHED", {"linear1d": mnist1d_table.Row("logistic", 32, 32)}
    )
    path = tmp_path / "table"
    arguments = (
        "--steps", 8, "--batch-size", 500, "--seeds", 0, 1, "--devices", 1, "--workdir", path,
    )  # fmt: skip
    assert cli.command_line(mnist1d_table.NAME, [*map(str, arguments)]) == 0
    found = json.loads((path / "summary.json").read_text())
    assert found["seeds"] == [0, 1]
    for name in ("linear1d", "linear1d_shuffled"):
        each = [
            json.loads((path / name / f"seed_{seed}" / "summary.json").read_text())
            for seed in (0, 1)
        ]
        assert found[name] == [one["test/accuracy"] for one in each]
        assert (path / name / "report.html").exists()
    lines = (path / "table.md").read_text().splitlines()
    mean = 100 * np.mean(found["linear1d"])
    assert lines[2].startswith(f"| logistic | 32 | {mean:.2f} ± ")
    capsys.readouterr()
    again = (*arguments[:7], 2, *arguments[7:])  # a third seed
    assert cli.command_line(mnist1d_table.NAME, [*map(str, again)]) == 0
    later = json.loads((path / "summary.json").read_text())
    assert later["linear1d"][:2] == found["linear1d"]
    assert len(later["linear1d"]) == 3


def test_the_lines_of_a_table():
    measured = {
        name: Spread(50.0 + k, 0.5, 5, 0)
        for k, (name, _) in enumerate(mnist1d_table.cells(mnist1d_table.TABLE))
    }
    assert mnist1d_table.lines(measured)[2] == (
        "CNN",
        "94",
        "54.00 ± 0.50",
        "56",
        "55.00 ± 0.50",
    )
    assert mnist1d_table.around(Spread(54.0, 0.5, 4, 1)) == "54.00 ± 0.50 (1 diverged)"
    assert mnist1d_table.around(Spread(50.0, None, 1, 0)) == "50.00"
