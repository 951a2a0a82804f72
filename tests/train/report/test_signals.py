"""Waveforms: which are drawn, what of them, and what is said of each."""

import numpy as np

from train.data.arrays import Arrays
from train.data.source import About
from train.report.classification import classification_part
from train.report.figures import own_settings
from train.report.signals import (
    Drawn,
    draw_titled,
    draw_waveforms,
    in_turn,
    outline,
    signals_part,
    steps_of,
)
from train.tasks.task import Predictions, Summary

ABOUT = About("bells", "test", ("low", "<high>", "$x"), False, shape=(6, 2), ragged=True, rate=2)
LABELS = np.array([0, 0, 1, 2, 0, 1], np.int32)
SOURCE = Arrays(
    {
        "signal": np.arange(72, dtype=np.float32).reshape(6, 6, 2),
        "length": np.array([6, 5, 4, 3, 2, 1]),
        "label": LABELS,
    },
    ABOUT,
)
SAID = np.array([0, 1, 1, 2, 0, 0])
SUMMARY = Summary(
    {},
    {
        "predictions": Predictions(
            np.arange(6),
            {"truth": LABELS, "prediction": SAID, "score": np.linspace(0.5, 1, 6)},
            classes=("truth", "prediction"),
        ),
        "confusion": np.array([[2, 1, 0], [1, 1, 0], [0, 0, 1]]),
        "mistakes": [{"index": 5, "label": 1, "predicted": 0, "confidence": 1.0}],
    },
)


def test_classes_take_turns():
    assert in_turn(LABELS, 5) == [0, 2, 3, 1, 5]
    assert in_turn(LABELS, 20) == [0, 2, 3, 1, 5, 4]
    assert in_turn(np.zeros(0, int), 3) == []


def test_the_section_names_true_and_predicted_classes():
    page = str(signals_part(SUMMARY, ABOUT, SOURCE))
    assert "6 of the 6 examples of the test split" in page
    assert '<img alt="6 waveforms' in page
    assert "failed" not in page


def test_a_mistake_is_drawn_as_a_waveform():
    page = str(classification_part(SUMMARY, ABOUT, SOURCE))
    assert 'alt="&lt;high&gt;, taken for low with' in page
    assert "failed" not in page


def test_padding_is_not_drawn_and_right_and_wrong_have_colours():
    drawn = [Drawn(SOURCE[i], f"word {i}", i == 0) for i in (0, 4)]
    with own_settings():
        made = draw_waveforms(drawn, ABOUT)
        first, second, *rest = made.axes
        assert [len(line.get_xdata()) for line in first.lines] == [6, 6]  # a line a channel
        assert second.lines[1].get_xdata().tolist() == [0, 0.5]  # seconds
        assert second.lines[1].get_ydata().tolist() == [49, 51]
        assert first.title.get_color() != second.title.get_color()
        assert second.get_title() == "word 4"
        assert not any(axes.get_visible() for axes in rest)


def test_a_forecast_goes_on_where_the_signal_ends():
    with own_settings():
        made = draw_titled(np.zeros((4, 1)), "words", None, np.array([1.0, 2.0]))
        past, ahead = made.axes[0].lines
        assert past.get_xdata().tolist() == [0, 1, 2, 3]
        assert (ahead.get_xdata().tolist(), ahead.get_ydata().tolist()) == ([4, 5], [1, 2])


def test_a_long_line_is_drawn_by_its_outline():
    values = np.zeros(16000)
    values[7] = 3  # a click in the first bin
    values[-1] = -2
    at, seen = outline(values)
    assert len(at) == len(seen) == 800
    assert (seen.max(), seen.min()) == (3, -2)
    assert at[int(np.argmax(seen))] == 0
    np.testing.assert_array_equal(outline(values[:800])[1], values[:800])


def test_a_sound_is_no_solid_bar():
    t = np.arange(16000) / 8000
    with own_settings():
        (axes,) = draw_titled(np.sin(2 * np.pi * 440 * t)[:, None], "words", 8000).axes
        (filled,) = axes.collections
        assert filled.get_alpha() < 0.5
        low, high = (line.get_ydata() for line in axes.lines)  # each by itself, no zigzag
        assert (low < -0.9).all()
        assert (high > 0.9).all()


def test_steps_that_are_no_padding():
    assert steps_of(SOURCE[3]).shape == (3, 2)
    assert steps_of({"signal": np.zeros((5, 1))}).shape == (5, 1)
