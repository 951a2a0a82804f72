"""Runs of every task, exported, and loaded where there is neither this project nor Flax."""

import dataclasses
import errno
import json
import pathlib
import runpy
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax import export
from safetensors.numpy import load_file

from experiments import classify, detect, forecast, segment, sequence
from models import backends
from train import workdir
from train.averaged import averaged, mirrored
from train.data.source import About
from train.exported.folder import FILES, write_folder
from train.exported.program import keys_read, program
from train.opened import Opened
from train.predict import shapes_of
from train.refusal import Refused
from train.seal import flat

IMAGES = About(
    "drawn", "train", ("cat", "dog", "eel"), mirror=True, shape=(32, 32, 3),
    mean=(100.0, 110.0, 120.0), std=(50.0, 50.0, 60.0), mask_classes=("ground", "cat", "dog"),
)  # fmt: skip
SIGNALS = About(
    "beeps", "train", ("low", "high"), mirror=False, shape=(40, 1), mean=(0.1,), std=(2.0,),
    ragged=True,
)  # fmt: skip
SERIES = dataclasses.replace(SIGNALS, classes=(), targets=("+1", "+2"), ragged=False)


def made(module, about, seed=0, **fields):
    """An opened run whose weights are drawn here, neither trained nor compiled."""
    config = dataclasses.replace(module.recipe(), batch_size=8, steps=10, seeds=(), **fields)
    config = dataclasses.replace(config, **config.settled(about, 100, 1), workdir=f"runs/{seed}")
    xla = backends.XLA
    parts = module.build(config, about, conv=xla.conv_general_dilated, norm=xla.norm)
    run = Opened(module, config, about, parts, {}, 10)
    first = parts.init or (lambda key, x: parts.network.init(key, x, train=False))
    batch = shapes_of(run)
    shapes = jax.eval_shape(
        lambda k, x: dict(first(k, parts.task.inputs(x))), jax.random.key(0), batch
    )
    rng = np.random.default_rng(seed)

    def drawn(path, x):
        values = rng.normal(size=x.shape)
        if path.endswith(("var", "scale")):
            values = 1 + values**2
        elif path.endswith("kernel"):
            values *= np.sqrt(2 / max(np.prod(x.shape[:-1]), 1))
        return jax.numpy.asarray(values, x.dtype)

    leaves = [drawn(path, x) for path, x in flat(shapes).items()]
    return run._replace(variables=jax.tree.unflatten(jax.tree.structure(shapes), leaves))


def boxes(**fields):
    fields = {"model": "yolov3_small", "size": 32, "dark_ground": False, **fields}
    return made(detect, dataclasses.replace(IMAGES, shape=None), channels=(), **fields)


def runs():
    """Name -> a run."""
    digits = dataclasses.replace(IMAGES, shape=(28, 28, 1), mean=(30.0,), std=(80.0,))
    both = [made(classify, IMAGES, seed, model="mlp", size=8) for seed in (1, 2)]
    return {
        "classification": made(classify, digits, model="lenet5"),
        "segmentation": made(segment, IMAGES, model="unet", channels=(4, 8), size=0),
        "detection": boxes(),
        "sequence": made(sequence, SIGNALS, model="cnn1d", shift=0.0),
        "regression": made(forecast, SERIES, model="mlp1d"),
        "ensemble": averaged([mirrored(run) for run in both]),
    }


def drawn(run):
    """Three examples."""
    rng = np.random.default_rng(7)
    values = {
        "image": lambda shape: rng.integers(0, 256, shape),
        "signal": lambda shape: rng.normal(size=shape),
        "length": lambda shape: np.array([40, 7, 23]),
        "matrix": lambda shape: np.array([np.diag([a, a, 1]) for a in (1, 0.5, 0.25)]),
        "size": lambda shape: np.array([[32, 32], [64, 48], [100, 128]]),
    }
    return {
        key: values[key]((3, *one.shape[1:])).astype(one.dtype)
        for key, one in shapes_of(run).items()
    }


