"""Scalars: what will be measured is what is measured, and a task that can't say is believed."""

import json
from dataclasses import replace

import pytest
import toy_detector
from toy_detector import Config

from experiments import classify, detect, forecast
from train import cli
from train.prepared import prepare
from train.refusal import Refused
from train.run import run
from train.scalars import refuse_unmeasured, scalars


def test_they_are_those_of_a_run(tmp_path):
    config = replace(Config(devices=1), steps=2, on_corrupt="skip", workdir=tmp_path)
    prepared = prepare(toy_detector, config)
    found = scalars(prepared, range(3))
    run(toy_detector, config)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert found == {name[5:] for name in summary if name.startswith("test/")}
    assert {"recall", "unreadable"} <= found
    refuse_unmeasured(prepared, "recall")
    with pytest.raises(Refused, match="metric='recal' is unknown; nearest: recall"):
        refuse_unmeasured(prepared, "recal")


def test_a_classifier_of_ten_classes_with_mixed_labels():
    words = ["--data", "digits", "--model", "mlp", "--devices", "1", "--mixup", "0.2"]
    found = scalars(prepare(classify, cli.configure(classify, words)), range(1))
    assert {"accuracy", "loss", "f1", "count"} <= found
    assert "top5" not in found


def test_a_forecast():
    words = ["--data", "sine", "--devices", "1"]
    assert {"rmse", "mae"} <= scalars(prepare(forecast, cli.configure(forecast, words)), range(1))


def test_what_depends_on_the_objects_that_there_are(monkeypatch):
    words = ["--model", "yolox_small", "--devices", "1", "--examples", "16"]
    original = detect.splits

    def splits(config):
        data = original(config)
        return data._replace(validation=None, test=Few(data.test, 2))

    monkeypatch.setattr(detect, "splits", splits)
    prepared = prepare(detect, cli.configure(detect, words))
    assert {"map50", "ap", "ar100"} <= scalars(prepared, range(2))
    refuse_unmeasured(prepared, "ap")
    with pytest.raises(Refused, match="metric='accuracy' is unknown"):
        refuse_unmeasured(prepared, "accuracy")


def test_where_a_task_cannot_say_nothing_is_refused(monkeypatch):
    prepared = prepare(toy_detector, replace(Config(), devices=1))

    def summarise(sums, kept):
        raise ZeroDivisionError

    task = prepared.parts.task._replace(summarise=summarise)
    prepared = replace(prepared, parts=prepared.parts._replace(task=task))
    assert scalars(prepared, range(1)) is None
    refuse_unmeasured(prepared, "anything")
