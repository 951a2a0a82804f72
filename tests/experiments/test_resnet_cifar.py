"""The first experiment as its users meet it: processes, their files, their errors."""

import dataclasses
import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import image_files
import jax
import numpy as np
import pytest
from tfds_set import write_set

from experiments import resnet_cifar
from train import cli, workdir
from train.checkpoints import Checkpoints
from train.data.source import About
from train.experiment import refuse_idle
from train.logs import read_metrics
from train.prepared import prepare
from train.refusal import Refused

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = "experiments/resnet_cifar.py"
SMALL = ("--data", "digits", "--batch-size", "8", "--ema", "0.9", "--warmup-steps", "2")


def command(*arguments):
    return [sys.executable, "-W", "error", SCRIPT, *map(str, arguments)]


def environment():
    # One device, and no data set of the machine's own.
    return {**os.environ, "JAX_PLATFORMS": "cpu", "TFDS_DATA_DIR": "/nonexistent", "COLUMNS": "100"}


def run(*arguments, **more):
    return subprocess.run(
        command(*arguments),
        cwd=ROOT,
        env={**environment(), **more},
        capture_output=True,
        text=True,
        timeout=900,
    )


@pytest.fixture
def here(monkeypatch, capsys):
    """The same in this process, where it needs none of its own, which would import for seconds."""
    monkeypatch.setenv("TFDS_DATA_DIR", "/nonexistent")
    monkeypatch.chdir(ROOT)

    def run(*arguments):
        code = cli.command_line(resnet_cifar.NAME, [*map(str, arguments)])
        return subprocess.CompletedProcess(arguments, code, *capsys.readouterr())

    return run


def start(*arguments):
    return subprocess.Popen(
        command(*arguments),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # a group of its own, as in a terminal
    )


def wait_for(condition, process, seconds=240):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def steps_logged(path):
    return max((line["step"] for line in read_metrics(path)), default=0)


