"""Writes torchvision_boxes.npz: overlaps, codes, suppression, anchors, matches and losses.

Needs torch and torchvision, which no test does: `python torchvision_boxes.py`.
"""

import pathlib

import numpy as np
import torch
from torchvision.models.detection import _utils, anchor_utils, image_list
from torchvision.ops import boxes as box_ops
from torchvision.ops import focal_loss, giou_loss

THRESHOLDS = (0.0, 0.3, 1 / 3, 0.5, 0.7, 1.0)
LEVELS = {
    "fpn": (
        (48, 70),
        ((12, 18), (6, 9), (2, 3)),
        ((32,), (64,), (128,)),
        ((0.5, 1.0, 2.0),) * 3,
    ),
    "retina": ((40, 56), ((5, 7), (2, 3)), ((32, 40, 50), (64, 80, 101)), ((0.5, 1.0, 2.0),) * 2),
    "uneven": ((33, 47), ((4, 5), (1, 1)), ((11,), (15.5, 27)), ((0.3, 1.7), (1.0,))),
}
"""Image, maps, sizes and ratios."""


def random_boxes(generator, count, kind):
    """(N, 4) float32: proper, on whole pixels, with many equal, empty, upside down ones."""
    corners = generator.integers(-6, 12, (count, 2))
    size = generator.integers(-1 if kind == "upside down" else 0, 9, (count, 2))
    boxes = np.concatenate([corners, corners + size], 1).astype(np.float32)
    if kind == "real":
        corners = generator.normal(0, 20, (count, 2))
        size = generator.gamma(2, 15, (count, 2))
        boxes = np.concatenate([corners, corners + size], 1).astype(np.float32)
    return boxes


def suppression(generator):
    """Boxes, scores with ties, and what is kept at each threshold, then -1."""
    found = {}
    for kind in ("real", "whole", "upside down"):
        for trial in range(4):
            boxes = random_boxes(generator, 60, kind)
            scores = (generator.integers(0, 12, 60) / 8).astype(np.float32)
            name = f"nms/{kind}/{trial}"
            found[f"{name}/boxes"], found[f"{name}/scores"] = boxes, scores
            table = np.full((len(THRESHOLDS), 60), -1, np.int8)
            for row, threshold in zip(table, THRESHOLDS, strict=True):
                kept = box_ops.nms(torch.tensor(boxes), torch.tensor(scores), threshold).numpy()
                row[: len(kept)] = kept
            found[f"{name}/kept"] = table
    return found


def main():
    """Writes the file beside this script."""
    generator = np.random.default_rng(30)
    found = suppression(generator)
    first, second = (random_boxes(generator, n, "real") for n in (9, 7))
    first[:3] = second[:3]
    a, b = torch.tensor(first), torch.tensor(second)
    found |= {"first": first, "second": second}
    found["iou"] = box_ops.box_iou(a, b).numpy()
    found["giou"] = box_ops.generalized_box_iou(a, b).numpy()
    for name, weights in (("1", (1.0,) * 4), ("10", (10.0, 10.0, 5.0, 5.0))):
        coder = _utils.BoxCoder(weights)
        found[f"encoded/{name}"] = coder.encode_single(b, a[:7]).numpy()
        deltas = generator.normal(0, 6, (7, 4)).astype(np.float32)
        found[f"deltas/{name}"] = deltas
        found[f"decoded/{name}"] = coder.decode_single(torch.tensor(deltas), b).numpy()
    for name, (image, maps, sizes, ratios) in LEVELS.items():
        features = [torch.zeros(1, 1, *size) for size in maps]
        images = image_list.ImageList(torch.zeros(1, 3, *image), [image])
        found[f"anchors/{name}"] = anchor_utils.AnchorGenerator(sizes, ratios)(images, features)[
            0
        ].numpy()
    # Eighths make ties; every object overlaps something.
    overlaps = (generator.integers(0, 9, (5, 24)) / 8).astype(np.float32)
    overlaps[3] = np.minimum(overlaps[3], 0.25)
    overlaps[:, :6] = np.minimum(overlaps[:, :6], 0.125)
    found["overlaps"] = overlaps
    for high, low, best in ((0.75, 0.375, True), (0.5, 0.5, False), (0.5, 0.375, True)):
        matcher = _utils.Matcher(high, low, best)
        found[f"matched/{high}/{low}/{best}"] = matcher(torch.tensor(overlaps)).numpy()
    logits = generator.normal(0, 4, (6, 5)).astype(np.float32)
    target = (generator.random((6, 5)) < 0.3).astype(np.float32)
    found |= {"logits": logits, "target": target}
    x = torch.tensor(logits, requires_grad=True)
    loss = focal_loss.sigmoid_focal_loss(x, torch.tensor(target), reduction="sum")
    loss.backward()
    found |= {"focal": loss.detach().numpy(), "focal/gradient": x.grad.numpy()}
    for beta in (0.0, 1 / 9, 1.0):
        x = torch.tensor(logits, requires_grad=True)
        loss = torch.nn.functional.smooth_l1_loss(
            x, torch.tensor(target), reduction="sum", beta=beta
        )
        loss.backward()
        found |= {
            f"smooth/{beta:.2f}": loss.detach().numpy(),
            f"smooth/{beta:.2f}/gradient": x.grad.numpy(),
        }
    x = torch.tensor(first[:7] + np.float32([0.5, 0.25, 1.5, 0.75]), requires_grad=True)
    loss = giou_loss.generalized_box_iou_loss(x, b, reduction="sum")
    loss.backward()
    found |= {"giou_loss": loss.detach().numpy(), "giou_loss/gradient": x.grad.numpy()}
    np.savez_compressed(pathlib.Path(__file__).with_suffix(".npz"), **found)


if __name__ == "__main__":
    main()
