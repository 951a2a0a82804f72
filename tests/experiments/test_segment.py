"""The experiment on segmentation, trained for some steps on files that the tests make."""

import dataclasses
import json
import math
import shutil
from functools import partial
from typing import get_args

import image_files
import jax
import numpy as np
import pytest

import models
from experiments import segment
from experiments.segment import LOSSES, Config, build, recipe
from models.layers.norm import FrozenBatchNorm
from models.pretrained import torchvision
from train import cli, finetune, weight_files, workdir
from train.data.source import About
from train.data.voc import CLASSES
from train.experiment import refuse_idle
from train.opened import opened
from train.refusal import Refused
from train.seal import flat

ABOUT = About(
    "pets",
    "train",
    (),
    mirror=True,
    shape=(32, 32, 3),
    mean=(100.0, 110.0, 120.0),
    std=(50.0, 50.0, 60.0),
    mask_classes=("ground", "cat", "dog"),
)

STILL = {"zoom": 1.0, "rotate": 0.0, "move": 0.0, "colour": 0.0}


@pytest.fixture
def pictures(tmp_path):
    """A VOC folder of pictures of two sizes, each with a square of class 1 or 2."""
    for split, names in {"train": "abcdef", "val": "ghij"}.items():
        for i, name in enumerate(names):
            mask = np.zeros((24, 36) if i % 2 else (30, 20), np.uint8)
            mask[4:14, 5:15] = 1 + i % 2
            mask[0] = 255
            image_files.voc(tmp_path / "VOC2012", [name], size=mask.shape, mask=mask, split=split)
        listed = tmp_path / "VOC2012" / "ImageSets" / "Segmentation" / f"{split}.txt"
        listed.write_text("\n".join(names))
    return tmp_path / "VOC2012"


def test_a_run_on_pictures_of_many_sizes(pictures, tmp_path):
    fields = {"channels": (4, 8, 8), "size": 32, "steps": 4, "batch_size": 4, "evaluate_every": 2}
    fields |= {"validation": 0.0, "warmup_steps": 1, "devices": 1, "auxiliary_weight": 0.0}
    config = Config(data=f"voc:{pictures}", workdir=tmp_path / "run", **fields)
    summary = segment.main(config)
    assert summary.tables["confusion"].shape == (21, 21)
    # Counted in the pixels of the source, without those of 255.
    assert summary.tables["confusion"].sum() == 2 * (23 * 36 + 29 * 20)
    assert summary.scalars["count"] == 4
    assert 0 < summary.scalars["miou"] < 1
    found = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert found["test/miou"] == pytest.approx(summary.scalars["miou"])
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Worst images" in page
    assert all(name in page for name in CLASSES)


@pytest.mark.parametrize(
    ("model", "channels"),
    [
        ("unet_2015", (2, 4)),
        pytest.param("fcn8s", (2, 4, 8, 16, 16), marks=pytest.mark.slow),
        pytest.param("deeplabv3_resnet18", (2, 4, 8, 16), marks=pytest.mark.slow),
    ],
)
def test_others_train_and_go_on(model, channels, pictures, tmp_path, capsys):
    arguments = (
        "--data", f"voc:{pictures}", "--model", model, "--channels", *channels, "--size", 30,
        "--steps", 2, "--batch-size", 2, "--evaluate-every", 1, "--validation", 0, "--devices", 1,
        "--optimizer", "muon", "--save-every", 1, "--workdir", tmp_path / "run",
    )  # fmt: skip
    assert cli.command_line(segment.NAME, [*map(str, arguments)]) == 0
    found = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert found["model"] == model
    assert found["test/count"] == 4
    said = "".join(capsys.readouterr())
    assert "18 occur in none of the training masks that were read: 'bird'" in said
    # From the first step's checkpoint it goes on to the same end.
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "2")
    (tmp_path / "run" / "summary.json").unlink()
    assert cli.command_line(segment.NAME, ["--workdir", str(tmp_path / "run")]) == 0
    assert "Going on from step 1" in "".join(capsys.readouterr())
    again = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert again["test/loss"] == found["test/loss"]
    assert again["test/miou"] == found["test/miou"]


