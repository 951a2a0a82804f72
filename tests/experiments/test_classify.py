"""Any classifier on any set: what is built, what fine-tuning moves, what is refused."""

import csv
import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from image_files import pixels, save
from PIL import Image
from safetensors.numpy import save_file
from tfds_set import write_set

import models
from experiments import classify, lenet_mnist
from models.pretrained import torchvision
from train import cli, encoding, optim
from train.augment import chain, flip, pad_and_crop
from train.checkpoints import Checkpoints
from train.data.source import About
from train.experiment import refuse_idle
from train.logs import read_metrics
from train.refusal import Refused
from train.seal import flat

ABOUT = About(
    name="digits",
    split="train",
    classes=tuple("0123456789"),
    mirror=False,
    shape=(28, 28, 1),
    mean=(30.0,),
    std=(60.0,),
)


@pytest.fixture
def no_sets(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "nothing"))
    monkeypatch.chdir(tmp_path)


def answer(arguments, capsys, experiment="experiments.classify"):
    """Exit code and what was said, of a command line."""
    code = cli.command_line(experiment, [str(one) for one in arguments])
    out, err = capsys.readouterr()
    return code, out + err


@pytest.mark.parametrize(
    ("model", "size"),
    [
        ("mlp", 28),
        ("lenet5", 32),
        ("lenet5_1998", 32),
        ("alexnet", 63),
        ("vgg11_bn", 32),
        ("googlenet", 28),
        ("inception_v3", 299),
        ("resnet20", 28),
        ("plain_cnn", 28),
    ],
)
def test_an_image_comes_in_the_size_that_the_network_takes(model, size):
    parts = classify.build(classify.recipe("digits", model), ABOUT)
    batch = {
        "image": jax.ShapeDtypeStruct((4, 28, 28, 1), jnp.uint8),
        "label": jax.ShapeDtypeStruct((4,), jnp.int32),
        "valid": jax.ShapeDtypeStruct((4,), bool),
    }
    inputs = jax.eval_shape(parts.task.inputs, batch)
    assert inputs.shape == (4, size, size, 1)
    init = partial(parts.network.init, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), inputs)
    loss, aux = jax.eval_shape(parts.task.loss, variables, batch, jax.random.key(0))
    assert loss.shape == ()
    assert {*aux.collections} == {*variables} - {"params"}
    assert ("auxiliary_loss" in aux.sums) == (model in ("googlenet", "inception_v3"))


@pytest.mark.parametrize(("model", "size"), [("googlenet", 28), ("inception_v3", 75)])
def test_without_weight_there_are_no_auxiliary_heads(model, size):
    config = dataclasses.replace(classify.recipe("digits", model), auxiliary_weight=0)
    network = classify.build(config, ABOUT).network
    x = jax.ShapeDtypeStruct((1, size, size, 1), jnp.float32)
    batch = {"image": jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.uint8)}
    assert jax.eval_shape(classify.build(config, ABOUT).task.inputs, batch).shape == x.shape
    variables = jax.eval_shape(partial(network.init, train=False), jax.random.key(0), x)
    assert {*variables["params"]} == {"backbone", "head"}


def test_padding_or_resizing_to_a_size():
    for by, corner in (("pad", 0.0), ("resize", 200.0)):
        config = dataclasses.replace(classify.recipe("digits", "lenet5"), size=40, by=by)
        inputs = classify.build(config, ABOUT).task.inputs
        x = inputs({"image": jnp.full((1, 28, 28, 1), 200, jnp.uint8)})
        assert x.shape == (1, 40, 40, 1)
        np.testing.assert_allclose(x[0, 0, 0, 0], (corner - 30) / 60, rtol=1e-5)


def state_dict(classes):
    """torchvision's tensors of ResNet-18, drawn by their names' order."""
    rng = np.random.default_rng(0)
    drawn = {}
    for tensor in torchvision.tensors("resnet18", classes).values():
        fan_in = np.prod(tensor.shape[1:]) if len(tensor.shape) > 1 else 1
        value = rng.normal(size=tensor.shape) / np.sqrt(fan_in)
        flatly = {"running_var": 1.0, "weight": 1.0 if len(tensor.shape) == 1 else None}
        constant = flatly.get(tensor.name.rpartition(".")[2])
        drawn[tensor.name] = np.float32(value if constant is None else value * 0 + constant)
    return drawn


