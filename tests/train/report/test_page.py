"""The page: what a reader must find on it, and that it needs nothing else."""

import base64
import dataclasses
import itertools
import json
import os
import re
import resource
from functools import partial
from html.parser import HTMLParser

import numpy as np
import pytest
from markupsafe import Markup

from train.data.source import About
from train.files import WriteFailed
from train.report import curves
from train.report.classification import classification_part
from train.report.page import rows, write_report
from train.tasks.task import Summary

NARROW = "\N{NARROW NO-BREAK SPACE}"
CLASSES = tuple(f"<i>{i}</i>" for i in range(10))
ABOUT = About("digits", "test", CLASSES, False, (32, 32, 1), (77.5,), (96.25,))
SCALARS = {"loss": 0.0512, "precision": 0.75, "count": 1355.0, "accuracy": 0.9859, "top5": 1.0}


class Digits:
    about = ABOUT

    def __len__(self):
        return 1355

    def __getitem__(self, i):
        return {"image": np.random.default_rng(i).integers(0, 255, (32, 32, 1), dtype=np.uint8)}


class Page(HTMLParser):
    """Tags that are open must be closed in their order; texts by the tag that holds them."""

    VOID = ("meta", "img", "br", "link", "input")

    def __init__(self, page):
        super().__init__()
        self.open, self.attributes, self.texts = [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip() and self.open[-1] != "style":
            self.texts.append((self.open[-1], re.sub(r"[ \n]+", " ", data).strip()))


@pytest.fixture
def workdir(tmp_path):
    lines = [
        {"kind": "train", "step": 10, "epoch": 0.5, "seconds": 30, "loss": 2.0, "accuracy": 0.2},
        {"kind": "train", "step": 1000, "epoch": 50.5, "seconds": 300, "loss": None},
        {"kind": "evaluation", "step": 1000, "seconds": 330, "split": "validation", "loss": 1.5},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = {
        "model": "resnet20",
        "rate": {"peak": 0.1, "cuts": [1, 2]},
        "note": "<u>&",
        "ema": None,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "about.json").write_text(json.dumps(dataclasses.asdict(ABOUT)))
    (tmp_path / "provenance.json").write_text(
        json.dumps({"git": {"commit": "ab12", "dirty": True}})
    )
    return tmp_path


def write(workdir, parts=(), scalars=SCALARS, **more):
    mistakes = [
        {"index": i, "label": i % 10, "predicted": (i + 1) % 10, "confidence": 0.9}
        for i in range(40)
    ]
    matrix = np.eye(10, dtype=np.int64) * 131 + np.roll(np.eye(10, dtype=np.int64) * 4, 1, axis=1)
    summary = Summary(scalars, {"confusion": matrix, "mistakes": mistakes})
    path = write_report(workdir, "ResNet-20 on <digits>", summary, ABOUT, Digits(), parts, **more)
    return path, path.read_text(encoding="utf-8")


def test_the_page_says_what_it_is_about(workdir):
    path, page = write(workdir, [classification_part], lead="Not CIFAR-10 & not <small>.")
    texts = Page(page).texts
    assert path == workdir / "report.html"
    assert ("h1", "ResNet-20 on <digits>") in texts
    assert ("title", "ResNet-20 on <digits>") in texts
    assert ("p", "Not CIFAR-10 & not <small>.") in texts
    facts = [text for tag, text in texts if tag in ("dt", "dd")][:8]
    assert facts == [
        *("Data", "digits: 32×32 grey images, 10 classes"),
        *("Model", "resnet20"),
        *("Measured on", "the test split, 1,355 examples"),
        *("Trained for", "1,000 steps, 50.5 epochs, 5.0 minutes"),
    ]


def test_classes_of_masks_are_counted_apart_and_empty_lists_are_not_listed(workdir):
    about = dataclasses.replace(ABOUT, classes=(), mask_classes=("ground", "cat"), colours=())
    (workdir / "about.json").write_text(json.dumps(dataclasses.asdict(about)))
    path = write_report(workdir, "t", None, about, Digits(), [])
    texts = [text for _, text in Page(path.read_text(encoding="utf-8")).texts]
    assert "digits: 32×32 grey images, masks of 2 classes" in texts
    assert "mask_classes" in texts
    assert "colours" not in texts


def test_a_run_without_a_result(workdir):
    def part(summary, about, source):
        raise AssertionError("there is nothing to show")

    lead = "The loss is not finite at step 1000."
    path = write_report(workdir, "t", None, ABOUT, Digits(), [part], lead=lead)
    page = Page(path.read_text(encoding="utf-8"))
    texts = page.texts
    assert ("p", lead) in texts
    (said,) = (text for _, text in texts if text.startswith("No result"))
    assert "stopped before it was measured on the test split" in said
    assert not any(text.startswith("Result") for _, text in texts)
    facts = [text for tag, text in texts if tag in ("dt", "dd")]
    assert facts == [
        *("Data", "digits: 32×32 grey images, 10 classes"),
        *("Model", "resnet20"),
        *("Trained for", "1,000 steps, 50.5 epochs, 5.0 minutes"),
    ]
    headings = [text for tag, text in texts if tag == "h2"]
    assert headings == ["Curves", "Configuration", "Data", "Provenance"]


@pytest.mark.parametrize("loss", [None, 1.0])
def test_the_curve_of_a_run_that_diverged_shows_where(workdir, loss):
    with (workdir / "metrics.jsonl").open("a") as file:
        line = {"kind": "train", "step": 1100, "epoch": 55.0, "seconds": 340, "loss": loss}
        file.write(json.dumps(line) + "\n")
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    (workdir / "metrics.jsonl").write_text("\n".join([lines[0], *lines[2:]]) + "\n")
    path = write_report(workdir, "t", None, ABOUT, Digits(), [])
    found = Page(path.read_text(encoding="utf-8")).attributes
    (place,) = (i for i, (_, name, value) in enumerate(found) if "loss over steps" in value)
    assert f"train {'–' if loss is None else '1.0000'} at step 1,100" in found[place][2]
    (source,) = (value for _, name, value in found[place : place + 4] if name == "src")
    drawn = base64.b64decode(source.partition(",")[2]).decode()
    assert ("not finite" in drawn) == (loss is None)


def test_the_numbers_stand_at_the_top(workdir):
    texts = [text for tag, text in Page(write(workdir)[1]).texts if tag in ("dt", "dd")][8:]
    assert texts == [
        *("accuracy", f"98.59{NARROW}%", "loss", "0.0512"),
        *("top-5 accuracy", f"100.00{NARROW}%", "macro precision", f"75.00{NARROW}%"),
        *("examples", "1,355"),
    ]


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_a_dash(workdir, loss):
    assert ("dd", "–") in Page(write(workdir, scalars={"loss": loss})[1]).texts


def test_configuration_data_and_provenance_are_tables(workdir):
    cells = [text for tag, text in Page(write(workdir)[1]).texts if tag in ("th", "td", "h2")]
    pairs = list(itertools.pairwise(cells))
    for pair in (
        ("Configuration", "model"),
        ("model", "resnet20"),
        ("rate.peak", "0.1"),
        ("rate.cuts", "1, 2"),
        ("note", "<u>&"),
        ("ema", "–"),
        ("Data", "name"),
        ("mean", "77.5"),
        ("Provenance", "git.commit"),
        ("git.dirty", "yes"),
    ):
        assert pair in pairs


def test_a_part_is_put_in_as_it_is(workdir):
    seen = []

    def part(summary, about, source):
        seen.append((summary.scalars["loss"], about, len(source)))
        return Markup("<section><h2>Mine</h2></section>")

    assert ("h2", "Mine") in Page(write(workdir, [part])[1]).texts
    assert seen == [(0.0512, ABOUT, 1355)]


def test_the_page_needs_nothing_else(workdir):
    path, page = write(workdir, [classification_part])
    found = Page(page)
    sources = [value for tag, name, value in found.attributes if name in ("src", "href", "srcset")]
    assert len(sources) > 10
    assert all(value.startswith("data:image/") for value in sources)
    assert "http" not in re.sub(r"data:[^\"]*", "", page)
    assert not re.search(r"<script|@import|url\(", page)
    assert path.stat().st_size < 1_500_000


def test_names_from_the_data_add_no_tags(workdir):
    page = write(workdir, [classification_part])[1]
    assert "<i>" not in page
    assert "<u>" not in page
    assert "&lt;i&gt;3&lt;/i&gt;" in page


def test_an_empty_work_directory_makes_a_page_too(tmp_path):
    texts = [text for _, text in Page(write(tmp_path)[1]).texts]
    assert "Result on the test split" in texts
    for absent in ("Curves", "Configuration", "Provenance", "Trained for"):
        assert absent not in texts


def test_rows_of_nested_values():
    nested = {"a": {"b": {"c": 1e-4}}, "d": [], "e": [True, None, "x", 2], "f": False, "g": "1"}
    assert rows(nested) == [
        ("a.b.c", "0.0001"),
        ("e", "yes, –, x, 2"),
        ("f", "no"),
        ("g", "1"),
    ]


def broken(summary, about, source):
    raise OSError(28, "No space left on device")


BROKEN = {
    "no JSON": b"{",
    "a list": b"[1, 2]",
    "NULs": b"\0\0\0",
    "no UTF-8": b'{"a": "\xff"}',
    "empty": b"",
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_named_and_loses_nothing_else(workdir, content):
    for name in ("config.json", "about.json", "provenance.json"):
        (workdir / name).write_bytes(content)
    said = []
    page = write(workdir, [classification_part], say=said.append)[1]
    texts = [text for _, text in Page(page).texts]
    lost = [text for text in texts if text.startswith("This part could not be drawn")]
    for heading in ("Configuration", "Data", "Provenance"):
        assert sum(f"could not be drawn: the table {heading}: " in line for line in said) == 1
        assert sum(f"could not be drawn: the table {heading}: " in text for text in lost) == 1
        assert heading in texts
    assert len(said) == len(lost) == 3
    assert all("\n" not in line for line in said)
    for there in (
        f"98.59{NARROW}%",
        "Confusion matrix",
        "Curves",
        "the test split, 1,355 examples",
    ):
        assert there in texts
    assert "1,000 steps, 50.5 epochs, 5.0 minutes" in texts


@pytest.mark.parametrize("resumed", [3, [{"at": 1}], {"started": 1}])
def test_a_provenance_of_another_form_is_named(workdir, resumed):
    (workdir / "provenance.json").write_text(json.dumps({"resumed": resumed}))
    said = []
    write(workdir, say=said.append)
    assert [line.split(": ")[1] for line in said] == ["the table Provenance"]


def test_a_section_that_fails_is_named_in_its_place(workdir):
    said = []
    page = write(workdir, [broken, partial(broken), classification_part], say=said.append)[1]
    words = "broken: No space left on device."
    assert said == [f"A part of the report could not be drawn: {words}"] * 2
    texts = [text for tag, text in Page(page).texts if tag in ("h2", "p")]
    place = texts.index("Confusion matrix")
    assert texts[place - 2 : place] == [f"This part could not be drawn: {words}"] * 2


def test_a_chart_that_fails_is_one_of_many(workdir, monkeypatch):
    def draw(chart):
        if chart.title == "loss":
            raise ValueError("no\nink")
        return curves.draw(chart)

    monkeypatch.setattr("train.report.page.draw", draw)
    said = []
    page = write(workdir, say=said.append)[1]
    assert said == ["A part of the report could not be drawn: the chart of loss: ValueError: no."]
    assert page.count("<img") == 1


@pytest.mark.parametrize("file", ["metrics.jsonl", "config.json"])
def test_a_file_that_cannot_be_read_is_named(workdir, file):
    (workdir / file).unlink()
    (workdir / file).mkdir()
    said = []
    page = write(workdir, say=said.append)[1]
    assert len(said) == 1
    assert "IsADirectoryError" in said[0]
    assert f"98.59{NARROW}%" in page


def test_strange_lines_of_metrics_are_said_once(workdir):
    with (workdir / "metrics.jsonl").open("ab") as file:
        file.write(b'{"kind": "train", "step": 5}\n' + b"\0" * 30)
    said = []
    page = write(workdir, say=said.append)[1]
    assert said == [f"{workdir / 'metrics.jsonl'}: 2 of 5 lines can't be read and don't count."]
    assert "1,000 steps, 50.5 epochs, 5.0 minutes" in page


def test_a_whole_page_says_nothing(workdir, capsys):
    page = write(workdir, [classification_part])[1]
    assert capsys.readouterr() == ("", "")
    assert "could not be drawn" not in page


def test_a_name_that_is_no_text_loses_no_page(workdir):
    (workdir / "config.json").write_text(json.dumps({"data": os.fsdecode(b"/data/\xff")}))
    assert "<td>/data/\\xff</td>" in write(workdir)[1]


def test_the_time_is_that_of_the_summary_once_there_is_one(workdir):
    (workdir / "summary.json").write_text(json.dumps({"seconds": 7300.4}))
    assert ("dd", "1,000 steps, 50.5 epochs, 2.0 hours") in Page(write(workdir)[1]).texts


def test_a_page_brings_along_the_glyphs_that_its_reader_may_lack(workdir):
    assert "@font-face" not in write(workdir)[1]
    page = write(workdir, lead="猫 and 한국어")[1]
    assert page.count("@font-face") == 1
    assert len(page) - len(write(workdir)[1]) < 10_000  # these five alone
    Page(page)


def test_an_older_runs_speed_is_on_the_same_chart(workdir):
    lines = [
        {"kind": "train", "step": 1, "epoch": 1, "seconds": 1, "images_per_second": 5.0},
        {"kind": "train", "step": 2, "epoch": 1, "seconds": 2, "examples_per_second": 6.0},
    ]
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    alts = [value for tag, name, value in Page(write(workdir)[1]).attributes if name == "alt"]
    assert alts == ["examples / s over steps; last: train 6.0000 at step 2"]


def test_a_page_that_cannot_be_written_leaves_the_one_before(workdir):
    path, before = write(workdir)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(WriteFailed, match=r"report\.html could not be written: File too large"):
            write(workdir)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text(encoding="utf-8") == before
    assert not list(workdir.glob("*.part"))
