"""Ablations from their command line: rows, what goes on, what fails, what is refused."""

import csv
import json
import re
import signal
from dataclasses import replace
from types import SimpleNamespace

import pytest

from experiments import ablate, ablate_sweep, sequence
from train import cli
from train.ablation import Ablation
from train.foreseen import check_all
from train.lock import locked
from train.refusal import Failed, Refused
from train.stop import Stopped
from train.sweep import Checked

TINY = (
    "sequence", "--data", "mnist1d", "--model", "linear1d", "--steps", "8", "--batch-size", "500",
    "--devices", "1",
)  # fmt: skip


def run(*words):
    return ablate.main(ablate.parsed([*map(str, words)]))


def table(path):
    with (path / "ablation.csv").open() as file:
        return {row["row"]: row for row in csv.DictReader(file)}


@pytest.fixture
def trained(monkeypatch):
    """Runs that take no time: an accuracy by learning rate and seed, or what is in `ends`."""
    made = SimpleNamespace(configs=[], ends={})

    def main(config):
        made.configs.append(config)
        if (end := made.ends.get(config.learning_rate)) is not None:
            raise end
        values = [0.5 + config.learning_rate + seed / 1000 for seed in config.seeds]
        text = {"seeds": list(config.seeds), "test/accuracy": {"values": values}}
        (config.workdir / "summary.json").write_text(json.dumps(text))

    monkeypatch.setattr(sequence, "main", main)
    monkeypatch.setattr(
        ablate,
        "check_all",
        lambda module, left, metric: {one.folder: Checked(410, "accuracy") for one, _ in left},
    )
    monkeypatch.setattr(ablate_sweep, "write_shown", lambda path, found: path / "report.html")
    return made


def test_a_table_and_its_files(tmp_path, capsys):
    path = tmp_path / "table"
    found = run(*TINY, "--each", "learning_rate=0.2", "--seeds", 0, 1, "--workdir", path)
    assert [line.spread.n for line in found] == [2, 2]
    rows = table(path)
    assert [*rows] == ["baseline", "learning_rate=0.2"]
    for row, folder in (("baseline", "baseline"), ("learning_rate=0.2", "learning_rate-0.2")):
        summary = json.loads((path / "trials" / folder / "summary.json").read_text())
        values = [float(rows[row][f"seed_{seed}"]) for seed in (0, 1)]
        assert values == summary["test/accuracy"]["values"]
        assert rows[row]["parameters"] == "410"  # 40 steps to 10 classes, and biases
    assert {"ablation.md", "ablation.png", "report.html"} <= {one.name for one in path.iterdir()}
    links = re.findall('href="(trials/.*?)"', (path / "report.html").read_text())
    assert links == [f"trials/{one}/report.html" for one in ("baseline", "learning_rate-0.2")]
    assert all((path / link).exists() for link in links)
    said = capsys.readouterr().out
    assert "Checking 2 rows, 2 seeds each." in said
    assert "vary with the seed" in said
    # A row is a run of the experiment: it goes on by itself.
    alone = [*TINY[1:], "--learning-rate=0.2", "--seeds", "0", "1"]
    config = json.loads((path / "trials" / "learning_rate-0.2" / "config.json").read_text())
    asked = cli.configure(sequence, alone)
    assert config["learning_rate"] == asked.learning_rate == 0.2
    assert config["seeds"] == [0, 1]


def test_a_sweep_goes_on_where_it_was(tmp_path, trained, capsys):
    path = tmp_path / "table"
    words = (*TINY, "--each", "learning_rate=0.2", "learning_rate=0.3", "--seeds", 0, 1, 2)
    trained.ends[0.3] = Stopped(signal.SIGTERM)
    with pytest.raises(Stopped):
        run(*words, "--workdir", path)
    assert "To go on with the ablation:" in capsys.readouterr().out
    rows = table(path)  # those whose trials have ended
    assert [row["state"] for row in rows.values()] == ["finished", "finished"]
    trained.ends.clear()
    trained.configs.clear()
    run("--workdir", path / "trials" / "learning_rate-0.3")  # a trial alone
    assert [config.learning_rate for config in trained.configs] == [0.3]
    assert len(table(path)) == 3
    before = (path / "ablation.csv").read_text()
    run(*words, "--workdir", path)
    assert len(trained.configs) == 1  # nothing is left to do
    assert "All of 3 rows are finished, 3 seeds each." in capsys.readouterr().out
    assert (path / "ablation.csv").read_text() == before
    # More seeds, and another row.
    found = run(*words, 5, "--each", "weight_decay=0.5", "--workdir", path)
    assert len(trained.configs) == 1 + 4
    assert [line.spread.n for line in found] == [4] * 4


