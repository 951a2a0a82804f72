"""Darknet's files: the same outputs as OpenCV's DNN module; and what is refused, by its layer."""

import struct

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from models.detection.yolo_v3 import TINY_ANCHORS, TINY_ANCHORS_OF_WEIGHTS, decode
from models.pretrained.darknet import fields_of, from_darknet

# The anchors of yolov3.cfg and yolov3-tiny.cfg.
NINE = "10,13,  16,30,  33,23,  30,61,  62,45,  59,119,  116,90,  156,198,  373,326"
SIX = "10,14,  23,27,  37,58,  81,82,  135,169,  344,319"
# A YOLOv3 of an eighth or less of the width, and some blocks less.
NARROW = {
    "stages": (1, 1, 2, 1, 1),
    "channels": (4, 8, 12, 16, 24),
    "stem_features": 4,
    "widths": (4, 6, 8),
}


def conv(filters, size, stride=1, last=False):
    norm = "" if last else "batch_normalize=1\n"
    act = "linear" if last else "leaky"
    return (
        f"[convolutional]\n{norm}filters={filters}\nsize={size}\nstride={stride}\npad=1\n"
        f"activation={act}\n"
    )


def yolo(mask, anchors, classes):
    num = len(anchors.split(",")) // 2
    return f"[yolo]\nmask={mask}\nanchors={anchors}\nclasses={classes}\nnum={num}\n"


NET = "# comment\n[net]\nbatch=1\nwidth={}\nheight=64\nchannels=3\n\n"


