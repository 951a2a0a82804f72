"""What a run starts from: another run, and files with and without a head; what is refused."""

import dataclasses
import json
import shutil
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import classify, detect, resnet_cifar, segment
from train import weight_runs, workdir
from train.data.arrays import Arrays
from train.data.named import Splits
from train.data.source import About
from train.experiment import RUNTIME
from train.finetune import Weights, begun
from train.opened import opened
from train.prepared import prepare
from train.refusal import Refused
from train.run import run, starting_weights
from train.seal import flat
from train.weight_files import IMAGENET
from train.weight_runs import of_run
from train.weights import check_channels, fitted, of_classes, statistics_of

SHORT = {"steps": 1, "warmup_steps": 0, "batch_size": 4, "ema": 0.0, "devices": 1, "size": 32}
ALL = "backbone,hidden1,head"
"""Frozen, so that what a run ends with is what it began from."""


def drawn(classes, split, low=0, channels=1):
    """Images of 8x8 of which the darkest pixel is `low`."""
    rng = np.random.default_rng(low)
    images = rng.integers(low, 256, (8, 8, 8, channels), np.uint8)
    about = About("drawn", split, classes, mirror=False, shape=(8, 8, channels))
    return Arrays({"image": images, "label": np.arange(8) % len(classes)}, about)


def on(*classes, low=0, channels=1, experiment=classify):
    """An experiment on drawn images of some classes."""

    def splits(config):
        del config
        return Splits(*(drawn(classes, name, low, channels) for name in Splits._fields))

    return SimpleNamespace(
        __name__=experiment.__name__,
        Config=experiment.Config,
        build=experiment.build,
        splits=splits,
    )


