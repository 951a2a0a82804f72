"""The experiment on detection, trained for some steps on files that the tests make."""

import dataclasses
import json
import re
from functools import partial

import image_files
import jax
import numpy as np
import pytest

import models
from experiments import detect
from experiments.detect import Config, build, recipe
from models.layers.norm import FrozenBatchNorm
from train.data.scene_sets import digit_scenes
from train.data.source import About
from train.data.voc import CLASSES
from train.experiment import refuse_idle
from train.opened import opened
from train.refusal import Refused
from train.seal import flat
from train.sized import fitting
from train.tasks.detection.losses import SAMPLED

ABOUT = About(
    "pets",
    "train",
    ("cat", "dog"),
    mirror=True,
    shape=(32, 32, 3),
    mean=(100.0, 110.0, 120.0),
    std=(50.0, 50.0, 60.0),
)


@pytest.fixture
def pictures(tmp_path):
    """A VOC folder of pictures of two sizes: with two objects, with one, and with none."""
    cat, dog = ("cat", (3, 4, 14, 15), False), ("dog", (9, 9, 20, 24), True)
    for split, names in {"train": "abcdef", "val": "ghij"}.items():
        for i, name in enumerate(names):
            some = [(cat, dog), (cat,), ()][i % 3]
            size = (24, 36) if i % 2 else (30, 20)
            image_files.voc(tmp_path / "VOC2012", [name], some, size=size, split=split)
        listed = tmp_path / "VOC2012" / "ImageSets" / "Main" / f"{split}.txt"
        listed.write_text("\n".join(names))
    return tmp_path / "VOC2012"


def test_a_run_on_pictures_of_many_sizes(pictures, tmp_path):
    fields = {"size": 32, "steps": 4, "batch_size": 4, "evaluate_every": 2, "capacity": 2}
    fields |= {"validation": 0.0, "warmup_steps": 1, "devices": 1, "optimizer": "adamw"}
    path = tmp_path / "run"
    config = Config(data=f"voc:{pictures}", model="yolov3_small", workdir=path, **fields)
    summary = detect.main(config)
    assert summary.scalars["count"] == 4
    assert 0 <= summary.scalars["map50"] <= 1
    # Of the objects that count: the difficult one is none.
    assert sum(curve.positives for curve in summary.tables["curves"]) == 3
    kept = summary.tables["detections"]
    assert [one["size"].tolist() for one in kept] == [[30, 20], [24, 36]] * 2
    for one in kept:
        height, width = one["size"]
        assert (one["boxes"] >= 0).all()
        assert (one["boxes"] <= [width, height, width, height]).all()
    found = json.loads((path / "summary.json").read_text())
    assert found["test/map50"] == pytest.approx(summary.scalars["map50"])
    assert all(name in (path / "report.html").read_text() for name in CLASSES)
    header, *rows = (path / "predictions.csv").read_text().splitlines()
    assert header.endswith("class,score,x0,y0,x1,y1")
    assert len(rows) == sum(len(one["scores"]) for one in kept)
    # What trained reads the run's directory alone.
    (again,) = opened(path).predict([np.zeros((30, 20, 3), np.uint8)])
    assert again.size == (30, 20)
    assert again.boxes.shape == (len(again.scores), 4)


def test_a_set_of_one_class(tmp_path):
    """All labels are 0."""
    for split in ("train", "val"):
        image_files.voc(tmp_path / "VOC", [split], [("owl", (3, 4, 20, 21), False)], split=split)
    fields = {"size": 32, "steps": 2, "batch_size": 1, "evaluate_every": 2, "warmup_steps": 1}
    fields |= {"validation": 0.0, "devices": 1, "classes": "owl", "workdir": tmp_path / "run"}
    summary = detect.main(Config(data=f"voc:{tmp_path / 'VOC'}", **fields))
    assert 0 <= summary.scalars["map50"] <= 1
    assert all((one["labels"] == 0).all() for one in summary.tables["detections"])
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    losses = [one["loss"] for one in map(json.loads, lines) if one["kind"] == "train"]
    assert losses
    assert np.isfinite(losses).all()


