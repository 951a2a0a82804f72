"""What an ablation says: its table, its verdicts, CSV, Markdown, figure and page."""

import csv
import io

import numpy as np
import pytest
from scipy import stats

from train.ablation import Row
from train.metrics.paired import smallest_effect
from train.report.ablation import Ablated, csv_of, lines, markdown, write_ablation, write_shown
from train.sweep import Outcome

SEEDS = (0, 1, 2, 3, 4)
BASE = [0.900, 0.910, 0.905, 0.895, 0.902]
BETTER = [0.920, 0.931, 0.924, 0.917, 0.921]
ALIKE = [0.902, 0.908, 0.906, 0.893, 0.905]


def row(change, group=""):
    return Row(" ".join(filter(None, [group, change])), group, change or "baseline", not change, {})


def outcome(state="finished", error=""):
    return Outcome(state=state, seconds=61.0, parameters=1234, rank="accuracy", error=error)


def ablated(rows, values, outcomes=None, metric="accuracy"):
    outcomes = [outcome()] * len(rows) if outcomes is None else outcomes
    return Ablated(
        "A table", metric, SEEDS, lines(rows, outcomes, values), {"Data": "digits"},
        {"pad=0": {"ema": 0.5}}, {one.name: ["python", "x.py", f"--{one.name}"] for one in rows},
    )  # fmt: skip


ROWS = [row(""), row("pad=0"), row("ema=0"), row("lr=9|9")]
FOUND = ablated(
    ROWS,
    [BASE, BETTER, ALIKE, [None] * 5],
    [*[outcome()] * 3, outcome("failed", "every seed diverged")],
)


def test_a_line_is_scipys_numbers():
    base, better, alike, lost = FOUND.lines
    assert base.paired is None
    assert base.spread.mean == pytest.approx(np.mean(BASE))
    expected = stats.t.interval(0.95, 4, loc=np.mean(BETTER), scale=stats.sem(BETTER))
    np.testing.assert_allclose(better.interval, expected)
    p_better, p_alike = (stats.ttest_rel(one, BASE).pvalue for one in (BETTER, ALIKE))
    assert better.adjusted == pytest.approx(2 * p_better)  # of two comparisons: the third has none
    assert alike.adjusted == pytest.approx(p_alike)
    assert lost.spread.n == lost.paired.n == 0


def test_what_the_data_say():
    said = [FOUND.verdict(line) for line in FOUND.lines]
    # Of two comparisons, at 2.5 %.
    effect = 100 * np.std(np.subtract(ALIKE, BASE), ddof=1) * smallest_effect(5, level=0.975)
    assert said == [
        "",
        "better",
        f"no effect found (one of {effect:.2f} would be)",
        "failed: every seed diverged",
    ]
    loss = ablated(ROWS[:2], [BASE, BETTER], metric="loss")
    assert loss.verdict(loss.lines[1]) == "worse"
    strange = ablated(ROWS[:2], [BETTER, BASE], metric="strangeness")
    assert strange.verdict(strange.lines[1]) == "lower"
    for values, verdict in (
        (BASE, "the same in every seed"),
        ([one + 0.01 for one in BASE], "one difference in every seed: no test"),
        ([0.5, None, None, None, None], "one seed: no test"),
        ([None] * 5, "no value in any seed"),
    ):
        one = ablated(ROWS[:2], [BASE, values])
        assert one.verdict(one.lines[1]) == verdict


def test_why_there_is_no_comparison():
    first, second = [0.9, 0.91, None, None, None], [None, None, 0.9, 0.91, 0.92]
    found = ablated(ROWS[:2], [first, second])
    assert found.verdict(found.lines[1]) == "no seed in common with the baseline"
    for base, said in (
        (outcome("failed", "out of memory"), "the baseline has no result"),
        (outcome("stopped"), "the baseline has no result yet"),
        (None, "the baseline has no result yet"),
    ):
        found = ablated(ROWS[:2], [[None] * 5, BETTER], [base, outcome()])
        assert found.verdict(found.lines[1]) == said
        notes = " ".join(found.notes)
        assert "in percentage points; none of them can be tested." in notes
        assert "comparisons" not in notes
        assert "No effect found" not in notes
    notes = " ".join(ablated(ROWS[:2], [BASE, BETTER]).notes)
    assert "t test, the only one of this table, so that there is nothing to adjust." in notes