def test_images_of_few_classes_are_left_out_of_training_alone(pictures):
    blank = np.zeros((24, 36), np.uint8)
    for split, names in {"train": "a blank b c", "val": "g blank"}.items():
        image_files.voc(pictures, ["blank"], size=blank.shape, mask=blank, split=split)
        listed = pictures / "ImageSets" / "Segmentation" / f"{split}.txt"
        listed.write_text("\n".join(names.split()))
    config = Config(data=f"voc:{pictures}", validation=0.0)
    whole, some = (segment.splits(dataclasses.replace(config, least_classes=n)) for n in (0, 2))
    assert [len(whole.train), len(some.train)] == [4, 3]
    assert [some.train.name(i) for i in range(3)] == [whole.train.name(i) for i in (0, 2, 3)]
    assert len(some.test) == len(whole.test) == 2
    # What is cut off to choose by is the same with and without.
    config = dataclasses.replace(config, validation=0.5)
    whole, some = (segment.splits(dataclasses.replace(config, least_classes=n)) for n in (0, 2))
    assert some.validation.fingerprint == whole.validation.fingerprint
    assert len(some.validation) == 2


def test_pictures_of_many_sizes_come_to_one():
    many = dataclasses.replace(ABOUT, shape=None)
    assert Config().settled(many, 100, 1)["size"] == 224
    assert "size" not in Config(size=32).settled(many, 100, 1)
    assert "size" not in Config().settled(ABOUT, 100, 1)
    with pytest.raises(Refused, match="many shapes"):
        build(Config(data="voc:x"), many)


@pytest.mark.parametrize(("init_from", "epochs", "rate"), [("", 60, 1e-3), ("w.pth", 30, 1e-4)])
def test_a_recipe_for_ones_own_pictures(init_from, epochs, rate):
    config = recipe("voc:x", "fcn_resnet50", init_from)
    assert (config.epochs, config.learning_rate) == (epochs, pytest.approx(rate))
    found = config.settled(ABOUT, 40, 1)
    assert found["batch_size"] == 8  # the largest power of 2 in a quarter of 40
    assert found["steps"] == epochs * 5
    assert config.settled(ABOUT, 4000, 1)["batch_size"] == 16
    refuse_idle(segment, config, ABOUT)


def test_a_set_without_masks_is_pointed_to_what_trains_on_it():
    with pytest.raises(Refused, match=r"data='digits' has no mask; .* experiments/classify\.py"):
        segment.splits(Config(data="digits"))


@pytest.mark.parametrize("model", models.names("segmentation"))
def test_every_segmenter_is_built(model):
    parts = build(Config(model=model, data="pets"), ABOUT)
    size = parts.network.input_size(96)
    image = jax.ShapeDtypeStruct((2, size, size, 3), np.float32)
    found = jax.eval_shape(
        lambda key, x: parts.network.init_with_output(key, x, train=False)[0],
        jax.random.key(0),
        image,
    )
    assert found.shape == (2, *2 * (size - 2 * parts.network.margin,), 3)


@pytest.mark.parametrize(
    ("model", "channels"),
    [
        ("unet", (2, 4, 8, 16, 32)),
        ("fcn8s", (2, 4, 8, 16, 16)),
        ("deeplabv3_resnet18", (2, 4, 8, 16)),
    ],
)
def test_a_narrow_one_is_narrow(model, channels):
    parts = build(Config(model=model, channels=channels, **STILL, mirror="no"), ABOUT)
    assert parts.transform is None
    batch = {
        "image": jax.ShapeDtypeStruct((2, 32, 32, 3), np.uint8),
        "mask": jax.ShapeDtypeStruct((2, 32, 32), np.uint8),
        "valid": jax.ShapeDtypeStruct((2,), np.bool_),
    }
    x = jax.eval_shape(parts.task.inputs, batch)
    init = partial(parts.network.init, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), x)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) < 50_000
    loss, aux = jax.eval_shape(parts.task.loss, variables, batch, jax.random.key(0))
    assert loss.shape == ()
    assert ("auxiliary_loss" in aux.sums) == (model != "fcn8s")


@pytest.mark.parametrize(
    ("mirror", "judged", "expected"),
    [
        ("auto", True, True),
        ("auto", None, True),
        ("auto", False, False),
        ("yes", False, True),
        ("no", True, False),
        (True, True, True),
        (True, None, False),  # as runs from before `auto` did
        (False, True, False),
    ],
)
def test_what_is_mirrored(mirror, judged, expected):
    about = dataclasses.replace(ABOUT, mirror=judged)
    found = segment.augmentation(Config(**STILL, mirror=mirror), about)
    assert (found is not None) == expected


