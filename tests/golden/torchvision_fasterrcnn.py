"""Writes torchvision_NAME.npz of Faster R-CNN: `python torchvision_fasterrcnn.py`

Needs torchvision, which no test does. Weights and images are those of torchvision_inputs.py, the
arithmetic is float64. Some weights are scaled (`factors`), so that scores are well apart: what is
selected must not hang on the last digits, which is asserted. A file of a network holds:

- shapes, factors: JSON, by torchvision's name of a tensor
- sizes: JSON, height and width of each image; they are padded with zeros, right and below, to the
  largest rounded up to a multiple of 32
- objectness, deltas, logits, box_deltas: SAMPLES values of each head's output, (B, A) or (B, R, …),
  and NAME/scale, the largest magnitude. The box head's are of ROIS.
- proposals, proposals/counts; boxes, scores, labels, counts: (N, …) of all images one after another
- epsilon/NAME (of the first file): objectness and logits with BatchNorm's epsilon at 0 and at 1e-5,
  where a third of all variances are 1e-4 of what they were, and scales a hundredth

torchvision_fasterrcnn_parts.npz holds what `filter_proposals`, `postprocess_detections` and the
losses make of drawn outputs on a pyramid of GRIDS, of images 96x128: see `parts`.
"""

import contextlib
import json
import pathlib
import sys

import numpy as np
import torch
import torchvision
from torchvision.models.detection import _utils
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import fastrcnn_loss
from torchvision.ops.misc import FrozenBatchNorm2d
from torchvision_inputs import drawn, images, sampled, spaced, weights

CLASSES = 5
SIZES = [(96, 128), (64, 100), (90, 70)]
TOP = {"rpn_pre_nms_top_n_test": 16, "rpn_post_nms_top_n_test": 20}
NAMES = {
    "fasterrcnn_resnet50_fpn": {
        "inner_blocks": 5e-4,
        "rpn.head.cls_logits.weight": 0.4,
        "rpn.head.bbox_pred": 0.1,
        "box_predictor.cls_score.weight": 0.4,
    },
    "fasterrcnn_resnet50_fpn_v2": {
        **{f"inner_blocks.{level}.0.weight": 6e-4 for level in range(4)},
        "rpn.head.cls_logits.weight": 0.3,
        "box_predictor.cls_score.weight": 0.4,
        "rpn.head.bbox_pred": 0.1,
    },
}
"""Name -> what weights are scaled by, by a part of the tensor's name."""
ROIS = [[0, 0, 20, 30], [10.5, 3.25, 60, 90], [-5, 20, 127, 95], [40, 40, 41, 42]]
ROIS += [[70, 8, 120, 50], [30, 60, 30, 60]]


def build(name, norm=None):
    """A network of torchvision in float64, its weights, and what they were scaled by."""
    fields = {"weights": None, "weights_backbone": None, "num_classes": CLASSES, **TOP}
    network = torchvision.models.get_model(name, **fields)
    if norm is not None:
        body = torchvision.models.resnet50(norm_layer=norm)
        extract = torchvision.models.detection.backbone_utils._resnet_fpn_extractor
        network.backbone = extract(body, 5)
    network = network.double().eval()
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    state = weights(shapes)
    factors = {k: f for k in shapes for part, f in NAMES[name].items() if part in k}
    for key, factor in factors.items():
        state[key] = state[key] * np.float32(factor)
    load(network, state)
    # Images come as they are: the transform has goldens of its own.
    network.transform.resize = lambda image, target: (image, target)
    network.transform.normalize = lambda image: image
    return network, state, {"shapes": shapes, "factors": factors}


def load(network, state):
    network.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})


