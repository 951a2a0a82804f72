"""A run, exported; a study whose seeds are one: exported, measured; one checkpoint of a run."""

import json
import runpy

import image_files
import numpy as np
import pytest

from experiments import classify, evaluate, export, predict
from train import cli
from train.averaged import averaged
from train.data.named import named
from train.opened import opened

SMALL = {"steps": 2, "batch_size": 8, "warmup_steps": 0, "evaluate_every": 1, "devices": 1}
SMALL |= {"learning_rate": 0.01, "ema": 0.0, "validation": 0.2}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two seeds."""
    path = tmp_path_factory.mktemp("study")
    classify.main(classify.Config(data="digits", model="mlp", workdir=path, seeds=(0, 1), **SMALL))
    return path


@pytest.fixture(scope="module")
def said(study):
    """(the images of the test split, their labels, probabilities by each seed)."""
    test = named("digits").test
    images = np.stack([test[i]["image"] for i in range(len(test))])
    labels = np.array([int(test.truth(i)["label"]) for i in range(len(test))])
    runs = [opened(study / f"seed_{seed}", backend="xla") for seed in (0, 1)]
    return images, labels, np.array([run.predict([*images], batch_size=120) for run in runs])


def loaded(folder):
    return runpy.run_path(str(folder / "load.py"))["load"]()


def test_an_exported_run_says_what_the_run_says(study, said, capsys):
    images, _, (wanted, _) = said
    folder = export.main(export.Config(run=study / "seed_0"))
    assert folder == study / "seed_0" / "export"
    assert "takes image: uint8 (b, 32, 32, 1)" in capsys.readouterr().out
    call = loaded(folder)
    np.testing.assert_allclose(call({"image": images}), wanted, atol=1e-5)
    np.testing.assert_allclose(call({"image": images[:1], "more": 1}), wanted[:1], atol=1e-5)
    facts = json.loads((folder / "export.json").read_text())
    assert facts["classes"] == [*"0123456789"]
    assert facts["model"] == "mlp"
    assert (
        facts["step"]
        == json.loads((study / "seed_0" / "summary.json").read_text())["evaluated_step"]
    )


def test_an_exported_study_says_the_mean(study, said, tmp_path):
    images, _, each = said
    folder = export.main(export.Config(run=study, out=tmp_path / "both"))
    found = loaded(folder)({"image": images})
    np.testing.assert_allclose(found, each.mean(axis=0), atol=1e-5)
    facts = json.loads((folder / "export.json").read_text())
    assert [(one["run"], one["seed"]) for one in facts["mean_of"]] == [("seed_0", 0), ("seed_1", 1)]
    assert (facts["model"], facts["data"]) == ("mlp", "digits")
    assert not {"run", "seed"} & facts.keys()  # what is not that of both


def test_a_checkpoint_that_is_named_has_a_folder_of_its_own(study):
    run = study / "seed_1"
    folders = [export.main(export.Config(run=path)) for path in (run, run / "checkpoints" / "1")]
    assert folders == [run / "export", run / "export-step-1"]
    whole, one = (json.loads((each / "export.json").read_text()) for each in folders)
    assert (one["step"], one["run"], one["seed"]) == (1, "seed_1", 1)
    summary = json.loads((run / "summary.json").read_text())
    assert whole["step"] == summary["evaluated_step"]


def test_the_seeds_of_a_study_are_measured_as_one(study, said, tmp_path, capsys):
    _, labels, each = said
    evaluate.main(evaluate.Config(run=study))
    capsys.readouterr()
    found = json.loads((study / "evaluations" / "digits-test" / "summary.json").read_text())
    mean = each.mean(axis=0)
    losses = -np.log(mean[np.arange(len(labels)), labels])
    assert found["test/loss"] == pytest.approx(losses.mean(), rel=1e-4)
    assert found["test/accuracy"] == pytest.approx((mean.argmax(-1) == labels).mean(), abs=0.003)
    assert [one.split("/")[-1].split(",")[0] for one in found["runs"]] == ["seed_0", "seed_1"]
    runs = study / "seed_0", (study / "seed_1",)
    evaluate.main(evaluate.Config(run=runs[0], others=runs[1], out=tmp_path / "named"))
    again = json.loads((tmp_path / "named" / "summary.json").read_text())
    assert again["test/loss"] == found["test/loss"]
    assert "by the mean of 2 runs." in (tmp_path / "named" / "report.html").read_text()


def test_one_checkpoint_of_a_run(study, tmp_path):
    run = study / "seed_0"
    image = image_files.save(tmp_path / "a.png", image_files.pixels(32, 32, channels=1))
    both = [run / "checkpoints" / str(step) for step in (1, 2)]
    predict.main(predict.Config(paths=(*map(str, both), str(image)), out=tmp_path / "p.jsonl"))
    scores = json.loads((tmp_path / "p.jsonl").read_text())["scores"]
    each = [opened(run, step=step).predict([image])[0] for step in (1, 2)]
    assert np.abs(each[0] - each[1]).max() > 1e-4
    np.testing.assert_allclose([*scores.values()], np.mean(each, axis=0), rtol=1e-5)
    evaluate.main(evaluate.Config(run=both[0]))
    found = json.loads((run / "evaluations" / "digits-test-step-1" / "summary.json").read_text())
    assert found["evaluated_step"] == 1


def test_what_cannot_be_is_refused_in_a_line(study, tmp_path, capsys):
    first, second = (study / f"seed_{seed}" for seed in (0, 1))
    mirror = "a mirror image of digits may be of another class"
    image = image_files.save(tmp_path / "a.png", image_files.pixels(32, 32, channels=1))
    for work, words in (
        (lambda: evaluate.main(evaluate.Config(run=first, others=(second,))), "out: name where"),
        (lambda: evaluate.main(evaluate.Config(run=first, tta=True)), mirror),
        (lambda: predict.main(predict.Config(paths=(str(first), str(image)), tta=True)), mirror),
        (lambda: export.main(export.Config(run=tmp_path)), "holds no run"),
        (lambda: export.main(export.Config(run=first, out=second)), "holds a run; name another"),
        (lambda: export.main(export.Config(run=first / "checkpoints" / "7")), "no checkpoint of"),
    ):
        assert cli.exit_code(work) == 2
        err = capsys.readouterr().err
        assert words in err
        assert len(err.splitlines()) == 1


def test_runs_that_see_other_images_are_not_measured_as_one(study, capsys):
    first, second = (opened(study / f"seed_{seed}", backend="xla") for seed in (0, 1))
    config = second.config
    about = second.about
    other = second._replace(about=type(about)(**{**vars(about), "shape": (9, 9, 1)}))
    assert averaged([first]) is first

    def work():
        averaged([first, other])

    assert cli.exit_code(work) == 2
    said = capsys.readouterr().err
    assert f"run={str(config.workdir)!r} has another shape of inputs than" in said
    assert "((9, 9), 1, None)" in said
