"""The range test from its command line."""

import csv

import numpy as np
import pytest

from experiments import lr_range, sequence
from train import cli
from train.rate_range import LONG
from train.refusal import Refused

WORDS = ("sequence", "--data", "mnist1d", "--model", "linear1d", "--batch-size", "100")


def test_a_range_test_of_a_recipe(tmp_path, capsys):
    asked = lr_range.parsed([*WORDS, "--updates", "60", "--out", str(tmp_path / "out")])
    found = lr_range.main(asked)
    with (tmp_path / "out" / "lr_range.csv").open() as file:
        rows = [*csv.DictReader(file)]
    rates = np.array([float(row["learning_rate"]) for row in rows])
    np.testing.assert_allclose(rates, np.geomspace(1e-6, 10, 60)[: len(rates)], rtol=1e-5)
    assert float(rows[0]["loss"]) > 2.0
    assert 1e-6 < found.steepest <= found.least
    assert (tmp_path / "out" / "lr_range.png").read_bytes()[:4] == b"\x89PNG"
    said = capsys.readouterr().out
    assert f"it falls fastest at {found.steepest:.2g}" in said


def test_the_rate_is_at_its_peak_from_the_first_update_on():
    config = cli.configure(sequence, WORDS[1:])
    constant = lr_range.constant(config)
    assert (constant.steps, constant.epochs, constant.warmup_steps) == (LONG, None, 0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "no experiment is named"),
        (("sequense",), "experiment='sequense' is unknown; nearest: sequence"),
        (("sequence", "--lowest", "1", "--highest", "0.1"), "are no range of rates"),
        (("sequence", "--lowest", "small"), "invalid float value"),
        (("sequence", "--updates", "3"), "updates=3 must be at least 10"),
        (("sequence", "--data", "mnist1d", "--seeds", "0", "1"), "workdir and seeds"),
        (("sequence", "--data", "mnist1d", "--stepz", "3"), "there is no option --stepz"),
        (
            ("mlp_vs_cnn",),
            "mlp_vs_cnn with model='all' is more than one training, or goes on from another",
        ),
    ],
)
def test_what_cannot_be_is_refused(words, said, tmp_path):
    with pytest.raises(Refused) as refused:
        lr_range.main(lr_range.parsed([*words, "--out", str(tmp_path)]) if words else
                      lr_range.parsed([]))  # fmt: skip
    assert said in str(refused.value)