def saved(path, config):
    """Variables of a run's last step."""
    network = models.create(config["model"], num_classes=3)
    target = network.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)
    with Checkpoints(path / "checkpoints") as checkpoints:
        return flat(checkpoints.restore_variables(target, step=config["steps"]))


def test_fine_tuning_moves_what_it_should_and_no_more(tmp_path, capsys, monkeypatch):
    """Grey images, weights of 7 classes: the stem and a block stay, and no norm moves."""
    labels = [i % 3 for i in range(24)]
    write_set(tmp_path, "tiny", splits={"train": labels, "test": labels[:6]}, shape=(8, 8, 1))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    file, path = tmp_path / "resnet18.safetensors", tmp_path / "run"
    weights = state_dict(7)
    save_file(weights, file)
    code, said = answer(
        (
            "--data", "tiny", "--model", "resnet18", "--size", 32, "--init-from", file,
            "--freeze", "backbone/stem,backbone/stage1_block1", "--frozen-norm", "True",
            "--backbone-rate", 0.1, "--steps", 2, "--batch-size", 8, "--ema", 0, "--devices", 1,
            "--warmup-steps", 0, "--validation", 0, "--log-every", 1, "--workdir", path,
        ),
        capsys,
    )  # fmt: skip
    assert code == 0, said
    assert "Starts anew, being of another shape or absent: head." in said
    config = json.loads((path / "config.json").read_text())
    rates = [line["learning_rate"] for line in read_metrics(path) if line["kind"] == "train"]
    # A tenth of the rate from random weights; half a cosine over two steps.
    assert rates == pytest.approx([0.01, 0.005])
    begun, ended = flat(torchvision.from_torchvision("resnet18", weights)), saved(path, config)
    moved = {name for name in begun if not np.array_equal(begun[name], ended[name])}
    still = ("backbone/stem", "backbone/stage1_block1", "norm", "batch_stats")
    assert moved == {name for name in begun if not any(part in name for part in still)}
    assert ended["params/head/kernel"].shape == (512, 3)


def test_a_run_that_goes_on_needs_no_weights_any_more(tmp_path, capsys, monkeypatch):
    labels = [i % 3 for i in range(16)]
    write_set(tmp_path, "tiny", splits={"train": labels, "test": labels[:6]}, shape=(8, 8, 3))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    path = tmp_path / "run"
    arguments = (
        "--data", "tiny", "--model", "resnet18", "--size", 32, "--steps", 1, "--batch-size", 8,
        "--init-from", tmp_path / "resnet18.safetensors", "--devices", 1, "--validation", 0,
        "--workdir", path,
    )  # fmt: skip
    save_file(state_dict(3), tmp_path / "resnet18.safetensors")
    code, said = answer(arguments, capsys)
    assert code == 0, said
    assert "Starts anew" not in said
    (tmp_path / "resnet18.safetensors").unlink()
    code, said = answer(("--workdir", path), capsys)
    assert code == 0, said
    assert "is at its last step, 1." in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--model", "alexnet", "--size", 32), "size=32: alexnet takes images from 63 pixels on"),
        (("--model", "resnet19"), "resnet18"),
        (("--model", "resnet18", "--init-from", "nowhere.safetensors"), "nowhere.safetensors"),
        (("--model", "lenet5", "--init-from", "pyproject.toml"), "no such file or directory"),
        (("--model", "lenet5", "--freeze", "backbone"), "freeze='backbone' needs trained weights"),
        (("--by", "crop"), "invalid choice"),
        (("--model", "mlp", "--by", "pad", "--size", 4), "by='pad': images of 32x32 are larger"),
        (("--frozen-norm", "True"), "frozen_norm=True needs trained weights: init_from is empty"),
        (("--init-statistics", "1"), "Unrecognized"),
        (("--auxiliary-weight", -1), "auxiliary_weight=-1"),
    ],
)
def test_a_bad_request_is_refused_in_a_line(arguments, words, no_sets, capsys):
    try:
        code, said = answer(("--data", "digits", "--steps", 1, *arguments), capsys)
    except SystemExit as stopped:  # tyro's own
        code, said = stopped.code, "".join(capsys.readouterr())
    assert code == 2
    assert words in said
    assert "Traceback" not in said


