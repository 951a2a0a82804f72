"""ImageNet's recipe, end to end on JPEGs that are made here: a folder, and a set of TFDS."""

import csv
import dataclasses
import json
import re
import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import again, saved, state, whole_end
from commands import run as one
from image_files import encoded, jpegs, wnids
from pairs import both, pair
from PIL import Image
from tfds_set import F, write_set

import models
from experiments import ablate, evaluate, predict, resnet_imagenet
from models.classification.resnet import BasicBlock, CIFARStem, ResNet
from train import cli
from train.data import tfds
from train.data.host import CentreCrop, RandomResizedCrop
from train.data.source import About
from train.logs import read_metrics
from train.refusal import Refused

NAME = resnet_imagenet.NAME
CLASSES = 12
ABOUT = About(
    name="imagenet2012",
    split="train",
    classes=tuple(wnids(CLASSES)),
    mirror=True,
    mean=(120.0,) * 3,
    std=(60.0,) * 3,
)
LENGTH = 1_268_355
"""Of the training images, a hundredth held out."""
SHORT = (
    "--model", "tiny", "--size", "32", "--batch-size", "16", "--steps", "6", "--warmup-steps", "2",
    "--evaluate-every", "6", "--save-every", "3", "--log-every", "1", "--devices", "4",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def tiny():
    """A network of that name: a ResNet of two blocks, which compiles in a second."""
    made = partial(ResNet, (1, 1), (8, 16), BasicBlock, CIFARStem, 8)
    with pytest.MonkeyPatch.context() as patch:
        for table in (models.CLASSIFIERS, models.NETWORKS):
            patch.setitem(table, "tiny", models.plainly(made))
        yield


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return jpegs(tmp_path_factory.mktemp("set"), {"train": 4, "val": 2}, CLASSES)


@pytest.fixture(scope="module")
def run(pictures, tmp_path_factory):
    """Six steps on four devices, in bfloat16."""
    path = tmp_path_factory.mktemp("run")
    words = ("--data", f"folder:{pictures}", *SHORT, "--validation", "0.25", "--workdir", path)
    assert cli.command_line(NAME, [str(word) for word in words]) == 0
    return path


def summary(path):
    return json.loads((path / "summary.json").read_text())


def settled(config, length=LENGTH, about=ABOUT):
    return dataclasses.replace(config, **config.settled(about, length, 8))


# --- the recipe -------------------------------------------------------------------------------


def test_the_recipe_of_imagenet():
    config = resnet_imagenet.recipe()
    assert (config.data, config.model, config.dtype) == ("imagenet2012", "resnet50", "bfloat16")
    assert (config.label_smoothing, config.weight_decay, config.momentum) == (0.1, 1e-4, 0.9)
    assert (config.zero_init_residual, config.remat) == (True, False)
    found = settled(config)
    assert (found.steps, found.size, found.mirror) == (111_477, 224, "yes")  # 90 * LENGTH / 1024
    assert (found.learning_rate, found.warmup_steps) == (pytest.approx(0.4), 5573)
    parts = resnet_imagenet.build(found, ABOUT)
    training, testing = parts.host
    assert training.stage == RandomResizedCrop(area=(0.08, 1.0), ratio=(3 / 4, 4 / 3))
    assert testing.stage == CentreCrop(enlarge=256 / 224)
    assert training.shapes == testing.shapes == ((224, 224),)
    assert parts.network.backbone.zero_init_residual


@pytest.mark.parametrize(
    ("fields", "rate"),
    [
        ({"batch_size": 256}, 0.1),
        ({"batch_size": 8192}, 3.2),
        ({"batch_size": 32, "init_from": "w.pth"}, 0.01 / 8),
        ({"learning_rate": 0.7}, 0.7),
    ],
)
def test_the_rate_goes_with_the_batch(fields, rate):
    config = dataclasses.replace(resnet_imagenet.recipe(), **fields)
    assert settled(config).learning_rate == pytest.approx(rate)


def test_what_other_models_optimisers_and_data_change():
    recipe = resnet_imagenet.recipe
    assert recipe(optimizer="adamw").learning_rate == 1e-3
    assert recipe(optimizer="adamw", init_from="w.pth").learning_rate == 1e-4
    assert not recipe(model="vgg16_bn").zero_init_residual
    assert not recipe(init_from="w.pth").zero_init_residual
    inception = settled(recipe(model="inception_v3"))
    assert (inception.size, inception.auxiliary_weight) == (299, 0.4)
    own = recipe("folder:x")
    assert own == dataclasses.replace(
        resnet_imagenet.FOLDER, data="folder:x", zero_init_residual=True
    )
    found = settled(own, 9469)
    assert (found.batch_size, found.steps, found.learning_rate) == (256, 1110, 0.1)
    assert settled(own, 100).batch_size == 16  # a quarter, in as many parts as there are devices


def test_a_folder_of_imagenets_classes_has_imagenets_recipe(tmp_path):
    for split, count in (("train", 1000), ("val", 1000)):
        for name in wnids(count):
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / "1.JPEG").touch()
    data = f"folder:{tmp_path}"
    expected = dataclasses.replace(resnet_imagenet.IMAGENET, data=data, zero_init_residual=True)
    assert resnet_imagenet.recipe(data) == expected
    shutil.rmtree(tmp_path / "train" / wnids(1)[0])
    assert resnet_imagenet.recipe(data).epochs == resnet_imagenet.FOLDER.epochs