def test_a_failed_trial_is_a_row_with_its_error(tmp_path, trained):
    trained.ends |= {0.2: Failed("every seed diverged: 0, 1"), 0.3: MemoryError("2 TB\nof it")}
    changes = ("learning_rate=0.2", "learning_rate=0.3", "learning_rate=0.4")
    words = (*TINY, "--each", *changes, "--seeds", 0, 1, "--workdir", tmp_path / "table")
    run(*words)
    rows = table(tmp_path / "table")
    assert [row["state"] for row in rows.values()] == ["finished", "failed", "failed", "finished"]
    assert rows["learning_rate=0.2"]["error"] == "every seed diverged: 0, 1"
    assert rows["learning_rate=0.3"]["error"] == "MemoryError: 2 TB"
    assert "failed: MemoryError: 2 TB" in (tmp_path / "table" / "ablation.md").read_text()
    # It is tried again, and what it is by then is what counts.
    trained.ends.clear()
    run(*words)
    assert table(tmp_path / "table")["learning_rate=0.3"]["state"] == "finished"
    trained.ends |= {rate: Failed("no") for rate in (0.01, 0.2)}
    with pytest.raises(Failed, match="no trial has a result; the first: no"):
        run(*TINY, "--learning-rate", 0.01, "--each", "learning_rate=0.2", "--workdir",
            tmp_path / "other")  # fmt: skip


def test_all_rows_are_checked_before_the_first_runs(tmp_path, trained, monkeypatch):
    monkeypatch.setattr(ablate, "check_all", check_all)
    path = tmp_path / "table"
    refused = r"'accumulation=3': batch_size=500 can't be divided into accumulation=3 slices"
    with pytest.raises(Refused, match=refused):
        run(*TINY, "--each", "learning_rate=0.2", "accumulation=3", "--workdir", path)
    assert trained.configs == []
    assert not path.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--each", "learning_rate=0.3"), "has a row that is left out: 'learning_rate=0.2'"),
        (("--each", "learning_rate=0.2", "--seeds", 0), r"seeds that are left out: \[1\]"),
        (("--each", "learning_rate=0.2", "--metric", "loss"), "compares what ranks, not loss"),
        (("--steps", 9, "--each", "learning_rate=0.2"), "has steps=8 in row 'baseline', not 9"),
    ],
)
def test_a_directory_goes_on_with_its_own(tmp_path, trained, words, said):
    asked = ("--seeds", 0, 1, "--workdir", tmp_path / "table")
    run(*TINY, "--each", "learning_rate=0.2", *asked)
    with pytest.raises(Refused, match=said):
        run(*TINY, *asked, *words)


def test_another_metric(tmp_path, trained):
    words = (*TINY, "--each", "learning_rate=0.2", "--workdir", tmp_path / "a")
    with pytest.raises(Refused, match=r"metric='miou' is unknown; nearest: accuracy"):
        run(*words, "--metric", "miou")
    # No row was written, and what has run is not lost for it.
    assert len(run(*words)) == len(trained.configs) == 2


def test_a_metric_that_will_not_be_measured_is_refused_before_anything_runs(tmp_path):
    path = tmp_path / "table"
    with pytest.raises(Refused, match=r"'baseline': metric='miou' is unknown; nearest: accuracy"):
        run(*TINY, "--each", "learning_rate=0.2", "--metric", "miou", "--workdir", path)
    assert not path.exists()


