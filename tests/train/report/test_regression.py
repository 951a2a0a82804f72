"""Regression's part: figures of each target, names escaped, pictures of images and signals."""

import numpy as np
import pytest

from train.data.source import About
from train.metrics.regression import residuals
from train.report.regression import PANELS, PICTURES, draw_scatter, regression_part, spaced
from train.tasks.regression import summarise
from train.tasks.task import Ratio


class Some:
    """A source of images or of signals."""

    def __init__(self, key, shape, targets):
        self.about = About("s", "test", (), mirror=None, shape=shape, targets=targets)
        self.key = key

    def __len__(self):
        return 20

    def __getitem__(self, i):
        if i == 3:
            raise ValueError("broken")
        dtype = np.uint8 if self.key == "image" else np.float32
        return {self.key: np.full(self.about.shape, i, dtype)}


def page(key="image", shape=(4, 4, 1), targets=("<b>a</b>", "$b"), count=20):
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(count, len(targets)))
    guess = truth + np.arange(count)[:, None] / 10
    kept = [{"index": i, "target": truth[i], "predicted": guess[i]} for i in range(count)]
    sums = {"loss": Ratio(1.0, 2.0), "count": count, "residuals": residuals(guess, truth)}
    summary = summarise(sums, kept, targets, np.ones(len(targets)))
    source = Some(key, shape, targets)
    return str(regression_part(summary, source.about, source)), summary


def test_a_row_a_target_and_names_escaped():
    text, summary = page()
    assert "&lt;b&gt;a&lt;/b&gt;" in text
    assert "<b>a</b>" not in text
    for head in ("MASE", "RMSE", "MAE", "R²"):
        assert f">{head}</th>" in text
    assert f"{summary.tables['targets'][0]['rmse']:.4f}" in text


@pytest.mark.parametrize(("key", "shape"), [("image", (4, 4, 1)), ("signal", (9, 2))])
def test_the_farthest_off_come_first_with_their_picture(key, shape):
    text, summary = page(key, shape)
    assert [one["index"] for one in summary.tables["worst"]][:3] == [19, 18, 17]
    rows = text.split("Farthest off")[1]
    assert rows.index("no. 19") < rows.index("no. 18")
    assert rows.count("<img") == PICTURES
    assert "no. 3<" not in rows


def test_a_picture_that_is_broken_costs_no_section():
    text, _ = page(count=5)
    assert "No picture: ValueError: broken" in text


def test_nothing_measured_says_so():
    text, _ = page(count=0)
    assert "No example was measured." in text
    assert "Farthest off" not in text


def test_of_many_targets_some_are_drawn_the_last_among_them():
    assert spaced(1) == [0]
    assert spaced(PANELS) == [*range(PANELS)]
    assert (spaced(52)[0], spaced(52)[-1], len(spaced(52))) == (0, 51, PANELS)
    text, _ = page(targets=tuple(f"+{k}" for k in range(1, 10)))
    assert f"Drawn are\n    {PANELS} of 9 targets" in text


def test_the_line_of_agreement_holds_all_points():
    truth = np.array([[1.0], [5.0], [np.nan]])
    guess = np.array([[2.0], [9.0], [1.0]])
    axes = draw_scatter(truth, guess, ["$x^2"]).axes[0]
    low, high = axes.get_xlim()
    assert low < 1 < 9 < high
    assert axes.get_xlim() == axes.get_ylim()