def test_a_frozen_norm_needs_a_norm():
    config = classify.Config(model="vgg11", size=32, frozen_norm=True, init_from="w.pth")
    with pytest.raises(Refused, match="frozen_norm=True: vgg11 has no BatchNorm"):
        classify.build(config, ABOUT)


@pytest.mark.parametrize(
    ("mean", "expected"), [((10.0, 20.0, 30.0), (190 / 2, 180 / 2, 170 / 2)), ((10.0,), (95.0,))]
)
def test_grey_images_come_as_the_weights_of_a_run_want_them(mean, expected):
    """In as many channels as its network takes, and normalised by its statistics."""
    statistics = (mean, (2.0,) * len(mean))
    config = classify.Config(model="resnet20", init_from="gone", init_statistics=statistics)
    x = classify.build(config, ABOUT).task.inputs({"image": jnp.full((1, 28, 28, 1), 200, "uint8")})
    assert x.shape == (1, 28, 28, len(mean))
    np.testing.assert_array_equal(x[0, 0, 0], expected)


def test_a_refused_request_leaves_nothing_behind(no_sets, capsys):
    for arguments in (("--freeze", "backbone/conv9"), ("--init-from", "nowhere.safetensors")):
        model = "lenet5" if arguments[0] == "--freeze" else "resnet18"
        code, said = answer(
            ("--data", "digits", "--model", model, *arguments, "--workdir", "run"), capsys
        )
        assert code == 2, said
    assert not pathlib.Path("run").exists()


def write_folder(root, counts, damaged=()):
    """Pictures of many shapes, dark ones and bright ones; `damaged` ends early."""
    rng = np.random.default_rng(0)
    for split, count in counts.items():
        for i in range(count):
            height, width = rng.integers(30, 60, 2)
            pixels = rng.integers(0, 60, (height, width, 3)) + 180 * (i % 2)
            path = root / split / ("dark", "bright")[i % 2] / f"{i:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
            if f"{split}/{path.name}" in damaged:
                path.write_bytes(path.read_bytes()[:200])


FOLDER = (
    "--model", "lenet5", "--size", 32, "--steps", 2, "--batch-size", 8, "--warmup-steps", 0,
    "--evaluate-every", 1, "--devices", 1, "--validation", 0.25,
)  # fmt: skip


def test_a_folder_of_pictures_of_many_shapes(tmp_path, capsys):
    write_folder(tmp_path / "set", {"train": 24, "test": 10}, ("train/04.png", "test/02.png"))
    arguments = (*FOLDER, "--data", f"folder:{tmp_path / 'set'}", "--workdir", tmp_path / "run")
    code, said = answer(arguments, capsys)
    assert code == 2
    assert "04.png" in said
    assert "cannot be decoded" in said
    assert not (tmp_path / "run").exists()

    code, said = answer((*arguments, "--on-corrupt", "skip", "--corrupt-limit", 0), capsys)
    assert code == 2
    assert "1 of the 18 examples" in said
    assert "more than corrupt_limit=0 of them" in said

    code, said = answer((*arguments, "--on-corrupt", "skip"), capsys)  # one is let pass
    assert code == 0, said
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["test/count"] + summary["test/unreadable"] == 10
    assert summary["test/unreadable"] == 1
    found = {}
    for part in ("train", "validation", "test"):
        file = tmp_path / "run" / f"unreadable_{part}.json"
        found[part] = [*json.loads(file.read_text()).values()] if file.exists() else []
        assert all(said.count(words) == 1 for words in found[part])
    assert [words.partition(":")[0][-6:] for words in found["test"]] == ["02.png"]
    assert len(found["train"] + found["validation"]) == 1


