"""Writes torchvision_detection_picture.npz: pictures as torchvision's detectors are given them.

Needs torch and torchvision, which no test does: `python torchvision_detection_picture.py`.
"""

import pathlib

import numpy as np
import torch
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision_inputs import picture, sampled

CASES = {
    "40x60 37x91 90x33": (64, 100, 32),
    "64x64": (64, 100, 32),
    "50x61 61x50": (47, 1333, 16),
    "20x300": (800, 333, 32),
    "97x131 30x31": (50, 51, 7),
    "123x77": (800, 1333, 32),
}
"""Heights and widths of a batch, to the shorter side, the longer at most, and the divisor."""
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
BOXES = [[0, 0, 10, 20], [3.25, 7.5, 30.125, 11]]


def main():
    """Writes the file beside this script."""
    out = {}
    for name, (least, most, divisor) in CASES.items():
        sizes = [tuple(map(int, size.split("x"))) for size in name.split()]
        given = [torch.from_numpy(picture(*size)).permute(2, 0, 1) / 255 for size in sizes]
        change = GeneralizedRCNNTransform(least, most, MEAN, STD, divisor).eval()
        images, _ = change(given)
        image = images.tensors.permute(0, 2, 3, 1).numpy()
        out[f"{name}/shape"] = np.array(image.shape)
        out[f"{name}/image"] = sampled(name, image, 600)
        out[f"{name}/sizes"] = np.array([tuple(size) for size in images.image_sizes])
        found = [{"boxes": torch.tensor(BOXES)} for _ in sizes]
        back = change.postprocess(found, images.image_sizes, sizes)
        out[f"{name}/boxes"] = np.stack([one["boxes"].numpy() for one in back])
        out[f"{name}/how"] = np.array([least, most, divisor])
    out["boxes"] = np.array(BOXES, np.float32)
    np.savez_compressed(pathlib.Path(__file__).with_suffix(".npz"), **out)


if __name__ == "__main__":
    main()
