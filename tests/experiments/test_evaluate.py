"""The page of a run, once more: on its own split the same figures, on others classes by name."""

import json
import os
import shutil
import signal

import image_files
import numpy as np
import pytest

from experiments import classify, evaluate
from experiments.evaluate import Config, main
from train import cli
from train.data.named import named
from train.remeasure import measure

FIELDS = {
    "model": "mlp", "steps": 3, "batch_size": 8, "warmup_steps": 0, "evaluate_every": 3,
    "learning_rate": 0.01, "devices": 1,
}  # fmt: skip


def folder(root, counts, classes):
    """Pictures of many shapes, the same for a class whatever stands beside it."""
    for split, count in counts.items():
        for name in classes:
            for i in range(count):
                image = image_files.pixels(20 + 3 * i, 40 - 2 * i, seed=ord(name[0]) + i)
                image_files.save(
                    root / split / name / f"{i:02}.png", image // 2 + ord(name[0]) % 90
                )
    return root


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return folder(tmp_path_factory.mktemp("set"), {"train": 8, "test": 4}, ("cat", "dog", "eel"))


@pytest.fixture(scope="module")
def run(pictures, tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    data = f"folder:{pictures}"
    classify.main(classify.Config(data=data, size=16, validation=0.25, workdir=path, **FIELDS))
    return path


def summary(path, prefix="test/"):
    found = json.loads((path / "summary.json").read_text())
    return {name: value for name, value in found.items() if name.startswith(prefix)}


def files(path):
    """Every file of a run but its evaluations, with its contents."""
    return {
        file.relative_to(path): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and "evaluations" not in file.parts
    }


def test_the_test_split_again(run, capsys):
    before = files(run)
    main(Config(run=run))
    (out,) = (run / "evaluations").iterdir()
    assert summary(out) == summary(run)
    assert out.name.endswith("-test")
    page = (out / "report.html").read_text()
    assert "Confusion matrix of 3 classes" in page
    assert "The test split of folder:" in page
    assert "as it was" not in "".join(capsys.readouterr())
    assert files(run) == before


def test_other_splits_and_steps(run, tmp_path):
    main(Config(run=run, split="validation", out=tmp_path / "v"))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    (line,) = (one for one in lines if one.get("split") == "validation")
    found = summary(tmp_path / "v", "validation/")
    assert found["validation/accuracy"] == line["accuracy"]
    assert found["validation/loss"] == pytest.approx(line["loss"], rel=1e-6)
    assert found["validation/count"] == 6
    main(Config(run=run, split="train", step=3, out=tmp_path / "t"))
    assert summary(tmp_path / "t", "train/")["train/count"] == 18


def test_data_that_have_moved(run, pictures, tmp_path, capsys):
    moved = shutil.copytree(pictures, tmp_path / "moved")
    main(Config(run=run, data=f"folder:{moved}", out=tmp_path / "m"))
    assert summary(tmp_path / "m") == summary(run)
    # A run whose own data are gone.
    copy = shutil.copytree(run, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"data": f"folder:{tmp_path / 'gone'}"}))
    assert cli.exit_code(lambda: main(Config(run=copy))) == 2
    err = capsys.readouterr().err
    assert "there is no folder" in err
    assert "if the data have moved, --data says where they are" in err
    main(Config(run=copy, data=f"folder:{moved}", out=tmp_path / "c"))
    assert summary(tmp_path / "c") == summary(run)
    (moved / "test" / "cat" / "new.png").write_bytes((moved / "test/cat/00.png").read_bytes())
    (copy / "config.json").write_text(json.dumps(config | {"data": f"folder:{moved}"}))
    main(Config(run=copy, out=tmp_path / "n"))
    assert "not as it was when the run began" in capsys.readouterr().out


def test_a_folder_without_splits_is_measured_whole(run, pictures, tmp_path, capsys):
    main(Config(run=run, data=f"folder:{pictures / 'train'}", out=tmp_path / "w"))
    main(Config(run=run, split="train", out=tmp_path / "t"))
    main(Config(run=run, split="validation", out=tmp_path / "v"))
    parts = [summary(tmp_path / name, "") for name in ("t", "v")]
    whole = summary(tmp_path / "w")
    counts = [parts[0]["train/count"], parts[1]["validation/count"]]
    assert (counts, whole["test/count"]) == ([18, 6], 24)
    right = parts[0]["train/accuracy"] * 18 + parts[1]["validation/accuracy"] * 6
    assert whole["test/accuracy"] == pytest.approx(right / 24)
    assert "All examples of folder:" in capsys.readouterr().out
    lines = (tmp_path / "w" / "predictions.csv").read_text().splitlines()
    assert len({line.split(",")[0] for line in lines[1:]}) == 24


