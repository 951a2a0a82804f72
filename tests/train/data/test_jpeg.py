"""The fast JPEG decoder: the pixels of Pillow, and nothing that Pillow would refuse."""

import io
import itertools

import numpy as np
import pytest
from image_files import ORIENTATION
from PIL import Image
from sklearn.datasets import load_sample_images

from train.data import jpeg
from train.data.decode import decode

pytest.importorskip("simplejpeg")


def written(size=(33, 47), mode="RGB", **how):
    picture = load_sample_images().images[0][: size[0], : size[1]]
    file = io.BytesIO()
    Image.fromarray(picture).convert(mode).save(file, "JPEG", **how)
    return file.getvalue()


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (33, 47), (101, 3), (375, 500)])
def test_pixels_are_those_of_pillow(size):
    for quality, subsampling, progressive in itertools.product(
        (30, 95), ("4:4:4", "4:2:2", "4:2:0"), (False, True)
    ):
        data = written(size, quality=quality, subsampling=subsampling, progressive=progressive)
        image = Image.open(io.BytesIO(data))
        np.testing.assert_array_equal(jpeg.pixels(image, data), np.asarray(image))


def test_all_else_is_left_to_pillow(monkeypatch):
    turned = Image.Exif()
    turned[ORIENTATION] = 6
    png = io.BytesIO()
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(png, "PNG")
    others = (written(mode="L"), written(mode="CMYK"), written(exif=turned), png.getvalue())
    for data in (*others, written((99, 99))[:-100]):
        assert jpeg.pixels(Image.open(io.BytesIO(data)), data) is None
    assert decode(written(exif=turned)).shape == (47, 33, 3)
    with pytest.raises(OSError, match="runcated"):
        decode(written((99, 99))[:-100])
    monkeypatch.setattr(jpeg, "simplejpeg", None)
    assert jpeg.pixels(Image.open(io.BytesIO(written())), written()) is None
