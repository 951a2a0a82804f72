"""A run as its user meets it: started from the command line, stopped, gone on with, two at once."""

import gzip
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import toy_detector
from toy_detector import Config

from train import workdir
from train.checkpoints import Checkpoints
from train.data.decode import PIXELS
from train.data.limited import Limited
from train.finetune import Weights
from train.logs import read_metrics
from train.opened import opened
from train.place import place
from train.prepared import prepare
from train.refusal import Failed, Refused
from train.run import judge, run, train, with_less
from train.seal import digest_of
from train.session import session
from train.stop import Stopped
from train.tasks.task import Summary

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = "tests/making/toy_detector.py"
ONE = Config(devices=1, steps=40)


def command(*arguments):
    return [sys.executable, "-W", "error", SCRIPT, *map(str, arguments)]


def environment():
    return {**os.environ, "JAX_NUM_CPU_DEVICES": "1", "COLUMNS": "100"}


def process(*arguments):
    return subprocess.run(
        command(*arguments),
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )


def whole(path, config=ONE, change=lambda prepared: prepared):
    """Prepare, train, judge."""
    prepared = change(prepare(toy_detector, config))
    with session(prepared, path) as here:
        return judge(prepared, here, train(prepared, here))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    path = tmp_path_factory.mktemp("plain")
    whole(path)
    return path


def test_boxes_that_were_clipped_are_said_as_the_run_begins(tmp_path, capsys):
    prepared = prepare(toy_detector, ONE)
    source = Limited(prepared.data.train, PIXELS)
    source.clipped = {3: 1}
    data = prepared.data._replace(train=source)
    with session(replace(prepared, data=data), tmp_path):
        said = " ".join(capsys.readouterr().out.split())
    assert "Clipped: 1 box in 1 of the examples read, beyond the image" in said


def state_of(path, step):
    """The digest of every array of a saved state."""
    record = path / "checkpoints" / str(step) / "record" / "metadata"
    return json.loads(record.read_text())["items"]


def measured(path):
    """What evaluations found, in the order of the file."""
    return [
        (line["split"], line["step"], line["recall"], line["count"])
        for line in read_metrics(path)
        if line["kind"] == "evaluation"
    ]


def test_boxes_enter_a_run_from_the_command_line(tmp_path):
    out = process("--steps", 20, "--workdir", tmp_path)
    assert (out.returncode, out.stderr) == (0, "")
    assert "detector on squares: 96 train, 21 validation, 37 test examples" in out.stdout
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["experiment"] == "toy_detector"
    assert summary["test/count"] == 37
    assert (tmp_path / "report.html").exists()
    again = process("--workdir", tmp_path)
    assert again.returncode == 0
    assert f"The run in {tmp_path} is at its last step, 20." in again.stdout
    assert opened(tmp_path).step == summary["evaluated_step"]