@pytest.mark.parametrize("model", ["lenet5", "googlenet", "plain_cnn"])
def test_a_network_that_cannot_is_named(model):
    config = resnet_imagenet.recipe(model=model)
    for field in ("remat", "zero_init_residual"):
        with pytest.raises(Refused, match=f"{field}=True: {model} has no such option"):
            dataclasses.replace(config, **{field: True})


def test_networks_that_can_are_named():
    config = resnet_imagenet.recipe(model="lenet5")
    with pytest.raises(Refused, match=r"; (\w+, ){3}\w+ and \d+ more have it$") as refused:
        dataclasses.replace(config, remat=True)
    named = str(refused.value).partition("; ")[2].partition(" and ")[0].split(", ")
    for model in named:
        assert dataclasses.replace(config, model=model, remat=True).remat


def test_without_imagenet_a_line_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert cli.command_line(NAME, []) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    for words in ("ILSVRC2012_img_train.tar", "make prepare DATA=imagenet2012", "folder:DIR"):
        assert words in err


def parts_of(**fields):
    config = dataclasses.replace(resnet_imagenet.recipe(model="tiny"), size=32, **fields)
    return resnet_imagenet.build(settled(config), ABOUT)


def batch_of(count):
    rng = np.random.default_rng(0)
    return {
        "image": jnp.asarray(rng.integers(0, 256, (count, 32, 32, 3), np.uint8)),
        "label": jnp.arange(count, dtype=jnp.int32) % CLASSES,
        "index": jnp.arange(count, dtype=jnp.int32),
        "valid": jnp.ones(count, bool),
    }


def test_all_but_the_activations_is_float32():
    parts, batch = parts_of(), batch_of(4)
    assert parts.network.backbone.dtype == "bfloat16"
    x = parts.task.inputs(batch)
    init = partial(parts.network.init, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), x)
    loss, aux = jax.eval_shape(parts.task.loss, variables, batch, jax.random.key(0))
    measured = jax.eval_shape(parts.task.measure, variables, batch)
    inside = {name: each["backbone"] for name, each in variables.items()}
    maps = jax.eval_shape(partial(parts.network.backbone.apply, train=False), inside, x)
    assert {str(leaf.dtype) for leaf in maps} == {"bfloat16"}
    leaves = jax.tree.leaves((variables, loss, aux, measured.sums))
    floating = {str(leaf.dtype) for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)}
    assert floating == {"float32"}
    assert jax.eval_shape(parts.task.predict, variables, x).dtype == jnp.float32


def test_remat_changes_nothing_but_what_is_kept():
    batch, key = batch_of(4), jax.random.key(1)
    both = [parts_of(remat=remat, dtype="float32") for remat in (False, True)]
    variables = both[0].network.init(key, both[0].task.inputs(batch), train=False)
    params = jax.tree.map(lambda leaf: leaf + 0.1, variables["params"])  # no block is its shortcut

    def loss(parts, params):
        return parts.task.loss({**variables, "params": params}, batch, key)[0]

    found = [re.findall(r"checkpoint\[|remat2?\[", traced(loss, parts, params)) for parts in both]
    assert [len(each) for each in found] == [0, 2]
    one, other = (jax.jit(jax.value_and_grad(partial(loss, parts)))(params) for parts in both)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), other, one)


def traced(loss, parts, params):
    return str(jax.make_jaxpr(partial(loss, parts))(params))


# --- runs -------------------------------------------------------------------------------------


def test_a_run_on_a_folder(run):
    found = summary(run)
    assert found["test/count"] == 2 * CLASSES
    assert 0 <= found["test/accuracy"] <= found["test/top5"] <= 1
    about = json.loads((run / "about.json").read_text())
    assert about["classes"] == wnids(CLASSES)
    lines = [line for line in read_metrics(run) if line["kind"] == "train"]
    rates = [line["learning_rate"] for line in lines]
    peak = 0.1 * 16 / 256
    expected = [peak * min(1, (k + 1) / 2) * (1 + np.cos(np.pi * k / 6)) / 2 for k in range(6)]
    np.testing.assert_allclose(rates, expected, rtol=1e-5)