@pytest.mark.parametrize("data", ["digit_scenes", "voc:PATH"])
@pytest.mark.parametrize("model", models.names("detection"))
def test_every_model_has_a_recipe_and_a_loss(model, data):
    given = {"steps": 10, "epochs": None, "batch_size": 4, "warmup_steps": 1}
    config = dataclasses.replace(recipe(data, model), **given)
    about = dataclasses.replace(ABOUT, shape=None if data == "voc:PATH" else ABOUT.shape)
    config = dataclasses.replace(config, **config.settled(about, 100, 1))
    side = config.size or ABOUT.shape[0]
    assert fitting(models.create(model, num_classes=3), side) == side
    parts = build(config, about)
    variant = models.variant(model)
    assert parts.network.num_classes == len(ABOUT.classes) + variant.background
    assert set(parts.capacity) == {"boxes"} | ({"proposals"} if variant.proposals else set())
    assert (parts.derived is not None) == variant.proposals
    assert (type(parts.network) in SAMPLED) == variant.background


def test_fast_rcnn_on_a_grid(pictures, tmp_path):
    fields = {"size": 32, "steps": 2, "batch_size": 4, "evaluate_every": 2, "capacity": 2}
    fields |= {"validation": 0.0, "warmup_steps": 1, "devices": 1, "channels": (4, 4, 8, 8)}
    fields |= {"proposals": "grid", "most_proposals": 64, "regions": 8, "examples": 4}
    path = tmp_path / "run"
    config = Config(data=f"voc:{pictures}", model="fastrcnn_resnet18", workdir=path, **fields)
    summary = detect.main(config)
    assert summary.scalars["count"] == 4
    assert 0 < summary.scalars["recall_50"] <= 1
    (found,) = opened(path).predict([np.zeros((30, 20, 3), np.uint8)])
    assert found.size == (30, 20)


def test_too_many_examples_are_refused(pictures):
    with pytest.raises(Refused, match=r"examples=7: there are 6"):
        detect.splits(Config(data=f"voc:{pictures}", examples=7, validation=0.0))


def test_a_set_without_an_object_is_refused(tmp_path):
    for split in ("train", "val"):
        image_files.voc(tmp_path / "VOC", [split], (), size=(20, 30), split=split)
    config = Config(data=f"voc:{tmp_path / 'VOC'}", batch_size=1, validation=0.0, devices=1)
    with pytest.raises(Refused, match=r"VOC': no object to learn in 1 training examples"):
        detect.main(config)


def test_sizes_of_training_each_have_their_turn():
    about = dataclasses.replace(ABOUT, shape=None)
    config = Config(data="voc:PATH", sizes=(32, 64), steps=4, batch_size=2, warmup_steps=1)
    config = dataclasses.replace(config, **config.settled(about, 8, 1))
    assert config.size == 64
    training, testing = build(config, about).host
    assert {training.shape(step) for step in range(20)} == {(32, 32), (64, 64)}
    assert len({training.shape(step) for step in range(10)}) == 1
    assert testing.shapes == ((64, 64),)


def test_pictures_of_many_shapes_come_to_a_size():
    about = dataclasses.replace(ABOUT, shape=None)
    assert recipe("voc:PATH").settled(about, 100, 1)["size"] == detect.SIZE
    assert recipe("voc:PATH", "yolov1").settled(about, 100, 1)["size"] == 448
    assert "size" not in recipe("voc:PATH").settled(ABOUT, 100, 1)
    # Those of one shape that the model does not take come to the next one.
    odd = dataclasses.replace(ABOUT, shape=(24, 100, 3))
    assert recipe("voc:PATH", "yolov3").settled(odd, 100, 1)["size"] == 128
    assert "size" not in recipe("voc:PATH", "fcos_resnet18_fpn").settled(odd, 100, 1)


