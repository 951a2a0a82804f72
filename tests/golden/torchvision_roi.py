"""Writes torchvision_roi.npz: RoI pooling and RoIAlign, their values and gradients, by torchvision.

Needs torch and torchvision, which no test does: `python torchvision_roi.py`.
"""

import pathlib

import numpy as np
import torch
from torchvision import ops
from torchvision.ops.poolers import LevelMapper
from torchvision_inputs import drawn

SIZES = ((13, 17), (7, 9), (4, 5))
"""Height and width of maps at strides 4, 8, 16 of an image of 52x68."""
SIZE = 3
"""Bins along each axis."""


def regions():
    """(2, R, 4) float32 of an image of 52x68: random, and by hand."""
    corners = (drawn("corners", (2, 24, 4)) + 2) / 4 * np.float32([68, 52, 68, 52])
    pairs = np.split(corners, 2, -1)
    random = np.concatenate([np.minimum(*pairs), np.maximum(*pairs)], -1)
    hand = [
        [0, 0, 68, 52],  # the whole image
        [-40, -30, 120, 90],  # beyond it on all sides
        [-100, -100, -50, -50],  # outside
        [200, 100, 240, 160],
        [-4, -4, 8, 8],  # from a pixel of the map outside
        [60, 44, 68, 52],  # up to the last corner
        [64, 48, 72, 56],
        [10, 10, 10, 10],  # a point
        [10, 10, 10, 30],  # a line
        [30, 30, 10, 10],  # both axes turned
        [30, 10, 10, 30],  # one axis turned
        [2, 6, 10, 14],  # halves once divided by 4
        [-2, -6, 6, 10],
        [0.3, 0.7, 1.1, 1.3],
        [5.5, 3.25, 47.3, 19.9],
        [0, 0, 0, 0],
    ]
    return np.concatenate([random, np.broadcast_to(np.float32(hand), (2, len(hand), 4))], 1)


def made(function, maps, cotangent):
    """Values (B, R, s, s, C) and gradients (B, H, W, C) of a function of torch's maps."""
    maps = [torch.from_numpy(one).permute(0, 3, 1, 2).requires_grad_() for one in maps]
    found = function(maps)
    size = found.shape[-1]
    cotangent = torch.from_numpy(cotangent).reshape(-1, size, size, found.shape[1])
    found.backward(cotangent.permute(0, 3, 1, 2))
    values = found.detach().permute(0, 2, 3, 1).numpy()
    return values, [one.grad.permute(0, 2, 3, 1).numpy() for one in maps]


def main():
    """Writes the file beside this script."""
    boxes = regions()
    rois = [torch.from_numpy(each) for each in boxes]
    maps = [drawn(f"map{h}", (2, h, w, 2)) for h, w in SIZES]
    tied = np.maximum(np.round(2 * maps[0]), 0)
    cotangent = drawn("cotangent", (2, boxes.shape[1], SIZE, SIZE, 2))
    functions = {
        "pool": (lambda m: ops.roi_pool(m[0], rois, SIZE, 0.25), [maps[0]]),
        "pool_tied": (lambda m: ops.roi_pool(m[0], rois, SIZE, 0.25), [tied]),
        "align": (lambda m: ops.roi_align(m[0], rois, SIZE, 0.25, 2), [maps[0]]),
        "align_one": (lambda m: ops.roi_align(m[0], rois, SIZE, 0.25, 1), [maps[0]]),
        "align_aligned": (lambda m: ops.roi_align(m[0], rois, SIZE, 0.25, 3, True), [maps[0]]),
        "multiscale": (multiscale(rois), maps),
    }
    out = {"rois": boxes}
    for name, (function, given) in functions.items():
        values, gradients = made(function, given, cotangent)
        out[f"{name}/values"] = values.reshape(cotangent.shape)
        for number, gradient in enumerate(gradients):
            out[f"{name}/gradient{number}"] = gradient
    # Areas about the steps from level to level, some bits to each side, at the usual settings.
    steps = np.float32([(224 * 2.0 ** (k - 4)) ** 2 for k in (3, 4, 5)])
    areas = (steps.view(np.int32)[:, None] + np.arange(-60, 61, 3)).reshape(-1).view(np.float32)
    areas = areas.astype(np.float32)
    # A region of height 1 and width `area` has that area exactly.
    flat = torch.from_numpy(np.stack([0 * areas, 0 * areas, areas, 0 * areas + 1], -1))
    out["levels/areas"], out["levels/levels"] = areas, LevelMapper(2, 5)([flat]).numpy()
    np.savez_compressed(pathlib.Path(__file__).with_suffix(".npz"), **out)


def multiscale(rois):
    """torchvision's pooler on maps of strides 4, 8, 16, all of whose levels get some regions."""
    names = ("0", "1", "2")
    pooler = ops.MultiScaleRoIAlign(names, SIZE, 2, canonical_scale=20, canonical_level=3)
    return lambda maps: pooler(dict(zip(names, maps, strict=True)), rois, [(52, 68)] * 2)


if __name__ == "__main__":
    main()