def test_the_network_sees_the_same_of_an_image_and_of_its_negative():
    fields = {"channels": (2, 4), "auxiliary_weight": 0.0, "mirror": "no"}
    parts = build(Config(dark_ground=True, **fields, **STILL | {"colour": 0.3}), ABOUT)
    plain = build(Config(**fields, **STILL), ABOUT)
    dark = jax.random.randint(jax.random.key(0), (40, 16, 16, 3), 0, 180).astype(np.uint8)
    batches = [
        {"image": image, "mask": np.zeros((40, 16, 16), np.uint8)} for image in (dark, 255 - dark)
    ]
    shown = plain.task.inputs(batches[0])
    for batch in batches:
        np.testing.assert_allclose(parts.task.inputs(batch), shown, atol=1e-5)
    # A ground of 165 may be drawn 0.7 times as bright, 116, and would be left dark on bright.
    one, other = (
        parts.task.inputs(jax.jit(parts.transform)(jax.random.key(1), batch)) for batch in batches
    )
    np.testing.assert_allclose(one, other, atol=1e-4)
    assert np.abs(one - shown).max() > 0.5
    assert all(
        np.corrcoef(*map(np.ravel, each))[0, 1] > 0.9 for each in zip(one, shown, strict=True)
    )


@pytest.mark.parametrize("model", ["fcn_resnet50", "unet"])
def test_without_its_weight_an_auxiliary_head_is_not_built(model):
    with_head, without = (
        build(Config(model=model, auxiliary_weight=w), ABOUT).network for w in (0.4, 0.0)
    )
    assert with_head.aux
    assert not without.aux


def test_recipes():
    channels = (32, 32, 64, 128, 256)
    assert recipe() == dataclasses.replace(segment.SCENES_UNET, channels=channels)
    assert recipe("auto", "unet_2015") == dataclasses.replace(recipe(), model="unet_2015")
    fcn = recipe("auto", "fcn8s")
    assert fcn == dataclasses.replace(segment.SCENES, model="fcn8s", channels=fcn.channels)
    assert recipe("voc:x", "fcn8s") == dataclasses.replace(
        segment.OWN_PICTURES, data="voc:x", model="fcn8s"
    )
    for each in (recipe(), fcn):
        assert each.steps * each.batch_size <= 100_000
    for name in get_args(segment.Loss):
        assert set(name.split("+")) <= set(LOSSES)


@pytest.mark.parametrize("model", models.names("segmentation"))
def test_every_segmenter_has_a_recipe_for_scenes(model):
    about = dataclasses.replace(ABOUT, shape=(96, 96, 3))
    parts = build(recipe("auto", model), about)
    narrow = model in ("unet", "unet_2015", "fcn32s", "fcn16s", "fcn8s", "deeplabv3_resnet18")
    assert bool(recipe("auto", model).channels) == narrow
    assert recipe("pets", model).channels == ()
    variables = jax.eval_shape(parts.init, jax.random.key(0), np.zeros((2, 96, 96, 3), np.float32))
    found = jax.eval_shape(parts.task.predict, variables, np.zeros((2, 96, 96, 3), np.float32))
    assert found["mask"].shape == (2, 96, 96)


def test_scenes_are_those_of_the_benchmark_and_not_what_is_called_so():
    assert recipe("fashion_scenes") == dataclasses.replace(recipe(), data="fashion_scenes")
    assert recipe("voc:street_scenes").steps is None


def test_a_backends_norm_is_the_networks():
    for model in ("unet", "fcn8s", "deeplabv3_resnet18"):
        network = build(recipe("auto", model), ABOUT, norm=FrozenBatchNorm).network
        norms = [network.norm] if model != "fcn8s" else []
        norms += [network.backbone.norm] if model != "unet" else []
        assert set(norms) == {FrozenBatchNorm}, model


def zeros(name, classes=3):
    """torchvision's tensors of a network, which take no memory."""
    found = torchvision.tensors(name, classes).values()
    return {tensor.name: np.broadcast_to(np.float32(0), tensor.shape) for tensor in found}


def started(model, file="w.pth"):
    """What a run starts from, by path, and the layers that start anew."""
    parts = build(Config(model=model, data="pets", init_from=file), ABOUT)
    size = parts.network.input_size(32)
    image = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
    init = partial(parts.network.init, train=False)
    here = flat(jax.eval_shape(init, jax.random.key(0), image))
    there = flat(parts.weights().variables)
    anew = {path for path in here if path not in there or here[path].shape != there[path].shape}
    return there, {finetune.layer(path) for path in anew}