def margins(boxes, scores, labels, nms, threshold):
    """How far apart at least scores, a score and its threshold, an IoU and its threshold are."""
    order = scores.sort(descending=True).values
    gap = (order[:-1] - order[1:]).min().item() if len(order) > 1 else 1.0
    iou = torchvision.ops.box_iou(boxes, boxes)
    same = (labels[:, None] == labels[None]) & ~torch.eye(len(labels), dtype=torch.bool)
    near = (iou[same] - nms).abs().nan_to_num(1.0).min().item() if same.any() else 1.0
    off = (scores - threshold).abs().min().item() if len(scores) else 1.0
    return gap, off, near


@contextlib.contextmanager
def watched():
    """Yields a list of the margins of what goes into NMS, image by image."""
    before = []
    nms = torchvision.ops.boxes.batched_nms

    def spy(boxes, scores, labels, threshold):
        before.append(margins(boxes, scores, labels, threshold, 0.05 if threshold == 0.5 else -1))
        return torchvision.ops.boxes._batched_nms_vanilla(boxes, scores, labels, threshold)

    torchvision.ops.boxes.batched_nms = spy
    try:
        yield before
    finally:
        torchvision.ops.boxes.batched_nms = nms


def joined(found):
    """Detections of several images as arrays."""
    keys = ("boxes", "scores", "labels")
    arrays = {key: np.concatenate([one[key].numpy() for one in found]) for key in keys}
    return arrays | {"counts": np.array([len(one["boxes"]) for one in found])}


def flat(levels, size):
    """(B, A * size, h, w) of each level -> (B, all, size)."""
    return torch.cat(
        [
            torch.movedim(one.unflatten(1, (-1, size)), (3, 4), (1, 2)).flatten(1, 3)
            for one in levels
        ],
        1,
    )


def network_golden(name):
    network, state, known = build(name)
    x = [torch.from_numpy(images((1, 3, *size))[0]).double() for size in SIZES]
    kept = {}
    network.rpn.head.register_forward_hook(lambda *args: kept.update(rpn=args[-1]))
    network.rpn.register_forward_hook(lambda *args: kept.update(proposals=args[-1][0]))
    network.backbone.register_forward_hook(lambda *args: kept.update(maps=args[-1]))
    with torch.no_grad(), watched() as margin:
        found = network(x)
        rois = [torch.tensor(ROIS).double()] * len(x)
        regions = network.roi_heads.box_roi_pool(kept["maps"], rois, SIZES)
        logits, deltas = network.roi_heads.box_predictor(network.roi_heads.box_head(regions))
    outputs = {
        "objectness": flat(kept["rpn"][0], 1)[..., 0],
        "deltas": flat(kept["rpn"][1], 4),
        "logits": logits.reshape(len(x), len(ROIS), CLASSES),
        "box_deltas": deltas.reshape(len(x), len(ROIS), CLASSES, 4),
    }
    arrays = {key: np.array(json.dumps(value)) for key, value in known.items()}
    arrays["sizes"] = np.array(json.dumps(SIZES))
    arrays["rois"] = np.array(ROIS, np.float32)
    for key, value in outputs.items():
        print(key, tuple(value.shape), value.mean().item(), value.std().item())
        arrays[key] = sampled(key, value.numpy()).astype(np.float32)
        arrays[f"{key}/scale"] = np.float32(value.abs().max())
    arrays["proposals"] = np.concatenate([one.numpy() for one in kept["proposals"]])
    arrays["proposals/counts"] = np.array([len(one) for one in kept["proposals"]])
    levels = outputs["objectness"].split([3 * h * w for h, w in GRIDS], 1)
    best = [one.topk(min(TOP["rpn_pre_nms_top_n_test"] + 1, one.shape[1])).values for one in levels]
    edges = [(one[:, -2] - one[:, -1]).min().item() for one in best[:-1]]
    detections = joined(found)
    print("edges", edges)
    print(name, detections["counts"], arrays["proposals/counts"])
    print(*margin, sep="\n")
    print(np.round(detections["scores"], 3).tolist())
    assert min(edges) > 1e-3
    assert np.min(margin) > 2e-5
    arrays |= detections
    if name == "fasterrcnn_resnet50_fpn":
        arrays |= epsilons(name, state)
    assert name != "fasterrcnn_resnet50_fpn_v2" or min(detections["counts"]) > 5
    write(name, arrays)


