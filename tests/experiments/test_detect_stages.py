"""R-CNN's stages: a run each, each made once, and each opened as any other run."""

import dataclasses
import json
import os
import shutil
import signal
from functools import partial

import image_files
import jax
import numpy as np
import pytest

import models
from experiments import detect, detect_stages, detect_stages_fitting, evaluate
from experiments.detect import Config
from models.classification.plain import PlainCNN
from models.detection.rcnn import rcnn
from models.variant import Variant
from train.data.source import About
from train.experiment import refuse_idle
from train.opened import opened
from train.refusal import Refused
from train.stop import Stopped
from train.study import Diverged

STAGES = ("softmax", "svm", "boxes")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A VOC folder: pictures of two sizes with two objects, one or none."""
    root = tmp_path_factory.mktemp("data") / "VOC2012"
    cat, dog = ("cat", (3, 4, 14, 15), False), ("dog", (9, 9, 20, 24), False)
    for split, names in {"train": "abcdef", "val": "ghij"}.items():
        for i, name in enumerate(names):
            some = [(cat, dog), (cat,), ()][i % 3]
            size = (24, 36) if i % 2 else (30, 20)
            image_files.voc(root, [name], some, size=size, split=split)
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names))
    return root


@pytest.fixture(scope="module", autouse=True)
def tiny():
    """A network that compiles at once, under a name of its own."""
    made = partial(rcnn, PlainCNN, stages=(1,), channels=(4,), size=8, context=1, widths=(8,))
    row = Variant(made, background=True, proposals=True, svm=True)
    with pytest.MonkeyPatch.context() as patch:
        for table in (models.DETECTORS, models.NETWORKS):
            patch.setitem(table, "rcnn_tiny", row)
        yield


@pytest.fixture(scope="module")
def config(pictures):
    fields = {"size": 32, "steps": 4, "batch_size": 4, "evaluate_every": 4, "capacity": 2}
    fields |= {"validation": 0.0, "warmup_steps": 1, "devices": 2}
    fields |= {"proposals": "grid", "most_proposals": 48, "regions": 16, "classes": "cat,dog"}
    return Config(data=f"voc:{pictures}", model="rcnn_tiny", **fields)


@pytest.fixture(scope="module")
def study(config, tmp_path_factory):
    """All stages, in few steps: the directory, and what came back."""
    path = tmp_path_factory.mktemp("study") / "run"
    return path, detect.main(dataclasses.replace(config, workdir=path))


@pytest.fixture
def copied(study, config, tmp_path):
    """A copy of the study, and its recipe."""
    path = tmp_path / "run"
    shutil.copytree(study[0], path)
    return path, dataclasses.replace(config, workdir=path)


def summary_of(path):
    return json.loads((path / "summary.json").read_text())


def test_a_study_is_three_runs_and_a_comparison(study):
    path, found = study
    for stage in STAGES:
        assert json.loads((path / stage / "config.json").read_text())["stage"] == stage
        assert (path / stage / "report.html").exists()
        its = summary_of(path / stage)
        assert its["evaluated_step"] == 4
        assert found.scalars[f"map50 ({stage})"] == its["test/map50"]
        assert found.scalars["recall_50"] == its["test/recall_50"] > 0
    assert summary_of(path)["test/map50 (boxes)"] == found.scalars["map50 (boxes)"]
    assert 0 < found.scalars["proposal_seconds"] < found.scalars["seconds_per_image"]
    page = (path / "report.html").read_text()
    assert all(f'href="{stage}/report.html"' in page for stage in STAGES)
    assert "mean ± std" not in page
    assert not [*path.glob("*/features*")]


def test_a_stage_has_the_weights_of_the_one_before(study):
    runs = {stage: opened(study[0] / stage) for stage in STAGES}
    names = {stage: set(run.variables.get("svm", ())) for stage, run in runs.items()}
    assert names["softmax"] == set()
    assert names["svm"] == {"kernel", "bias"}
    assert names["boxes"] == {"kernel", "bias", "box_kernel", "box_bias"}
    for stage in ("svm", "boxes"):
        for name in ("params", "batch_stats"):
            jax.tree.map(
                np.testing.assert_array_equal,
                runs[stage].variables[name],
                runs["softmax"].variables[name],
            )
    kernel = runs["svm"].variables["svm"]["kernel"]
    assert np.any(kernel)
    np.testing.assert_array_equal(kernel, runs["boxes"].variables["svm"]["kernel"])


def test_a_stage_is_opened_and_evaluated_as_any_run(study):
    path = study[0] / "boxes"
    (found,) = opened(path).predict([np.zeros((30, 20, 3), np.uint8)])
    assert found.boxes.shape == (len(found.scores), 4)
    measured = evaluate.main(evaluate.Config(run=path)).scalars
    assert measured["map50"] == summary_of(path)["test/map50"]
    with pytest.raises(Refused, match="several runs; open one of them: boxes, softmax, svm"):
        opened(study[0])


def test_what_is_made_is_not_made_again(copied, monkeypatch, study):
    """Nor is the fine-tuning, where only what follows is missing."""
    path, config = copied

    def never(*args, **kwargs):
        raise AssertionError("a stage is made again")

    monkeypatch.setattr(detect_stages, "complete", never)
    with monkeypatch.context() as patch:
        patch.setattr(detect_stages, "fitted", never)
        patch.setattr(detect_stages, "timed", lambda *_: {})
        again = detect.main(config)
        assert again.scalars.items() <= study[1].scalars.items()
    svm = {**opened(path / "svm").variables["svm"]}
    shutil.rmtree(path / "boxes")
    shutil.rmtree(path / "svm")

    collect = detect_stages_fitting.collect
    with monkeypatch.context() as patch:
        patch.setattr(
            detect_stages_fitting,
            "collect",
            lambda *args: os.kill(os.getpid(), signal.SIGTERM) or collect(*args),
        )
        with pytest.raises(Stopped):
            detect.main(config)
    assert (path / "svm" / "config.json").exists()
    assert not [*path.glob("svm/checkpoints/[0-9]*"), *path.glob("svm/features*")]
    found = detect.main(config)
    for name, value in opened(path / "svm").variables["svm"].items():
        np.testing.assert_array_equal(value, svm[name])
    assert found.scalars["map50 (boxes)"] == study[1].scalars["map50 (boxes)"]


def test_a_stage_by_itself(copied, monkeypatch):
    path, config = copied
    with pytest.raises(Refused, match="stage='svm' goes on from a run of the stage 'softmax'"):
        detect.main(dataclasses.replace(config, stage="svm", workdir=None))
    with pytest.raises(Refused, match=r"seeds=\(0, 1\): stage='svm' goes on from a single run"):
        detect.main(dataclasses.replace(config, stage="svm", seeds=(0, 1)))
    new = path.parent / "other" / "svm"
    with pytest.raises(Refused, match="holds no finished run"):
        detect.main(dataclasses.replace(config, stage="svm", workdir=new))
    assert not new.exists()
    beside = path / "another"
    with pytest.raises(Refused, match="steps: 4 there, 5 asked"):
        detect.main(dataclasses.replace(config, stage="svm", workdir=beside, steps=5))
    assert not beside.exists()
    # Its checkpoint is there: what was not measured is, and nothing is fitted.
    (path / "boxes" / "summary.json").unlink()
    monkeypatch.delattr(detect_stages_fitting, "collect")
    found = detect.main(dataclasses.replace(config, stage="boxes", workdir=path / "boxes"))
    assert found.scalars["map50"] == summary_of(path / "boxes")["test/map50"]


def test_a_fine_tuning_that_diverges_ends_the_study(config, monkeypatch, tmp_path):
    def diverges(module, config, path):
        (path / "diverged.json").write_text('{"error": "not finite"}')

    monkeypatch.setattr(detect_stages, "staged", diverges)
    with pytest.raises(Diverged, match="no SVMs are fitted, since softmax diverged"):
        detect.main(dataclasses.replace(config, workdir=tmp_path / "run"))
    assert not (tmp_path / "run" / "svm").exists()


def test_seeds_each_have_their_stages(config, monkeypatch, tmp_path):
    def made(module, config, path):
        values = {"test/map50": 0.25 * (1 + config.seed)}
        (path / "summary.json").write_text(json.dumps(values))

    monkeypatch.setattr(detect_stages, "staged", made)
    monkeypatch.setattr(detect_stages, "timed", lambda *_: {})
    monkeypatch.setattr(detect_stages, "opened", lambda path: None)
    path = tmp_path / "run"
    found = detect.main(dataclasses.replace(config, seeds=(0, 1), workdir=path))
    assert found.scalars == {f"map50 ({stage})": 0.375 for stage in STAGES}
    for seed in (0, 1):
        for stage in STAGES:
            assert (path / f"seed_{seed}" / stage / "summary.json").exists()


def test_a_stage_of_another_model_is_refused():
    about = About("pets", "train", ("cat",), mirror=True, shape=(32, 32, 3), mean=(0.0,) * 3)
    config = dataclasses.replace(detect.recipe(), stage="svm")
    with pytest.raises(Refused, match="stage='svm' has no effect: yolox_small is not"):
        refuse_idle(detect, config, about)
    with pytest.raises(Refused, match="stage='forest'"):
        Config(stage="forest")
