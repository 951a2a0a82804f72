"""Writes torchvision_NAME.npz of RetinaNet and FCOS: `python torchvision_dense.py`

Needs torchvision, which no test does. Weights and images are those of torchvision_inputs.py, the
arithmetic is float64. Some weights are scaled and some biases set (`factors`, `values`), so that
detections are few and their scores well apart: a selection must not hang on the last digits, which
is asserted. A file of a network holds:

- shapes, factors, values: JSON, by torchvision's name of a tensor
- sizes: JSON, height and width of each image; they are padded with zeros, right and below, to the
  largest rounded up to a multiple of 32
- OUTPUT: SAMPLES values of each output of the head, (B, A, n), and OUTPUT/scale, the largest
  magnitude
- boxes, scores, labels: (N, …) of all images one after another; counts (B,)

torchvision_dense_parts.npz holds what `postprocess_detections` and `compute_loss` make of drawn
outputs of a head on a pyramid of GRIDS, of images 64x96:

- NETWORK/boxes, …: detections, as above, of two pictures of EXTENTS in them
- truth/boxes (3, 3, 4), truth/labels (3, 3), truth/counts (3,): objects of three images
- retinanet/classes (3,), retinanet/boxes/HOW (3,): losses of each image alone, boxes compared by
  l1, smooth_l1 or giou; retinanet/positives (3,), its anchors that have an object
- fcos/TERM/one, fcos/TERM/all: losses of the first image and of the three; fcos/matched (3, A), the
  object of each point or -1
"""

import contextlib
import json
import pathlib

import numpy as np
import torch
import torchvision
from torchvision.models.detection.image_list import ImageList
from torchvision_inputs import drawn, images, sampled, spaced, weights

CLASSES = 5
NAMES = {
    "retinanet_resnet50_fpn": (
        [(96, 128), (90, 128), (96, 110)],
        {"inner_blocks": 1e-4, "classification_head.cls_logits.weight": 5.0, "bbox_reg.": 0.3},
        {"cls_logits.bias": -15.25},
    ),
    "retinanet_resnet50_fpn_v2": (
        [(96, 128), (64, 100), (90, 70)],
        {"classification_head.cls_logits.weight": 3.25, "bbox_reg.": 0.3},
        {"cls_logits.bias": -12.25},
    ),
    "fcos_resnet50_fpn": (
        [(96, 128), (64, 100), (90, 70)],
        {"classification_head.cls_logits.weight": 3.5},
        {"cls_logits.bias": -8.25},
    ),
}
"""Name -> sizes of the images, what weights are scaled by, what biases are set to, by a part of the
tensor's name."""


def build(name):
    """A network of torchvision in float64, its weights, and what was done to them."""
    fields = {"weights": None, "weights_backbone": None, "num_classes": CLASSES}
    network = torchvision.models.get_model(name, **fields).double().eval()
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    state = weights(shapes)
    factors, values = (
        {key: n for key in shapes for part, n in given.items() if part in key}
        for given in NAMES[name][1:]
    )
    for key, factor in factors.items():
        state[key] = state[key] * np.float32(factor)
    for key, value in values.items():
        state[key] = np.full_like(state[key], value)
    network.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    # Images come as they are: the transform has goldens of its own.
    network.transform.resize = lambda image, target: (image, target)
    network.transform.normalize = lambda image: image
    return network, {"shapes": shapes, "factors": factors, "values": values}


def margins(scores, threshold, boxes, labels, nms):
    """How far apart two scores are at least, a score and its threshold, an IoU and its threshold.

    Of the boxes before NMS, each a row.
    """
    order = scores.sort(descending=True).values
    gap = (order[:-1] - order[1:]).min().item() if len(order) > 1 else 1.0
    iou = torchvision.ops.box_iou(boxes, boxes)
    same = (labels[:, None] == labels[None]) & ~torch.eye(len(labels), dtype=torch.bool)
    # Of two empty boxes there is none: such a pair is kept.
    near = (iou[same] - nms).abs().nan_to_num(1.0).min().item() if same.any() else 1.0
    off = (scores - threshold).abs().min().item() if len(scores) else 1.0
    return gap, off, near


@contextlib.contextmanager
def watched(network):
    """Yields a list of the margins of what goes into NMS, image by image."""
    before = []
    nms = torchvision.ops.boxes.batched_nms

    def spy(boxes, scores, labels, threshold):
        before.append(margins(scores, network.score_thresh, boxes, labels, threshold))
        return nms(boxes, scores, labels, threshold)

    torchvision.ops.boxes.batched_nms = spy
    try:
        yield before
    finally:
        torchvision.ops.boxes.batched_nms = nms


def joined(found):
    """Detections of several images as arrays."""
    arrays = {
        key: np.concatenate([one[key].numpy() for one in found])
        for key in ("boxes", "scores", "labels")
    }
    return arrays | {"counts": np.array([len(one["boxes"]) for one in found])}


GRIDS = [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)]
IMAGE = (64, 96)
EXTENTS = [(64, 96), (50, 70)]
BOXES = [
    [[5, 6, 60, 50], [20, 10, 33, 22], [60.5, 30.25, 94, 62]],
    [[40, 20, 45, 27]],
    [],
]
LABELS = [[1, 4, 0], [2], []]