@pytest.mark.parametrize("model", ["fcn_resnet50", "deeplabv3_resnet50", "deeplabv3plus_resnet50"])
def test_weights_are_those_of_the_backbones_classifier(model, monkeypatch):
    monkeypatch.setattr(weight_files, "read", lambda path: zeros("resnet50", 7))
    _, anew = started(model)
    assert anew
    assert not any(layer.startswith("backbone") for layer in anew)


def test_or_they_are_the_models_own(monkeypatch):
    monkeypatch.setattr(weight_files, "read", lambda path: zeros("fcn_resnet50"))
    assert started("fcn_resnet50")[1] == set()
    with pytest.raises(Refused, match="do not fit deeplabv3_resnet50"):
        started("deeplabv3_resnet50")
    with pytest.raises(Refused, match=r"init_from='w\.pth': torchvision has no weights of unet"):
        started("unet")
    monkeypatch.undo()
    with pytest.raises(Refused, match=r"init_from='w\.pth'"):
        Config(model="fcn_resnet50", init_from="w.pth").start()


def test_weights_of_other_widths_are_refused_before_a_directory_is_made(
    pictures, tmp_path, monkeypatch
):
    monkeypatch.setattr(weight_files, "read", lambda path: zeros("resnet18"))
    file = tmp_path / "w.pth"
    file.touch()
    fields = {"model": "deeplabv3_resnet18", "channels": (2, 4, 8, 16), "init_from": str(file)}
    fields |= {"size": 32, "steps": 1, "batch_size": 2, "validation": 0.0, "devices": 1}
    fields |= {"warmup_steps": 0}
    with pytest.raises(Refused, match=r"of another network: .*backbone/"):
        segment.main(Config(data=f"voc:{pictures}", workdir=tmp_path / "run", **fields))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("model", ["fcn32s", "fcn8s", "deeplab_largefov", "deeplabv2_vgg16"])
def test_on_vgg_they_are_vggs(model, monkeypatch):
    monkeypatch.setattr(weight_files, "read", lambda path: zeros("vgg16"))
    found, anew = started(model)
    assert not any(layer.startswith("backbone") for layer in anew)
    if model.startswith("fcn"):
        # Its dense layers as convolutions; what a classifier has not starts anew.
        assert found["params/hidden1/kernel"].shape == (7, 7, 512, 4096)
        assert all(layer.startswith(("up", "score")) for layer in anew)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"model": "resnet18"}, "model"),
        ({"zoom": 0.5}, "zoom=0.5"),
        ({"zoom": math.nan}, "zoom=nan"),
        ({"zoom": math.inf}, "zoom=inf"),
        ({"loss": "l2"}, "loss"),
        ({"optimizer": "adam"}, "optimizer"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"ema": 1}, "ema"),
        ({"least_classes": -1}, "least_classes=-1"),
        ({"dropout": 1.0}, "dropout=1.0"),
    ],
)
def test_bad_fields_are_named(fields, match):
    with pytest.raises(Refused, match=match):
        Config(**fields)


@pytest.mark.parametrize("model", models.names("segmentation"))
def test_dropout_is_the_networks_or_refused(model):
    config = Config(model=model, dropout=0.25)
    if model in ("unet", "unet_2015", "fcn32s", "fcn16s", "fcn8s"):
        assert build(config, ABOUT).network.dropout == 0.25
        return
    with pytest.raises(Refused, match=f"dropout=0.25: {model} has its own"):
        build(config, ABOUT)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model": "fcn8s", "auxiliary_weight": 0.7}, "auxiliary_weight=0.7 .*: fcn8s has no"),
        ({"model": "fcn8s", "auxiliary_weight": 0.0}, ""),
        ({"auxiliary_weight": 0.7}, ""),
        ({"corrupt_limit": 0.5}, "corrupt_limit=0.5 has no effect: on_corrupt='stop'"),
        ({"corrupt_limit": 0.5, "on_corrupt": "skip"}, ""),
    ],
)
def test_what_has_no_effect_is_refused(fields, words):
    config = Config(**{"data": "voc:x"} | fields)
    if not words:
        refuse_idle(segment, config, ABOUT)
        return
    with pytest.raises(Refused, match=words):
        refuse_idle(segment, config, ABOUT)


@pytest.mark.parametrize("data", ["digit_scenes", "fashion_scenes", "voc:x"])
@pytest.mark.parametrize("model", models.names("segmentation"))
def test_no_recipe_is_refused(data, model):
    refuse_idle(segment, recipe(data, model), ABOUT)