@pytest.mark.parametrize(
    ("model", "fields", "said"),
    [
        (
            "yolov3",
            {"size": 100},
            "size=100: yolov3 takes multiples of its stride, 32, such as 128",
        ),
        ("yolox_small", {"sizes": (96, 100)}, "sizes=100: .* stride, 8, such as 104"),
        ("yolox_small", {"sizes": (96,), "size": 4}, "size=4: .* such as 8"),
        ("yolov1_small", {"sizes": (32, 64)}, r"sizes=\(32, 64\) .* images of one size"),
        ("yolov1_small", {"sizes": (32,), "size": 64}, r"size=\(64,\): .* images of one size"),
        ("fasterrcnn_vgg16", {"size": 31}, "size=31: .* sizes from 32 on, such as 32"),
    ],
)
def test_sizes_that_the_model_does_not_take_are_refused(model, fields, said):
    about = dataclasses.replace(ABOUT, shape=None)
    config = Config(model=model, batch_size=2, steps=4, warmup_steps=1, **fields)
    config = dataclasses.replace(config, **config.settled(about, 8, 1))
    with pytest.raises(Refused, match=said):
        build(config, about)


def test_a_slower_backbone_and_steps():
    config = Config(steps=8, batch_size=2, warmup_steps=0, optimizer="sgd", schedule="steps")
    slow = dataclasses.replace(config, backbone_rate=0.5)
    params = {"backbone": {"kernel": np.ones((1, 1))}, "head": {"kernel": np.ones((1, 1))}}
    moved = {}
    for name, each in {"all": config, "slow": slow}.items():
        parts = build(each, ABOUT)
        optimizer = parts.optimizer(parts.hyper)
        state, lengths = optimizer.init(params), []
        gradients = jax.tree.map(np.ones_like, params)
        for _ in range(8):
            updates, state = optimizer.update(gradients, state, params)
            lengths.append({k: float(v["kernel"][0, 0]) for k, v in updates.items()})
        moved[name] = lengths
    assert moved["slow"][0]["backbone"] == pytest.approx(moved["all"][0]["backbone"] / 2)
    assert moved["slow"][0]["head"] == moved["all"][0]["head"]
    assert moved["all"][6]["head"] > moved["all"][5]["head"]  # a tenth, although momentum grows


# What papers leave as it is, and the groups of what moves: a step of their descent.
STAGES_1_AND_2 = {f"backbone/stage{stage}_conv{i}" for stage in (1, 2) for i in (1, 2)}
STEM_AND_STAGE_1 = {"backbone/stem", *(f"backbone/stage1_block{i}" for i in (1, 2, 3))}


def paper(model, data="voc:PATH", **fields):
    config = dataclasses.replace(recipe(data, model, "w.safetensors"), **fields)
    return dataclasses.replace(config, **config.settled(ABOUT, 5011, 1))


@pytest.mark.parametrize(
    ("model", "steps", "rate", "frozen"),
    [
        ("rcnn_alexnet", 9_396, 1e-3, set()),
        ("fastrcnn_vgg16", 40_088, 1e-3, STAGES_1_AND_2),
        ("fasterrcnn_vgg16", 80_176, 1e-3, STAGES_1_AND_2),
        ("fasterrcnn_resnet50_fpn", 8_143, 0.02, STEM_AND_STAGE_1),
        ("retinanet_resnet50_fpn", 8_143, 0.01, STEM_AND_STAGE_1),
        ("fcos_resnet50_fpn", 8_143, 0.01, STEM_AND_STAGE_1),
    ],
)
def test_papers_descend_by_groups(model, steps, rate, frozen):
    config = paper(model)
    assert (config.steps, config.learning_rate) == (steps, rate)
    refuse_idle(detect, config, ABOUT)
    parts = build(config, ABOUT)
    image = np.zeros((1, 64, 64, 3), np.float32)
    start = jax.eval_shape(partial(parts.network.init, train=False), jax.random.key(0), image)
    norm = getattr(parts.network.backbone, "norm", None)
    assert (norm is FrozenBatchNorm) == ("resnet50" in model)
    # Of each array two numbers: a kernel's decay, a bias's does not.
    shapes = jax.tree.map(lambda leaf: (2,) + (1,) * (leaf.ndim - 1), start["params"])
    params = jax.tree.map(np.ones, shapes, is_leaf=lambda x: isinstance(x, tuple))
    optimizer = parts.optimizer(parts.hyper)
    gradients = jax.tree.map(np.ones_like, params)
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    warm = 1 / max(config.warmup_steps, 1)
    double = 1 if "resnet50" in model else 2
    still = set()
    for path, update in flat(updates).items():
        name, _, leaf = path.rpartition("/")
        expected = -rate * warm * (1 + config.weight_decay * (leaf == "kernel"))
        if leaf == "bias" and f"{name}/kernel" in flat(params):
            expected *= double
        if model == "rcnn_alexnet" and name == "head":
            expected *= 10
        if not np.any(update):
            still.add("/".join(name.split("/")[:2]))
        else:
            np.testing.assert_allclose(update, expected, rtol=1e-5, err_msg=path)
    assert still == frozen