def test_pictures_of_many_shapes_are_letterboxed_where_padded(tmp_path, capsys):
    write_folder(tmp_path / "set", {"train": 16, "test": 4})
    where = ("--data", f"folder:{tmp_path / 'set'}", "--workdir", tmp_path / "run")
    code, said = answer((*FOLDER, *where, "--by", "pad", "--loader", "resident"), capsys)
    assert code == 0, said


def test_a_crop_may_be_of_the_whole_area():
    config = classify.Config(data="folder:x", size=8, crop_area=1.0)
    hosts = classify.brought(config, About("x", "train", ("a",), True))
    assert hosts is not None
    assert hosts[0].stage.area == (1, 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--loader", "resident"), "loader='streaming' does that"),
        (("--crop-area", 1.1), "crop_area=1.1"),
    ],
)
def test_what_cannot_be_with_many_shapes_is_refused(arguments, words, tmp_path, capsys):
    write_folder(tmp_path / "set", {"train": 12, "test": 2})
    where = ("--data", f"folder:{tmp_path / 'set'}", "--workdir", tmp_path / "run")
    code, said = answer((*FOLDER, *where, *arguments), capsys)
    assert code == 2
    assert words in said


MANY = dataclasses.replace(ABOUT, shape=None, mirror=True)


@pytest.mark.parametrize(
    ("fields", "about", "words"),
    [
        ({"crop_area": 0.5}, ABOUT, "crop_area=0.5 has no effect: images of digits are of one"),
        ({"crop_area": 0.5, "by": "pad"}, MANY, "crop_area=0.5 has no effect: by='pad'"),
        ({"crop_area": 0.5}, MANY, ""),
        ({"pad": 3}, MANY, "pad=3 has no effect"),
        ({"pad": 0}, MANY, ""),
        ({"pad": 3}, ABOUT, ""),
        ({"model": "lenet5", "auxiliary_weight": 0.5}, ABOUT, "auxiliary_weight=0.5"),
        ({"model": "googlenet", "auxiliary_weight": 0.5}, ABOUT, ""),
        ({"freeze": "backbone", "backbone_rate": 0.1}, ABOUT, "backbone_rate=0.1"),
        ({"freeze": "backbone/stem", "backbone_rate": 0.1}, ABOUT, ""),
        ({"crop_area": 0.5, "crop": "resized"}, ABOUT, ""),
        ({"pad": 3, "crop": "resized"}, ABOUT, "pad=3 has no effect: images of digits are cropped"),
        ({"optimizer": "adamw", "momentum": 0.5}, ABOUT, "momentum=0.5 .*: adamw has its own"),
        ({"optimizer": "muon"}, ABOUT, ""),
        ({"augment": "none", "mirror": "yes"}, ABOUT, "mirror='yes' .*: augment='none' leaves"),
        ({"augment": "none", "mirror": "no"}, ABOUT, ""),
        ({"augment": "none", "pad": 3}, ABOUT, "pad=3 has no effect: augment='none'"),
        ({"augment": "none", "crop_area": 0.3}, MANY, "crop_area=0.3 .*: augment='none'"),
        ({"mixup": 0.2, "batch_size": 1}, ABOUT, "mixup=0.2 has no effect: a batch of one"),
        ({"cutmix": 1.0, "batch_size": 1}, ABOUT, "cutmix=1.0 has no effect: a batch of one"),
        ({"mixup": 0.2, "cutmix": 1.0, "erasing": 0.5}, ABOUT, ""),
    ],
)
def test_what_has_no_effect_is_refused(fields, about, words):
    config = classify.Config(**fields)
    if not words:
        refuse_idle(classify, config, about)
        return
    with pytest.raises(Refused, match=words):
        refuse_idle(classify, config, about)


@pytest.mark.parametrize("data", ["digits", "fashion_mnist", "folder:x"])
@pytest.mark.parametrize("model", models.names("classification"))
def test_no_recipe_is_refused(data, model):
    for about in (ABOUT, MANY):
        refuse_idle(classify, classify.recipe(data, model), about)