def test_masks_of_one_class_are_refused():
    with pytest.raises(Refused, match=r"data='pets' has masks of 1 class"):
        build(Config(data="pets"), dataclasses.replace(ABOUT, mask_classes=("0",)))


@pytest.mark.parametrize(
    ("model", "channels"),
    [
        ("deeplabv3_resnet50", (8, 8, 8, 8)),
        ("deeplabv3_resnet18", (8,)),
        ("deeplabv3_resnet18", (8, 8, 2, 8)),
        ("fcn8s", (8,) * 4),
        ("fcn8s", (8, 8, 8, 8, 0)),
        ("unet", (8,)),
        ("unet", (8, 7)),
    ],
)
def test_channels_that_no_form_has_are_refused(model, channels):
    with pytest.raises(Refused, match=r"channels=\(8"):
        build(Config(model=model, channels=channels), ABOUT)


def test_images_of_other_channels_cannot_start_from_imagenets_weights():
    about = dataclasses.replace(ABOUT, mean=(1.0,) * 4, std=(1.0,) * 4)
    with pytest.raises(Refused, match="4 channels"):
        build(Config(model="fcn8s", data="pets", init_from="w.pth"), about)


def test_one_image_is_too_few_for_a_pooled_branch():
    with pytest.raises(Refused, match="batch_size=1 in 1 slice"):
        build(Config(model="deeplabv3_resnet18", batch_size=1), ABOUT)
    with pytest.raises(Refused, match="batch_size=4 in 4 slice"):
        build(Config(model="deeplabv3plus_resnet50", batch_size=4, accumulation=4), ABOUT)
    build(Config(model="unet", batch_size=1), ABOUT)


def test_a_folder_of_images_and_masks_trains_its_own_classes(tmp_path, capsys):
    for i, name in enumerate("abcdef"):
        mask = np.zeros((16, 16, 1), np.uint8)
        mask[4:9, 5:15] = 1 + i % 2
        image_files.save(tmp_path / "set" / "images" / f"{name}.png", image_files.pixels(16, 16))
        image_files.save(tmp_path / "set" / "masks" / f"{name}.png", mask)
    arguments = (
        "--data", f"folder:{tmp_path / 'set'}", "--classes", "background,road,car",
        "--channels", 2, 4, "--size", 16, "--steps", 1, "--batch-size", 2, "--warmup-steps", 0,
        "--auxiliary-weight", 0, "--validation", 0, "--devices", 1, "--workdir", tmp_path / "run",
    )  # fmt: skip
    image_files.save(tmp_path / "set" / "images" / "g.png", image_files.pixels(16, 16))
    assert cli.command_line(segment.NAME, [*map(str, arguments)]) == 0
    assert "Left out: 1 image has no mask in" in capsys.readouterr().out
    about = json.loads((tmp_path / "run" / "about.json").read_text())
    assert about["mask_classes"] == ["background", "road", "car"]
    found = opened(tmp_path / "run")
    assert found.config.classes == "background,road,car"
    assert found.about.mask_classes == ("background", "road", "car")
    page = (tmp_path / "run" / "report.html").read_text()
    assert "aeroplane" not in page


def test_a_run_from_before_classes_could_be_said_reads_the_same_masks(pictures, tmp_path):
    mine = pictures.rename(tmp_path / "mine")
    before = Config(data=f"voc:{mine}", validation=0.0)
    with pytest.raises(Refused, match="is not VOC itself"):
        segment.splits(before)
    vocs = ("background", *CLASSES)
    for place in ("run", "study/seed_3"):
        (tmp_path / place).mkdir(parents=True)
        workdir.write(
            tmp_path / place / workdir.ABOUT, dataclasses.replace(ABOUT, mask_classes=vocs)
        )
        workdir.write_config(tmp_path / place.partition("/")[0], segment.NAME, before)
    (mine / "classes.txt").write_text("ground\ncat\ndog\n")  # which nothing read then
    for place in ("run", "study"):
        data = segment.splits(dataclasses.replace(before, workdir=tmp_path / place))
        assert data.train.about.mask_classes == vocs
        assert data.train.about.mirror
    other = dataclasses.replace(before, data=f"voc:{mine}/../mine", workdir=tmp_path / "run")
    assert segment.splits(other).train.about.mask_classes == ("ground", "cat", "dog")