def test_seeds_as_one_program_are_the_seeds_of_a_loop(tmp_path):
    words = ("--weights", "last", "--grid", "seeds_as=loop,vmap", "--seeds", 0, 1)
    loop, vmap = run(*TINY, *words, "--metric", "loss", "--workdir", tmp_path / "table")
    assert vmap.values == pytest.approx(loop.values, rel=1e-4)
    assert loop.values[0] != pytest.approx(loop.values[1], rel=1e-4)
    how = {}
    for folder in ("seeds_as-loop", "seeds_as-vmap"):
        made_of = tmp_path / "table" / "trials" / folder / "seed_0" / "provenance.json"
        how[folder] = json.loads(made_of.read_text()).get("at_once")
    assert how == {"seeds_as-loop": None, "seeds_as-vmap": {"how": "vmap", "seeds": [0, 1]}}


def test_rows_that_build_the_same_are_refused(tmp_path):
    words = ("ablation_nets", "--data", "digits", "--examples", 0, "--devices", 1)
    for field, value in (("kernel_size", "3"), ("downsample", "max")):
        said = f"'{field}={value}' is the same recipe as 'baseline': it builds the same"
        with pytest.raises(Refused, match=said):
            run(*words, "--each", f"{field}={value}", "--workdir", tmp_path / "table")
    assert not (tmp_path / "table").exists()


def test_one_process_at_a_time_even_to_look(tmp_path, trained, monkeypatch):
    path = tmp_path / "table"
    words = (*TINY, "--each", "learning_rate=0.2", "--seeds", 0, 1, "--workdir", path)
    run(*words)
    read = []
    original = ablate.settled

    def settled(asked, where):
        with pytest.raises(Refused, match="in use by another run"), locked(where):
            pass
        read.append(where)
        return original(asked, where)

    monkeypatch.setattr(ablate, "settled", settled)
    run(*words)
    assert read == [path]  # what is there was read when nobody could change it


def test_trials_that_jobs_run_are_not_run_here_too(tmp_path, trained, monkeypatch):
    path = tmp_path / "table"
    words = (*TINY, "--each", "learning_rate=0.2", "--seeds", 0, 1, "--workdir", path)
    run(*words)
    (path / "jobs.json").write_text('{"baseline": {"job": "71", "seeds": [0, 1]}}')
    trained.configs.clear()
    state = {"now": "RUNNING"}

    def job(folder, job_id):
        return SimpleNamespace(state=state["now"], done=lambda: state["now"] == "COMPLETED")

    cluster = SimpleNamespace(job_class=job)
    monkeypatch.setattr(ablate.launch, "executor", lambda folder, parameters: cluster)
    more = (*words[:-2], 2, "--workdir", path, "--launcher", "local")
    for now in ("RUNNING", "UNKNOWN"):
        state["now"] = now
        with pytest.raises(Refused, match=r"wait or run \(baseline\).* and scancel 71 ends them"):
            run(*more)
    assert trained.configs == []
    state["now"] = "COMPLETED"
    run(*more)
    assert len(trained.configs) == 2

    def none(folder, parameters):
        raise Refused("launcher='slurm': there is no srun here")

    monkeypatch.setattr(ablate.launch, "executor", none)
    with pytest.raises(
        Refused, match=r"71 .* can't be asked \(there is no srun here\); if .* remove"
    ):
        run(*more)


def test_what_differs_between_rows_is_no_fact_of_the_table(tmp_path, trained):
    run(*TINY, "--grid", "steps=8,9", "--seeds", 0, "--workdir", tmp_path)
    line = (tmp_path / "ablation.md").read_text().splitlines()[2]
    assert line == "Data: mnist1d; Model: linear1d; Seeds: 0."


def test_an_option_that_comes_twice_adds_to_the_first():
    asked = ablate.parsed(["classify", "--each", "ema=0", "--each", "pad=2", "mixup=0.2"])
    assert asked.ablation.changes == [{"ema": "0"}, {"pad": "2"}, {"mixup": "0.2"}]
    assert len(ablate.parsed(["classify", "--each", "ema=0"]).ablation.changes) == 1
    asked = ablate.parsed(["./experiments/classify.py", "--grid", "ema=0,1", "--grid", "pad=2"])
    assert asked.ablation.base == {"ema": "0", "pad": "2"}