def test_a_second_run_in_the_directory_is_refused_before_it_touches_anything(tmp_path):
    first = subprocess.Popen(
        command("--steps", 1_000_000, "--log-every", 50, "--workdir", tmp_path),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        end = time.monotonic() + 200
        while len(read_metrics(tmp_path)) < 3:
            assert first.poll() is None, first.communicate()[0]
            assert time.monotonic() < end
            time.sleep(0.05)
        lines = read_metrics(tmp_path)
        for more in ((), ("--steps", 7), ("--seeds", 1, 2)):
            out = process("--workdir", tmp_path, *more)
            assert out.returncode == 2
            assert out.stderr == (
                f"error: workdir='{tmp_path}' is in use by another run (process {first.pid})\n"
            )
        assert read_metrics(tmp_path)[: len(lines)] == lines
        assert first.poll() is None
        first.send_signal(signal.SIGTERM)
        said = first.communicate(timeout=100)[0]
    finally:
        first.kill()
    assert first.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in said
    assert f"saved at step {Checkpoints(tmp_path / 'checkpoints').latest()}" in said


def test_a_run_that_another_process_began_and_left_meanwhile_is_no_new_one(plain, tmp_path):
    new = tmp_path / "new"
    with place(toy_detector, replace(ONE, steps=20, workdir=new)) as claim:
        shutil.copytree(plain, new)
        with pytest.raises(Refused, match="steps: 40 there, 20 asked"):
            claim()


def test_a_run_killed_among_its_first_files_can_be_begun_again(tmp_path, monkeypatch):
    """After each of them; the last is the first one of the checkpoints."""
    original, count = workdir.write, 3

    def write(path, value):
        original(path, value)
        written.append(path.name)
        if len(written) == killed:
            raise KeyboardInterrupt

    monkeypatch.setattr(workdir, "write", write)
    for killed in range(1, count + 1):
        written = []
        with pytest.raises(KeyboardInterrupt):
            run(toy_detector, replace(ONE, workdir=tmp_path / str(killed)))
        assert len(written) == killed
        with place(toy_detector, replace(ONE, workdir=tmp_path / str(killed))) as claim:
            assert claim() == tmp_path / str(killed)


def interrupted(split):
    """A change of a `Prepared`: SIGTERM comes as a split is measured for the first time."""

    def change(prepared):
        sent = []

        def assess(name):
            of = prepared.assess(name)

            def measure(variables, stopping):
                if name == split and not sent:
                    sent.append(None)
                    os.kill(os.getpid(), signal.SIGTERM)
                return of(variables, stopping)

            return measure

        return replace(prepared, assess=assess)

    return change


@pytest.mark.parametrize(("split", "step"), [("validation", 20), ("test", 40)])
def test_a_stop_ends_an_evaluation_and_the_run_that_goes_on_makes_it_again(
    split, step, plain, tmp_path, capsys
):
    with pytest.raises(Stopped):
        whole(tmp_path, change=interrupted(split))
    assert f"Stopped and saved at step {step}." in capsys.readouterr().out
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest() == step  # saved before it was evaluated
        assert checkpoints.ranked(step) == (split == "test")
    assert not any(line.get("split") == split for line in read_metrics(tmp_path))
    assert not (tmp_path / "summary.json").exists()
    whole(tmp_path)
    assert measured(tmp_path) == measured(plain)
    assert state_of(tmp_path, 40) == state_of(plain, 40)
    ours, theirs = (json.loads((path / "summary.json").read_text()) for path in (tmp_path, plain))
    assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}


def test_a_killed_evaluation_is_made_again_and_logged_once(plain, tmp_path):
    """Killed between its line in the log and its rank."""

    def change(prepared):
        return replace(prepared, config=replace(prepared.config, steps=40))

    whole(tmp_path, change=change)
    (tmp_path / "summary.json").unlink()
    (tmp_path / "checkpoints" / "40" / "rank.json").unlink()
    whole(tmp_path)
    assert measured(tmp_path) == measured(plain)


def scored(values):
    """A change of a `Prepared`: the validation split finds these, one a time."""

    def change(prepared):
        left = list(values)

        def assess(name):
            if name == "test":
                return prepared.assess(name)
            return lambda variables, stopping: Summary({"rmse": left.pop(0), "recall": 0.5}, {})

        return replace(prepared, parts=prepared.parts._replace(rank="-rmse"), assess=assess)

    return change


@pytest.mark.parametrize(("weights", "judged"), [("best", 20), ("last", 30)])
def test_smaller_may_be_better_and_the_last_may_be_judged(weights, judged, tmp_path):
    config = replace(ONE, steps=30, evaluate_every=10, weights=weights)
    with pytest.raises(KeyError, match="rmse"):  # the toy's test split has no such scalar
        whole(tmp_path, config, scored([3.0, 1.0, 2.0]))
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.best() == 20
    assert json.loads((tmp_path / "summary.json").read_text())["evaluated_step"] == judged


# --- weights that a run begins from -------------------------------------------------------------


def finetuning():
    """The toy as an experiment that starts from weights, and how often these were read."""
    weights = {}
    read = []

    def build(config, about, **how):
        parts = toy_detector.build(config, about, **how)
        image = jax.numpy.zeros((1, 16, 16, 1))
        weights.update(parts.network.init(jax.random.key(99), image, train=False))

        def load():
            read.append(None)
            return Weights(jax.device_get(weights), {"file": "a file"})

        return parts._replace(weights=load)

    module = SimpleNamespace(
        __name__="toy_detector", Config=Config, splits=toy_detector.splits, build=build
    )
    return module, weights, read