def final(path, step):
    """Every number of the state that a run has saved at `step`."""
    config = workdir.read_config(path, "experiments.resnet_cifar", resnet_cifar.Config)
    prepared = prepare(
        resnet_cifar, dataclasses.replace(config, devices=1, loader="resident", workers=0)
    )
    with Checkpoints(path / "checkpoints") as checkpoints:
        restored = checkpoints.restore(prepared.start(np.uint32(config.seed)))
    assert restored.step == step
    return jax.device_get(restored.state)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of 60 steps, uninterrupted."""
    path = tmp_path_factory.mktemp("whole")
    out = run(*SMALL, "--steps", 60, "--evaluate-every", 25, "--workdir", path)
    assert out.returncode == 0, out.stdout + out.stderr
    return path, out.stdout


def test_a_run_says_what_it_is_and_what_it_found(whole):
    path, out = whole
    assert "embedded digits" in out
    assert "not on CIFAR-10" in out
    assert "make cifar10" in out
    assert "Device: 1 x CPU" in out
    assert "1,262 train, 180 validation, 355 test" in out
    assert str(path / "report.html") in out.split()[-1]
    summary = json.loads((path / "summary.json").read_text())
    assert summary["data"] == "digits"
    assert summary["model"] == "resnet20"
    assert summary["steps"] == 60
    assert summary["test/count"] == 355
    assert 0.1 < summary["test/accuracy"] <= 1
    assert f"Test accuracy {100 * summary['test/accuracy']:.2f}%, " in out
    assert summary["evaluated_step"] in (25, 50, 60)


def test_a_run_leaves_its_files(whole):
    path, _ = whole
    config = json.loads((path / "config.json").read_text())
    assert config["experiment"] == "experiments.resnet_cifar"
    assert config["data"] == "digits"
    assert config["batch_size"] == 8
    about = json.loads((path / "about.json").read_text())
    assert about["name"] == "digits"
    assert about["shape"] == [32, 32, 1]
    assert about["mean"]
    record = json.loads((path / "provenance.json").read_text())
    assert record["convolution"] in ("onednn", "jax")  # as it is built here
    assert set(record["data"]) == {"train", "validation", "test"}
    lines = read_metrics(path)
    trained = [line for line in lines if line["kind"] == "train"]
    assert trained[-1]["step"] == 60
    for name in ("loss", "accuracy", "learning_rate", "gradient_norm", "examples_per_second"):
        assert trained[-1][name] >= 0
    evaluated = [(line["split"], line["step"]) for line in lines if line["kind"] == "evaluation"]
    best = json.loads((path / "summary.json").read_text())["evaluated_step"]
    assert evaluated == [
        ("validation", 25), ("validation", 50), ("validation", 60), ("test", best)
    ]  # fmt: skip
    assert list((path / "tensorboard").iterdir())
    page = (path / "report.html").read_text()
    assert "embedded digits" in page


def test_killed_and_resumed_is_the_same_run_bit_for_bit(whole, tmp_path):
    arguments = (*SMALL, "--steps", 60, "--evaluate-every", 25, "--workdir", tmp_path)
    process = start(*arguments, "--log-every", 1)
    saved = tmp_path / "checkpoints" / "25"
    wait_for(lambda: saved.exists() and steps_logged(tmp_path) >= 27, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert steps_logged(tmp_path) < 60
    out = run("--workdir", tmp_path)  # nothing else: the config is read back
    assert out.returncode == 0, out.stdout + out.stderr
    assert f"from step 25 of {tmp_path}" in out.stdout
    one, other = final(whole[0], 60), final(tmp_path, 60)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)
    assert one.ema is not None
    numbers = [line["step"] for line in read_metrics(tmp_path) if line["kind"] == "train"]
    assert numbers == sorted(set(numbers))


def test_the_streaming_loader_gives_the_same_run(whole, tmp_path):
    out = run(
        *SMALL, "--steps", 60, "--evaluate-every", 25, "--workdir", tmp_path,
        "--loader", "streaming", "--workers", 1,
    )  # fmt: skip
    assert out.returncode == 0, out.stdout + out.stderr
    assert out.stderr == ""  # of the workers too
    one, other = final(whole[0], 60), final(tmp_path, 60)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_ctrl_c_in_a_terminal_reaches_the_workers_too_and_the_run_is_saved(tmp_path):
    process = start(
        *SMALL, "--steps", 100_000, "--log-every", 1, "--workdir", tmp_path,
        "--loader", "streaming", "--workers", 1,
    )  # fmt: skip
    wait_for(lambda: steps_logged(tmp_path) >= 3, process)
    os.killpg(process.pid, signal.SIGINT)
    out = process.communicate(timeout=120)[0]
    assert process.returncode == 128 + signal.SIGINT
    assert "Traceback" not in out
    assert f"saved at step {steps_logged(tmp_path)}" in out


def test_every_other_choice_of_the_recipe_on_a_prepared_set(tmp_path):
    """8x8 colour images of a TFDS set, no validation split, on two devices."""
    labels = [i % 3 for i in range(24)]
    write_set(tmp_path, "tiny", splits={"train": labels, "test": labels[:7]}, shape=(8, 8, 3))
    path = tmp_path / "run"
    out = run(
        "--data", "tiny", "--model", "resnet32", "--steps", 3, "--batch-size", 8, "--devices", 2,
        "--schedule", "cosine", "--nesterov", "True", "--clip-norm", 1, "--label-smoothing", 0.1,
        "--accumulation", 2, "--dtype", "bfloat16", "--gentle-start", 0.1, "--validation", 0,
        "--pad", 1, "--log-every", 1, "--workdir", path,
        TFDS_DATA_DIR=str(tmp_path), JAX_NUM_CPU_DEVICES="2",
    )  # fmt: skip
    assert out.returncode == 0, out.stdout + out.stderr
    assert "digits" not in out.stdout
    assert "2 x CPU" in out.stdout
    summary = json.loads((path / "summary.json").read_text())
    assert (summary["data"], summary["test/count"], summary["evaluated_step"]) == ("tiny", 7, 3)
    lines = read_metrics(path)
    rates = [line["learning_rate"] for line in lines if line["kind"] == "train"]
    assert rates == pytest.approx([0.01, 0.01 * 0.75, 0.01 * 0.25])  # gently: a tenth of 0.1
    assert {line["split"] for line in lines if line["kind"] == "evaluation"} == {"test"}


def test_a_set_that_is_tested_on_what_it_calls_validation(here, tmp_path, monkeypatch):
    labels = [i % 3 for i in range(30)]
    write_set(tmp_path, "tiny", splits={"train": labels, "validation": labels[:9]}, shape=(8, 8, 3))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    path = tmp_path / "run"
    out = here(
        "--data", "tiny", "--steps", 2, "--batch-size", 8, "--validation", 0.2, "--devices", 1,
        "--workdir", path,
    )  # fmt: skip
    assert out.returncode == 0, out.stdout + out.stderr
    assert "24 train, 6 validation, 9 test" in out.stdout
    counts = {line["split"]: line["count"] for line in read_metrics(path) if "split" in line}
    assert counts == {"validation": 6, "test": 9}
    data = json.loads((path / "provenance.json").read_text())["data"]
    assert len({*data.values()}) == len(data) == 3


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), resnet_cifar.DIGITS),
        (("digits",), resnet_cifar.DIGITS),
        (("cifar10",), resnet_cifar.CIFAR10),
        (("fashion_mnist",), resnet_cifar.FASHION_MNIST),
        (("cifar100",), dataclasses.replace(resnet_cifar.CIFAR10, data="cifar100")),
        (
            ("cifar10", "resnet110"),
            dataclasses.replace(resnet_cifar.CIFAR10, model="resnet110", gentle_start=0.1),
        ),
    ],
)
def test_recipes(arguments, expected, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", "/nonexistent")
    assert resnet_cifar.recipe(*arguments) == expected


def test_build_needs_no_data_and_takes_another_convolution():
    calls = []

    def conv(*arguments, **how):
        calls.append(how)
        return jax.lax.conv_general_dilated(*arguments, **how)

    about = About("ten", "train", tuple("0123456789"), mirror=False, mean=(1.0,), std=(2.0,))
    parts = resnet_cifar.build(resnet_cifar.DIGITS, about, conv=conv)
    x = jax.ShapeDtypeStruct((2, 32, 32, 1), np.float32)
    init = functools.partial(parts.network.init, train=False)
    jax.eval_shape(init, jax.random.key(0), x)
    assert len(calls) == 19  # and the linear layer makes twenty


@pytest.mark.parametrize(
    ("shape", "model", "words"),
    [
        ((8, 8, 3), "vgg11_bn", "takes images from 32 pixels on, and those of ten are 8x8: .*"),
        ((8, 8, 3), "resnet20", ""),
    ],
)
def test_an_image_too_small_for_a_network_is_pointed_to_what_resizes(shape, model, words):
    about = About("ten", "train", tuple("0123456789"), mirror=True, shape=shape)
    about = dataclasses.replace(about, mean=(1.0,) * 3, std=(2.0,) * 3)
    config = dataclasses.replace(resnet_cifar.CIFAR10, data="ten", model=model)
    if not words:
        resnet_cifar.build(config, about)
        return
    command = "python experiments/classify.py --data ten --model vgg11_bn --size 32"
    with pytest.raises(Refused, match=words + command):
        resnet_cifar.build(config, about)


def test_images_of_many_sizes_are_pointed_to_what_resizes(tmp_path):
    for split in ("train", "test"):
        image_files.classes(tmp_path / "a set" / split, {"a": 2, "b": 2})
    config = dataclasses.replace(resnet_cifar.CIFAR10, data=f"folder:{tmp_path}/a set")
    command = f"experiments/classify.py --data 'folder:{tmp_path}/a set' --model resnet20 --size 22"
    with pytest.raises(Refused, match=f"has images of many shapes: .*{command}"):
        resnet_cifar.splits(config)


def test_looking_ahead_without_a_momentum_is_refused():
    config = dataclasses.replace(resnet_cifar.CIFAR10, nesterov=True, momentum=0.0)
    about = About("ten", "train", tuple("0123456789"), mirror=True)
    with pytest.raises(Refused, match=r"nesterov=True has no effect: momentum=0"):
        refuse_idle(resnet_cifar, config, about)
    # The digits' recipe looks ahead anyway: it was not asked for.
    refuse_idle(resnet_cifar, dataclasses.replace(resnet_cifar.DIGITS, momentum=0.0), about)


def test_the_papers_recipe():
    paper = resnet_cifar.CIFAR10
    assert (paper.steps, paper.batch_size, paper.learning_rate) == (64_000, 128, 0.1)
    assert (paper.momentum, paper.weight_decay, paper.pad) == (0.9, 1e-4, 4)
    assert (paper.schedule, paper.validation) == ("steps", 0.1)
    assert paper.ema == paper.label_smoothing == paper.warmup_steps == 0
    assert not paper.nesterov


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_says_how_to_go_on(number, tmp_path):
    process = start(*SMALL, "--steps", 100_000, "--log-every", 1, "--workdir", tmp_path)
    wait_for(lambda: steps_logged(tmp_path) >= 3, process)
    process.send_signal(number)
    out = process.communicate(timeout=120)[0]
    assert process.returncode == 128 + number
    at = steps_logged(tmp_path)
    assert (tmp_path / "checkpoints" / str(at)).is_dir()
    assert f"saved at step {at}" in out
    assert f"python {SCRIPT} --workdir {tmp_path}" in out
    assert "Traceback" not in out


def test_an_early_ctrl_c_ends_a_run_that_still_compiles(tmp_path):
    process = start(*SMALL, "--steps", 60, "--seed", 5, "--workdir", tmp_path)
    wait_for((tmp_path / "about.json").exists, process)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out = process.communicate(timeout=120)[0]
    assert process.returncode == 128 + signal.SIGINT  # it was a crash inside XLA
    assert "Stopped" in out
    assert "Traceback" not in out


def test_divergence_stops_the_run_and_keeps_the_last_good_checkpoint(here, tmp_path):
    out = here(
        *SMALL, "--steps", 50, "--learning-rate", "1e15", "--log-every", 1, "--save-every", 1,
        "--devices", 1, "--workdir", tmp_path,
    )  # fmt: skip
    assert out.returncode == 1
    assert "not finite at step" in out.stderr
    assert "Traceback" not in out.stderr
    first = int(out.stderr.split("at step ")[1].split()[0])
    assert first > 1
    text = (tmp_path / "metrics.jsonl").read_text()
    assert "NaN" not in text
    last = json.loads(text.splitlines()[-1])
    assert last["step"] == first
    assert None in last.values()
    good = final(tmp_path, first - 1)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(good.params))
    page = (tmp_path / "report.html").read_text()
    assert "not finite at step" in page
    assert not (tmp_path / "summary.json").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "resnet21"], ["model='resnet21'", "resnet20"]),
        (["--data", "cifar01"], ["data='cifar01'", "cifar10"]),
        (["--learning-rate", "inf"], ["learning_rate=inf"]),
        (["--loader", "resident", "--workers", "2"], ["workers=2", "streaming"]),
        (["--steps", "0"], ["steps=0"]),
        (["--steps", "-3"], ["steps=-3"]),
        (["--seed", str(2**32)], ["seed=4294967296"]),
        (["--batch-size", "0"], ["batch_size=0"]),
        (["--batch-size", "1264"], ["batch_size=1264", "1262"]),
        (["--learning-rate", "-1"], ["learning_rate=-1.0"]),
        (["--momentum", "1"], ["momentum=1.0"]),
        (["--devices", "99"], ["devices=99"]),
        (["--batch-size", "9", "--devices", "2"], ["batch_size=9", "2 devices"]),
        (["--batch-size", "8", "--accumulation", "3"], ["accumulation=3", "batch_size=8"]),
        (["--workdir", "pyproject.toml/run"], ["workdir='pyproject.toml/run'", "Not a directory"]),
    ],
)
def test_a_bad_request_is_one_line(here, arguments, words):
    data = [] if "--data" in arguments else ["--data", "digits"]
    out = here(*data, *arguments)
    assert out.returncode == 2, out.stdout + out.stderr
    assert len(out.stderr.splitlines()) == 1
    assert all(word in out.stderr for word in words), out.stderr


def test_an_unknown_field_is_named_with_its_like():
    out = run("--data", "digits", "--batch", "8")
    assert out.returncode == 2
    assert "--batch" in out.stderr
    assert "--batch-size" in out.stderr
    assert "Traceback" not in out.stderr


def test_a_workdir_of_another_config_is_refused(here, whole):
    path, _ = whole
    out = here("--workdir", path, "--steps", "61", "--log-every", "7")
    assert out.returncode == 2
    assert "steps: 60 there, 61 asked" in out.stderr
    assert "log_every:" not in out.stderr


def test_a_finished_run_says_its_result_again(whole):
    path, first = whole
    lines = read_metrics(path)
    out = run("--workdir", path, "--data", "auto")
    assert out.returncode == 0
    assert first.splitlines()[-2] in out.stdout
    assert read_metrics(path) == lines


def test_a_run_is_resumed_from_inside_its_directory(whole):
    path, _ = whole
    arguments = command("--workdir", ".", "--steps", 61)
    arguments[3] = str(ROOT / SCRIPT)
    out = subprocess.run(
        arguments, cwd=path, env=environment(), capture_output=True, text=True, timeout=300
    )
    assert out.returncode == 2
    assert "steps: 60 there, 61 asked" in out.stderr
    assert "batch_size" not in out.stderr


def test_cifar10_is_strict_where_it_cannot_be_prepared():
    out = run(
        "--data", "cifar10", https_proxy="http://127.0.0.1:9", http_proxy="http://127.0.0.1:9"
    )
    assert out.returncode == 2
    assert len(out.stderr.splitlines()) == 1
    assert "needs TensorFlow" in out.stderr or "no network" in out.stderr
    assert "svertka[prepare]" in out.stderr
    assert "TFDS_DATA_DIR" in out.stderr


def test_help_shows_the_recipe():
    out = run("--data", "digits", "--help")
    assert out.returncode == 0
    assert "--learning-rate" in out.stdout
    assert "optimiser updates" in out.stdout


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_every_seed_reads_the_digits(seed, tmp_path):
    out = run("--data", "digits", "--seed", seed, "--workdir", tmp_path)
    assert out.returncode == 0, out.stderr
    accuracy = json.loads((tmp_path / "summary.json").read_text())["test/accuracy"]
    assert accuracy >= (0.985 if seed == 0 else 0.98)
