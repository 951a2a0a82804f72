"""Curves: which there are, and that one breaks where a value was not finite."""

import math
from functools import partial

import numpy as np
import pytest

from train.report.curves import LONG, charts, draw
from train.report.markup import figure


def train(step, **values):
    return {"kind": "train", "step": step, "epoch": step / 10, "seconds": 1.0, **values}


def evaluation(step, split, **values):
    return {"kind": "evaluation", "step": step, "split": split, "seconds": 1.0, **values}


def curves(chart):
    """Label -> (x, y) of the lines that are drawn; those of no label are numbered."""
    (axes,) = draw(chart).axes
    return {line.get_label(): line.get_data() for line in axes.lines}


def test_a_chart_for_every_quantity():
    lines = [
        train(10, gradient_norm=1.0, loss=2.0, accuracy=0.5, examples_per_second=9.0, grip=1.0),
        evaluation(10, "validation", loss=2.5, accuracy=0.4, f1=0.3, recall=0.2, count=9, mood=3.0),
        evaluation(10, "test", loss=2.6, f1=0.3, count=9),
    ]
    found = {chart.title: [series.label for series in chart.series] for chart in charts(lines)}
    assert found == {
        "loss": ["train", "validation", "test"],
        "accuracy": ["train", "validation"],
        "validation scores": ["macro recall", "macro F1"],
        "gradient norm": ["train"],
        "examples / s": ["train"],
        "grip": ["train"],
        "mood": ["validation"],
    }
    assert list(found)[:3] == ["accuracy", "loss", "validation scores"]
    assert charts([]) == []


@pytest.mark.parametrize(
    "logged", [[1.0, None, 3.0, 4.0], [None, 2.0, None, 4.0], [1.0, 2, 3, None]]
)
def test_null_breaks_the_curve_and_is_marked(logged):
    (chart,) = charts([train(10 * i, loss=value) for i, value in enumerate(logged)])
    drawn = curves(chart)
    steps, values = drawn["train"]
    np.testing.assert_array_equal(steps, [0, 10, 20, 30])
    expected = [math.nan if value is None else value for value in logged]
    np.testing.assert_array_equal(values, expected)
    marked, _ = drawn["not finite"]
    np.testing.assert_array_equal(marked, [10 * i for i, v in enumerate(logged) if v is None])


def test_whole_curves_carry_no_mark():
    (chart,) = charts([train(1, loss=2.0), train(2, loss=1.0)])
    assert list(curves(chart)) == ["train"]


def test_a_break_parts_the_path_that_is_drawn():
    (chart,) = charts([train(i, loss=None if i == 50 else 1.0 + i % 2) for i in range(100)])
    (axes,) = draw(chart).axes
    path = axes.lines[0].get_path().cleaned(remove_nans=True)
    assert list(path.codes[:-1]).count(path.MOVETO) == 2


@pytest.mark.parametrize(
    ("values", "dots"),
    [([1.0], 1), ([None, 1.0, None], 1), ([1.0] * 50 + [None, 2.0, None] + [1.0] * 50, 1)],
)
def test_a_point_without_neighbours_is_a_dot(values, dots):
    (chart,) = charts([train(i, loss=value) for i, value in enumerate(values)])
    (axes,) = draw(chart).axes
    line = axes.lines[0]
    assert line.get_marker() == "o"
    every = line.get_markevery()
    drawn = np.asarray(line.get_ydata()) if every is None else np.asarray(line.get_ydata())[every]
    assert np.isfinite(drawn).sum() == dots


def test_seeds_share_a_label_and_a_colour():
    lines = [train(s, loss=float(seed), seed=seed) for s in (1, 2) for seed in (5, 6, 7)]
    (chart,) = charts(lines)
    (axes,) = draw(chart).axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[5, 5], [6, 6], [7, 7]]
    assert len({line.get_color() for line in axes.lines}) == 1
    assert axes.lines[0].get_label() == "train"
    assert all(line.get_label().startswith("_") for line in axes.lines[1:])


@pytest.mark.parametrize(
    ("quantity", "values", "scale"),
    [
        ("loss", [2.0, 0.01], "log"),
        ("loss", [2.0, 1.0], "linear"),
        ("loss", [2.0, 0.0], "linear"),
        ("loss", [None, None], "linear"),
        ("accuracy", [0.001, 1.0], "linear"),
    ],
)
def test_the_scale_follows_the_values(quantity, values, scale):
    (chart,) = charts([train(i, **{quantity: value}) for i, value in enumerate(values)])
    (axes,) = draw(chart).axes
    assert axes.get_yscale() == scale
    assert axes.get_xlabel() == "step"
    assert axes.get_ylabel() == quantity


def test_a_long_run_makes_no_large_page():
    noise = np.random.default_rng(0).uniform(1, 2, 20 * LONG)
    (chart,) = charts([train(i, loss=value) for i, value in enumerate(noise)])
    assert len(figure(partial(draw, chart), "loss")) < 200_000
