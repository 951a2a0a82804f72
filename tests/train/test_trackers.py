"""Trackers: what wandb and trackio are told, by a small module in the place of each."""

import io
import json
import sys
from dataclasses import replace
from types import ModuleType

import pytest
import toy_detector
from rich.console import Console
from toy_detector import Config

from train.logs import Logs
from train.prepared import prepare
from train.refusal import Refused
from train.run import run
from train.trackers import tracking


class Fake(ModuleType):
    """`init(…) -> run`, as both have it; keeps what it is told."""

    def __init__(self, name):
        super().__init__(name)
        self.begun, self.told, self.ended, self.broken = [], [], 0, False

    def init(self, **how):
        self.begun.append(how)
        return self

    def log(self, values, step):
        if self.broken:
            raise ConnectionError("no network")
        self.told.append((step, values))

    def finish(self):
        self.ended += 1


@pytest.fixture(params=["wandb", "trackio"])
def fake(request, monkeypatch):
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    made = Fake(request.param)
    monkeypatch.setitem(sys.modules, request.param, made)
    return made


def logs(path, name, console=None, **how):
    console = console or Console(file=io.StringIO())
    track = tracking(name, path, Config(workdir=path))
    return Logs(path, steps=100, console=console, track=track, **how)


def test_what_is_logged_is_told(fake, tmp_path):
    made = logs(tmp_path, fake.__name__)
    made.train(20, {"loss": 1.5, "gradient_norm": float("nan")}, epoch=0.5)
    made.evaluation(20, "validation", {"accuracy": 0.5})
    made.close()
    made.close()
    assert fake.told == [(20, {"train/loss": 1.5}), (20, {"validation/accuracy": 0.5})]
    assert fake.ended == 1
    (how,) = fake.begun
    assert how["project"] == "svertka"
    assert how["config"]["learning_rate"] == 0.02
    assert ("id" in how) == (fake.__name__ == "wandb")
    assert json.loads((tmp_path / "tracker.json").read_text()) == {fake.__name__: how["name"]}


def test_a_run_that_goes_on_is_the_same_run(fake, tmp_path, monkeypatch):
    logs(tmp_path, fake.__name__).close()
    monkeypatch.setenv(f"{fake.__name__.upper()}_PROJECT", "mine")
    logs(tmp_path, fake.__name__, resume_step=20).close()
    first, second = fake.begun
    assert (first["name"], second["project"], second["resume"]) == (second["name"], "mine", "allow")
    assert first.get("id") == second.get("id")


def test_each_of_several_seeds_is_a_run(fake, tmp_path):
    made = logs(tmp_path, fake.__name__, seeds=[3, 7])
    made.train(1, {"loss": [1.0, 2.0]}, epoch=0.5)
    made.close()
    names = [how["name"] for how in fake.begun]
    assert ["seed_3" in names[0], "seed_7" in names[1]] == [True, True]
    assert fake.told == [(1, {"train/loss": 1.0}), (1, {"train/loss": 2.0})]


def test_what_cannot_be_told_ends_no_run(fake, tmp_path):
    said = io.StringIO()
    made = logs(tmp_path, fake.__name__, Console(file=said, width=200))
    fake.broken = True
    made.train(1, {"loss": 1.0}, epoch=0.5)
    made.train(2, {"loss": 1.0}, epoch=0.5)
    made.close()
    line = f"{fake.__name__} is told no more: ConnectionError: no network."
    assert said.getvalue().count(line) == 1
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_one_that_is_not_installed_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    config = Config(tracker="wandb", workdir=tmp_path / "new")
    with pytest.raises(Refused, match="tracker='wandb': wandb is not installed; pip install wandb"):
        prepare(toy_detector, config)
    assert not (tmp_path / "new").exists()


def test_a_run_tells_it(monkeypatch, tmp_path):
    fake = Fake("trackio")
    monkeypatch.setitem(sys.modules, "trackio", fake)
    run(toy_detector, replace(Config(), steps=2, devices=1, tracker="trackio", workdir=tmp_path))
    assert [step for step, values in fake.told if "train/loss" in values] == [1, 2]
    assert "test/recall" in fake.told[-1][1]
    assert fake.ended == 1