def test_what_of_another_set_is_not_used_is_said(run, pictures, tmp_path, capsys):
    other = shutil.copytree(pictures, tmp_path / "other")
    (other / "more").mkdir()
    (next((other / "test").iterdir()) / "notes.txt").write_text("")
    main(Config(run=run, data=f"folder:{other}", out=tmp_path / "o"))
    out = capsys.readouterr().out
    assert "Not used, as no split: more" in out
    assert "notes.txt" in out


def test_classes_are_matched_by_name(run, pictures, tmp_path):
    """A class before the others moves all indices; here the run knows another order."""
    copy = shutil.copytree(run, tmp_path / "copy")
    about = json.loads((copy / "about.json").read_text())
    (copy / "about.json").write_text(json.dumps(about | {"classes": ["eel", "cat", "dog"]}))
    renamed = tmp_path / "renamed"
    for old, new in {"cat": "eel", "dog": "cat", "eel": "dog"}.items():
        for split in ("train", "test"):
            shutil.copytree(pictures / split / old, renamed / split / new)
    main(Config(run=copy, data=f"folder:{renamed}", out=tmp_path / "o"))
    for name, value in summary(run).items():
        assert summary(tmp_path / "o")[name] == pytest.approx(value, rel=1e-6), name


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (("cat", "dog"), "it lacks 'eel'"),
        (("cat", "dog", "eel", "fox"), "it alone has 'fox'"),
        (("cat", "dog", "elk"), "it lacks 'eel'; it alone has 'elk'"),
    ],
)
def test_other_classes_are_refused(classes, words, run, tmp_path, capsys):
    other = folder(tmp_path / "other", {"train": 1, "test": 1}, classes)
    config = Config(run=run, data=f"folder:{other}", out=tmp_path / "o")
    assert cli.exit_code(lambda: main(config)) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert f"other classes than the run: {words}" in err
    assert not (tmp_path / "o").exists()


def test_what_cannot_be_is_refused(run, tmp_path, capsys):
    for fields, words in (
        ({"out": run}, "holds a run, which keeps its own report"),
        ({"step": 2}, "no checkpoint of step 2"),
        ({"data": "folder:/nowhere"}, "there is no folder"),
        ({"run": tmp_path}, "holds no run"),
        ({"split": "validation", "data": "beans"}, "beans"),
        ({"devices": 99}, "devices=99"),
        ({"run": run / "checkpoints" / "3", "step": 2}, "step=2: the checkpoint of step 3 in "),
        ({"outside": True}, "outside=True: data='folder:"),
    ):
        assert cli.exit_code(lambda fields=fields: main(Config(**{"run": run, **fields}))) == 2
        assert words in capsys.readouterr().err


def test_a_signal_ends_it(run, tmp_path, monkeypatch):
    def interrupted(*given, stopping, **others):
        assert not stopping()
        os.kill(os.getpid(), signal.SIGTERM)
        return measure(*given, stopping=stopping, **others)

    monkeypatch.setattr(evaluate, "measure", interrupted)
    config = Config(run=run, out=tmp_path)
    assert cli.exit_code(lambda: main(config)) == 128 + signal.SIGTERM
    assert [*tmp_path.iterdir()] == []


def test_digits_in_files_for_a_run_of_digits(tmp_path):
    path = tmp_path / "run"
    classify.main(classify.Config(data="digits", workdir=path, **{**FIELDS, "batch_size": 64}))
    test = named("digits").test
    for i in range(len(test)):
        example = test[i]
        image_files.save(tmp_path / f"set/test/{example['label']}/{i:03}.png", example["image"])
    for c in range(10):  # a folder has a training split
        image_files.save(tmp_path / f"set/train/{c}/0.png", np.zeros((4, 4, 1), np.uint8))
    main(Config(run=path, data=f"folder:{tmp_path / 'set'}", out=tmp_path / "o"))
    found, own = summary(tmp_path / "o"), summary(path)
    assert found["test/accuracy"] == own["test/accuracy"]
    assert found["test/loss"] == pytest.approx(own["test/loss"], rel=1e-5)


def test_cocos_file_is_of_detectors(run, tmp_path, capsys):
    found = tmp_path / "found.json"
    assert cli.exit_code(lambda: main(Config(run=run, coco_json=found))) == 2
    said = f"coco_json='{found}': what the run predicts are no detections"
    assert said in capsys.readouterr().err
    assert not found.exists()
