import io
import zlib

import numpy as np
import pytest
from image_files import chunk, encoded, exif, png_with
from PIL import Image, TiffImagePlugin

from train.data.decode import FORMATS, decode, size
from train.data.masks import indices

STORED = np.repeat(np.repeat(np.arange(6, dtype=np.uint8).reshape(2, 3), 16, 0), 16, 1)
"""(32, 48): six squares, all different, so that no two of the eight ways to turn it are alike."""
COLOURS = np.array(
    [[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [255, 255, 255]], np.uint8
)
UPRIGHT = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
    8: lambda x: np.rot90(x, 1),
}
"""EXIF's orientation -> what its words say of rows and columns: 6, the right side is the bottom."""

FILES = {
    "jpeg": {"quality": 95, "subsampling": "4:4:4"},
    "mpo": {"quality": 95, "subsampling": "4:4:4", "save_all": True},
    "png": {},
    "webp": {"lossless": True},
    "avif": {"quality": 100, "subsampling": "4:4:4"},
    "tiff": {},
    "tiff, packed": {"compression": "tiff_lzw"},
    "tiff of two": {"save_all": True},
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", FILES)
def test_every_orientation_is_applied_once(kind, orientation):
    form = kind.partition(" ")[0].strip(",")
    if form == "avif" and "AVIF" not in FORMATS:
        pytest.skip("this Pillow reads no AVIF")
    image = Image.fromarray(COLOURS[STORED])
    more = {"append_images": [image]} if "save_all" in FILES[kind] else {}
    data = encoded(image, form, exif=exif(orientation), **FILES[kind], **more)
    wanted = UPRIGHT[orientation](COLOURS[STORED])
    assert size(data) == wanted.shape[:2]
    found = decode(data)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found.astype(int), wanted.astype(int), atol=8)


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_a_mask_is_turned_as_its_image_is(kind, orientation):
    data = encoded(Image.fromarray(STORED), kind, exif=exif(orientation))
    np.testing.assert_array_equal(indices(data), UPRIGHT[orientation](STORED), strict=True)


XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


RAW = b"\nexif\n%8d\n%s\n" % (len(exif(6).tobytes()), exif(6).tobytes().hex().encode())


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize(
    "words",
    [
        (b"eXIf", exif(6).tobytes()[6:]),
        (b"tEXt", b"Raw profile type exif\0" + RAW),
        (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(RAW)),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP)),
    ],
    ids=["EXIF", "ImageMagick's", "ImageMagick's, packed", "XMP", "XMP, packed"],
)
def test_whatever_turns_a_png_turns_its_size(words, behind):
    data = png_with(encoded(Image.fromarray(COLOURS[STORED]), "png"), chunk(*words), behind=behind)
    np.testing.assert_array_equal(decode(data), UPRIGHT[6](COLOURS[STORED]))
    assert size(data) == (48, 32)


def test_a_tiff_turned_by_its_xmp_has_the_size_of_its_pixels():
    more = TiffImagePlugin.ImageFileDirectory_v2()
    more[700] = XMP
    data = encoded(Image.fromarray(COLOURS[STORED]), "tiff", tiffinfo=more)
    assert size(data) == decode(data).shape[:2]  # not every Pillow heeds it


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_is_none_turns_nothing(orientation):
    data = encoded(Image.fromarray(COLOURS[STORED]), "png", exif=exif(orientation))
    np.testing.assert_array_equal(decode(data), COLOURS[STORED])
    assert size(data) == (32, 48)


def test_pixels_of_16_bits_are_turned():
    wide = STORED.astype(np.uint16) * 257
    for kind in ("png", "tiff"):
        data = encoded(Image.fromarray(wide), kind, exif=exif(6))
        np.testing.assert_array_equal(decode(data)[..., 0], UPRIGHT[6](STORED))
    assert Image.open(io.BytesIO(data)).mode.startswith("I;16")