def epsilons(name, state):
    """Of the weights that torchvision publishes, whose BatchNorm is frozen, in small variances."""
    network, *_ = build(name, norm=FrozenBatchNorm2d)
    state = {k: v for k, v in small_variances(state).items() if "num_batches" not in k}
    load(network, state)
    kept = {}
    network.rpn.head.register_forward_hook(lambda *args: kept.update(rpn=args[-1]))
    x = [torch.from_numpy(images((1, 3, *SIZES[0]))[0]).double()]
    arrays = {}
    for epsilon in (0.0, 1e-5):
        _utils.overwrite_eps(network, epsilon)
        with torch.no_grad():
            network(x)
        value = flat(kept["rpn"][0], 1)[..., 0]
        arrays[f"epsilon/{epsilon:g}"] = sampled("objectness", value.numpy()).astype(np.float32)
        arrays[f"epsilon/{epsilon:g}/scale"] = np.float32(value.abs().max())
    error = np.abs(arrays["epsilon/0"] - arrays["epsilon/1e-05"]).max()
    print("epsilon", error / arrays["epsilon/0/scale"])
    return arrays


def small_variances(state):
    """Every third channel of the backbone's BatchNorm varies a hundredth as much, and so scales."""
    state = {key: value.copy() for key, value in state.items()}
    for key in state:
        if key.endswith("running_var") and "backbone.body" in key:
            state[key][::3] *= np.float32(1e-4)
            state[key.replace("running_var", "weight")][::3] *= np.float32(1e-2)
    return state