def test_seeds_that_are_missing_are_said():
    found = ablated(ROWS[:2], [BASE, [0.92, None, 0.93, 0.91, float("nan")]])
    assert "pad=0 has a value of 3 of 5 seeds: what is said" in " ".join(found.notes)
    assert not any("seeds: what is said" in note for note in FOUND.notes)  # all, or none at all


def test_a_baseline_is_named_as_one_where_its_name_does_not_say_it():
    found = ablated([row("")._replace(change="residual"), ROWS[1]], [BASE, BETTER])
    assert found.verdict(found.lines[0]) == "the baseline"
    assert FOUND.verdict(FOUND.lines[0]) == ""


def test_a_row_leads_to_its_own_page(tmp_path):
    found = FOUND._replace(pages={"pad=0": "trials/pad 0/report.html"})
    text = write_shown(tmp_path, found).read_text()
    assert text.count("<a href=") == 1
    assert '<a href="trials/pad%200/report.html">pad=0</a>' in text


def test_a_trial_that_was_stopped_is_no_comparison():
    found = ablated(ROWS[:2], [BASE, [None] * 5], [outcome(), outcome("stopped")])
    assert found.verdict(found.lines[1]) == "stopped, not at its end"


def test_each_group_has_its_own_baseline():
    rows = [row("", "d=1"), row("x=1", "d=1"), row("", "d=2"), row("x=1", "d=2")]
    found = ablated(rows, [BASE, BETTER, BETTER, BASE])
    differences = [line.paired and line.paired.difference for line in found.lines]
    gain = np.mean(BETTER) - np.mean(BASE)
    assert differences == [None, pytest.approx(gain), None, pytest.approx(-gain)]


def test_several_comparisons_are_held_to_more():
    # Found at 5 % by itself, and not among ten of them.
    apart = [0.012, 0.002, 0.009, 0.010, 0.001]
    some = [base + one for base, one in zip(BASE, apart, strict=True)]
    alone = ablated(ROWS[:2], [BASE, some])
    assert alone.verdict(alone.lines[1]) == "better"
    rows = [row(""), *(row(f"a={n}") for n in range(10))]
    many = ablated(rows, [BASE, some, *[ALIKE] * 9])
    assert many.verdict(many.lines[1]).startswith("no effect found")
    # What would have been found is larger too: never less than what was not.
    effect = many.detectable(many.lines[1])
    assert effect == pytest.approx(np.std(apart, ddof=1) * smallest_effect(5, level=0.995))
    assert effect > alone.detectable(alone.lines[1]) == alone.lines[1].paired.detectable
    assert "two-sided at 5 % / 10, with" in " ".join(many.notes)
    (line,) = [one for one in csv.DictReader(io.StringIO(csv_of(many))) if one["row"] == "a=0"]
    assert float(line["detectable"]) == effect


def test_the_csv_has_every_number_and_every_seed():
    rows = [*csv.DictReader(io.StringIO(csv_of(FOUND)))]
    assert [one["row"] for one in rows] == ["", "pad=0", "ema=0", "lr=9|9"]
    better = rows[1]
    assert [float(better[f"seed_{seed}"]) for seed in SEEDS] == BETTER
    assert float(better["p"]) == pytest.approx(stats.ttest_rel(BETTER, BASE).pvalue)
    assert float(better["difference_low"]) < float(better["difference"])
    assert (rows[3]["state"], rows[3]["error"]) == ("failed", "every seed diverged")
    assert rows[3]["mean"] == rows[3]["seed_0"] == ""
    waiting = ablated(ROWS[:2], [BASE, [None] * 5], [outcome(), None])
    assert len(csv_of(waiting).splitlines()) == 2  # the head, and the trial that has ended


def test_the_markdown_says_the_limits():
    text = markdown(FOUND)
    assert "| 92.26 ± 0.53 |" in text
    assert "lr=9\\|9" in text
    said = " ".join(text.split())
    assert "Initialisation, order and augmentation vary with the seed" in said
    assert "The validation cut does not" in said
    assert "over the 2 comparisons of this table" in said
    assert "With pad=0 the recipe also has ema=0.5." in said
    assert "python x.py" in text


def test_the_files(tmp_path):
    write_ablation(tmp_path, FOUND)
    page = write_shown(tmp_path, FOUND)
    assert {one.name for one in tmp_path.iterdir()} == {
        "ablation.csv", "ablation.md", "ablation.png", "report.html",
    }  # fmt: skip
    assert (tmp_path / "ablation.png").read_bytes()[:4] == b"\x89PNG"
    text = page.read_text()
    assert "failed: every seed diverged" in text
    assert "<img" in text