def head_outputs(kind, count):
    """Drawn outputs of a head for `count` images, by torchvision's names."""
    rows = sum(height * width for height, width in GRIDS) * (9 if kind == "retinanet" else 1)
    outputs = {
        "cls_logits": spaced(f"{kind}/logits", (count, rows, CLASSES), -8, 3),
        "bbox_regression": 0.5 * drawn(f"{kind}/boxes", (count, rows, 4)),
    }
    if kind == "fcos":
        outputs["bbox_regression"] = np.abs(5 * outputs["bbox_regression"])
        outputs["bbox_ctrness"] = drawn("fcos/centreness", (count, rows, 1))
    return {key: torch.from_numpy(np.float64(value)) for key, value in outputs.items()}


def targets():
    """BOXES and LABELS as torchvision takes them."""
    return [
        {
            "boxes": torch.tensor(boxes).double().reshape(-1, 4),
            "labels": torch.tensor(labels).long(),
        }
        for boxes, labels in zip(BOXES, LABELS, strict=True)
    ]


def parts():
    """Detections and losses of drawn outputs."""
    arrays = {
        "truth/boxes": np.zeros((3, 3, 4), np.float32),
        "truth/labels": np.zeros((3, 3), np.int32),
        "truth/counts": np.array([len(boxes) for boxes in BOXES], np.int32),
    }
    for n, (boxes, labels) in enumerate(zip(BOXES, LABELS, strict=True)):
        arrays["truth/boxes"][n, : len(boxes)] = np.reshape(boxes, (-1, 4))
        arrays["truth/labels"][n, : len(boxes)] = labels
    for kind, losses in (("retinanet", retinanet_losses), ("fcos", fcos_losses)):
        network, _ = build(f"{kind}_resnet50_fpn")
        batch = ImageList(torch.zeros(3, 3, *IMAGE).double(), [IMAGE] * 3)
        anchors = network.anchor_generator(batch, [torch.zeros(3, 1, *g).double() for g in GRIDS])
        each = 9 if kind == "retinanet" else 1
        counts = [height * width * each for height, width in GRIDS]
        split = {k: list(v.split(counts, 1)) for k, v in head_outputs(kind, 2).items()}
        with watched(network) as margin:
            found = network.postprocess_detections(
                split, [list(one.split(counts)) for one in anchors[:2]], EXTENTS
            )
        known = joined(found) | losses(network, head_outputs(kind, 3), anchors, counts)
        print(kind, known["counts"], np.min(margin, 0))
        assert np.min(margin) > 5e-6
        arrays |= {f"{kind}/{key}": value for key, value in known.items()}
    small = {"f": np.float32, "i": np.int32}
    return {key: value.astype(small[value.dtype.kind]) for key, value in arrays.items()}


def retinanet_losses(network, outputs, anchors, counts):
    """Of each image alone."""
    images = [{k: v[n : n + 1] for k, v in outputs.items()} for n in range(3)]
    found = {}
    for compared in ("l1", "smooth_l1", "giou"):
        network.head.regression_head._loss_type = compared
        losses = [
            network.compute_loss([target], one, [its])
            for target, one, its in zip(targets(), images, anchors, strict=True)
        ]
        found[f"boxes/{compared}"] = np.array([loss["bbox_regression"].item() for loss in losses])
        found["classes"] = np.array([loss["classification"].item() for loss in losses])
    matched = [
        network.proposal_matcher(torchvision.ops.box_iou(target["boxes"], its))
        for target, its in zip(targets()[:2], anchors, strict=False)
    ]
    assert any((one == -2).any() for one in matched)
    found["positives"] = np.array([(one >= 0).sum().item() for one in matched] + [0])
    return found


def fcos_losses(network, outputs, anchors, counts):
    """Of the first image, and of all three."""
    found = {}
    compute = network.head.compute_loss

    def keep(targets, outputs, anchors, matched):
        found["matched"] = torch.stack(matched).numpy()
        return compute(targets, outputs, anchors, matched)

    network.head.compute_loss = keep
    names = {"classification": "classes", "bbox_regression": "boxes", "bbox_ctrness": "centreness"}
    for case, count in (("one", 1), ("all", 3)):
        some = {k: v[:count] for k, v in outputs.items()}
        losses = network.compute_loss(targets()[:count], some, anchors[:count], counts)
        found |= {f"{names[key]}/{case}": value.numpy() for key, value in losses.items()}
    assert set(np.unique(found["matched"])) == {-1, 0, 1, 2}
    return found


def main():
    for name, (sizes, *_) in NAMES.items():
        network, known = build(name)
        x = [torch.from_numpy(images((1, 3, *size))[0]).double() for size in sizes]
        outputs = {}
        network.head.register_forward_hook(lambda *args, kept=outputs: kept.update(args[-1]))
        with torch.no_grad(), watched(network) as margin:
            found = network(x)
        arrays = {key: np.array(json.dumps(value)) for key, value in known.items()}
        arrays["sizes"] = np.array(json.dumps(sizes))
        for key, value in outputs.items():
            print(key, tuple(value.shape), value.mean().item(), value.std().item())
            arrays[key] = sampled(key, value.numpy()).astype(np.float32)
            arrays[f"{key}/scale"] = np.float32(value.abs().max())
        detections = joined(found)
        print(name, detections["counts"], np.min(margin, 0), detections["scores"])
        assert np.min(margin) > 3e-4
        for key, value in detections.items():
            small = np.int32 if key in ("labels", "counts") else np.float32
            arrays[key] = value.astype(small)
        write(name, arrays)
    write("dense_parts", parts())


def write(name, arrays):
    file = pathlib.Path(__file__).with_name(f"torchvision_{name}.npz")
    np.savez_compressed(file, **arrays)
    print(file.name, file.stat().st_size)


if __name__ == "__main__":
    main()