def test_an_option_without_effect_is_refused_before_a_run_and_not_after_it(no_sets, capsys):
    """A run that was begun before such an option was refused goes on."""
    path = pathlib.Path("run")
    arguments = (
        "--data", "digits", "--model", "mlp", "--steps", 1, "--evaluate-every", 1, "--devices", 1,
        "--batch-size", 8, "--workdir", path,
    )  # fmt: skip
    code, said = answer((*arguments, "--crop-area", 0.5), capsys)
    assert (code, len(said.splitlines())) == (2, 1)
    assert "crop_area=0.5 has no effect" in said
    assert not path.exists()
    code, said = answer(arguments, capsys)
    assert code == 0, said
    config = json.loads((path / "config.json").read_text()) | {"crop_area": 0.5}
    (path / "config.json").write_text(json.dumps(config))
    code, said = answer(("--workdir", path), capsys)
    assert code == 0, said


@pytest.mark.parametrize("optimizer", classify.RATES)
@pytest.mark.parametrize("init_from", ["", "w.pth"])
@pytest.mark.parametrize("data", ["digits", "cifar10", "folder:x", "beans"])
def test_no_recipe_of_an_optimiser_is_refused(data, init_from, optimizer):
    config = classify.recipe(data, "resnet18", optimizer, init_from)
    for about in (ABOUT, MANY, LARGE):
        settled = dataclasses.replace(config, **config.settled(about, 400, 1))
        settled.check_new()
        refuse_idle(classify, settled, about)
        assert settled.undecided <= {"epochs", "size"}


LARGE = dataclasses.replace(ABOUT, name="beans", shape=(500, 400, 3), mirror=True)


def test_the_recipes_of_known_sets_are_as_they_were():
    """In numbers, since runs of today must be runs of before, bit for bit."""
    fashion = classify.recipe("fashion_mnist")
    assert fashion == classify.recipe("cifar10").__class__()
    assert (fashion.steps, fashion.batch_size, fashion.warmup_steps) == (10_000, 128, 500)
    assert (fashion.learning_rate, fashion.weight_decay, fashion.momentum) == (0.1, 5e-4, 0.9)
    assert (fashion.ema, fashion.pad, fashion.evaluate_every) == (0.999, 2, 1000)
    digits = classify.recipe("digits")
    assert (digits.steps, digits.batch_size, digits.warmup_steps) == (400, 64, 50)
    assert (digits.ema, digits.pad, digits.evaluate_every) == (0.99, 1, 1000)
    for config in (fashion, digits):
        assert config.settled(ABOUT, 1262, 1) == {"mirror": "no"}
    judged = dataclasses.replace(ABOUT, mirror=True)
    assert fashion.settled(judged, 54_000, 1) == {"mirror": "yes"}
    assert classify.recipe("fashion_mnist", init_from="w.pth").learning_rate == 0.1
    random, trained = (lenet_mnist.recipe("folder:x", init_from=one) for one in ("", "run"))
    assert (trained.epochs, trained.learning_rate) == (30, random.learning_rate / 10)
    assert lenet_mnist.recipe("digits", init_from="run") == lenet_mnist.recipe("digits")
    key, batch = jax.random.key(3), small_batch(16)
    for about, flips in ((judged, [flip()]), (ABOUT, [])):
        expected = chain(pad_and_crop(2), *flips, fill=about.mean)(key, batch)["image"]
        found = classify.augmentation(fashion, about)(key, batch)["image"]
        np.testing.assert_array_equal(found, expected)