def cfg_v3(side, classes, stages, channels, stem_features, widths):
    """The sections of yolov3.cfg, of any width and depth."""
    text = [NET.format(side), conv(stem_features, 3)]
    ends = []
    for blocks, features in zip(stages, channels, strict=True):
        text.append(conv(features, 3, 2))
        for _ in range(blocks):
            text += [conv(features // 2, 1), conv(features, 3)]
            text.append("[shortcut]\nfrom=-3\nactivation=linear\n")
        ends.append(len(text) - 2)
    out = 3 * (5 + classes)
    for level, mask in ((2, "6,7,8"), (1, "3,4,5"), (0, "0,1,2")):
        width = widths[level]
        if level < 2:
            text += ["[route]\nlayers = -4\n", conv(width, 1), "[upsample]\nstride=2\n"]
            text.append(f"[route]\nlayers = -1, {ends[level + 2]}\n")
        for _ in range(2):
            text += [conv(width, 1), conv(2 * width, 3)]
        text += [conv(width, 1), conv(2 * width, 3), conv(out, 1, last=True)]
        text.append(yolo(mask, NINE, classes))
    return "\n".join(text)


def cfg_tiny(side, classes, mask="0,1,2"):
    """yolov3-tiny.cfg."""
    pool = "[maxpool]\nsize=2\nstride={}\n"
    text = [NET.format(side)]
    for features in (16, 32, 64, 128, 256, 512):
        text += [conv(features, 3), pool.format(1 if features == 512 else 2)]
    out = 3 * (5 + classes)
    text += [conv(1024, 3), conv(256, 1), conv(512, 3), conv(out, 1, last=True)]
    text += [yolo("3,4,5", SIX, classes), "[route]\nlayers = -4\n", conv(128, 1)]
    text += ["[upsample]\nstride=2\n", "[route]\nlayers = -1, 8\n", conv(256, 3)]
    text += [conv(out, 1, last=True), yolo(mask, SIX, classes)]
    return "\n".join(text)


def weights(cfg, header):
    """Seeded numbers for the convolutions of a cfg: none 0 or 1, and no output out of range."""
    draw = np.random.default_rng(0)
    numbers, outputs = [], []
    for section in cfg.split("[")[1:]:
        kind, _, body = section.partition("]")
        options = dict(line.split("=") for line in body.split("\n") if "=" in line)
        options = {key.strip(): value.strip() for key, value in options.items()}
        if kind == "net":
            continue
        if kind == "convolutional":
            n, size = int(options["filters"]), int(options["size"])
            inputs = outputs[-1] if outputs else 3
            fan = inputs * size**2
            each = [draw.normal(0, 0.3, n)]
            if "batch_normalize" in options:
                each += [draw.uniform(0.7, 1.3, n), draw.normal(0, 0.3, n)]
                each += [draw.uniform(0.5, 1.5, n)]
            numbers += [*each, draw.normal(0, (1 / fan) ** 0.5, n * fan)]
            outputs.append(n)
        elif kind == "route":
            at = [int(one) for one in options["layers"].split(",")]
            outputs.append(sum(outputs[one] for one in at))
        else:
            outputs.append(outputs[-1])
    return header + np.concatenate(numbers).astype("<f4").tobytes()


NEW, OLD = struct.pack("<iiiq", 0, 2, 5, 32013312), struct.pack("<iiii", 0, 1, 0, 1000)


def opencv(cfg, file, image):
    """The maps before each [yolo], the finest first, (1, anchors * each, h, w); and its rows."""
    net = cv2.dnn.readNetFromDarknet(str(cfg), str(file))
    net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
    heads = net.getUnconnectedOutLayersNames()
    maps = [f"conv_{int(name.rpartition('_')[2]) - 1}" for name in heads]
    net.setInput(image.transpose(0, 3, 1, 2))
    found = net.forward([*maps, *heads])
    return found[: len(maps)][::-1], found[len(maps) :][::-1]


def written(folder, text, header=NEW):
    cfg, file = folder / "net.cfg", folder / "net.weights"
    cfg.write_text(text)
    file.write_bytes(weights(text, header))
    return cfg, file


@pytest.mark.parametrize(
    ("name", "fields", "header"),
    [("yolov3", NARROW, OLD), ("yolov3_tiny", {}, NEW)],
    ids=["yolov3", "yolov3_tiny"],
)
def test_outputs_are_opencvs(name, fields, header, tmp_path):
    classes = 4
    text = cfg_v3(96, classes, **NARROW) if name == "yolov3" else cfg_tiny(96, classes, "1,2,3")
    cfg, file = written(tmp_path, text, header)
    image = np.random.default_rng(1).random((1, 64, 96, 3), np.float32)
    maps, rows = opencv(cfg, file, image)

    fields = fields_of(name, cfg, **fields)
    assert fields["num_classes"] == classes
    if name == "yolov3_tiny":
        assert fields["anchors"] == TINY_ANCHORS_OF_WEIGHTS != TINY_ANCHORS
    network = models.create(name, **fields)
    variables = from_darknet(name, file, cfg=cfg, **fields)
    outputs = jax.jit(lambda v, x: network.apply(v, x, train=False))(variables, image)
    for output, theirs in zip(outputs, maps, strict=True):
        _, height, width, anchors, each = output.shape
        theirs = theirs.reshape(anchors, each, height, width).transpose(2, 3, 0, 1)
        assert theirs.std() > 0.2
        np.testing.assert_allclose(output[0], theirs, atol=2e-5)

    # OpenCV: centre and size by the image's, objectness, and classes where above a threshold.
    boxes, scores = decode(outputs, network.strides, network.anchors)
    rows = np.concatenate(rows)
    size = np.array([[96, 64]], np.float32)
    centre, half = rows[:, :2] * size, rows[:, 2:4] * size / 2
    np.testing.assert_allclose(
        boxes[0], np.concatenate([centre - half, centre + half], axis=1), rtol=1e-4, atol=1e-3
    )
    said = rows[:, 5:] > 0
    assert said.mean() > 0.2
    np.testing.assert_allclose(scores[0][said], rows[:, 5:][said], rtol=1e-4)
    assert float(jnp.max(scores[0][~said], initial=0)) <= 0.2


def test_a_cfg_says_anchors_and_classes_of_its_own(tmp_path):
    cfg = tmp_path / "own.cfg"
    cfg.write_text(cfg_tiny(64, 7).replace(SIX, "1.5,2, 3,4, 5,6, 7,8, 9,10, 11,12"))
    fields = fields_of("yolov3_tiny", cfg)
    assert fields["num_classes"] == 7
    assert fields["anchors"] == (((1.5, 2), (3, 4), (5, 6)), ((7, 8), (9, 10), (11, 12)))
    with pytest.raises(ValueError, match=r"num_classes=80, but .*own.cfg says 7"):
        fields_of("yolov3_tiny", cfg, num_classes=80)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("classes=4\n", "classes=4\nscale_x_y = 1.05\n", r"section 16 \[yolo\]: scale_x_y=1.05"),
        ("classes=4\n", "classes=4\nnew_coords=1\n", r"section 16 \[yolo\]: new_coords=1"),
        ("filters=32\n", "filters=48\n", r"section 2 \[convolutional\]: filters=48, expected 32"),
        ("filters=32\n", "groups=2\nfilters=32\n", r"section 2 .*: groups=2 is not supported"),
        ("leaky", "mish", r"section 0 \[convolutional\]: activation=mish, expected leaky"),
        ("-1, 8", "-1, 6", r"section 20 \[route\]: layers=\(19, 6\), expected \(19, 8\)"),
        ("mask=3,4,5", "mask=3,4,6", r"section 16 \[yolo\]: mask=\[3, 4, 6\] of 6 anchors"),
        ("[upsample]", "[reorg]", r"section 19 \[reorg\]: expected \[upsample\]"),
        ("[net]", "[crop]", r"a cfg begins with \[net\], not with \[crop\]"),
        ("num=6", "num=9", r"section 16 \[yolo\]: num=9, but 6 anchors"),
        ("channels=3", "channels=1", r"\[net\]: channels=1, expected 3"),
        ("stride=2", "stride=two", r"section 1 \[maxpool\]: stride=two is no whole number"),
        ("pad=1", "pad", r"line \d+ is none of a cfg: 'pad'"),
        ("classes=4", "classes=5", r"section 15 \[convolutional\]: filters=27, expected 30"),
    ],
)
def test_a_cfg_of_another_network_is_refused_at_its_section(old, new, said, tmp_path):
    text = cfg_tiny(64, 4)
    assert old in text
    (tmp_path / "net.cfg").write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=said):
        fields_of("yolov3_tiny", tmp_path / "net.cfg")


