"""The page for several runs: every value, mean and deviation by hand, links, runs that diverged."""

import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from train.files import WriteFailed
from train.metrics.spread import spread
from train.report import study
from train.report.study import draw, finite, write_study

NARROW = "\N{NARROW NO-BREAK SPACE}"
RUNS = {
    "seed 0": {"loss": 0.5, "accuracy": 0.90, "count": 355},
    "seed <1>": {"loss": 0.3, "accuracy": 0.94, "count": 355},
    "seed 2": {"loss": None, "accuracy": None, "count": None},
    "seed 3": {"loss": 0.4, "accuracy": 0.92, "count": 355},
}


class Table(HTMLParser):
    """Rows as texts, classes of cells, and links."""

    def __init__(self, page):
        super().__init__()
        self.rows, self.classes, self.links, self.cell = [], {}, {}, None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.cell = (len(self.rows) - 1, len(self.rows[-1]) - 1)
            self.classes[self.cell] = attrs.get("class", "")
        if tag == "a":
            self.links[self.cell] = attrs["href"]

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.cell = None

    def handle_data(self, data):
        if self.cell is not None:
            self.rows[-1][-1] += data


def page(tmp_path, runs=RUNS, **more):
    path = write_study(tmp_path, "Digits & <more>", runs, **{"links": {}, **more})
    assert path == tmp_path / "report.html"
    text = path.read_text(encoding="utf-8")
    return Table(text), text


def test_every_value_and_what_they_come_to(tmp_path):
    table, text = page(tmp_path)
    assert table.rows == [
        ["Run", "accuracy\N{NO-BREAK SPACE}↑", "loss\N{NO-BREAK SPACE}↓", "examples"],
        ["seed 0", f"90.00{NARROW}%", "0.5000", "355"],
        ["seed <1>", f"94.00{NARROW}%", "0.3000", "355"],
        ["seed 2", "diverged"],
        ["seed 3", f"92.00{NARROW}%", "0.4000", "355"],
        ["mean ± std, n = 3", f"92.00 ± 2.00{NARROW}%", "0.4 ± 0.1", "355"],
    ]
    best = [place for place, name in table.classes.items() if "best" in name]
    assert best == [(2, 1), (2, 2)]  # the highest accuracy, the lowest loss
    assert "4 runs, of which 1 diverged" in text
    assert "<h1>Digits &amp; &lt;more&gt;</h1>" in text
    assert "seed &lt;1&gt;" in text


def test_of_runs_of_several_recipes_there_is_no_mean(tmp_path):
    table, text = page(tmp_path, alike=False)
    assert [row[0] for row in table.rows] == ["Run", "seed 0", "seed <1>", "seed 2", "seed 3"]
    assert "best" in table.classes[2, 1]
    assert "mean" not in text
    assert "<figure" not in text


def test_what_the_runs_have_in_common_is_said(tmp_path):
    assert '<dl class="facts">' not in page(tmp_path)[1]
    text = page(tmp_path, facts={"Data": "folder:<pets>", "Model": "lenet5"})[1]
    assert re.findall("<d[td]>(.*?)</d[td]>", text) == [
        *("Data", "folder:&lt;pets&gt;", "Model", "lenet5")
    ]


def test_links_are_relative_and_quoted(tmp_path):
    links = {"seed 0": "seed_0/report.html", "seed <1>": 'a "b" #1?/report.html'}
    table, _ = page(tmp_path, links=links | {"seed 3": "javascript:alert(1)"})
    assert table.links == {
        (1, 0): "seed_0/report.html",
        (2, 0): "a%20%22b%22%20%231%3F/report.html",
        (4, 0): "javascript%3Aalert%281%29",
    }


def test_runs_that_know_other_quantities(tmp_path):
    runs = {"a": {"f1": 0.5, "roc_auc": math.nan}, "b": {"f1": 0.5, "mood": 2.0}, "c": {}}
    table, _ = page(tmp_path, runs)
    head = ["macro F1\N{NO-BREAK SPACE}↑", "ROC-AUC\N{NO-BREAK SPACE}↑", "mood"]
    assert table.rows == [
        ["Run", *head],
        ["a", f"50.00{NARROW}%", "not finite", "–"],
        ["b", f"50.00{NARROW}%", "–", "2.0000"],
        ["c", "diverged"],
        ["mean ± std", f"50.00{NARROW}% (n = 2)", "–", "2 (n = 1)"],
    ]
    assert not any("best" in name for name in table.classes.values())  # both are


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ({"seed 0": {"accuracy": 0.5}}, "1 run."),
        ({"seed 0": {"accuracy": None}}, "1 run, of which 1 diverged."),
        ({}, "0 runs."),
    ],
)
def test_one_run_and_none(tmp_path, runs, words):
    table, text = page(tmp_path, runs, lead="Read & see.")
    assert words in text
    assert "Read &amp; see." in text
    assert len(table.rows) == 1 + len(runs)
    assert ("<img" in text) == (words == "1 run.")


def test_the_figure_has_every_run_as_a_point():
    names = ["accuracy", "loss"]
    found = {name: spread(finite(RUNS, name).values()) for name in names}
    drawn = draw(RUNS, names, found)
    for axes, values in zip(drawn.axes, ([0.9, 0.94, 0.92], [0.5, 0.3, 0.4]), strict=True):
        mean, points, lost = axes.lines
        np.testing.assert_array_equal(points.get_xdata(), values)
        np.testing.assert_array_equal(points.get_ydata(), [0, 1, 3])
        np.testing.assert_array_equal(lost.get_ydata(), [2])
        assert mean.get_xdata()[0] == pytest.approx(np.mean(values))
        band = axes.patches[0].get_extents()
        across = axes.transData.inverted().transform(band)[:, 0]
        low, high = np.mean(values) + np.std(values, ddof=1) * np.array([-1, 1])
        np.testing.assert_allclose(across, [low, high])
    assert [label.get_text() for label in drawn.axes[0].get_yticklabels()] == [*RUNS]


@pytest.mark.parametrize("count", [study.NAMED, 40])
@pytest.mark.parametrize("quantities", [1, 4, 7])
def test_many_runs_and_long_names(tmp_path, count, quantities):
    runs = {
        f"without the {i}th of all augmentations $x^2$": {f"q{q}": i / (q + 1) for q in range(7)}
        for i in range(count)
    }
    runs = {run: dict(list(some.items())[:quantities]) for run, some in runs.items()}
    table, text = page(tmp_path, runs)  # a warning of matplotlib's is an error
    assert len(table.rows) == count + 2
    assert len(re.findall("<img", text)) == 1


def test_a_figure_that_fails_is_named_in_its_place(tmp_path, monkeypatch):
    def fail(*_):
        raise ValueError("no\nink")

    monkeypatch.setattr(study, "draw", fail)
    said = []
    text = write_study(tmp_path, "four seeds", RUNS, links={}, say=said.append).read_text()
    assert said == ["A part of the report could not be drawn: the figure: ValueError: no."]
    assert "This part could not be drawn: the figure: ValueError: no." in text
    assert f"92.00{NARROW}%" in text


def test_a_page_that_cannot_be_written(tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(WriteFailed, match=r"report\.html could not be written"):
        page(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