def test_weights_are_in_the_provenance(tmp_path):
    module, weights, _ = finetuning()
    run(module, replace(ONE, steps=2, workdir=tmp_path))
    provenance = json.loads((tmp_path / "provenance.json").read_text())
    assert provenance["weights"] == digest_of(weights)
    assert provenance["weights_from"] == {"file": "a file"}
    other = jax.tree.map(lambda x: np.asarray(x) + 1e-6, weights)
    assert provenance["weights"] != digest_of(other)


def test_a_first_save_that_was_killed_does_not_restart_from_random_weights(tmp_path):
    whole_path, cut = tmp_path / "whole", tmp_path / "cut"
    module, *_ = finetuning()
    config = replace(ONE, steps=10)
    run(module, replace(config, workdir=whole_path))
    module, _, read = finetuning()
    prepared = prepare(module, replace(config, workdir=cut))
    workdir.make(cut)
    workdir.write_config(cut, "toy_detector", prepared.config)
    half = cut / "checkpoints" / "3.orbax-checkpoint-tmp"
    half.mkdir(parents=True)
    (half / "state").write_text("half of it")
    run(module, replace(config, workdir=cut))
    assert len(read) == 1
    assert state_of(cut, 10) == state_of(whole_path, 10)
    run(module, replace(config, workdir=cut))  # it goes on, and needs them no more
    assert len(read) == 1


# --- what lies in the directory ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("provenance.json", "{}", "provenance.json does not say which data"),
        ("provenance.json", "{", "provenance.json can't be read"),
        ("config.json", None, "holds a run whose config.json is missing"),
        ("config.json", "[1]", "config.json can't be read: it holds no object"),
    ],
)
def test_what_is_missing_or_broken_is_one_line(name, text, words, plain, tmp_path):
    shutil.copytree(plain, tmp_path / "copy")
    if text is None:
        (tmp_path / "copy" / name).unlink()
    else:
        (tmp_path / "copy" / name).write_text(text)
    with pytest.raises(Refused, match=words):
        run(toy_detector, replace(ONE, workdir=tmp_path / "copy"))


@pytest.mark.parametrize(
    ("mean", "std", "goes_on"), [(0.001, 0.001, True), (0.02, 0.0, False), (0.0, -0.02, False)]
)
def test_statistics_that_moved_are_other_data(mean, std, goes_on, plain, tmp_path):
    """Such as pixels of a large file, of equal size, far from the bytes that are sampled."""
    path = tmp_path / "copy"
    shutil.copytree(plain, path)
    about = json.loads((path / "about.json").read_text())
    spread = about["std"][0]
    about["mean"][0] += mean * spread
    about["std"][0] += std * spread
    (path / "about.json").write_text(json.dumps(about))
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    if goes_on:
        run(toy_detector, replace(ONE, workdir=path))
        return
    message = r"began with other data: the mean and standard deviation of a channel are .* recorded"
    with pytest.raises(Refused, match=message) as refused:
        run(toy_detector, replace(ONE, workdir=path))
    assert "\n" not in str(refused.value)
    after = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    assert {file.name for file in after if after[file] != before.get(file)} <= {".lock"}


def test_what_is_deleted_under_a_run_is_put_back(plain, tmp_path, capsys):
    path = tmp_path / "copy"
    shutil.copytree(plain, path)
    prepared = prepare(toy_detector, replace(ONE, workdir=path))
    names = ("config.json", "about.json", "provenance.json")

    def delete(error=None):
        with session(prepared, path):
            held = {name: (path / name).read_text() for name in names}
            for name in names:
                (path / name).unlink()
            if error is not None:
                raise error
        return held

    held = delete()
    assert {name: (path / name).read_text() for name in names} == held
    assert capsys.readouterr().out.replace("\n", " ").count("was deleted, and is put back.") == 3
    with pytest.raises(ZeroDivisionError):
        delete(ZeroDivisionError())
    assert all((path / name).exists() for name in names)
    with session(prepared, path):
        path.rename(tmp_path / "moved")
    assert not path.exists()


