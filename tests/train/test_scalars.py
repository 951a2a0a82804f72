"""Scalars: what will be measured is what is measured, and a task that can't say is believed."""

import json
from dataclasses import replace

import pytest
import toy_detector
from toy_detector import Config

from experiments import classify
from train import cli
from train.prepared import prepare
from train.refusal import Refused
from train.run import run
from train.scalars import refuse_unmeasured, scalars
from train.tasks.task import Summary


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


def changed(prepared, summarise):
    """With another way to sum up."""
    task = prepared.parts.task._replace(summarise=summarise)
    return replace(prepared, parts=prepared.parts._replace(task=task))


def test_what_depends_on_the_examples_that_there_are():
    prepared = prepare(toy_detector, replace(Config(), devices=1))
    source = prepared.data.test
    boxes = [len(source.truth(i)["boxes"]) for i in range(len(source))]
    assert boxes[0] != 2
    assert 2 in boxes

    def summarise(sums, kept):
        of = {f"of_{boxes[index]}": 0.0 for index, _ in kept}
        return Summary(of, {})

    prepared = changed(prepared, summarise)
    assert scalars(prepared, range(1)) == {f"of_{boxes[0]}"}
    refuse_unmeasured(prepared, "of_2")
    with pytest.raises(Refused, match="metric='of_9' is unknown"):
        refuse_unmeasured(prepared, "of_9")


def test_where_a_task_cannot_say_nothing_is_refused():
    prepared = prepare(toy_detector, replace(Config(), devices=1))

    def summarise(sums, kept):
        raise ZeroDivisionError

    prepared = changed(prepared, summarise)
    assert scalars(prepared, range(1)) is None
    refuse_unmeasured(prepared, "anything")