def config(**fields):
    return classify.Config(**{"data": "drawn", "model": "lenet5", **SHORT, **fields})


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A run of LeNet-5 on grey images of three classes."""
    path = tmp_path_factory.mktemp("runs") / "first"
    run(on("a", "b", "c"), config(workdir=path))
    return path


@pytest.fixture(scope="module")
def second(first, tmp_path_factory):
    """A run that started from it, on brighter images of other classes, and the first one gone."""
    path = tmp_path_factory.mktemp("later")
    moved = path / "first"
    shutil.copytree(first, moved)
    run(
        on("a", "c", "b", low=100),
        config(init_from=str(moved), freeze=ALL, workdir=path / "second"),
    )
    shutil.rmtree(moved)
    return path / "second"


def test_backbone_and_statistics_are_those_of_the_run(first, second):
    before, after = opened(first), opened(second)
    old, new = flat(before.variables), flat(after.variables)
    assert {path for path in old if not np.array_equal(old[path], new[path])} == {
        "params/head/kernel",  # of other classes, as many of them
        "params/head/bias",
    }
    images = np.full((1, 8, 8, 1), 200, np.uint8)
    x = [each.parts.task.inputs({"image": images}) for each in (before, after)]
    np.testing.assert_array_equal(*x)
    assert before.about.mean[0] < after.about.mean[0] - 30
    assert after.config.init_statistics == (before.about.mean, before.about.std)


def test_where_they_came_from_is_in_the_provenance(first, second):
    found = json.loads((second / "provenance.json").read_text())
    assert len(found["weights"]) == 64
    assert found["weights_from"] == {
        "workdir": str(second.parent / "first"),
        "experiment": "experiments.classify",
        "model": "lenet5",
        "data": "drawn",
        "step": 1,
    }
    assert "weights_from" not in json.loads((first / "provenance.json").read_text())


def test_a_run_goes_on_where_the_first_one_is_gone(second, capsys):
    asked = config(init_from=str(second.parent / "first"), freeze=ALL, workdir=second)
    for again in (asked, dataclasses.replace(opened(second).config, workdir=second)):
        run(on("a", "c", "b", low=100), again)
        assert "is at its last step, 1." in capsys.readouterr().out
    with pytest.raises(Refused, match="no such file or directory"):
        run(on("a", "c", "b"), dataclasses.replace(asked, workdir=second.parent / "third"))
    assert not (second.parent / "third").exists()


def test_the_same_classes_keep_the_head_and_seeds_share_what_they_start_from(
    first, tmp_path, capsys
):
    asked = config(init_from=str(first), freeze=ALL, workdir=tmp_path / "study", seeds=(0, 1))
    run(on("a", "b", "c", low=100), asked)
    said = " ".join(capsys.readouterr().out.split())
    assert "Starts anew" not in said
    assert said.count("Starts from the weights of step 1 of the run in") == 2
    old = flat(opened(first).variables)
    for seed in (0, 1):
        found = opened(tmp_path / "study" / f"seed_{seed}")
        for path, value in flat(found.variables).items():
            np.testing.assert_array_equal(value, old[path], err_msg=path)
        assert found.config.init_statistics == (opened(first).about.mean, opened(first).about.std)
    with pytest.raises(Refused, match="holds several runs: take one of them, such as seed_0, seed"):
        statistics_of("lenet5", str(tmp_path / "study"))


def test_a_chain_of_runs_keeps_the_first_statistics(first, second):
    mean, std = statistics_of("lenet5", str(second))
    assert (mean, std) == (opened(first).about.mean, opened(first).about.std)


def test_another_recipe_of_a_run_finds_its_own(first, second):
    """A recipe that was opened and changed does not keep the statistics of what it began from."""
    old = opened(second).config
    other = dataclasses.replace(old, init_from=str(first), workdir=None).remembering(None)
    assert other.init_statistics == statistics_of("lenet5", str(first))
    none = dataclasses.replace(old, init_from="", freeze="", workdir=None).remembering(None)
    assert none.init_statistics == ()
    assert none.statistics(opened(second).about) == (
        opened(second).about.mean,
        opened(second).about.std,
    )


def test_a_run_of_another_experiment(first, tmp_path):
    """ResNet-20 of `resnet_cifar`, whose weights are never trained here, for `classify`."""
    about = dataclasses.replace(opened(first).about, classes=("a", "b"))
    workdir.write_config(
        tmp_path, resnet_cifar.__name__, resnet_cifar.Config(data="drawn", model="resnet20")
    )
    workdir.write(tmp_path / workdir.ABOUT, about)
    assert statistics_of("resnet20", str(tmp_path)) == (about.mean, about.std)
    with pytest.raises(Refused, match=r"has no checkpoint yet"):
        of_run("resnet20", str(tmp_path))


# --- detectors ---------------------------------------------------------------------------------


def boxes(*classes):
    """Detection of some classes, with one box an image, all of the first class."""
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    arrays = {
        "image": images,
        "boxes": [np.array([[2, 3, 20, 30]], np.float32)] * 4,
        "box_label": [np.zeros(1, np.int32)] * 4,
    }
    about = About("drawn", "train", classes, mirror=False, shape=(32, 32, 3))
    return SimpleNamespace(
        __name__=detect.__name__,
        Config=detect.Config,
        build=detect.build,
        splits=lambda config: Splits(*(Arrays(arrays, about) for _ in Splits._fields)),
    )


def detector(**fields):
    short = {**SHORT, "size": 0, "optimizer": "sgd", "dark_ground": False, "colour": 0.0}
    return detect.Config(**{"data": "drawn", "model": "yolov3_small", **short, **fields})


@pytest.fixture(scope="module")
def detecting(tmp_path_factory):
    """A run of a detector of two classes, with anchors of its own."""
    path = tmp_path_factory.mktemp("detectors") / "first"
    run(boxes("cat", "dog"), detector(workdir=path, anchors=(4, 5, 6, 7, 20, 30)))
    return path


@pytest.mark.parametrize(
    ("classes", "anew"),
    [
        (("cat", "dog"), ""),
        (("dog", "cat"), "Starts anew, being of other classes: head1_output."),
        (("cat",), "Starts anew, being of another shape or absent: head1_output."),
    ],
)
def test_a_detector_starts_from_the_run_of_another(detecting, classes, anew):
    old = opened(detecting)
    asked = detector(init_from=str(detecting)).remembering(None)
    assert asked.init_statistics == (old.about.mean, old.about.std)
    assert asked.anchors == (4, 5, 6, 7, 20, 30)
    prepared = prepare(boxes(*classes), asked)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), prepared.shapes())
    state, said = begun(zeros, fitted(prepared, prepared.parts.weights()))
    assert said[1:] == ([anew] if anew else [])
    before, after = flat(old.variables), flat(state.variables)
    for path, value in after.items():
        taken = not (anew and "head1_output" in path)
        np.testing.assert_array_equal(value, before[path] if taken else 0, err_msg=path)


def test_a_run_of_a_classifier_is_a_detectors_backbone(tmp_path, monkeypatch):
    """VGG's dense layers read regions; its head, of other things than boxes, is left."""
    about = About("drawn", "train", ("a", "b"), False, (32, 32, 3), (1.0,) * 3, (2.0,) * 3)
    workdir.write_config(tmp_path, classify.__name__, config(model="vgg16"))
    workdir.write(tmp_path / workdir.ABOUT, about)
    parts = {"hidden1": {"bias": 1}, "hidden2": {"bias": 2}, "head": {"bias": 3}}
    variables = {"params": {"backbone": {"bias": 0}, **parts}}
    made = SimpleNamespace(variables=variables, config=config(model="vgg16"), about=about, step=7)
    monkeypatch.setattr(weight_runs, "opened", lambda path: made)
    asked = detector(model="fasterrcnn_vgg16", init_from=str(tmp_path), size=64).remembering(None)
    assert asked.init_statistics == (about.mean, about.std)
    assert asked.start().variables["params"] == {
        "backbone": {"bias": 0},
        "roi_head": {"hidden1": {"bias": 1}, "hidden2": {"bias": 2}},
    }
    with pytest.raises(Refused, match="is a run of vgg16, not of yolov3_small's backbone"):
        detector(init_from=str(tmp_path)).remembering(None)