def test_a_run_that_goes_on_is_the_same_bit_for_bit(run, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(run, path)
    assert saved(path) == [3, 6]
    shutil.rmtree(path / "checkpoints" / "6")
    (path / "summary.json").unlink()
    assert cli.command_line(NAME, ["--workdir", str(path)]) == 0
    assert state(path, 6) == state(run, 6)
    assert {k: v for k, v in summary(path).items() if "test/" in k} == {
        k: v for k, v in summary(run).items() if "test/" in k
    }


def test_what_reads_runs_reads_it(run, pictures, tmp_path):
    predict.main(predict.Config(paths=(str(run), str(pictures / "val")), out=tmp_path / "p.csv"))
    with (tmp_path / "p.csv").open() as file:
        rows = [*csv.DictReader(file)]
    right = [row["file"].split("/")[-2] == row["prediction"] for row in rows]
    assert np.mean(right) == summary(run)["test/accuracy"]
    evaluate.main(evaluate.Config(run=run, out=tmp_path / "again"))
    again = summary(tmp_path / "again")
    assert again["test/top5"] == summary(run)["test/top5"]


def test_an_ablation_of_it_is_checked_before_anything_runs(pictures, tmp_path):
    words = ("--data", f"folder:{pictures}", "--each", "label_smoothing=1.0")
    where = ("--workdir", str(tmp_path / "ablation"))
    asked = ablate.parsed(["resnet_imagenet", *words, *where])
    with pytest.raises(Refused, match=r"label_smoothing=1\.0 must lie in"):
        ablate.main(asked)


# --- TFDS -------------------------------------------------------------------------------------


@pytest.fixture
def imagenet(tmp_path, monkeypatch):
    """A set as TFDS prepares ImageNet, its test labels withheld."""
    rng = np.random.default_rng(0)

    def example(label):
        shape = (*rng.integers(20, 60, 2), 3)
        picture = Image.fromarray(rng.integers(0, 256, shape, np.uint8))
        data = encoded(picture, "JPEG", quality=90)
        return {"image": data, "label": [label], "file_name": b"n.JPEG"}

    counts = {"train": 32, "validation": 13, "test": 3}
    features = F.FeaturesDict(
        {
            "image": F.Image(encoding_format="jpeg"),
            "label": F.ClassLabel(names=wnids(CLASSES)),
            "file_name": F.Text(),
        }
    )
    examples = {
        split: [example(-1 if split == "test" else i % CLASSES) for i in range(count)]
        for split, count in counts.items()
    }
    write_set(tmp_path / "sets", "imagenet2012", features=features, examples=examples)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "sets"))


def test_imagenet_holds_out_its_last_images_and_reads_no_labels_for_it(imagenet, monkeypatch):
    def never(self):
        raise AssertionError("all labels were read")

    monkeypatch.setattr(tfds.Tfds, "labels", property(never))
    config = dataclasses.replace(resnet_imagenet.recipe(), validation=0.25)
    train, validation, test = resnet_imagenet.splits(config)
    assert [len(split) for split in (train, validation, test)] == [24, 8, 13]
    found = [int(validation.truth(i)["label"]) for i in range(8)]
    assert found == [i % CLASSES for i in range(24, 32)]


def test_a_run_on_the_prepared_set_in_slices(imagenet, tmp_path):
    words = (
        "--model", "tiny", "--size", "32", "--batch-size", "8", "--accumulation", "2", "--remat",
        "True", "--steps", "2", "--warmup-steps", "0", "--validation", "0.25", "--devices", "4",
        "--workdir", str(tmp_path / "run"),
    )  # fmt: skip
    assert cli.command_line(NAME, words) == 0
    assert summary(tmp_path / "run")["test/count"] == 13
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["data"], config["remat"], config["learning_rate"]) == (
        "imagenet2012", True, 0.1 / 32,
    )  # fmt: skip


@pytest.mark.slow
def test_two_processes_train_as_one(pictures, tmp_path):
    """The real command; each process crops and decodes its own half of a batch."""
    words = ["experiments/resnet_imagenet.py", "--data", f"folder:{pictures}", *SHORT[:-2]]
    words[words.index("tiny")] = "plain_cnn"
    words += ["--dtype", "float32", "--validation", "0.25", "--workdir"]
    for name in ("pair", "one"):
        (tmp_path / name).mkdir()
    for end in both(pair([*words, tmp_path / "pair"])):
        whole_end(end)
    whole_end(one([*words, tmp_path / "one"], JAX_NUM_CPU_DEVICES="4"))
    ours, theirs = summary(tmp_path / "pair"), summary(tmp_path / "one")
    assert ours["test/count"] == theirs["test/count"] == 2 * CLASSES
    assert ours["test/loss"] == pytest.approx(theirs["test/loss"], rel=1e-4)
    losses = [
        [line["loss"] for line in read_metrics(tmp_path / name) if line["kind"] == "train"]
        for name in ("pair", "one")
    ]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    # Saved by two, and gone on with by one.
    shutil.rmtree(tmp_path / "pair" / "checkpoints" / "6")
    command = ["experiments/resnet_imagenet.py", *again(tmp_path / "pair")[1:]]
    end = one(command, JAX_NUM_CPU_DEVICES="4")
    whole_end(end)
    assert "Going on from step 3" in end.out
