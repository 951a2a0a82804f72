"""The benchmark: who measures what, in turns, and what a number is."""

import errno
import io
import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from rich.console import Console

from experiments.benchmark import __main__ as benchmark
from experiments.benchmark import jax_step, loop_speed
from experiments.benchmark.__main__ import Config
from experiments.benchmark.cases import Case, cases, objects
from experiments.benchmark.layer_speed import convolutions, described
from experiments.benchmark.turns import Worker
from models import backends
from train.data import jpeg
from train.files import WriteFailed
from train.refusal import Refused

ROOT = pathlib.Path(__file__).parents[3]


def test_the_command_starts_from_anywhere(tmp_path):
    command = [sys.executable, "-m", "experiments.benchmark", "--models", "resnet19"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: models='resnet19'")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"models": "resnet19"}, "resnet19"),
        ({"against": "tensorflow"}, "tensorflow"),
        ({"rounds": 0}, "rounds=0"),
    ],
)
def test_a_bad_request_is_refused(wrong, message):
    with pytest.raises(Refused, match=message):
        Config(**wrong)


def test_numbers_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setitem(benchmark.WHAT, "step", lambda config, console: [{"rate": 1.5}])
    file = tmp_path / "numbers.json"
    benchmark.main(Config(json=file))
    assert json.loads(file.read_text()) == [{"rate": 1.5}]
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteFailed, match=r"numbers\.json could not be written: No space left"):
        benchmark.main(Config(json=file))
    assert json.loads(file.read_text()) == [{"rate": 1.5}]
    assert [*tmp_path.iterdir()] == [file]


def full(descriptor):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_torch_needs_its_interpreter():
    with pytest.raises(Refused, match="torch_python"):
        benchmark.contestants(Config(against="torch"), "resnet20", *cases("resnet20", None))


def test_all_measure_the_same_step():
    config = Config(against="stock,torch,compile", torch_python="python", dtype="bfloat16")
    for model, size, batch in (("resnet18_cifar", 32, 128), ("resnet50", 224, 32)):
        found = benchmark.contestants(config, model, *cases(model, None))
        assert list(found) == ["svertka", "stock", "torch", "compile"]
        for _, spec in found.values():
            assert (spec["model"], spec["size"], spec["batch_size"]) == (model, size, batch)
            assert spec["dtype"] == "bfloat16"
        assert found["stock"][1]["backend"] == "xla"
        assert [found[name][1]["compile"] for name in ("torch", "compile")] == [False, True]


def test_a_segmenter_is_measured_as_its_case_says():
    config = Config(models="unet", against="stock,torch", torch_python="python")
    found = benchmark.contestants(config, "unet", *cases("unet", None))
    for _, spec in found.values():
        assert (spec["size"], spec["batch_size"], spec["task"]) == (96, 8, "segmentation")
        assert spec["fields"] == {"features": (32, 64, 128, 256, 512)}
    with pytest.raises(Refused, match="unet"):
        Config(models="unet", what="layers")


@pytest.mark.parametrize("model", ["yolov3_tiny", "fasterrcnn_resnet18_fpn"])
def test_a_detector_is_measured_at_two_sizes_with_the_same_objects_for_all(model):
    config = Config(models=model, against="stock,torch", torch_python="python")
    assert [case.size for case in cases(model, None)] == [96, 320]
    for case in cases(model, 3):
        specs = [spec for _, spec in benchmark.contestants(config, model, case).values()]
        assert len(specs) == 3
        for spec in specs:
            assert (spec["task"], spec["batch_size"]) == ("detection", 3)
            assert spec["objects"] == objects(case)
        boxes = np.array(objects(case))[..., :4]
        assert boxes.shape == (3, 4, 4)
        sides = boxes[..., 2:] - boxes[..., :2]
        assert np.all((sides >= case.size / 8) & (sides <= case.size / 3))
        assert np.all((boxes >= 0) & (boxes <= case.size))


def test_a_detectors_step_learns_from_its_objects():
    case = Case("detection", 16, 2, 10, {})
    fields = {"anchors": [[[8, 8], [4, 4]]], "widths": [4], "depths": [0]}
    fields |= {"stages": [1], "channels": [6], "stem_features": 4}
    spec = case._asdict() | {"model": "yolov3_small", "dtype": "float32"}
    spec |= {"fields": fields, "objects": objects(case)}
    update, state = jax_step.training_step(spec, backends.XLA)
    before = jax.tree.map(np.array, state)
    after = update(state)
    assert after["step"] == 1
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), after["params"], before["params"])
    assert all(jax.tree.leaves(changed))


def test_every_pixel_of_a_segmenters_step_has_a_label():
    spec = {"model": "unet", "fields": {"features": [4, 6]}, "task": "segmentation", "size": 8}
    spec |= {"classes": 3, "batch_size": 2, "dtype": "float32"}
    update, state = jax_step.training_step(spec, backends.XLA)
    before = jax.tree.map(np.array, state)
    after = update(state)
    assert after["params"]["down2_conv1"]["kernel"].shape == (3, 3, 4, 6)
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), after["params"], before["params"])
    assert all(jax.tree.leaves(changed))


@pytest.mark.parametrize(
    ("model", "fields", "changed"),
    [
        ("tcn", {"channels": [2, 2], "kernel": 2}, ("level2", "conv1", "kernel")),
        ("resnet1d", {"channels": [2, 2, 2]}, ("stage3_block1", "layer1", "conv", "kernel")),
    ],
)
def test_a_step_on_signals_learns(model, fields, changed):
    (case,) = cases(model, 2)
    spec = case._asdict() | {"model": model, "fields": fields, "dtype": "float32", "size": 16}
    update, state = jax_step.training_step(spec, backends.XLA)

    def weights(state):
        found = state["params"]["backbone"]
        for name in changed:
            found = found[name]
        return np.array(found)

    before = weights(state)
    assert np.any(weights(update(state)) != before)


