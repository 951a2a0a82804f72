"""Several runs in one directory: each as if run alone, together in a summary and on a page."""

import errno
import io
import json
import os
import pathlib
import shutil
import signal
import statistics
from dataclasses import replace

import jax
import numpy as np
import pytest
import rich.table
import toy_detector
from rich.console import Console
from toy_detector import Config

from train import place, study
from train.checkpoints import Checkpoints
from train.files import WriteFailed
from train.logs import read_metrics
from train.opened import opened
from train.prepared import prepare
from train.refusal import Refused
from train.run import run
from train.session import Session
from train.stop import Stopped
from train.terminal import Terminal

SHORT = Config(steps=20, devices=1, evaluate_every=10)


def digests(path):
    """Step -> what was written of its state: the digest of every array."""
    found = {}
    for step in Checkpoints(path / "checkpoints").steps():
        record = path / "checkpoints" / str(step) / "record" / "metadata"
        found[step] = json.loads(record.read_text())["items"]
    return found


@pytest.fixture
def counted(monkeypatch):
    """Every `Prepared` that a study makes, and how often data were asked for."""
    made, read = [], []

    def preparing(*arguments):
        made.append(prepare(*arguments))
        return made[-1]

    def splits(config, original=toy_detector.splits):
        read.append(config)
        return original(config)

    monkeypatch.setattr(place, "prepare", preparing)
    monkeypatch.setattr(toy_detector, "splits", splits)
    return made, read


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A run of seed 7 by itself."""
    path = tmp_path_factory.mktemp("alone")
    run(toy_detector, replace(SHORT, seed=7, workdir=path))
    return path


def test_each_seed_is_as_if_run_alone(alone, counted, tmp_path):
    found = run(toy_detector, replace(SHORT, seeds=(0, 7), workdir=tmp_path))
    made, read = counted
    assert len(made) == len(read) == 1  # data are read once
    assert made[0].step._cache_size() == 1  # and compiled once
    assert digests(tmp_path / "seed_7") == digests(alone)
    assert digests(tmp_path / "seed_7") != digests(tmp_path / "seed_0")
    one, other = (opened(path).config for path in (tmp_path / "seed_7", alone))
    assert replace(one, workdir=None) == replace(other, workdir=None)
    names = {path.name for path in alone.iterdir()}
    assert {path.name for path in (tmp_path / "seed_7").iterdir()} == names

    def measured(path):
        return [
            {k: v for k, v in line.items() if k not in ("seconds", "examples_per_second")}
            for line in read_metrics(path)
        ]

    assert measured(tmp_path / "seed_7") == measured(alone)
    # Together.
    own = [json.loads((tmp_path / f"seed_{s}" / "summary.json").read_text()) for s in (0, 7)]
    both = json.loads((tmp_path / "summary.json").read_text())
    values = [each["test/recall"] for each in own]
    assert both["test/recall"]["values"] == values
    assert both["test/recall"]["mean"] == pytest.approx(statistics.fmean(values))
    assert both["test/recall"]["std"] == pytest.approx(statistics.stdev(values))
    assert both["seeds"] == [0, 7]
    assert found.scalars["recall"] == both["test/recall"]["mean"]
    page = (tmp_path / "report.html").read_text()
    assert 'href="seed_7/report.html"' in page
    assert "seed 0" in page
    assert "<dd>squares</dd>" in page  # what was trained on


def test_a_study_goes_on_and_takes_more_seeds(alone, counted, tmp_path, monkeypatch, capsys):
    config = replace(SHORT, seeds=(0, 7), workdir=tmp_path)

    original = study.Study.run

    def first_then_stop(self, name, *how):
        if name == "seed_7":
            raise Stopped(signal.SIGTERM)
        return original(self, name, *how)

    monkeypatch.setattr(study.Study, "run", first_then_stop)
    with pytest.raises(Stopped):
        run(toy_detector, config)
    said = capsys.readouterr().out
    assert "To go on with all runs:" in said
    assert said.count("To go on") == 1
    assert not (tmp_path / "summary.json").exists()
    monkeypatch.setattr(study.Study, "run", original)
    before = (tmp_path / "seed_0" / "summary.json").stat().st_mtime_ns
    run(toy_detector, replace(config, seeds=(0, 7, 9)))
    assert (tmp_path / "seed_0" / "summary.json").stat().st_mtime_ns == before
    assert digests(tmp_path / "seed_7") == digests(alone)
    assert json.loads((tmp_path / "summary.json").read_text())["seeds"] == [0, 7, 9]
    with pytest.raises(Refused, match=r"holds runs of seeds that are left out: \[9\]"):
        run(toy_detector, config)


def losing(monkeypatch, *seeds):
    """Runs of these seeds diverge at once."""
    original = place.prepare

    def preparing(*arguments):
        prepared = original(*arguments)

        def start(seed):
            state = prepared.start(seed)
            if int(seed) in seeds:
                state = state.replace(params=jax.tree.map(lambda x: x * np.nan, state.params))
            return state

        return replace(prepared, start=start)

    monkeypatch.setattr(place, "prepare", preparing)


def test_where_every_seed_diverges_the_study_has_failed(tmp_path, monkeypatch):
    losing(monkeypatch, 0, 7)
    with pytest.raises(study.Diverged, match="every seed diverged: 0, 7"):
        run(toy_detector, replace(SHORT, seeds=(0, 7), workdir=tmp_path))
    assert json.loads((tmp_path / "summary.json").read_text())["diverged"] == [0, 7]
    assert (tmp_path / "report.html").exists()


def test_a_seed_that_diverges_is_a_result_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    losing(monkeypatch, 0)
    config = replace(SHORT, seeds=(0, 7), workdir=tmp_path)
    found = run(toy_detector, config)
    said = capsys.readouterr().out
    assert "seed_0: loss, gradient or weights are not finite at step 1." in said
    assert "Diverged: 0" in said
    assert "checkpoint stays" not in said  # there is none
    assert found.tables["seeds"][0] == {}
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["diverged"] == [0]
    assert summary["test/recall"]["values"][0] is None
    assert summary["test/recall"]["mean"] == summary["test/recall"]["values"][1]
    assert summary["test/recall"]["std"] is None
    assert "not finite at step 1" in (tmp_path / "seed_0" / "diverged.json").read_text()
    assert "diverged" in (tmp_path / "report.html").read_text()
    # It is not run again.
    before = (tmp_path / "seed_0" / "diverged.json").stat().st_mtime_ns
    run(toy_detector, config)
    assert (tmp_path / "seed_0" / "diverged.json").stat().st_mtime_ns == before


def test_one_run_and_several_are_not_taken_for_each_other(alone, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(alone, copy)
    with pytest.raises(Refused, match=r"holds one run, not seeds=\(1, 2\)"):
        run(toy_detector, replace(SHORT, seed=7, seeds=(1, 2), workdir=copy))
    (tmp_path / "several").mkdir()
    config = json.loads((alone / "config.json").read_text())
    (tmp_path / "several" / "config.json").write_text(json.dumps({**config, "seeds": [1, 2]}))
    with pytest.raises(Refused, match=r"holds runs of seeds=\(1, 2\), not one run"):
        run(toy_detector, replace(SHORT, seed=7, workdir=tmp_path / "several"))


def test_a_run_of_another_recipe_is_no_result_of_a_seed(alone, tmp_path):
    shutil.copytree(alone, tmp_path / "seed_7")
    config = replace(SHORT, seeds=(7,), learning_rate=0.1, workdir=tmp_path)
    with pytest.raises(Refused, match=r"seed_7' holds a run .* learning_rate: 0\.02 there, 0\.1"):
        run(toy_detector, config)


def test_a_signal_while_the_page_is_written_ends_the_runs_that_follow(tmp_path, monkeypatch):
    original = Session.report

    def report(self, *how):
        os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *how)

    monkeypatch.setattr(Session, "report", report)
    with pytest.raises(Stopped):
        run(toy_detector, replace(SHORT, seeds=(0, 7), workdir=tmp_path))
    assert (tmp_path / "seed_0" / "summary.json").exists()
    assert not (tmp_path / "seed_7").exists()


def test_what_is_refused_leaves_no_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refused, match="batch_size=1000 is larger than the data"):
        run(toy_detector, replace(SHORT, batch_size=1000, seeds=(0, 1)))
    with pytest.raises(Refused, match=r"seed=3 has no effect: the runs are of seeds=\(0, 1\)"):
        run(toy_detector, replace(SHORT, seed=3, seeds=(0, 1)))
    assert list(pathlib.Path().iterdir()) == []


def test_a_directory_is_named_as_it_is(tmp_path, capsys):
    """What stands between colons would be a picture."""
    path = tmp_path / "a:smile: b"
    path.mkdir()
    with pytest.raises(Stopped), study.study(toy_detector, SHORT, path):
        raise Stopped(signal.SIGTERM)
    assert f"--workdir '{path}'\n" in capsys.readouterr().out


def test_what_can_not_be_printed_ends_no_study(tmp_path):
    out = io.TextIOWrapper(io.BytesIO(), "ascii")
    runs = study.Study(toy_detector, tmp_path, Terminal(Console(file=out), 0))
    study.together(runs, SHORT, {seed: {"test/accuracy": 0.5 + seed / 8} for seed in (0, 1)})
    out.flush()
    assert b"Test accuracy 56.25?8.84%: 50.00%, 62.50%" in out.buffer.getvalue()


class Full(io.StringIO):
    """An output on a disk that is full."""

    def write(self, text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_an_output_on_a_full_disk_is_one_line(tmp_path):
    terminal = Terminal(Console(file=Full()), 0)
    runs = study.Study(toy_detector, tmp_path, terminal)
    for say in (
        lambda: runs.run("seed_0", SHORT, lambda path: None),
        lambda: terminal.show(rich.table.Table("a")),
        lambda: terminal.say("a"),
    ):
        with pytest.raises(WriteFailed, match=r"^the output could not be written: No space left"):
            say()


def test_a_study_by_epochs_holds_the_steps_and_goes_on_by_either(tmp_path):
    by_epochs = replace(SHORT, steps=None, epochs=1.0, evaluate_every=None, workdir=tmp_path)
    run(toy_detector, replace(by_epochs, seeds=(0,)))
    for path in (tmp_path, tmp_path / "seed_0"):
        config = json.loads((path / "config.json").read_text())
        assert (config["steps"], config["epochs"], config["evaluate_every"]) == (6, None, 6)
    steps = replace(SHORT, steps=6, evaluate_every=6, workdir=tmp_path)
    for config in (by_epochs, steps):
        assert run(toy_detector, replace(config, seeds=(0,))).tables["seeds"].keys() == {0}
    with pytest.raises(Refused, match="steps: 6 there, 12 asked"):
        run(toy_detector, replace(by_epochs, epochs=2.0, seeds=(0,)))
    assert json.loads((tmp_path / "config.json").read_text())["steps"] == 6
