"""Files that a run starts from: with and without a head, of detectors, of Darknet; the refusals."""

import json
import os
import struct
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from experiments import classify, detect
from models.detection.yolo_v3 import TINY_ANCHORS_OF_WEIGHTS
from models.layers.norm import FrozenBatchNorm
from models.pretrained import coco, darknet, published, torchvision
from train import workdir
from train.data.arrays import Arrays
from train.data.named import Splits
from train.data.source import About
from train.finetune import begun
from train.prepared import prepare
from train.refusal import Refused
from train.seal import flat
from train.weight_files import DARKNET, IMAGENET, of_file, statistics_of_file
from train.weights import fitted, statistics_of


@pytest.fixture(scope="module")
def resnet18():
    """torchvision's tensors of ResNet-18, each of one number, no two of the same."""
    found = enumerate(torchvision.tensors("resnet18", 10).values(), 1)
    return {t.name: np.full(t.shape, number / 1024, np.float32) for number, t in found}


def test_a_file_without_a_head_leaves_it_out_and_says_so(resnet18, tmp_path):
    names = {f"module.{k}": v for k, v in resnet18.items() if not k.startswith("fc.")}
    save_file(
        names | {"projector.0.weight": np.zeros((3, 3), np.float32)}, tmp_path / "w.safetensors"
    )
    found = of_file("resnet18", str(tmp_path / "w.safetensors"))
    assert {*found.variables["params"]} == {"backbone"}
    kernel = found.variables["params"]["backbone"]["stem"]["conv"]["kernel"]
    assert kernel.ravel()[0] == resnet18["conv1.weight"].ravel()[0]
    assert "which have no head" in found.said[0]
    assert found.said[1] == "Passed over: 1 tensors there that no layer of resnet18 has."
    assert found.origin == {"file": str(tmp_path / "w.safetensors")}


def test_a_file_with_a_head_is_taken_whole(resnet18, tmp_path, monkeypatch):
    save_file(resnet18, tmp_path / "w.safetensors")
    monkeypatch.chdir(tmp_path)
    found = of_file("resnet18", "w.safetensors")
    assert {*found.variables["params"]} == {"backbone", "head"}
    assert found.said == ["Starts from the weights in w.safetensors."]
    assert found.origin == {"file": os.path.abspath("w.safetensors")}
    assert statistics_of("resnet18", "w.safetensors") == IMAGENET
    with pytest.raises(Refused) as caught:
        of_file("vgg16", "w.safetensors")
    head = "init_from='w.safetensors': 128 tensor(s) do not fit vgg16: 26 missing, 102 unexpected"
    assert str(caught.value).startswith(head)
    assert str(caught.value).count("\n") < 10


@pytest.mark.parametrize("model", ["deeplabv3_resnet18", "resnet18"])
def test_a_backbone_alone_serves_classifier_and_segmenter(resnet18, tmp_path, model):
    names = {f"backbone.{k}": v for k, v in resnet18.items() if not k.startswith("fc.")}
    save_file(names, tmp_path / "w.safetensors")
    assert {*of_file(model, str(tmp_path / "w.safetensors")).variables["params"]} == {"backbone"}


def test_vgg_without_its_dense_layers_is_a_backbone_for_an_fcn(tmp_path):
    tensors = torchvision.tensors("vgg16", 10).values()
    names = {
        t.name: np.zeros(t.shape, np.float32) for t in tensors if t.name.startswith("features")
    }
    save_file(names, tmp_path / "w.safetensors")
    for model in ("fcn8s", "vgg16"):
        assert {*of_file(model, str(tmp_path / "w.safetensors")).variables["params"]} == {
            "backbone"
        }


# --- detectors ---------------------------------------------------------------------------------

COCO_V1 = "fasterrcnn_resnet50_fpn_coco-258fb6c6.safetensors"
EPSILON_0 = "As these published weights want it: norm_epsilon=0.0, frozen_norm=True."


def shapes(golden, name):
    """torchvision's tensors of a detector of 91 classes."""
    found = json.loads(str(golden("detection_names")[name]))
    return {key: shape for key, shape in found.items() if not key.endswith("num_batches_tracked")}


def on(*classes, size=64, channels=3):
    """Detection of these classes in images with one box each."""
    images = np.random.default_rng(0).integers(0, 256, (4, size, size, channels), np.uint8)
    arrays = {
        "image": images,
        "boxes": [np.array([[2, 3, 20, 30]], np.float32)] * 4,
        "box_label": [np.zeros(1, np.int32)] * 4,
    }
    about = About("drawn", "train", classes, mirror=False, shape=images.shape[1:])
    return SimpleNamespace(
        __name__=detect.__name__,
        Config=detect.Config,
        build=detect.build,
        splits=lambda config: Splits(*(Arrays(arrays, about) for _ in Splits._fields)),
    )