def test_signals_are_measured_as_their_case_says():
    config = Config(models="tcn,resnet1d", against="torch", torch_python="python")
    found = benchmark.contestants(config, "tcn", *cases("tcn", None))
    for _, spec in found.values():
        assert (spec["task"], spec["size"], spec["batch_size"]) == ("sequence", 784, 32)
    assert cases("resnet1d", None)[0].shape == "256 steps"
    with pytest.raises(Refused, match="tcn"):
        Config(models="tcn", what="layers")


@pytest.mark.parametrize(("settings", "keeps"), [("equal", False), ("own", True)])
def test_pages_are_kept_by_ours_alone_and_only_as_it_runs_by_itself(settings, keeps):
    config = Config(settings=settings)
    found = benchmark.contestants(config, "resnet20", *cases("resnet20", None))
    assert found["svertka"][1]["keep"] == keeps
    assert not found["stock"][1]["keep"]


def test_a_step_of_ours_and_of_stock_is_measured():
    config = Config(models="resnet20", batch_size=2, rounds=1, seconds=0.01)
    (measured,) = benchmark.step(config, Console(quiet=True))
    assert measured["facts"]["stock"]["backend"] == "xla"
    assert all(rate > 0 for rates in measured["rates"].values() for rate in rates)


def test_reading_is_measured_on_pictures_of_the_usual_size():
    config = Config(what="loader", against="", pictures=6, batch_size=4, rounds=1, seconds=0.01)
    (measured,) = benchmark.loader(config, Console(quiet=True))
    assert 100 < measured["kilobytes"] < 120
    assert measured["facts"]["svertka"]["decoder"] == jpeg.DECODER
    assert all(rate > 0 for rate in measured["rates"]["svertka"])


def test_what_a_chain_adds_to_a_step_is_measured():
    config = Config(what="augment", against="", batch_size=4, rounds=1, seconds=0.01)
    step, alone = benchmark.augment(config, Console(quiet=True))
    assert {fact["side"] for fact in step["facts"].values()} == {"augmented", "plain"}
    (ours,), (without,) = step["rates"].values()
    assert step["added"] == [pytest.approx(without / ours - 1)]
    assert alone["rates"]["svertka"][0] > 0
    with pytest.raises(Refused, match="torch_python"):
        benchmark.augment(
            Config(what="augment", against="torch", batch_size=4, rounds=1, seconds=0.01),
            Console(quiet=True),
        )


def test_what_the_loop_adds_to_a_step_is_measured(monkeypatch):
    config = Config(what="loop", backend="xla", batch_size=4, steps=6, rounds=2)
    monkeypatch.setattr(benchmark, "LOOPED", "lenet5")
    monkeypatch.setattr(benchmark, "saving", lambda command, spec, config, console: {"spec": spec})
    console = Console(record=True, file=io.StringIO(), width=300)
    trained, saved = benchmark.loop(config, console)
    assert "At most 3 % is the aim." in console.export_text()
    assert [fact["side"] for fact in trained["facts"].values()] == ["loop", "bare"]
    for added, ours, bare in zip(trained["added"], *trained["rates"].values(), strict=True):
        assert added == pytest.approx(bare / ours - 1)
    for said in trained["said"]["svertka"]:
        assert said["cpu"] > 0
        assert set(said["parts"]) == {"next batch", "save"}  # a line comes every 20 steps
        assert said["parts"]["save"] > 0  # one in each round
        assert said["own"].keys() == said["parts"].keys()
    assert all(said["parts"] == {} for said in trained["said"]["bare step"])
    assert (saved["spec"]["model"], saved["spec"]["steps"]) == ("lenet5", 6)


def test_how_long_a_save_blocks_is_measured_beside_a_copy(tmp_path):
    spec = {"side": "save", "model": "lenet5", "size": 32, "batch_size": 4, "steps": 6}
    spec |= {"backend": "xla", "folder": str(tmp_path)}
    command = [sys.executable, str(pathlib.Path(loop_speed.__file__))]
    worker = Worker(command, spec, {**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        rate = worker.round()
    finally:
        worker.close()
    (said,) = worker.said
    assert set(said["parts"]) == {"copy", "save"}
    assert said["parts"]["save"] == pytest.approx(1000 / rate)
    weights = 61_706 + 6 * 2 * 25  # with three channels in place of one
    assert worker.facts["megabytes"] == pytest.approx(3 * 4e-6 * weights, rel=0.01)


def test_torch_reads_in_its_own_interpreter_alone():
    with pytest.raises(Refused, match="torch_python"):
        benchmark.loader(Config(what="loader", against="torch", pictures=1), Console(quiet=True))


def test_layers_are_those_of_the_network():
    found = {described(layer): times for layer, times in convolutions("resnet20", 32).items()}
    # He et al. 2015, section 4.2: 19 convolutions, of which two have a stride.
    assert found == {
        "3x3 3 -> 16 at 32x32": 1,
        "3x3 16 -> 16 at 32x32": 6,
        "3x3/2 16 -> 32 at 32x32": 1,
        "3x3 32 -> 32 at 16x16": 5,
        "3x3/2 32 -> 64 at 16x16": 1,
        "3x3 64 -> 64 at 8x8": 5,
    }


def test_nothing_of_ours_imports_torch():
    code = "import sys, experiments.benchmark.__main__; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
