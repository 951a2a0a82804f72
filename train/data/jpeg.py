"""JPEG by the fastest decoder installed, where its pixels are those of Pillow to the bit."""

import numpy as np
from PIL import Image, JpegImagePlugin

from train.data.upright import turn

try:
    import simplejpeg
except ImportError:  # the extra svertka[fast]
    simplejpeg = None

DECODER = "Pillow" if simplejpeg is None else "simplejpeg"
"""Who decodes plain JPEGs."""


def pixels(image: Image.Image, data: bytes) -> np.ndarray | None:
    """(H, W, 3) uint8 of a plain, upright colour JPEG; None for all else, which Pillow decodes.

    Both are libjpeg-turbo with its exact transform, so which of them is installed changes no pixel;
    simplejpeg leaves out Pillow's copies. What it refuses, Pillow judges.

    Args:
        image: opened by Pillow, not loaded.
        data: the whole file.
    """
    plain = type(image) is JpegImagePlugin.JpegImageFile and image.mode == "RGB"
    if simplejpeg is None or not plain or turn(image) is not None:
        return None
    try:
        return simplejpeg.decode_jpeg(data, colorspace="RGB")
    except ValueError:
        return None