def test_an_ablation_as_it_is_typed():
    asked = ablate.parsed(
        ["classify", "--data", "digits", "--each", "ema=0", "mixup=0.2 pad=4", "--batch-size=64",
         "--seeds", "3", "4", "--within", "model=mlp", "--frozen-norm", "True"]
    )  # fmt: skip
    assert asked.ablation == Ablation(
        experiment="experiments.classify",
        base={"data": "digits", "batch_size": "64", "frozen_norm": "True"},
        changes=[{"ema": "0"}, {"mixup": "0.2", "pad": "4"}],
        within=[{"model": "mlp"}],
        seeds=(3, 4),
    )
    asked = ablate.parsed(["experiments/classify.py", "--grid", "ema=0,0.9", "pad=2,4"])
    assert asked.ablation.base == {"ema": "0", "pad": "2"}
    assert asked.ablation.baseline == "ema=0 pad=2"
    assert asked.ablation.changes == [
        {"ema": "0", "pad": "4"}, {"ema": "0.9", "pad": "2"}, {"ema": "0.9", "pad": "4"},
    ]  # fmt: skip
    slurm = ablate.parsed(
        ["--workdir", "x", "--launcher", "slurm", "--slurm", "timeout_min=60", "slurm_qos=low"]
    )
    assert slurm.slurm == {"timeout_min": 60, "slurm_qos": "low"}


def test_a_table_that_is_built_in(monkeypatch):
    built = Ablation(experiment="classify", base={"data": "digits"}, changes=[{"ema": 0}])
    monkeypatch.setattr(ablate, "TABLES", {"averages": built})
    asked = ablate.parsed(["--table", "averages", "--steps", "20", "--seeds", "1"])
    assert asked.ablation == replace(built, base={"data": "digits", "steps": "20"}, seeds=(1,))
    with pytest.raises(Refused, match="table='average' is unknown; nearest: averages"):
        ablate.parsed(["--table", "average"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "nothing is asked for"),
        (("classify",), "give either --each"),
        (("classify", "--each", "ema=0", "--grid", "pad=2,4"), "give either --each"),
        (("--each", "ema=0"), "no experiment is named"),
        (("--steps", "3"), "no experiment is named"),
        (("clasify", "--each", "ema=0"), "experiment='clasify' is unknown; nearest: classify"),
        (("../x/classify.py", "--each", "ema=0"), "experiment='...x.classify' is unknown"),
        (("gallery", "--each", "ema=0"), "gallery is no training with a recipe; these are: abl"),
        (("detect_stages", "--each", "ema=0"), "detect_stages is no training with a recipe"),
        (("classify", "--grid", "ema=0,1", "ema=2"), "grid names ema twice"),
        (("classify", "--each", "ema"), "'ema' is no field=value"),
        (("--table", "x", "--each", "ema=0"), "table='x' has its own experiment"),
        (("classify", "--launcher", "pbs", "--each", "ema=0"), "invalid choice: 'pbs'"),
        (("classify", "stray", "--each", "ema=0"), "'stray' belongs to no option"),
    ],
)
def test_what_cannot_be_asked_is_refused(words, said):
    with pytest.raises(Refused) as refused:
        ablate.parsed(words)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("mlp_vs_cnn",), "mlp_vs_cnn with model='all' is more than one training, or goes "
         "on from another; one is wanted here: "
         "--model mlp, cnn, flatten, mlp_permuted or cnn_permuted, or another experiment: abl"),
        (("mnist1d_table",), "--model linear1d, mlp1d or cnn1d, or another experiment"),
        (("detect", "--model", "rcnn_alexnet"), "detect with stage='all' is more than one "
         "training, or goes on from another; one is wanted here: --stage softmax, or another exp"),
        (("detect", "--model", "rcnn_alexnet", "--stage", "svm"), "stage='svm' is more than one"),
    ],
)  # fmt: skip
def test_an_experiment_of_several_trainings_is_refused(tmp_path, words, said):
    with pytest.raises(Refused) as refused:
        run(*words, "--each", "no_field=0.5", "--workdir", tmp_path / "table")
    assert said in str(refused.value)
    assert not (tmp_path / "table").exists()


def test_a_directory_without_an_ablation_is_refused(tmp_path):
    with pytest.raises(Refused, match="holds no ablation"):
        run("--workdir", tmp_path)
