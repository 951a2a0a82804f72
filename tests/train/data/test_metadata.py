"""What is wrong beside the pixels costs no picture, and turns none."""

import struct
import warnings
import zlib

import numpy as np
import pytest
from image_files import chunk, encoded, exif, pixels, png_with
from PIL import Image

from train.data.decode import FORMATS, decode, size
from train.data.masks import indices

PICTURE = np.full((32, 48, 3), [200, 100, 50], np.uint8)
JPEG = encoded(Image.fromarray(PICTURE), "jpeg", quality=100, subsampling="4:4:4")
PNG = encoded(Image.fromarray(PICTURE), "png")
LOSSLESS = {"webp": {"lossless": True}, "avif": {"quality": 100, "subsampling": "4:4:4"}}

BROKEN = {
    "empty": b"",
    "words": b"these are words",
    "half a header": b"II*\0",
    "no directory": b"II*\0\xff\xff\xff\x7f",
    "half a directory": exif(6).tobytes()[6:20],
    "a word for a number": b"MM\0*\0\0\0\x08\0\1\x01\x12\0\2\0\0\0\4bad\0\0\0\0\0",
}


def check(data, atol=0):
    found = decode(data)
    assert found.shape == PICTURE.shape
    np.testing.assert_allclose(found.astype(int), PICTURE, atol=atol)
    assert size(data) == PICTURE.shape[:2]


@pytest.mark.parametrize("bad", BROKEN)
@pytest.mark.parametrize("kind", ["png", "webp", "jpeg", "avif"])
def test_broken_exif_turns_nothing(kind, bad):
    if kind.upper() not in FORMATS:
        pytest.skip("this Pillow reads no AVIF")
    if kind == "png":
        data = png_with(PNG, chunk(b"eXIf", BROKEN[bad]))
    elif kind == "jpeg":
        data = with_segments((0xE1, b"Exif\0\0" + BROKEN[bad]))
    else:
        good = Image.Exif()
        good[0x010F] = "a maker of cameras"
        whole = encoded(Image.fromarray(PICTURE), kind, exif=good, **LOSSLESS[kind])
        body = good.tobytes()[6:]
        assert whole.count(body) == 1
        data = whole.replace(body, BROKEN[bad].ljust(len(body), b"\xff")[: len(body)])
    check(data, atol=8 if kind == "avif" else 3 if kind == "jpeg" else 0)


LARGE = zlib.compress(b"a" * (2**20 + 1))
RANDOM = zlib.compress(pixels(700, 700).tobytes())


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"zTXt", b"Comment\0\0" + LARGE),
        chunk(b"iTXt", b"Comment\0\1\0en\0Comment\0" + LARGE),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + LARGE),
        chunk(b"zTXt", b"Raw profile type exif\0\0" + LARGE),
        chunk(b"tEXt", b"Raw profile type exif\0no EXIF"),
        chunk(b"zTXt", b"Comment\0\7" + LARGE),
        chunk(b"iCCP", b"profile\0\0" + LARGE),
        chunk(b"iCCP", b"profile\0\0" + RANDOM),
        chunk(b"iCCP", b"profile\0\0" + RANDOM[:1000]),
        chunk(b"iCCP", b"profile\0\7" + RANDOM),
        chunk(b"iCCP", b"profile"),
        chunk(b"gAMA", b""),
        chunk(b"pHYs", b"\0"),
        chunk(b"acTL", b""),
        chunk(b"tEXt", b"Comment\0false sum")[:-1] + b"?",
        chunk(b"eXIf", exif(6).tobytes()[6:])[:-1] + b"?",
    ],
    ids=lambda extra: f"{extra[4:8].decode()} {len(extra)}",
)
def test_what_stands_beside_a_pngs_pixels_costs_nothing(extra, behind):
    check(png_with(PNG, extra, behind=behind))
    grey = encoded(Image.fromarray(PICTURE[..., 0]), "png")
    np.testing.assert_array_equal(indices(png_with(grey, extra, behind=behind)), PICTURE[..., 0])


def test_much_text_in_all_costs_nothing():
    texts = [chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**20)))] * 70
    check(png_with(PNG, *texts))


