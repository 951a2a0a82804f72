"""Inside runs and networks of every task: pictures where there is something, a line where not."""

import re
from functools import partial

import jax
import numpy as np
import pytest
from PIL import Image

from experiments import classify, inspect_model
from experiments.inspect_model import Config, main
from experiments.untrained import untrained
from models.inspect.grad_cam import grad_cam
from train.data.named import named
from train.examples import of_files, of_split
from train.opened import opened
from train.refusal import Refused


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """LeNet-5 after two steps, on digits."""
    path = tmp_path_factory.mktemp("run")
    fields = {"data": "digits", "model": "lenet5", "size": 32, "steps": 2, "batch_size": 8}
    fields |= {"warmup_steps": 0, "evaluate_every": 2, "devices": 1, "ema": 0.0}
    classify.main(classify.Config(workdir=path, **fields))
    return path


def written(folder):
    return sorted(file.name for file in folder.iterdir())


def test_all_pictures_of_a_run(run, capsys):
    main(Config(paths=(str(run),), examples=3))
    stages = [f"maps_stage{number}.png" for number in (1, 2, 3)]
    assert written(run / "inspect") == [
        "grad_cam.png", "kernels.png", *stages, "receptive_field.png"
    ]  # fmt: skip
    text = capsys.readouterr().out
    assert re.search(r"lenet5 on digits, step 2: ", text)
    assert re.search(r"backbone/conv1 +Conv 5x5", text)
    assert text.count(".png") == 6
    with Image.open(run / "inspect" / "grad_cam.png") as picture:
        assert picture.width > 400


def test_examples_are_those_of_the_test_split_as_the_network_sees_them(run):
    found = of_split(opened(run), 5)
    test = named("digits", "label").test
    places = [int(name.split()[1]) for name in found.names]
    assert len(set(places)) == 5
    np.testing.assert_array_equal(found.batch["label"], [test[i]["label"] for i in places])
    # Digits of 32x32 are neither resized nor padded here.
    for pixels, i in zip(found.pixels, places, strict=True):
        assert np.abs(pixels.astype(int) - np.rint(test[i]["image"]).astype(int)).max() <= 1


def test_the_class_is_the_one_that_the_run_predicts(run, tmp_path):
    test = named("digits", "label").test
    images = [np.asarray(test[i]["image"], np.uint8) for i in range(3)]
    this = opened(run)
    found = of_files(this, images, ["a", "b", "c"])
    cam = grad_cam(this.parts.network, this.variables, *found.inputs)
    shares = np.asarray(jax.nn.softmax(cam.logits))
    np.testing.assert_allclose(shares, this.predict(images), rtol=1e-4, atol=1e-6)


def test_a_network_by_its_name_says_what_it_has_nothing_of(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(Config(model="mlp", size=16))
    assert written(tmp_path / "inspect-mlp") == ["kernels.png"]
    text = capsys.readouterr().out
    assert "mlp with random weights" in text
    assert "Looks at china.jpg, flower.jpg." in text
    assert "No feature maps: MLP has none" in text
    assert "No Grad-CAM: MLP has no map of more than one position before its logits" in text
    assert "No receptive fields: MLP has no feature maps" in text


def test_series(tmp_path, capsys):
    main(Config(model="cnn1d", size=24, out=tmp_path / "out"))
    assert {"kernels.png", "maps_conv1.png", "maps_conv3.png", "grad_cam.png"} <= {
        *written(tmp_path / "out")
    }


def test_files_beyond_the_number_of_examples_are_said_to_be_left(run, tmp_path, capsys):
    for name in "ab":
        Image.new("L", (32, 32), 90).save(tmp_path / f"{name}.png")
    drawn = {"first kernels": inspect_model.DRAWN["first kernels"]}
    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inspect_model, "DRAWN", drawn)
        main(Config(paths=(str(run), str(tmp_path)), examples=1, out=out))
    assert "Of 2 files the first 1; --examples takes more." in capsys.readouterr().out
    assert written(out) == ["kernels.png"]


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({}, "neither a run nor a --model is named"),
        ({"model": "mlpp"}, "model='mlpp'"),
        ({"paths": ("nowhere",)}, "workdir='nowhere' holds no run"),
        ({"model": "lenet5", "step": 3}, "step=3 belongs to a run"),
        ({"paths": ("nowhere",), "size": 3}, "size=3 belongs to a --model"),
        ({"model": "cnn1d", "size": -5}, "size=-5 must not be below 0"),
        ({"model": "cnn1d", "size": 2}, "model='cnn1d': series of shape"),
        ({"examples": 0}, "examples=0 must be above 0"),
    ],
)
def test_what_cannot_be_is_refused(fields, match, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refused, match=match):
        main(Config(**fields))
    assert written(tmp_path) == []


def test_an_error_of_another_kind_is_nothing_that_a_network_lacks(run, tmp_path, monkeypatch):
    def broken(inside):
        raise ValueError("a mistake")

    monkeypatch.setattr(inspect_model, "DRAWN", {"feature maps": broken})
    with pytest.raises(ValueError, match="a mistake"):
        main(Config(paths=(str(run),), examples=1, out=tmp_path / "out"))


def test_a_run_whose_network_refuses_its_inputs_is_named(run, tmp_path, monkeypatch):
    def broken(*given):
        raise ValueError("too small")

    monkeypatch.setattr(inspect_model, "first", broken)
    with pytest.raises(Refused, match=rf"^run='{re.escape(str(run))}': too small"):
        main(Config(paths=(str(run),), examples=1, out=tmp_path / "out"))


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"layer": "conv9"}, "layer='conv9' is no map of FlattenClassifier; there are "),
        ({"out": "."}, "holds a run, which keeps its own files"),
    ],
)
def test_of_a_run_is_refused(run, fields, match):
    if "out" in fields:
        fields = {"out": run}
    with pytest.raises(Refused, match=match):
        main(Config(paths=(str(run),), examples=1, **fields))


@pytest.mark.parametrize("model", ["resnet18", "deeplabv3_resnet18", "yolov3_small", "m5"])
def test_any_network_by_its_name_is_shown_what_it_takes(model):
    this = untrained(model, "", 0)
    shape = (1, *this.about.shape) if this.about.shape else (1, 224, 224, 3)
    batch = {"signal": jax.ShapeDtypeStruct(shape, np.float32)} if model == "m5" else {
        "image": jax.ShapeDtypeStruct(shape, np.uint8),
        "matrix": jax.ShapeDtypeStruct((1, 3, 3), np.float32),
        "size": jax.ShapeDtypeStruct((1, 2), np.int32),
    }  # fmt: skip
    inputs = jax.eval_shape(this.parts.task.inputs, batch)
    init = this.parts.init or partial(this.parts.network.init, train=False)
    jax.eval_shape(init, jax.random.key(0), inputs)