GRIDS = [(24, 32), (12, 16), (6, 8), (3, 4), (2, 2)]
IMAGE = (96, 128)
EXTENTS = [(96, 128), (64, 100)]
PARTS_TOP = {"training": 150, "testing": 80}
BOXES = [
    [[5, 6, 90, 80], [20, 10, 43, 52], [60.5, 30.25, 124, 92]],
    [[40, 20, 45, 27]],
    [],
]
LABELS = [[1, 4, 2], [2], []]
REGIONS = 40


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
    """Proposals, detections and losses of drawn outputs.

    - proposals/MODE, proposals/MODE/scores, proposals/MODE/counts: of two pictures of EXTENTS, the
      best 150 (training) or 80 (testing) of each level before and as many in all after NMS, scores
      at least 0.1
    - boxes, scores, labels, counts: detections of these pictures in drawn regions
    - truth/…: objects of three images, classes from 1; loss/…: of all anchors, or of all regions
      and the objects' own boxes
    """
    network, *_ = build("fasterrcnn_resnet50_fpn")
    rpn, heads = network.rpn, network.roi_heads
    rows = [3 * height * width for height, width in GRIDS]
    objectness = torch.from_numpy(spaced("objectness", (3, sum(rows)), -6, 3)).double()
    deltas = torch.from_numpy(0.3 * drawn("deltas", (3, sum(rows), 4))).double()
    batch = ImageList(torch.zeros(3, 3, *IMAGE).double(), [IMAGE] * 3)
    maps = [torch.zeros(3, 1, *grid).double() for grid in GRIDS]
    anchors = rpn.anchor_generator(batch, maps)
    decoded = rpn.box_coder.decode(deltas.flatten(0, 1), anchors).view(3, -1, 4)
    arrays = {}
    rpn.score_thresh = 0.1
    rpn._pre_nms_top_n = rpn._post_nms_top_n = PARTS_TOP
    for mode in PARTS_TOP:
        rpn.train(mode == "training")
        with watched() as margin:
            boxes, scores = rpn.filter_proposals(decoded[:2], objectness[:2], EXTENTS, rows)
        print(mode, [len(one) for one in boxes], margin)
        assert np.min(margin) > 2e-6
        arrays[f"proposals/{mode}"] = torch.cat(boxes).numpy()
        arrays[f"proposals/{mode}/scores"] = torch.cat(scores).numpy()
        arrays[f"proposals/{mode}/counts"] = np.array([len(one) for one in boxes])

    regions, logits, box_deltas = (torch.from_numpy(one).double() for one in drawn_regions(2))
    with watched() as margin:
        found = heads.postprocess_detections(
            logits.flatten(0, 1), box_deltas.flatten(0, 1).flatten(1), [*regions], EXTENTS
        )
    detections = joined(
        [
            dict(zip(("boxes", "scores", "labels"), one, strict=True))
            for one in zip(*found, strict=True)
        ]
    )
    print(detections["counts"], margin)
    assert np.min(margin) > 2e-6
    arrays |= detections

    arrays["truth/boxes"] = np.zeros((3, 3, 4), np.float32)
    arrays["truth/labels"] = np.zeros((3, 3), np.int32)
    arrays["truth/counts"] = np.array([len(boxes) for boxes in BOXES], np.int32)
    for n, (boxes, labels) in enumerate(zip(BOXES, LABELS, strict=True)):
        arrays["truth/boxes"][n, : len(boxes)] = np.reshape(boxes, (-1, 4))
        arrays["truth/labels"][n, : len(boxes)] = labels
    everyone = _utils.BalancedPositiveNegativeSampler(10**6, 0.5)
    rpn.fg_bg_sampler = heads.fg_bg_sampler = everyone
    labels, matched = rpn.assign_targets_to_anchors(anchors, targets())
    assert all((one == -1).any() for one in labels[:1])
    print([(one == 1).sum().item() for one in labels])
    wanted = rpn.box_coder.encode(matched, anchors)
    losses = rpn.compute_loss(objectness.flatten()[:, None], deltas.flatten(0, 1), labels, wanted)
    arrays["loss/rpn_objectness"], arrays["loss/rpn_boxes"] = (one.numpy() for one in losses)

    regions, logits, box_deltas = (torch.from_numpy(one).double() for one in drawn_regions(3))
    _, _, labels, wanted = heads.select_training_samples([*regions], targets())
    counts = [REGIONS + len(boxes) for boxes in BOXES]
    print([(one > 0).sum().item() for one in labels], [len(one) for one in labels])
    rows = [one[:n] for one, n in zip(logits, counts, strict=True)]
    moves = [one[:n] for one, n in zip(box_deltas, counts, strict=True)]
    losses = fastrcnn_loss(torch.cat(rows), torch.cat(moves).flatten(1), labels, wanted)
    arrays["loss/classes"], arrays["loss/boxes"] = (one.numpy() for one in losses)
    write("fasterrcnn_parts", arrays)


def drawn_regions(count):
    """Regions of `count` images, (count, 40, 4), and outputs for them and for three more each."""
    corner = 40 * np.abs(drawn("corner", (count, REGIONS, 2)))
    regions = np.concatenate([corner, corner + 8 + 30 * np.abs(drawn("far", corner.shape))], -1)
    # Near the objects too.
    regions[0, :8] = np.array(BOXES[0])[[0, 1, 2, 0, 1, 2, 0, 1]] + 2 * drawn("near", (8, 4))
    logits = spaced("logits", (count, REGIONS + 3, CLASSES), -2, 3)
    deltas = drawn("box_deltas", (count, REGIONS + 3, CLASSES, 4))
    if count == 2:
        logits, deltas = logits[:, :REGIONS], deltas[:, :REGIONS]
    return np.float32(regions), logits, deltas


def write(name, arrays):
    small = {"f": np.float32, "i": np.int32}
    arrays = {
        key: value.astype(small.get(value.dtype.kind, value.dtype)) for key, value in arrays.items()
    }
    file = pathlib.Path(__file__).with_name(f"torchvision_{name}.npz")
    np.savez_compressed(file, **arrays)
    print(file.name, file.stat().st_size)


if __name__ == "__main__":
    parts()
    for each in sys.argv[1:] or NAMES:
        network_golden(each)