def test_papers_are_for_trained_weights_alone():
    assert recipe("voc:PATH", "fasterrcnn_vgg16").optimizer == "adamw"
    assert recipe("voc:PATH", "yolov3", "w.weights").learning_rate == 1e-4
    assert recipe("auto", "fasterrcnn_vgg16", "w.pth").optimizer == "muon"  # on scenes


def test_rates_fall_at_the_drops():
    config = Config(
        steps=10, batch_size=2, warmup_steps=0, optimizer="sgd", schedule="steps", momentum=0.0
    )
    parts = build(dataclasses.replace(config, drops=(0.3, 0.5), weight_decay=0.0), ABOUT)
    params = {"kernel": np.ones((1, 1))}
    optimizer = parts.optimizer(parts.hyper)
    state, lengths = optimizer.init(params), []
    for _ in range(6):
        updates, state = optimizer.update(params, state, params)
        lengths.append(-float(updates["kernel"][0, 0]) / config.learning_rate)
    assert lengths == pytest.approx([1, 1, 1, 0.1, 0.1, 0.01])


@pytest.mark.parametrize(
    ("model", "given", "found"),
    [
        ("yolov3_small", (1, 2, 3, 4), (((1, 2), (3, 4)),)),
        ("yolov3_tiny", (1, 2, 3, 4), (((1, 2),), ((3, 4),))),
    ],
)
def test_anchors_of_ones_own(model, given, found):
    config = Config(model=model, anchors=given, steps=4, batch_size=2, warmup_steps=0)
    assert build(config, ABOUT).network.anchors == found


@pytest.mark.parametrize(
    ("model", "anchors", "said"),
    [
        ("yolov3_tiny", (1, 2), "must be pairs, as many on each of 2"),
        ("yolov3_small", (1, 2, 3), "must be pairs, as many on each of 1"),
        ("yolov3_small", (1, 0), "must be pairs of sizes above 0"),
        ("yolov3_small", (1, np.inf), "must be pairs of sizes above 0"),
        ("yolox_small", (1, 2), "yolox_small takes none"),
    ],
)
def test_anchors_that_do_not_fit_are_refused(model, anchors, said):
    config = Config(model=model, anchors=anchors, steps=4, batch_size=2, warmup_steps=0)
    with pytest.raises(Refused, match=rf"anchors=\({anchors[0]}, .*{said}"):
        build(config, ABOUT)


def test_the_small_anchors_are_clusters_of_the_scenes_boxes():
    """A fixed point of k-means with IoU (Redmon & Farhadi 2017, section 2), but for rounding."""
    scenes = digit_scenes("train")
    boxes = np.concatenate([scenes.truth(i)["boxes"] for i in range(1000)])
    sizes = boxes[:, 2:] - boxes[:, :2]
    (anchors,) = np.array(models.create("yolov3_small", num_classes=10).anchors)
    both = np.minimum(sizes[:, None], anchors).prod(-1)
    overlap = both / (sizes.prod(-1)[:, None] + anchors.prod(-1) - both)
    nearest = overlap.argmax(1)
    means = [sizes[nearest == row].mean(0) for row in range(3)]
    np.testing.assert_allclose(anchors, means, atol=0.7)
    assert overlap.max(1).mean() > 0.8