def test_what_is_wrong_with_the_pixels_is_still_refused():
    at = PNG.index(b"IDAT")
    for data in (PNG[: at + 20], PNG[: at + 9] + b"\0\0\0" + PNG[at + 12 :], PNG[:at]):
        with pytest.raises((OSError, SyntaxError)):
            decode(data)
    with pytest.raises(OSError, match="cannot identify"):
        decode(PNG.replace(b"IHDR", b"IHDr"))


def test_a_large_profile_of_a_webp_costs_nothing():
    profile = pixels(1, 2**20, channels=1).tobytes()
    check(encoded(Image.fromarray(PICTURE), "webp", lossless=True, icc_profile=profile))


def with_segments(*segments):
    made = (struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body for marker, body in segments)
    return JPEG[:2] + b"".join(made) + JPEG[2:]


@pytest.mark.parametrize(
    ("marker", "body"),
    [
        (0xE2, b"ICC_PROFILE\0"),
        (0xE2, b"ICC_PROFILE\0\1\5half"),
        (0xE2, b"MPF\0garbage"),
        (0xE2, b"MPF\0II*\0\x08\0\0\0\0\0\0\0\0\0"),
        (0xED, b"Photoshop 3.0\x008BIM\3\xed"),
        (0xEE, b"Adobe"),
        (0xE0, b"JFIF"),
        (0xFE, b""),
    ],
)
def test_what_stands_beside_a_jpegs_pixels_costs_nothing(marker, body):
    check(with_segments((marker, body)), atol=3)
    check(with_segments((marker, body), (0xE1, b"Exif\0\0junk")), atol=3)


def test_colours_of_a_jpeg_are_kept_where_its_profile_is_broken():
    """Adobe's segment says that the three channels are red, green and blue as they are."""
    data = encoded(Image.fromarray(PICTURE), "jpeg", quality=100, keep_rgb=True)
    assert b"JFIF" not in data
    broken = struct.pack(">BBH", 0xFF, 0xE2, 14) + b"ICC_PROFILE\0"
    np.testing.assert_array_equal(decode(data[:2] + broken + data[2:]), decode(data))
    check(data, atol=3)


@pytest.mark.parametrize(("order", "packed"), [("<", None), ("<", "tiff_lzw"), (">", None)])
@pytest.mark.parametrize("tag", [0x0112, 0x010F, 0x8298])
def test_a_broken_tag_of_a_tiff_costs_nothing(tag, order, packed):
    given = exif(6)
    given[0x010F], given[0x8298] = "a maker of cameras", "a photographer"
    if order == "<":
        image = Image.fromarray(PICTURE)
    else:
        deep = PICTURE[..., 0].astype(">u2") * 257
        image = Image.frombytes("I;16B", (48, 32), deep.astype(">u2").tobytes())
    data = bytearray(encoded(image, "tiff", exif=given, compression=packed))
    assert data.startswith({"<": b"II", ">": b"MM"}[order])
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, start)
    tags = {struct.unpack_from(f"{order}H", data, start + 2 + 12 * i)[0]: i for i in range(count)}
    nowhere = struct.pack(f"{order}HII", 7, 2**31, 2**31 - 1)  # two billion bytes
    struct.pack_into("10s", data, start + 4 + 12 * tags[tag], nowhere)
    found = decode(bytes(data))
    assert found.shape == ((32, 48, 3) if tag == 0x0112 else (48, 32, 3))
    np.testing.assert_array_equal(found[0, 0], PICTURE[0, 0] if order == "<" else [200] * 3)
    assert size(bytes(data)) == found.shape[:2]


def test_nothing_is_said_of_metadata():
    palette = Image.fromarray(PICTURE).quantize(4)
    tiff = bytearray(encoded(Image.fromarray(PICTURE), "tiff", exif=exif(6)))
    tiff[-4:] = b"\xff\xff\xff\x7f"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        decode(with_segments((0xE2, b"MPF\0garbage")))
        decode(encoded(palette, "png", transparency=b"\0\x80"))
        decode(png_with(PNG, chunk(b"acTL", bytes(8))))
        with pytest.raises(ValueError, match="pixels, more than"):
            decode(PNG[:16] + struct.pack(">II", 10_000, 10_000) + _ihdr_rest())
        warnings.warn("this is", stacklevel=1)
    assert [str(one.message) for one in said] == ["this is"]


def _ihdr_rest():
    rest = PNG[24:29]
    body = b"IHDR" + struct.pack(">II", 10_000, 10_000) + rest
    return rest + struct.pack(">I", zlib.crc32(body)) + PNG[33:]