def config(model, path, **fields):
    """A new run's recipe, as its `config.json` keeps it."""
    short = {"steps": 1, "warmup_steps": 0, "batch_size": 2, "devices": 1, "ema": 0.0}
    given = detect.Config(data="drawn", model=model, init_from=str(path), **short | fields)
    return given.remembering(None)


def started(config, *classes, **how):
    """The first state, zeros where nothing was taken over, and what was said."""
    prepared = prepare(on(*classes, **how), config)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), prepared.shapes())
    return prepared, *begun(zeros, fitted(prepared, prepared.parts.weights()))


@pytest.fixture(scope="module")
def coco_v1(golden, tmp_path_factory):
    """Weights of `fasterrcnn_resnet50_fpn` under the name of the published ones."""
    path = tmp_path_factory.mktemp("coco") / COCO_V1
    found = enumerate(shapes(golden, "fasterrcnn_resnet50_fpn").items(), 1)
    save_file({key: np.full(shape, i / 1024, np.float16) for i, (key, shape) in found}, path)
    return path


def test_a_detector_starts_from_a_detector_with_other_classes(coco_v1):
    prepared, state, said = started(config("fasterrcnn_resnet50_fpn", coco_v1), "cat", "unicorn")
    assert said == [
        f"Starts from the weights in {coco_v1}.",
        EPSILON_0,
        "Starts anew, being of another shape or absent: roi_head/deltas, roi_head/logits.",
    ]
    values = {path: np.asarray(leaf).ravel()[0] for path, leaf in flat(state.variables).items()}
    assert {path for path, value in values.items() if not value} == {
        f"params/roi_head/{layer}/{leaf}"
        for layer in ("deltas", "logits")
        for leaf in ("bias", "kernel")
    }
    # torchvision's normalisation of images, and its epsilon of this file.
    x = prepared.parts.task.inputs({"image": np.full((1, 32, 32, 3), 100, np.uint8)})
    expected = (100 / 255 - np.array([0.485, 0.456, 0.406])) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(x.image[0, 0, 0], expected, rtol=1e-5)
    norm = prepared.parts.network.backbone.norm()
    assert isinstance(norm, FrozenBatchNorm)
    variables = {
        "params": {"scale": jnp.ones(1), "bias": jnp.zeros(1)},
        "batch_stats": {"mean": jnp.zeros(1), "var": jnp.full(1, 1e-6)},
    }
    found = norm.apply(variables, jnp.full((1, 1, 1, 1), 2.0), train=False)
    np.testing.assert_allclose(found, 2000, rtol=1e-5)  # 603 with the usual epsilon


def test_readers_of_the_run_know_the_epsilon_without_the_file(coco_v1, tmp_path):
    kept = config("fasterrcnn_resnet50_fpn", coco_v1)
    workdir.write_config(tmp_path, detect.__name__, kept)
    coco_v1.rename(tmp_path / "moved")
    try:
        again = workdir.read_config(tmp_path, detect.__name__, detect.Config)
        assert (again.norm_epsilon, again.frozen_norm) == (0.0, True)
        asked = detect.Config(data="drawn", model=kept.model, init_from=str(coco_v1))
        assert asked.remembering(again).norm_epsilon == 0.0  # of a run that goes on
    finally:
        (tmp_path / "moved").rename(coco_v1)


def test_a_run_on_the_same_backbone_hands_the_epsilon_on(coco_v1, tmp_path):
    workdir.write_config(tmp_path, detect.__name__, config("fasterrcnn_resnet50_fpn", coco_v1))
    about = About("drawn", "train", ("cat",), False, (64, 64, 3), (1.0,) * 3, (1.0,) * 3)
    workdir.write(tmp_path / workdir.ABOUT, about)
    found = config("fcos_resnet50_fpn", tmp_path)
    assert (found.norm_epsilon, found.frozen_norm) == (0.0, True)
    with pytest.raises(Refused, match=r"want norm_epsilon=0\.0, which no recipe of resnet50 has"):
        classify.Config(data="drawn", model="resnet50", init_from=str(tmp_path)).remembering(None)