def test_a_metrics_file_with_nuls_and_foreign_lines(plain, tmp_path):
    path = tmp_path / "copy"
    shutil.copytree(plain, path)
    with (path / "metrics.jsonl").open("ab") as file:
        file.write(b'\0\0\0\n{"kind": "train", "step": 3}\n[1]\nhello\n{"kind": 1, "step": "x"}\n')
    run(toy_detector, replace(ONE, workdir=path))
    assert (path / "report.html").exists()


def test_what_was_predicted_is_written_and_costs_no_run(plain, tmp_path, monkeypatch, capsys):
    lines = (plain / "predictions.csv").read_text().splitlines()
    assert lines[0] == "index,squares"
    assert [line.partition(",")[0] for line in lines[1:]] == [str(i) for i in range(37)]

    def broken(*_):
        raise KeyError("no such column")

    copy = tmp_path / "copy"
    shutil.copytree(plain, copy)
    (copy / "report.html").unlink()
    monkeypatch.setattr("train.run.write_predictions", broken)
    assert whole(copy).scalars["count"] == 37
    assert (
        "predictions.csv could not be made: KeyError: 'no such column'." in capsys.readouterr().out
    )
    assert (copy / "report.html").exists()


def test_a_seed_of_its_own_in_every_run(plain, tmp_path):
    whole(tmp_path, replace(ONE, seed=1))
    assert state_of(tmp_path, 40) != state_of(plain, 40)


def test_a_closed_pipe_ends_the_run_in_a_line(tmp_path):
    run = subprocess.Popen(
        command("--steps", 1_000_000, "--log-every", 1, "--workdir", tmp_path),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        run.stdout.readline()
        run.stdout.close()  # as `| head -1` does
        error = run.stderr.read()
        assert run.wait(200) == 1
    finally:
        run.kill()
        run.stderr.close()
    assert error == "error: the output could not be written: Broken pipe\n"


def test_a_run_that_begins_again_has_the_provenance_of_its_own_weights(tmp_path):
    """Killed before its first save, and started again from other weights."""
    first = {"data": {"train": "a"}, "weights": "old"}
    workdir.write(tmp_path / "provenance.json", first)
    new = {"data": {"train": "a"}, "weights": "new"}
    assert workdir.joined(tmp_path, new, goes_on=False) == new
    assert workdir.joined(tmp_path, new) == {**first, "resumed": [new]}
    with pytest.raises(Refused, match="began with other data"):
        workdir.joined(tmp_path, {"data": {"train": "b"}}, goes_on=False)


def test_a_profile_is_written_beside_the_run_and_the_first_step_is_told(tmp_path, capsys):
    config = replace(ONE, steps=8, evaluate_every=8, profile=2)
    whole(tmp_path, config)
    said = capsys.readouterr().out
    assert re.search(r"First step after \d+\.\d s \(compiling \d+\.\d s\)\.", said)
    assert "2 steps are traced" in said
    (file,) = (tmp_path / "profile").glob("plugins/profile/*/perfetto_trace.json.gz")
    with gzip.open(file) as text:
        events = json.load(text)["traceEvents"]
    steps = {event["args"]["step_num"] for event in events if "step_num" in event.get("args", {})}
    assert {int(number) for number in steps} == {4, 5}
    with pytest.raises(Refused, match="profile=-1"):
        replace(ONE, profile=-1)


def test_too_little_memory_is_one_line_that_says_what_takes_less(tmp_path, monkeypatch):
    def fit(state, **how):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory.\n  at 0x0")

    monkeypatch.setattr("train.run.fit", fit)
    with pytest.raises(Failed) as failed:
        run(toy_detector, replace(ONE, workdir=tmp_path))
    assert str(failed.value) == (
        f"a step of {ONE.model} with batch_size={ONE.batch_size} needs more memory than there is: "
        "RESOURCE_EXHAUSTED: Out of memory; a smaller --batch-size or --accumulation 2 needs less, "
        "as a new run"
    )
    assert with_less(SimpleNamespace(accumulation=4, remat=False)) == (
        "a smaller --batch-size, --accumulation 8 or --remat True needs less, as a new run"
    )
    assert "remat" not in with_less(SimpleNamespace(accumulation=4, remat=True))
