"""Writes torchvision_preprocess.npz, pictures on their way: `python torchvision_preprocess.py`

Needs torchvision, which no test does. For the picture of each case, "HEIGHTxWIDTH resize crop", as
a PIL image: some values of the crop in uint8, and of what its preset makes of it in float32; both
(crop, crop, 3) at positions that depend on the case.
"""

import pathlib

import numpy as np
from PIL import Image
from torchvision.transforms import functional
from torchvision.transforms._presets import ImageClassification
from torchvision_inputs import picture, sampled

CASES = [
    *((375, 500, 256, 224), (500, 375, 232, 224), (333, 499, 342, 299), (427, 640, 256, 224)),
    # Not resized; enlarged; two centres between pixels; a long side that is no whole number.
    *((256, 300, 256, 224), (50, 64, 256, 224), (97, 102, 96, 91), (101, 103, 90, 77)),
    # Padded on one axis, on both, by odd numbers.
    *((60, 140, 60, 81), (140, 60, 60, 81), (50, 51, 40, 61), (30, 30, 20, 24)),
    *((1, 9, 7, 5), (3, 2, 1, 1)),
]


def main():
    arrays = {}
    for height, width, resize, crop in CASES:
        case = f"{height}x{width} {resize} {crop}"
        image = Image.fromarray(picture(height, width))
        pixels = functional.center_crop(functional.resize(image, [resize]), [crop])
        preset = ImageClassification(crop_size=crop, resize_size=resize)
        ready = preset(image).permute(1, 2, 0).numpy()
        arrays[f"{case}/pixels"] = sampled(case, np.array(pixels), 1000)
        arrays[f"{case}/ready"] = sampled(case, ready, 100)
    file = pathlib.Path(__file__).with_suffix(".npz")
    np.savez_compressed(file, **arrays)
    print(file.name, file.stat().st_size)


if __name__ == "__main__":
    main()