def test_a_run_of_before_the_new_fields_is_as_it_was():
    new = {"epochs", "crop", "optimizer", "augment", "mixup", "cutmix", "erasing"}
    values = encoding.plain(classify.DIGITS) | {"mirror": True}
    again = encoding.decoded(classify.Config, {k: v for k, v in values.items() if k not in new})
    assert again == dataclasses.replace(classify.DIGITS, mirror=True)
    assert again.settled(ABOUT, 1262, 1) == {}
    for about in (ABOUT, MANY, dataclasses.replace(MANY, mirror=None)):
        transform = classify.augmentation(again, about)
        padded, flipped = about.shape is not None, about.mirror is True
        stages = [*([pad_and_crop(1)] if padded else []), *([flip()] if flipped else [])]
        assert (transform is None) == (not stages)
        if stages:
            key, batch = jax.random.key(3), small_batch(4)
            expected = chain(*stages, fill=about.mean)(key, batch)["image"]
            np.testing.assert_array_equal(transform(key, batch)["image"], expected)


def small_batch(count, channels=1):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (count, 28, 28, channels), np.uint8)
    label = rng.integers(0, 10, count).astype(np.int32)
    return {"image": jnp.array(image), "label": jnp.array(label)}


@pytest.mark.parametrize("data", ["folder:x", "beans", "tf_flowers:3.0.1"])
def test_a_recipe_for_ones_own_pictures(data):
    config = classify.recipe(data, "resnet18")
    found = config.settled(MANY, 160, 1)
    steps = 60 * 5  # batches of 32, which is at most a quarter of 160
    assert found == {
        "batch_size": 32, "steps": steps, "epochs": None, "evaluate_every": 15,
        "warmup_steps": 50, "mirror": "yes", "crop": "resized", "size": 224,
    }  # fmt: skip
    trained = classify.recipe(data, "resnet18", init_from="w.pth")
    assert trained.learning_rate == pytest.approx(config.learning_rate / 10)
    assert trained.settled(MANY, 160, 1)["steps"] == 30 * 5
    # What is asked for is taken as it is.
    given = dataclasses.replace(config, batch_size=128, size=64, mirror="no", crop_area=0.9)
    found = given.settled(MANY, 160, 1)
    assert not {"batch_size", "size", "mirror", "crop_area"} & {*found}


@pytest.mark.parametrize(
    ("shape", "model", "crop", "size"),
    [
        (None, "plain_cnn", "resized", 224),
        (None, "inception_v3", "resized", 299),
        ((500, 400, 3), "resnet18", "resized", 224),
        ((120, 100, 3), "resnet18", "resized", 120),
        ((64, 64, 3), "resnet18", "pad", None),
    ],
)
def test_ones_own_pictures_come_to_a_size_and_are_cropped(shape, model, crop, size):
    about = dataclasses.replace(MANY, shape=shape, mean=(30.0,) * 3, std=(60.0,) * 3)
    config = classify.recipe("folder:x", model)
    found = config.settled(about, 400, 1)
    assert (found["crop"], found.get("size")) == (crop, size)
    parts = classify.build(dataclasses.replace(config, **found), about)
    if size is None:
        assert parts.host is None
        return
    assert [host.shapes for host in parts.host] == [((size, size),)] * 2
    assert parts.host[0].stage.area == (0.25, 1.0)
    batch = {"image": jax.ShapeDtypeStruct((2, size, size, 3), jnp.uint8)}
    assert jax.eval_shape(parts.task.inputs, batch).shape == (2, size, size, 3)


@pytest.mark.parametrize(
    ("length", "judged", "found"),
    [(400, None, "trivialaugment"), (400, True, "trivialaugment"), (400, False, "basic"),
     (10_000, True, "basic")],
)  # fmt: skip
def test_augment_auto_goes_by_the_set(length, judged, found):
    config = dataclasses.replace(classify.recipe("folder:x"), augment="auto")
    about = dataclasses.replace(MANY, mirror=judged)
    assert config.settled(about, length, 1)["augment"] == found


def test_without_augmentation_images_are_trained_on_as_they_are_tested():
    for about in (ABOUT, MANY):
        config = dataclasses.replace(classify.recipe("folder:x"), augment="none", size=28)
        config = dataclasses.replace(config, **config.settled(about, 400, 1))
        assert config.mirror == "no"
        parts = classify.build(config, about)
        assert parts.transform is None
        assert parts.host is None or parts.host[0] == parts.host[1]


