"""Forecasting: how series are read, baselines by hand, a study and who wins."""

import dataclasses
import importlib.util
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments import forecast, forecast_series
from experiments.forecast_baselines import autoregression, seasonal_naive, windows_of
from experiments.forecast_findings import Found, verdict
from experiments.forecast_series import series
from train import cli
from train.data.source import About
from train.data.windows import windows
from train.metrics.regression import seasonal_error
from train.refusal import Refused


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A package statsmodels with files of our own: name -> its lines."""

    def write(**lines):
        for name, content in lines.items():
            folder = tmp_path / "statsmodels" / "datasets" / name
            folder.mkdir(parents=True)
            (folder / f"{name}.csv").write_text("\n".join(content) + "\n")
        (tmp_path / "statsmodels" / "__init__.py").write_text("")
        monkeypatch.syspath_prepend(tmp_path)
        importlib.invalidate_caches()  # else the one that is installed may be found

    return write


# --- series -------------------------------------------------------------------------------------


def test_a_weekly_series_has_what_is_missing_on_a_line_between(files):
    files(co2=["date,co2", "19581227,316", "19590103,", "19590110,317", "19590117,320"])
    values, years = series("co2")
    assert values.tolist() == [316, 316.5, 317, 320]
    np.testing.assert_allclose(years[1:3], [1959 + 2 / 365.25, 1959 + 9 / 365.25])


def test_a_monthly_series_goes_line_by_line(files):
    line = ",".join(map(str, range(12)))
    files(
        elnino=['"YEAR",' + ",".join(f'"{m}"' for m in range(12)), f"1950,{line}", f"1951,{line}"]
    )
    values, years = series("elnino")
    assert values.tolist() == [*range(12), *range(12)]
    assert years[[0, 12, 13]].tolist() == [1950, 1951, 1951 + 1 / 12]


def test_a_yearly_series(files):
    files(sunspots=['"YEAR","SUNACTIVITY"', "1700,5", "1701,11"])
    assert [one.tolist() for one in series("sunspots")] == [[5, 11], [1700, 1701]]


def test_without_statsmodels_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Refused, match=r"pip install 'svertka\[forecast\]'"):
        series("co2")


@pytest.mark.parametrize("lines", [["date,co2", "1958,316"], ["date,co2", "x"], []])
def test_a_file_of_another_form_is_named(files, lines):
    files(co2=lines)
    with pytest.raises(Refused, match=r"co2\.csv"):
        series("co2")


@pytest.mark.parametrize("name", [*forecast_series.KNOWN])
def test_the_real_ones_are_finite_and_at_equal_intervals(name):
    if importlib.util.find_spec("statsmodels") is None:
        pytest.skip("statsmodels is not installed")
    values, years = series(name)
    assert len(values) == {"co2": 2284, "elnino": 732, "sunspots": 309}[name]
    assert np.isfinite(values).all()
    step = np.diff(years)
    np.testing.assert_allclose(step, step.mean(), atol=0.2 * step.mean())


# --- baselines ----------------------------------------------------------------------------------


def test_the_seasonal_naive_forecast_by_hand():
    past = np.array([[1.0, 2, 3, 4, 5], [5, 4, 3, 2, 1]])
    assert seasonal_naive(3, 5)(past).tolist() == [[3, 4, 5, 3, 4], [3, 2, 1, 3, 2]]
    assert seasonal_naive(1, 2)(past).tolist() == [[5, 5], [1, 1]]


@pytest.mark.parametrize("relative", [False, True])
def test_an_autoregression_finds_a_linear_recurrence(relative):
    """A sine is one of order 2, whatever its phase."""
    t = np.arange(200)
    data = windows(np.sin(0.7 * t) + 3, 6, 4, validation=0.2, test=0.2)
    linear, ridge = autoregression(data.train, data.validation, relative=relative)
    past, truth = windows_of(data.test)
    np.testing.assert_allclose(linear(past), truth, atol=1e-4)
    assert ridge == 0


def test_relative_forecasts_go_on_where_the_series_goes():
    """What is added to all that is seen is added to what is forecast; else it is taken for news."""
    rng = np.random.default_rng(0)
    data = windows(rng.normal(size=300).cumsum(), 4, 2, validation=0.2, test=0.2)
    past, _ = windows_of(data.test)
    for relative in (True, False):
        linear, _ = autoregression(data.train, None, relative=relative)
        moved = np.abs(linear(past + 100) - linear(past) - 100).max()
        assert (moved < 1e-6) == relative


# --- the network --------------------------------------------------------------------------------

ABOUT = About(
    "s", "train", (), mirror=False, shape=(12, 1), mean=(100.0,), std=(20.0,), targets=("+1", "+2")
)
TINY = forecast.Config(
    data="sunspots", model="linear1d", past=12, ahead=2, season=4, steps=10, batch_size=8,
    warmup_steps=0, scale=5.0,
)  # fmt: skip


def test_a_relative_network_moves_with_its_series():
    """Ten more on everything that is seen is ten more on what is forecast."""
    parts = forecast.build(TINY, ABOUT)
    signal = jnp.asarray(np.random.default_rng(0).normal(100, 20, (3, 12, 1)), jnp.float32)
    x = parts.task.inputs({"signal": signal})
    variables = parts.init(jax.random.key(0), x)
    before = parts.task.predict(variables, x)["target"]
    after = parts.task.predict(variables, parts.task.inputs({"signal": signal + 10}))["target"]
    assert before.shape == (3, 2)
    np.testing.assert_allclose(after, before + 10, rtol=1e-4)
    constant = parts.task.inputs({"signal": jnp.full((1, 12, 1), 130.0)})
    head = variables["params"]["network"]["head"]["bias"]
    said = parts.task.predict(variables, constant)["target"][0]
    np.testing.assert_allclose(said, 130 + 5 * head, rtol=1e-4)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"data": "rain"}, "data='rain'"),
        ({"model": "unet"}, "experiments/segment.py"),
        ({"loss": "hinge"}, "loss='hinge'"),
        ({"season": 13}, "season=13 is longer than past=12"),
        ({"ahead": 0}, "ahead=0"),
        ({"test": 1.0}, "test=1.0"),
    ],
)
def test_fields_that_make_no_sense_are_refused(fields, said):
    with pytest.raises(Refused, match=said):
        dataclasses.replace(TINY, **fields)


def test_a_series_that_repeats_itself_has_no_mase(files):
    lines = [f"{1700 + t},{t % 4}" for t in range(60)]
    files(sunspots=["year,spots", *lines])
    with pytest.raises(Refused, match="season=4"):
        dataclasses.replace(TINY, scale=0.0).remembering(None)


def test_a_study_of_two_seeds_beside_the_baselines(files, tmp_path, capsys):
    rng = np.random.default_rng(0)
    values = 50 + 30 * np.sin(np.arange(160) * 2 * np.pi / 11) + rng.normal(0, 3, 160)
    files(sunspots=["year,spots", *(f"{1700 + t},{v}" for t, v in enumerate(values))])
    path = tmp_path / "study"
    arguments = (
        "--data", "sunspots", "--model", "linear1d", "--steps", 60, "--batch-size", 16,
        "--past", 22, "--ahead", 5, "--warmup-steps", 0, "--evaluate-every", 30, "--devices", 1,
        "--learning-rate", 0.02, "--seeds", 0, 1, "--workdir", path,
    )  # fmt: skip
    assert cli.command_line(forecast.NAME, [*map(str, arguments)]) == 0
    found = json.loads((path / "forecasts.json").read_text())
    assert [*found["test"]] == ["linear1d", "seasonal naive", "linear autoregression"]
    config = json.loads((path / "config.json").read_text())
    assert config["scale"] == pytest.approx(seasonal_error(values[:96], 11))
    runs = [json.loads((path / f"seed_{seed}" / "summary.json").read_text()) for seed in (0, 1)]
    own = found["test"]["linear1d"]
    for name in ("mase", "mae", "rmse", "r2"):
        np.testing.assert_allclose(own[name], [one[f"test/{name}"] for one in runs], rtol=1e-4)
    naive = found["test"]["seasonal naive"]
    truth = np.stack([values[t : t + 5] for t in range(128, 156)])
    before = np.stack([values[t - 11 : t - 6] for t in range(128, 156)])
    assert naive["mae"] == [pytest.approx(np.abs(truth - before).mean(), rel=1e-5)]
    means = {who: np.mean(scores["mase"]) for who, scores in found["test"].items()}
    assert found["winner"] == min(means, key=means.get)
    said = " ".join(capsys.readouterr().out.split())
    assert "wins" in said
    assert found["winner"] in (path / "forecasts.md").read_text().splitlines()[-1]
    with Image.open(path / "forecasts.png") as picture:
        assert picture.width > 1000
    before = (path / "forecasts.json").read_bytes()
    assert cli.command_line(forecast.NAME, ["--workdir", str(path)]) == 0
    assert (path / "forecasts.json").read_bytes() == before


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ([0.4, 0.5], "tcn wins: MASE 0.450, the best baseline, linear autoregression, MASE 0.500."),
        ([0.6, 0.7], "A baseline wins: linear autoregression, MASE 0.500; tcn has MASE 0.650."),
    ],
)
def test_who_wins_is_said(own, said):
    scores = {
        "tcn": {"mase": own},
        "seasonal naive": {"mase": [0.9]},
        "linear autoregression": {"mase": [0.5]},
    }
    winner = min(scores, key=lambda who: np.mean(scores[who]["mase"]))
    assert verdict(Found("co2", "tcn", 0.1, scores, {}, winner, None)) == said
