"""Writes torchvision_crops.npz: pictures, and what torchvision cuts of them to be tested.

Needs torch and torchvision, which no test does: `python torchvision_crops.py`.
"""

import pathlib

import numpy as np
from PIL import Image
from torchvision import transforms

SIZES = ((60, 40), (37, 91), (20, 20), (9, 33), (70, 45))
"""Heights and widths; some smaller than what is asked, which is 28 of 32."""


def picture(height, width):
    """(H, W, 3) uint8: waves, so that a shift by a fraction of a pixel shows."""
    y, x = np.mgrid[:height, :width][..., None]
    return np.uint8(np.sin(0.31 * x + np.arange(3)) * np.cos(0.23 * y) * 100 + 128)


def main():
    """Writes the file beside this script: "picture/HxW" and "cut/HxW"."""
    cut = transforms.Compose([transforms.Resize(32), transforms.CenterCrop(28)])
    found = {}
    for height, width in SIZES:
        name = f"{height}x{width}"
        found[f"picture/{name}"] = picture(height, width)
        found[f"cut/{name}"] = np.asarray(cut(Image.fromarray(found[f"picture/{name}"])))
    np.savez_compressed(pathlib.Path(__file__).with_suffix(".npz"), **found)


if __name__ == "__main__":
    main()