@pytest.mark.parametrize(
    ("fields", "mixes"),
    [
        ({"augment": "randaugment"}, False),
        ({"augment": "trivialaugment", "mixup": 0.2}, True),
        ({"cutmix": 1.0, "erasing": 1.0}, True),
        ({"mixup": 0.2, "cutmix": 1.0}, True),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_policies_erasing_and_mixing_reach_the_loss(fields, mixes, channels):
    about = dataclasses.replace(ABOUT, mean=(30.0,) * channels, std=(60.0,) * channels)
    about = dataclasses.replace(about, shape=(28, 28, channels))
    parts = classify.build(dataclasses.replace(classify.DIGITS, model="mlp", **fields), about)
    plain = classify.build(dataclasses.replace(classify.DIGITS, model="mlp"), about)
    batch = {**small_batch(4, channels), "valid": jnp.ones(4, bool)}
    key = jax.random.key(0)
    seen = parts.transform(key, batch)
    assert not np.array_equal(seen["image"], plain.transform(key, batch)["image"])
    assert seen["label"].shape == ((4, 10) if mixes else (4,))
    if mixes:
        np.testing.assert_allclose(seen["label"].sum(1), 1, rtol=1e-5)
        assert (seen["label"].max(1) < 1).any()
    x = jax.eval_shape(parts.task.inputs, seen)
    variables = jax.eval_shape(partial(parts.network.init, train=False), key, x)
    loss, _ = jax.eval_shape(parts.task.loss, variables, seen, key)
    assert loss.shape == ()


@pytest.mark.parametrize(
    ("optimizer", "by_hand"),
    [
        ("sgd", lambda rate: optim.sgd(rate, weight_decay=5e-4, momentum=0.9, nesterov=True)),
        ("adamw", lambda rate: optim.adamw(rate, weight_decay=0.05)),
        ("muon", lambda rate: optim.muon(rate, weight_decay=0.05)),
    ],
)
def test_an_optimiser_by_its_name_has_a_rate_of_its_own(optimizer, by_hand):
    config = dataclasses.replace(classify.recipe("digits", optimizer=optimizer), warmup_steps=0)
    peak = {"sgd": 0.1, "adamw": 1e-3, "muon": 4e-3}[optimizer]
    parts = classify.build(config, ABOUT)
    assert parts.hyper["learning_rate"] == peak
    params = {"w": jnp.array([[1.0, 2.0], [3.0, -4.0]]), "b": jnp.array([1.0, -2.0])}
    grads = jax.tree.map(lambda p: 0.1 * p + 0.3, params)
    expected = by_hand(optim.scale_by_rate(optim.cosine(400), peak))
    found = parts.optimizer(parts.hyper)
    one, other = (each.update(grads, each.init(params), params)[0] for each in (found, expected))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), one, other)


def test_a_model_that_wants_a_slow_sgd_wants_it_of_sgd_alone():
    assert classify.recipe("digits", "vgg11").learning_rate == 0.01
    assert classify.recipe("digits", "vgg11", "adamw").learning_rate == 1e-3
    assert classify.recipe("digits", "lenet5_1998", "adamw").clip_norm == 1.0
    with pytest.raises(Refused, match="optimizer='adam' is unknown; nearest: adamw"):
        classify.recipe("digits", "vgg11", "adam")