def test_published_weights_are_known_by_name_or_contents(tmp_path, monkeypatch):
    name = "fasterrcnn_resnet50_fpn"
    assert published.of_file("x/fasterrcnn_resnet50_fpn_coco-258fb6c6.pth") == (name, "COCO_V1")
    assert published.of_file("retinanet_resnet50_fpn_coco-eeacb38b.safetensors")[1] == "COCO_V1"
    assert published.of_file("fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth") is None
    (tmp_path / "mine.pth").write_bytes(b"abc")
    assert published.of_file(tmp_path / "mine.pth") is None
    # SHA-256 of "abc": FIPS 180-2, appendix B.1.
    monkeypatch.setitem(published.WITHOUT_EPSILON, "ba7816bf", (name, "COCO_V1"))
    assert published.of_file(tmp_path / "mine.pth") == (name, "COCO_V1")


def test_a_field_that_is_given_is_not_changed(coco_v1):
    model = "fasterrcnn_resnet50_fpn"
    assert config(model, coco_v1, norm_epsilon=1e-5, frozen_norm=True).norm_epsilon == 1e-5
    with pytest.raises(Refused, match=r"norm_epsilon=0\.0 needs frozen_norm=True"):
        detect.Config(norm_epsilon=0.0)
    plain = coco_v1.parent / "plain.safetensors"
    plain.symlink_to(coco_v1)
    found = config(model, plain)
    assert (found.norm_epsilon, found.frozen_norm) == (None, False)


FIVE = (
    *("fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2", "retinanet_resnet50_fpn"),
    *("retinanet_resnet50_fpn_v2", "fcos_resnet50_fpn"),
)


@pytest.mark.parametrize("theirs", FIVE)
def test_weights_of_another_detector_are_refused_by_name(golden, theirs, tmp_path):
    path = str(tmp_path / "w.safetensors")
    names = shapes(golden, theirs)
    # As the earlier, published files of the first RetinaNet have its towers.
    earlier = {key.replace("conv.0.0.", "conv.0."): key for key in names}
    for keys in (names, *([earlier] if theirs == "retinanet_resnet50_fpn" else [])):
        save_file({key: np.zeros(1, np.float32) for key in keys}, path)
        for model in FIVE:
            said = f"init_from='{path}': the weights are of {theirs}, not of {model}"
            if model == theirs:
                said = rf"do not fit {model}: \d+ misshapen"
            with pytest.raises(Refused, match=f"{said}($|\n)"):
                of_file(model, path)


def test_a_detectors_file_is_a_backbone_for_others(golden, tmp_path):
    """Of another detector on the same backbone, or a classifier: what is theirs is left."""
    path = str(tmp_path / "w.safetensors")
    tensors = torchvision.tensors("resnet18", 10).values()
    body = {
        f"backbone.body.{t.name}": np.full(t.shape, 0.5, np.float32)
        for t in tensors
        if not t.name.startswith("fc.")
    }
    save_file(body | {"backbone.fpn.inner_blocks.0.0.bias": np.zeros(3, np.float32)}, path)
    for model in ("fasterrcnn_resnet18_fpn", "resnet18"):
        found = of_file(model, path)
        assert {*found.variables["params"]} == {"backbone"}
        assert "no head" in found.said[0]


def test_a_classifiers_dense_layers_read_regions(tmp_path, monkeypatch):
    """VGG's, but for its head; in a file without them the backbone alone."""
    names = {t.name: t.shape for t in torchvision.tensors("vgg16", 10).values()}
    small = {name: (1,) * len(shape) for name, shape in names.items()}

    def from_torchvision(name, found, whole):
        assert (name, whole, {*found}) == ("vgg16", False, {*small})
        parts = {"hidden1": {"bias": 1}, "hidden2": {"bias": 2}, "head": {"bias": 3}}
        return {"params": {"backbone": {"bias": 0}, **parts}}

    monkeypatch.setattr(torchvision, "from_torchvision", from_torchvision)
    path = str(tmp_path / "vgg16.safetensors")
    save_file({name: np.zeros(shape, np.float32) for name, shape in small.items()}, path)
    for model in ("fastrcnn_vgg16", "fasterrcnn_vgg16"):
        assert of_file(model, path).variables["params"] == {
            "backbone": {"bias": 0},
            "roi_head": {"hidden1": {"bias": 1}, "hidden2": {"bias": 2}},
        }


# --- Darknet -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Seeded numbers as yolov3-tiny.weights has them: 8,858,734, and its header."""
    path = tmp_path_factory.mktemp("darknet") / "yolov3-tiny.weights"
    numbers = np.random.default_rng(0).random(8_858_734, np.float32)
    path.write_bytes(struct.pack("<iiiq", 0, 2, 0, 32013312) + numbers.astype("<f4").tobytes())
    return path