ALONE = """
import runpy, sys
import numpy as np

# The three that are named, and what jax itself needs.
ALLOWED = {"jax", "jaxlib", "numpy", "flatbuffers"}
ALLOWED |= {"jax_plugins", "ml_dtypes", "opt_einsum", "scipy", *sys.stdlib_module_names}


class Some:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.startswith("_") or name.partition(".")[0] in ALLOWED:
            return self.finder.find_spec(name, path, target)


sys.meta_path[:] = map(Some, sys.meta_path)
for folder in sys.argv[1:]:
    predict = runpy.run_path(f"{folder}/load.py")["load"]()
    with np.load(f"{folder}/batch.npz") as file:
        batch = dict(file)
    for count in (1, 3):
        found = predict({key: value[:count] for key, value in batch.items()})
        found = found if isinstance(found, dict) else {"probabilities": found}
        np.savez(f"{folder}/found{count}.npz", **found)
assert not {"flax", "safetensors", "train", "models"} & {*sys.modules}
"""
"""A program in which only what the loader says it needs can be imported."""


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Name -> the run, its folder, three examples; every folder was loaded by another process."""
    root = tmp_path_factory.mktemp("exported")
    found = {name: (run, root / name, drawn(run)) for name, run in runs().items()}
    for run, folder, batch in found.values():
        write_folder(run, folder)
        np.savez(folder / "batch.npz", **batch)
    command = [sys.executable, "-I", "-c", ALONE, *(str(folder) for _, folder, _ in found.values())]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return found


NAMES = ("classification", "segmentation", "detection", "sequence", "regression", "ensemble")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_loaded_elsewhere_predicts_what_the_run_does(exported, name):
    run, folder, batch = exported[name]
    task = run.parts.task
    wanted = jax.jit(lambda v, x: task.predict(v, task.inputs(x)))(run.variables, batch)
    wanted = wanted if isinstance(wanted, dict) else {"probabilities": wanted}
    for count in (1, 3):
        with np.load(folder / f"found{count}.npz") as found:
            assert {*found} == {*wanted}
            for key, value in wanted.items():
                assert found[key].dtype == value.dtype
                np.testing.assert_allclose(found[key], value[:count], rtol=1e-4, atol=1e-5)
    if name == "detection":
        assert wanted["valid"].sum(axis=1).min() > 0


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("classification", ["image"]),
        ("segmentation", ["image"]),
        ("detection", ["image", "matrix", "size"]),
        ("sequence", ["signal", "length"]),
        ("regression", ["signal"]),
        ("ensemble", ["image"]),
    ],
)
def test_the_files_say_what_the_program_takes_and_gives(exported, name, keys):
    _, folder, batch = exported[name]
    assert {file.name for file in folder.iterdir()} >= {*FILES}
    facts = json.loads((folder / "export.json").read_text())
    assert [*facts["inputs"]] == keys
    for key, one in facts["inputs"].items():
        assert one["shape"] == ["b", *batch[key].shape[1:]]
        assert one["dtype"] == str(batch[key].dtype)
    assert facts["platforms"] == ["cpu", "cuda", "tpu"]
    with np.load(folder / "found3.npz") as found:
        assert {*facts["outputs"]} == {*found}
        for key, one in facts["outputs"].items():
            assert one["shape"] == ["b", *found[key].shape[1:]]
    text = (folder / "model.mlir").read_text()
    assert "stablehlo." in text
    # Weights are arguments, and no constants in the text.
    assert max(map(len, text.splitlines())) < 20_000
    # Where this project lies is nobody's business.
    here = str(pathlib.Path(__file__).parents[3])
    assert here not in text
    assert here.encode() not in (folder / "model.stablehlo").read_bytes()


def test_weights_are_a_safetensors_file_of_the_paths_of_the_variables(exported):
    run, folder, _ = exported["classification"]
    found, wanted = load_file(folder / "weights.safetensors"), flat(run.variables)
    assert found.keys() == wanted.keys() >= {"params/head/kernel"}
    by_hand = runpy.run_path(str(folder / "load.py"))["weights"](folder / "weights.safetensors")
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value)
        np.testing.assert_array_equal(by_hand[name], value)
    run, folder, _ = exported["ensemble"]
    assert {name.split("/")[0] for name in load_file(folder / "weights.safetensors")} == {"0", "1"}


def test_other_weights_of_the_same_network_go_into_the_same_program(exported):
    run, folder, batch = exported["classification"]
    other = made(run.module, run.about, seed=5, model="lenet5")
    program = export.deserialize(bytearray((folder / "model.stablehlo").read_bytes()))
    found = jax.jit(program.call)(flat(other.variables), {"image": batch["image"]})
    task = other.parts.task
    wanted = jax.jit(lambda v, x: task.predict(v, task.inputs(x)))(other.variables, batch)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


def test_a_detector_that_is_given_regions_takes_them():
    run = boxes(model="rcnn_resnet18", most_proposals=20, proposals="grid", stage="softmax")
    found = program(run)
    assert [*found.inputs] == ["image", "matrix", "size", "proposals", "proposal_valid"]
    assert str(found.inputs["proposals"].shape) == "(b, 20, 4)"


def test_what_evaluation_does_first_is_said(exported):
    def said(name):
        return json.loads((exported[name][1] / "export.json").read_text())["beforehand"]

    assert "32 x 32 as the run's evaluation does, by Letterbox(" in said("detection")
    assert "The whole image as large as fits" in said("detection")
    assert "grey, and bring them to 28 x 28" in said("classification")
    assert said("sequence") == (
        "Nothing: signals of up to 40 steps, 1 channel; shorter ones with zeros behind them."
    )


def test_keys_that_are_looked_at_but_not_used_are_not_taken():
    def inputs(batch):
        assert "size" in batch
        del batch["matrix"]
        return batch["image"] * 2, batch["length"]

    batch = {key: jax.ShapeDtypeStruct((1, 2), np.float32) for key in ("size", "matrix")}
    batch |= {key: jax.ShapeDtypeStruct((1, 3), np.float32) for key in ("length", "image")}
    assert keys_read(inputs, batch) == ["length", "image"]


def test_the_folder_of_a_run_is_no_place(exported, tmp_path):
    run, _, _ = exported["regression"]
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(Refused, match="holds a run; name another folder"):
        write_folder(run, tmp_path)


def test_a_folder_that_is_written_anew_and_fails_has_no_program(exported, tmp_path, monkeypatch):
    run, old, _ = exported["regression"]
    for name in FILES:
        (tmp_path / name).write_bytes((old / name).read_bytes())

    def full(path, content):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(workdir, "write", full)  # export.json, after the weights
    with pytest.raises(OSError, match="full"):
        write_folder(run, tmp_path)
    assert not (tmp_path / "model.stablehlo").exists()


def test_no_path_of_the_data_leaves_with_an_export(exported):
    for run, folder, _ in exported.values():
        assert json.loads((folder / "export.json").read_text())["data"] == run.about.name
