"""A run read again from its directory, without its data; runs of earlier versions too."""

import json
import pathlib
import shutil
import sys
import tarfile

import jax
import numpy as np
import pytest
import toy_detector
from toy_detector import Config

from experiments import mlp_vs_cnn, segment
from train import workdir
from train.checkpoints import Checkpoints, Damaged
from train.data.source import About
from train.opened import names_in, opened
from train.refusal import Refused
from train.run import run

EARLIER = pathlib.Path(__file__).parents[1] / "golden" / "runs_of_0_1.tar.gz"
"""Directories that version 0.1 wrote, before issue 28: `mlp_vs_cnn`, a whole run of the digits,
and of `segment` the JSON files alone."""


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A finished run of the toy detector."""
    path = tmp_path_factory.mktemp("toy")
    summary = run(toy_detector, Config(workdir=path, devices=1))
    return path, summary


def test_everything_but_the_data(toy):
    path, summary = toy
    found = opened(path)
    assert found.module is toy_detector
    assert found.config == Config(workdir=path, devices=1)
    assert found.about.classes == ("square",)
    assert found.about.shape == (16, 16, 1)
    assert found.step == json.loads((path / "summary.json").read_text())["evaluated_step"]
    assert sorted(found.variables) == ["batch_stats", "params"]
    test = toy_detector.splits(found.config).test
    images = np.stack([test[i]["image"] for i in range(len(test))])
    predict = jax.jit(found.parts.task.predict)
    said = predict(found.variables, found.parts.task.inputs({"image": images}))
    hits = boxes = 0
    for i in range(len(test)):
        seen = np.asarray(said["boxes"][i])[np.asarray(said["scores"][i]) > 0.5]
        truth = test.truth(i)["boxes"]
        hits += (np.abs(seen[:, None] - truth[None]).max(-1) < 1).any(0).sum()
        boxes += len(truth)
    assert hits / boxes == pytest.approx(summary.scalars["recall"])


def test_what_a_detector_predicts_can_not_be_shown_yet(toy):
    with pytest.raises(Refused, match="a task that predicts boxes, scores can't be shown yet"):
        opened(toy[0]).predict([np.zeros((16, 16), np.uint8)])


def test_another_step_of_it(toy):
    path, _ = toy
    steps = Checkpoints(path / "checkpoints").steps()
    assert opened(path, step=steps[0]).step == steps[0]
    with pytest.raises(Refused, match=r"no checkpoint of step 1; there are \["):
        opened(path, step=1)


def test_nothing_on_the_disk_changes(toy):
    path, _ = toy
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*")}
    opened(path)
    assert before == {file: file.stat().st_mtime_ns for file in path.rglob("*")}


def test_what_is_no_run_is_refused(toy, tmp_path):
    path, _ = toy
    with pytest.raises(Refused, match="holds no run"):
        opened(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(path, copy)
    for change, words in (
        ({"experiment": "no.such.module"}, "a run of no.such.module, which can't be imported"),
        ({"experiment": ""}, "a run of , which can't be imported"),
        ({"experiment": "."}, "a run of ., which can't be imported"),
        ({"experiment": "json"}, "a run of json, which has no Config and no build"),
        ({"experiment": "this"}, "a run of this, which has no Config and no build"),
        ({"experiment": "no_such_package.x"}, "a run of no_such_package.x, which can't be import"),
        ({"experiment": "toy_detector", "steps": "ten"}, "steps='ten': expected `int`"),
        ({"experiment": "toy_detector", "seeds": [0, 1]}, "holds several runs; .* seed_0, seed_1"),
    ):
        config = json.loads((path / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(Refused, match=words):
            opened(copy)
    assert "this" not in sys.modules  # whoever wrote the name, nothing was executed
    shutil.copy(path / "config.json", copy)
    summary = json.loads((path / "summary.json").read_text())
    (copy / "summary.json").write_text(json.dumps({**summary, "evaluated_step": 60.0}))
    with pytest.raises(Refused, match=r"no checkpoint of step 60\.0; there are \[.*60\]"):
        opened(copy)
    with pytest.raises(Refused, match="holds no run"):
        opened("~nobody-of-this-name/run")
    (copy / "about.json").unlink()
    with pytest.raises(Refused, match=r"holds no run: it has no about\.json"):
        opened(copy)


def test_damaged_weights_are_said(toy, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(toy[0], copy)
    step = opened(copy).step
    record = copy / "checkpoints" / str(step) / "record" / "metadata"
    record.write_text(record.read_text().replace("float32", "float64"))
    with pytest.raises(Damaged, match=f"step {step} is damaged"):
        opened(copy)


@pytest.fixture
def earlier(tmp_path):
    """A copy of what version 0.1 wrote."""
    with tarfile.open(EARLIER) as file:
        file.extractall(tmp_path, filter="data")
    return tmp_path


def test_a_run_of_an_earlier_version(earlier):
    path = earlier / "mlp_vs_cnn"
    found = opened(path)
    config = mlp_vs_cnn.recipe("digits", "cnn")
    assert found.config.model == "cnn"
    assert found.config.channels == (2, 3, 4, 4)
    assert found.config.shifts == config.shifts
    assert (found.config.seeds, found.config.weights) == ((), "best")  # as it was
    assert isinstance(found.about.classes, tuple)
    test = mlp_vs_cnn.splits(found.config).test
    batch = {"image": np.stack([test[i]["image"] for i in range(len(test))])}
    said = found.parts.task.predict(found.variables, found.parts.task.inputs(batch))
    truth = [test.truth(i)["label"] for i in range(len(test))]
    right = np.mean(np.argmax(np.asarray(said), -1) == truth)
    summary = json.loads((path / "summary.json").read_text())
    assert right == pytest.approx(summary["test/accuracy"], abs=3 / len(test))
    # The same in three lines, whatever the batch.
    pictures = [test[i]["image"] for i in range(20)]
    scores = np.stack(found.predict(pictures, batch_size=7))
    np.testing.assert_allclose(scores, np.asarray(said)[:20], rtol=1e-4, atol=1e-6)


def test_an_earlier_run_goes_on(earlier):
    path = earlier / "mlp_vs_cnn"
    last = opened(path, step=6).variables
    shutil.rmtree(path / "checkpoints" / "6")
    (path / "summary.json").unlink()
    config = workdir.read_config(path, "experiments.mlp_vs_cnn", mlp_vs_cnn.Config)
    run(mlp_vs_cnn, config)  # from step 4
    again = opened(path, step=6).variables
    for one, other in zip(jax.tree.leaves(again), jax.tree.leaves(last), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    assert json.loads((path / "summary.json").read_text())["evaluated_step"] == 6


def test_the_json_of_an_earlier_segmentation(earlier):
    path = earlier / "segment"
    config = workdir.read_config(path, "experiments.segment", segment.Config)
    about = workdir.decoded(path, workdir.ABOUT, About)
    assert config.channels == (8, 16)
    assert about.mask_classes[0] == "background"
    assert about.colours[0] == (0, 0, 0)
    parts = segment.build(config, about)
    assert parts.rank == "miou"


def test_what_a_module_names_is_read_and_not_run(tmp_path, monkeypatch):
    (tmp_path / "of_a_user").mkdir()
    (tmp_path / "of_a_user" / "__init__.py").write_text("raise SystemExit")
    (tmp_path / "of_a_user" / "own.py").write_text(
        "import json as build\nConfig: type = dict\na = b = 1\nraise SystemExit\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert names_in("of_a_user.own") == {"build", "Config", "a", "b"}


def test_what_a_module_names_under_conditions_is_named_too(tmp_path, monkeypatch):
    (tmp_path / "of_another.py").write_text(
        "if True:\n    class Config:\n        within = 1\n"
        "else:\n    from x import y as other\n"
        "try:\n    import fast as build\n"
        "except ImportError:\n    def build(): local = 1\n"
        "finally:\n    with open('x') as file:\n        (a, [b]), *c = 1\n"
        "for i in [j for j in range(3)]:\n    async def d(): pass\n"
        "match a:\n    case 1: e = 2\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    wanted = {"Config", "other", "build", "file", "a", "b", "c", "i", "d", "e"}
    assert names_in("of_another") == wanted
