"""The program of a run in its provenance: when it is noted, and what is said where it changed."""

import json
import shutil

import numpy as np
import pytest
import toy_detector
from toy_detector import Config

from train import noted
from train.files import WriteFailed
from train.noted import Noted, changed

VERSIONS = {"jax": "0.10.2", "optax": "0.2.5"}
FIRST = {"program": "aa", "versions": VERSIONS, "git": {"commit": "1" * 40, "dirty": False}}
SAID = "The program of a training step has changed since this run began"
THEN = "its numbers are no longer those of one recipe."


def test_a_run_under_the_same_program_says_nothing():
    assert changed([FIRST]) == ""
    assert changed([FIRST, {**FIRST, "git": {"commit": "2" * 40, "dirty": True}}]) == ""


@pytest.mark.parametrize(
    ("now", "why"),
    [
        ({}, ""),
        ({"git": {"commit": "2" * 40, "dirty": False}}, " (commit 1111111 then, 2222222 now)"),
        (
            {"git": {"commit": "1" * 40, "dirty": True}},
            " (commit 1111111 then, 1111111 and what was not committed now)",
        ),
        ({"versions": {**VERSIONS, "optax": "0.3"}}, " (optax 0.2.5 then, 0.3 now)"),
        ({"matmul_precision": "highest"}, " (matmul_precision None then, highest now)"),
    ],
)
def test_a_run_under_another_program_says_what_may_be_why(now, why):
    assert changed([FIRST, {**FIRST, "program": "bb", **now}]) == f"{SAID}{why}: {THEN}"


def test_a_run_that_comes_back_to_its_first_program_is_of_two():
    other = {**FIRST, "program": "bb"}
    assert changed([FIRST, other, FIRST]) == f"{SAID}: {THEN}"


def test_another_version_of_jax_says_nothing_of_the_program():
    other = {**FIRST, "program": "bb", "versions": {**VERSIONS, "jax": "0.12"}}
    assert changed([FIRST, other]) == ""
    assert changed([FIRST, other, {**other, "program": "cc"}]) == f"{SAID}: {THEN}"


def test_a_run_of_an_earlier_version_has_none():
    first = {name: value for name, value in FIRST.items() if name != "program"}
    assert changed([first, FIRST]) == ""
    assert changed([{}, FIRST]) == ""
    assert changed([FIRST, first]) == ""


# --- when -------------------------------------------------------------------------------------


def test_it_is_noted_once_a_step_is_on_its_way_and_once_alone(monkeypatch):
    found, said = [], []
    monkeypatch.setattr(noted, "digest", lambda prepared: prepared)
    one = Noted("aa", found.append)
    one.end(said.append)
    assert found == []
    step = one.after(lambda *args: args)
    assert step(1, 2, 3) == step(1, 2, 3) == (1, 2, 3)
    one.end(said.append)
    assert (found, said) == (["aa"], [])


def test_nothing_is_noted_where_there_is_none_and_what_cannot_be_written_is_said(monkeypatch):
    monkeypatch.setattr(noted, "digest", lambda prepared: prepared)
    said = []

    def full(program):
        raise WriteFailed("provenance.json", OSError("full"))

    for program in (None, "aa"):
        one = Noted(program, full)
        one.begin()
        one.end(said.append)
    assert said == ["provenance.json could not be written: OSError: full"]


def programs(path):
    first = json.loads((path / "provenance.json").read_text())
    return [one.get("program") for one in (first, *first.get("resumed", []))]


def run(path, capsys):
    """The second half of a run, or the whole; what it says in one line."""
    shutil.rmtree(path / "checkpoints" / "20", ignore_errors=True)
    toy_detector.main(Config(workdir=path, steps=20, devices=1, backend="xla"))
    return " ".join(capsys.readouterr().out.split())


def test_a_run_that_goes_on_under_another_program_says_so_and_goes_on(
    tmp_path, capsys, monkeypatch
):
    """Where nothing changed, nothing is said: see `tests/faults/test_elastic.py`."""
    run(tmp_path, capsys)
    (first,) = programs(tmp_path)
    assert len(first) == 64
    monkeypatch.setattr(toy_detector, "ANCHORS", toy_detector.ANCHORS + np.float32(1))
    said = run(tmp_path, capsys)
    assert said.count(SAID) == 1
    assert said.index(THEN) < said.index("Going on from step 10")
    assert (tmp_path / "checkpoints" / "20").exists()
    assert programs(tmp_path)[1] not in (first, None)