# --- what is refused ---------------------------------------------------------------------------


def test_what_is_no_run_is_one_line(first, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    many = tmp_path / "many"
    for number in range(30):
        (many / f"run{number:02}").mkdir(parents=True)
        shutil.copy(first / "config.json", many / f"run{number:02}")
    for path, words in (
        (tmp_path / "nowhere", "there is no such file or directory"),
        (tmp_path / "nowhere.pth", "there is no such file or directory"),
        (empty, r"holds no run: it has no config\.json and about\.json"),
        (many, "is no run, it holds 30 runs: take one of them, run00, run01, run02, run03 and 26"),
        (first.parent, "is no run, it holds a run: take one of them, first"),
        (tmp_path, "is no run, it holds 30 runs: take one of them, many/run00, many/run01"),
        (first / "checkpoints" / "1", f"holds no run, but lies in one: '{first}'"),
        (many / "run00", "holds no run"),
    ):
        with pytest.raises(Refused, match=words) as caught:
            config(init_from=str(path)).remembering(None)
        assert str(caught.value).startswith(f"init_from={str(path)!r}")
        assert "\n" not in str(caught.value)


def test_a_run_of_another_network_is_refused(first, tmp_path):
    with pytest.raises(Refused, match="is a run of lenet5, not of resnet18's backbone"):
        config(init_from=str(first), model="resnet18").remembering(None)
    values = json.loads((first / "config.json").read_text())
    shutil.copytree(first, tmp_path / "odd")
    # Under the same name another width.
    (tmp_path / "odd" / "config.json").write_text(json.dumps(values | {"model": "lenet5_1998"}))
    with pytest.raises(Refused, match="a run of lenet5_1998, not of lenet5's backbone"):
        of_run("lenet5", str(tmp_path / "odd"))


def test_damaged_weights_of_a_run_are_one_line(first, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(first, copy)
    record = copy / "checkpoints" / "1" / "record" / "metadata"
    record.write_text(record.read_text().replace("float32", "float16"))
    with pytest.raises(Refused, match=r"init_from=.*: the checkpoint of step 1 is damaged"):
        of_run("lenet5", str(copy))


def test_images_of_other_channels_are_refused(first, tmp_path):
    grey, colour = ((1.0,), (1.0,)), IMAGENET
    for statistics, channels in ((grey, 1), (colour, 3), (colour, 1)):
        check_channels(statistics, channels, "w")
    for statistics, channels in ((grey, 3), (colour, 4), (colour, 2)):
        with pytest.raises(Refused, match=rf"these have {channels} channels"):
            check_channels(statistics, channels, "w")
    with pytest.raises(Refused, match=r"takes images of 1 channel\(s\), and these have 3 channels"):
        run(on("a", "b", channels=3), config(init_from=str(first), workdir=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "field", [{"freeze": "backbone"}, {"frozen_norm": True}, {"backbone_rate": 0.1}]
)
def test_what_needs_trained_weights_is_refused_without(field, tmp_path):
    (name, value), *_ = field.items()
    asked = config(model="resnet20", workdir=tmp_path / "run", **field)
    with pytest.raises(Refused, match=f"{name}={value!r} needs trained weights: init_from is emp"):
        run(on("a", "b"), asked)
    assert not (tmp_path / "run").exists()
    assert asked.remembering(asked) == asked  # a run that is there goes on as it began
    usual = config(freeze="", frozen_norm=False, backbone_rate=1.0)
    assert usual.remembering(None) == usual


def test_of_a_segmenter_too():
    asked = segment.Config(freeze="backbone", model="fcn8s")
    with pytest.raises(Refused, match="freeze='backbone' needs trained weights"):
        asked.remembering(None)


# --- paths -------------------------------------------------------------------------------------


def test_the_home_directory_is_read_in_a_path(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for kind in (classify.Config, segment.Config):
        assert kind(init_from="~/w.pth").init_from == str(tmp_path / "w.pth")
    (tmp_path / "w.pth").touch()
    found = config(init_from="~/w.pth", model="resnet18").remembering(None)
    assert (found.init_from, found.init_statistics) == (str(tmp_path / "w.pth"), ())
    with pytest.raises(Refused, match="torchvision has no weights of lenet5"):
        config(init_from="~/w.pth").remembering(None)
    assert config(init_from="~nobody-of-this-name/w").init_from == "~nobody-of-this-name/w"


def test_only_a_run_can_change_what_is_recorded():
    assert "init_statistics" not in RUNTIME


# --- which layers belong to classes ------------------------------------------------------------


def prepared(model, classes=("a", "b", "c"), **fields):
    return prepare(on(*classes), config(model=model, **fields))


@pytest.mark.parametrize(
    ("model", "heads"),
    [
        ("lenet5", {"head"}),
        ("lenet5_1998", {"f6"}),  # its outputs are codes: none has the number of classes
        ("mlp", {"head"}),
        ("googlenet", {"head", "aux1/fc2", "aux2/fc2"}),
    ],
)
def test_layers_of_classes_are_found(model, heads):
    assert of_classes(prepared(model)) == heads


def masks(classes):
    """A source of masks, and the experiment on it."""
    about = About("drawn", "train", (), False, shape=(16, 16, 1), mask_classes=classes)
    arrays = {"image": np.zeros((4, 16, 16, 1), np.uint8), "mask": np.zeros((4, 16, 16), np.uint8)}
    return SimpleNamespace(
        __name__=segment.__name__,
        Config=segment.Config,
        build=segment.build,
        splits=lambda config: Splits(*(Arrays(arrays, about) for _ in Splits._fields)),
    )


def test_a_network_without_a_backbone_starts_from_its_like_alone():
    fields = {"data": "drawn", "batch_size": 4, "devices": 1}

    def unet(*channels, classes=("ground", "cat")):
        return prepare(masks(classes), segment.Config(channels=channels, **fields))

    def zeros(prepared, classes):
        shapes = prepared.shapes().variables
        variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
        return Weights(variables, classes=classes)

    here = unet(4, 8)
    same = zeros(here, ("ground", "cat"))
    assert fitted(here, same).anew == frozenset()
    other = zeros(unet(4, 8, classes=("ground", "dog", "cow")), ("ground", "dog", "cow"))
    for weights in (other, same._replace(classes=("ground", "dog"))):
        assert fitted(here, weights).anew == of_classes(here) == {"head"}
    for channels in ((4, 16), (4, 8, 16)):
        with pytest.raises(Refused, match="the weights are of another network"):
            fitted(here, zeros(unet(*channels), ("ground", "cat")))


def test_no_weights_are_read_for_a_run_that_goes_on(first):
    asked = config(workdir=first, init_from="gone")
    assert starting_weights(prepare(on("a", "b", "c"), asked), first) is None