def test_more_and_less_sections_are_refused(tmp_path):
    cfg = tmp_path / "net.cfg"
    text = cfg_tiny(64, 4)
    cfg.write_text(text[: text.rindex("[yolo]")])
    with pytest.raises(ValueError, match="23 sections, expected 24"):
        fields_of("yolov3_tiny", cfg)
    cfg.write_text(text + "[yolo]\nanchors=1,2\nclasses=4\n")
    with pytest.raises(ValueError, match="25 sections, expected 24"):
        fields_of("yolov3_tiny", cfg)
    cfg.write_text("")
    with pytest.raises(ValueError, match="no sections"):
        fields_of("yolov3_tiny", cfg)


FIELDS = {"num_classes": 4} | NARROW


@pytest.fixture(scope="module")
def whole():
    return weights(cfg_v3(64, 4, **NARROW), NEW)


def test_numbers_that_are_missing_are_said_of_their_layer(whole, tmp_path):
    file = tmp_path / "cut.weights"
    # stem: 4 * 4 + 4 * 27 numbers; then stage1_down: 4 * 4 + 4 * 36.
    file.write_bytes(whole[: 20 + 4 * (124 + 150)])
    said = r"cut.weights: layer 1 \(backbone/stage1_down\): 10 of its 160 numbers are missing: 274"
    with pytest.raises(ValueError, match=said):
        from_darknet("yolov3", file, **FIELDS)
    file.write_bytes(whole[:-4])
    with pytest.raises(ValueError, match=r"\(head1_output\): 1 of its 243 numbers are missing"):
        from_darknet("yolov3", file, **FIELDS)
    file.write_bytes(whole[:-2])
    with pytest.raises(ValueError, match="ends within a number"):
        from_darknet("yolov3", file, **FIELDS)
    file.write_bytes(whole[:18])
    with pytest.raises(ValueError, match="18 bytes are no header of Darknet's, 20 bytes"):
        from_darknet("yolov3", file, **FIELDS)
    with pytest.raises(FileNotFoundError, match="no such file"):
        from_darknet("yolov3", tmp_path / "none.weights", **FIELDS)


def test_numbers_that_are_left_are_counted(whole, tmp_path):
    file = tmp_path / "more.weights"
    file.write_bytes(whole + bytes(12))
    with pytest.raises(ValueError, match=r"3 numbers are left behind layer \d+ \(head1_output\)"):
        from_darknet("yolov3", file, **FIELDS)
    file.write_bytes(whole)
    with pytest.raises(ValueError, match="they would fit num_classes=4"):
        from_darknet("yolov3", file, **FIELDS | {"num_classes": 3})


def test_other_networks_are_not_darknets(tmp_path):
    with pytest.raises(ValueError, match="name='resnet18': Darknet's weights are read for yolov3"):
        from_darknet("resnet18", tmp_path / "any.weights")