def test_a_frozen_norm_needs_a_norm():
    config = Config(model="fastrcnn_vgg16", steps=4, batch_size=2, frozen_norm=True)
    with pytest.raises(Refused, match="frozen_norm=True: fastrcnn_vgg16 has no BatchNorm"):
        build(config, ABOUT)


def test_a_rate_of_the_head_needs_a_head():
    fields = {"steps": 4, "batch_size": 2, "warmup_steps": 0, "head_rate": 10.0}
    with pytest.raises(Refused, match=r"head_rate=10\.0: yolox_small has no layers under 'head'"):
        build(Config(**fields), ABOUT)
    assert build(Config(model="retinanet_resnet18_fpn", **fields), ABOUT).network


def test_frozen_norms_are_built():
    parts = build(Config(steps=4, batch_size=2, warmup_steps=0, frozen_norm=True), ABOUT)
    assert parts.network.norm is FrozenBatchNorm


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"model": "resnet18"}, "experiments/classify.py trains it"),
        ({"model": "yolo"}, "model='yolo'"),
        ({"zoom": 0.5}, "zoom=0.5"),
        ({"sizes": (32, 32)}, "sizes="),
        ({"capacity": 0}, "capacity=0"),
        ({"optimizer": "adam"}, "optimizer='adam'"),
        ({"schedule": "line"}, "schedule='line'"),
        ({"drops": (0.5, 0.5)}, "drops=(0.5, 0.5) must ascend between 0 and 1"),
        ({"drops": (0.5, 1.0)}, "drops="),
        ({"bias_rate": -1}, "bias_rate=-1"),
        ({"regions": 3}, "regions=3: of fewer than 4 none is of an object"),
    ],
)
def test_refusals(fields, said):
    with pytest.raises(Refused, match=re.escape(said)):
        Config(**fields)


def test_what_has_no_effect_is_refused():
    config = dataclasses.replace(recipe(), momentum=0.5)
    with pytest.raises(Refused, match=r"momentum=0\.5 has no effect: muon has its own"):
        refuse_idle(detect, config, ABOUT)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"regions": 9}, "yolox_small has no box head"),
        ({"most_proposals": 9}, "yolox_small reads no proposals"),
        ({"drops": (0.5,)}, "schedule='cosine' has none"),
        ({"norm_epsilon": 1e-4}, "yolox_small has its own"),
    ],
)
def test_what_only_other_models_read_is_refused(fields, why):
    with pytest.raises(Refused, match=why):
        refuse_idle(detect, dataclasses.replace(recipe(), **fields), ABOUT)


def test_data_without_classes_are_refused():
    with pytest.raises(Refused, match="names no classes"):
        build(Config(), dataclasses.replace(ABOUT, classes=()))


def test_boxes_move_with_the_image():
    config = Config(move=0.25, zoom=1.5, colour=0.0, dark_ground=False, mirror="yes")
    transform = build(config, ABOUT).transform
    image = np.zeros((1, 32, 32, 3), np.uint8)
    image[0, 10:20, 12:24] = 255
    batch = {
        "image": image,
        "boxes": np.array([[[12, 10, 24, 20]]], np.float32),
        "box_valid": np.ones((1, 1), bool),
        "box_label": np.zeros((1, 1), np.int32),
        "matrix": np.eye(3, dtype=np.float32)[None],
    }
    for seed in range(3):
        out = transform(jax.random.key(seed), batch)
        y, x = np.nonzero(np.asarray(out["image"])[0, ..., 0] > 180)
        x0, y0, x1, y1 = np.asarray(out["boxes"])[0, 0]
        assert np.abs([x0 - x.min(), y0 - y.min(), x1 - x.max() - 1, y1 - y.max() - 1]).max() < 1.5