def test_yolo_starts_from_darknets_weights(tiny):
    kept = config("yolov3_tiny", tiny, dark_ground=False)
    prepared, state, said = started(kept, "a", "b")
    assert said == [
        f"Starts from Darknet's weights in {tiny}.",
        "As these published weights want it: anchors=23,27,37,58,81,82,81,82,135,169,344,319.",
        "Starts anew, being of another shape or absent: head1_output, head2_output.",
    ]
    assert prepared.parts.network.anchors == TINY_ANCHORS_OF_WEIGHTS
    theirs = flat(darknet.from_darknet("yolov3_tiny", tiny))
    for path, leaf in flat(state.variables).items():
        if "_output" not in path:
            np.testing.assert_array_equal(leaf, theirs[path], err_msg=path)
    pixels = np.array([0, 51, 255], np.uint8).reshape(1, 1, 1, 3)
    x = prepared.parts.task.inputs({"image": np.broadcast_to(pixels, (1, 32, 32, 3))})
    np.testing.assert_allclose(x.image[0, 0, 0], [0, 0.2, 1])


def test_of_cocos_classes_darknets_head_is_kept(tiny):
    kept = config("yolov3_tiny", tiny)
    last = np.fromfile(tiny, "<f4", offset=20)[-256 * 255 :].reshape(3, 85, 256)
    every = coco.CLASSES
    for classes, rows in ((every, range(80)), (("dog", "motorbike"), (16, 3))):
        _, state, said = started(kept, *classes, channels=1)  # grey images are given thrice
        line = f"COCO has all {len(classes)} classes: the head's outputs for them are taken over."
        assert said[2] == line
        assert len(said) == 3
        kernel = np.asarray(state.params["head1_output"]["kernel"])[0, 0].T
        wanted = [*range(5), *(5 + row for row in rows)]
        np.testing.assert_array_equal(kernel, last[:, wanted].reshape(-1, 256))


def test_eighty_other_classes_start_anew(tiny):
    _, _, said = started(config("yolov3_tiny", tiny), *(f"class{i}" for i in range(80)))
    assert said[2:] == ["Starts anew, being of other classes: head1_output, head2_output."]


def test_a_darknet_file_may_end_behind_the_backbone(tiny, tmp_path):
    """As darknet53.conv.74 and yolov3-tiny.conv.15 do; the latter with the neck's first layer."""
    backbone = sum(
        leaf.size
        for path, leaf in flat(darknet.from_darknet("yolov3_tiny", tiny)).items()
        if "/backbone/" in path
    )
    neck = backbone + 4 * 256 + 1024 * 256
    for count, parts in ((backbone, {"backbone"}), (neck, {"backbone", "neck"})):
        path = tmp_path / f"tiny{count}.conv.15"
        path.write_bytes(tiny.read_bytes()[: 20 + 4 * count])
        found = of_file("yolov3_tiny", str(path))
        assert {*found.variables["params"]} == parts
        assert statistics_of("yolov3_tiny", str(path)) == DARKNET
    path.write_bytes(tiny.read_bytes()[: 20 + 4 * (backbone - 1)])
    with pytest.raises(Refused, match=r"layer 12 \(backbone/conv7\): 1 of its .* are missing"):
        of_file("yolov3_tiny", str(path))
    path.write_bytes(tiny.read_bytes()[: 20 + 4 * (backbone + 1)])
    with pytest.raises(Refused, match=r"numbers are missing"):
        of_file("yolov3_tiny", str(path))


def test_darknets_files_are_for_its_networks(tiny):
    said = f"init_from='{tiny}': Darknet's weights are read for yolov3 and yolov3_tiny, not for "
    for model in ("yolox_small", "resnet18", "fasterrcnn_resnet50_fpn"):
        with pytest.raises(Refused, match=f"^{said}{model}$"):
            of_file(model, str(tiny))
    with pytest.raises(Refused, match=r"numbers are missing: .* expected 62,001,757 with"):
        of_file("yolov3", str(tiny))
    with pytest.raises(Refused, match=r"no weights of yolov3, but Darknet's, \*\.weights, are"):
        of_file("yolov3", "w.pth")


def test_the_name_of_a_file_says_how_images_are_normalised():
    for path in ("yolov3.weights", "x/YOLOV3.WEIGHTS", "darknet53.conv.74"):
        assert statistics_of_file(path) == DARKNET
    for path in ("w.pth", "w.safetensors", "weights"):
        assert statistics_of_file(path) == IMAGENET