def test_a_run_on_ones_own_pictures_goes_on_by_the_steps_that_it_resolved(tmp_path, capsys):
    """A third class that the test split lacks is said; nothing but the data is named."""
    write_folder(tmp_path / "set", {"train": 20, "test": 6})
    other = tmp_path / "set" / "train" / "other"
    other.mkdir()
    for path in (tmp_path / "set" / "train" / "dark").iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    run = ("--workdir", tmp_path / "run")
    code, said = answer(
        ("--data", f"folder:{tmp_path / 'set'}", "--model", "lenet5", "--size", 32, "--epochs", 2,
         "--optimizer", "adamw", "--mixup", 0.2, "--devices", 1, *run),
        capsys,
    )  # fmt: skip
    assert code == 0, said
    assert (
        "For 27 training examples: batch_size=4, steps=14 (2 epochs), evaluate_every=7, "
        "warmup_steps=2, crop=resized." in said
    )
    assert "Images are also mirrored, left to right, in training (mirror=yes)." in said
    assert "Of 3 classes, 1 without a test example: 'other'." in said
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    found = [config[name] for name in ("steps", "epochs", "batch_size", "mirror", "learning_rate")]
    assert found == [14, None, 4, "yes", 1e-3]
    evaluated = {line["step"] for line in read_metrics(tmp_path / "run") if "split" in line}
    assert {7, 14} <= evaluated
    page = (tmp_path / "run" / "report.html").read_text()
    assert "auto" not in re.findall(r"mirror.*?yes", page, re.S)[0]
    for again in ((), ("--epochs", 2), ("--mirror", "auto"), ("--steps", 14)):
        code, said = answer((*run, *again), capsys)
        assert (code, "at its last step, 14" in said) == (0, True), said
        assert "training examples:" not in said or again
    for change, words in (
        (("--epochs", 3), "steps: 14 there, 21 asked"),
        (("--mirror", "no"), "mirror: 'yes' there, 'no' asked"),
    ):
        code, said = answer((*run, *change), capsys)
        assert (code, words in said) == (2, True), said


@pytest.mark.parametrize("model", ["lenet5", "lenet5_1998"])
def test_lenet_learns_the_embedded_digits(model, no_sets, capsys):
    path = pathlib.Path("run")
    code, said = answer(
        ("--model", model, "--steps", 120, "--evaluate-every", 120, "--devices", 1,
         "--workdir", path),
        capsys,
        "experiments.lenet_mnist",
    )  # fmt: skip
    assert code == 0, said
    assert "not on MNIST" in said
    summary = json.loads((path / "summary.json").read_text())
    assert summary["model"] == model
    assert summary["test/accuracy"] > 0.85


@pytest.mark.parametrize("model", ["lenet5", "lenet5_1998"])
def test_mnist_stands_in_the_middle_of_a_larger_field(model):
    config = lenet_mnist.recipe("mnist", model)
    assert (config.size, config.by, config.mirror, config.model) == (32, "pad", "no", model)


PLAIN = """
text.usetex: True
font.family: No Such Font
axes.facecolor: red
"""


def test_names_in_any_bytes_and_settings_of_any_kind_end_no_run(tmp_path):
    """Pictures of two classes, one of no UTF-8 and one in Chinese, tested on one of them alone."""
    names = (b"caf\xe9", "猫".encode())
    for split, count, kinds in (("train", 8, names), ("val", 2, names), ("test", 4, names[:1])):
        for value, name in enumerate(kinds):
            folder = tmp_path / "pets" / split / os.fsdecode(name)
            folder.mkdir(parents=True)
            for i in range(count):
                image = pixels(12, 12, seed=i) // 8 + np.uint8(200 * value)
                save(folder / f"temple_{i:02}.png", image)
    (tmp_path / "matplotlibrc").write_text(PLAIN)
    run = tmp_path / "run"
    arguments = ["--data", f"folder:{tmp_path / 'pets'}", "--model", "mlp", "--size", "12"]
    arguments += ["--steps", "2", "--batch-size", "4", "--evaluate-every", "2"]
    done = subprocess.run(
        [sys.executable, "-W", "error", classify.__file__, *arguments, "--workdir", str(run)],
        env={
            **os.environ,
            "JAX_NUM_CPU_DEVICES": "1",
            "MATPLOTLIBRC": str(tmp_path),
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "could not be" not in done.stdout
    with (run / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [row["file"] for row in rows] == [f"test/caf\\xe9/temple_{i:02}.png" for i in range(4)]
    assert {row["truth"] for row in rows} == {"caf\\xe9"}
    right = [row["prediction"] == row["truth"] for row in rows]
    found = json.loads((run / "summary.json").read_text())
    assert np.mean(right) == found["test/accuracy"] == found["test/recall"]
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "could not be drawn" not in page
    for row, good in zip(rows, right, strict=True):
        assert (f'title="{row["file"]}"' in page) != good
    assert "猫" in page
