import io
import os
import pathlib
import pickle
import socket
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from image_files import chunk, encoded, pixels, save
from PIL import EpsImagePlugin, Image, UnidentifiedImageError

from train.data import decode as decoding
from train.data.decode import (
    FORMATS,
    Unreadable,
    at_most,
    content,
    decode,
    length,
    picture,
    size,
)
from train.data.legend import plain
from train.data.masks import PNG, indices, mask_of
from train.refusal import Refused

WIDE = pixels(20, 40)


def test_the_size_of_a_png_needs_no_pixels():
    data = encoded(Image.fromarray(WIDE), "png")
    assert size(data[:60]) == (20, 40)
    with pytest.raises(OSError, match="truncated"):
        decode(data[:60])


GREY = pixels(3, 5, channels=1)[..., 0]
RGBA = pixels(3, 5, channels=4)


def indexed():
    image = Image.fromarray(WIDE[:2, :2]).quantize(4)
    return image, np.asarray(image.convert("RGB"))


@pytest.mark.parametrize(
    ("image", "kind", "options", "wanted"),
    [
        (Image.fromarray(GREY), "png", {}, np.repeat(GREY[..., None], 3, 2)),
        (Image.fromarray(GREY > 99), "png", {}, np.repeat(255 * (GREY > 99)[..., None], 3, 2)),
        (Image.fromarray(RGBA), "png", {}, RGBA[..., :3]),
        (Image.fromarray(RGBA[..., :2], "LA"), "png", {}, np.repeat(RGBA[..., :1], 3, 2)),
        (
            Image.fromarray(GREY.astype(np.uint16) * 257 + 128),
            "png",
            {},
            np.repeat(GREY[..., None], 3, 2),
        ),
        (Image.fromarray(np.full((2, 2), 65535, np.uint16)), "png", {}, np.full((2, 2, 3), 255)),
        (indexed()[0], "png", {}, indexed()[1]),
        (indexed()[0], "png", {"transparency": b"\x00\x80"}, indexed()[1]),
        (indexed()[0], "bmp", {}, indexed()[1]),
        (Image.new("CMYK", (5, 3), (0, 255, 255, 0)), "tiff", {}, np.full((3, 5, 3), [255, 0, 0])),
    ],
)
def test_every_mode_becomes_red_green_and_blue(image, kind, options, wanted):
    found = decode(encoded(image, kind, **options))
    np.testing.assert_array_equal(found, np.asarray(wanted, np.uint8), strict=True)


@pytest.mark.parametrize("kind", ["jpeg", "png", "bmp", "webp", "gif"])
def test_half_a_file_is_refused(tmp_path, kind):
    whole = encoded(Image.fromarray(pixels(64, 64)), kind)
    assert decode(whole).shape == (64, 64, 3)
    path = tmp_path / f"half.{kind}"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Unreadable, match=rf"half\.{kind}, example 5: cannot be decoded") as refused:
        picture(path, 5)
    assert isinstance(refused.value, Refused)
    assert (refused.value.name, refused.value.index) == (str(path), 5)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\xff\xd8\xff\xe0" + bytes(40)])
def test_what_is_no_picture_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(Unreadable, match=r"a\.jpg, example 0: cannot be decoded: ") as refused:
        picture(tmp_path / "a.jpg", 0)
    assert "\n" not in str(refused.value)


def test_what_the_system_does_not_give_is_no_fault_of_the_file(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    save(path, pixels(3, 4))

    def refuse(self):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(pathlib.Path, "read_bytes", refuse)
    for read in (picture, lambda path, i: mask_of(path, i, (3, 4), plain(("a",)))):
        with pytest.raises(Refused, match="example 7: cannot be read: Too many open files") as e:
            read(path, 7)
        assert not isinstance(e.value, Unreadable)


def test_too_little_memory_is_no_fault_of_the_file(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    save(path, pixels(3, 4))

    def refuse(*_, **__):
        raise MemoryError

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(MemoryError):
        picture(path, 0)


def test_what_is_said_of_junk_is_the_same_in_every_process(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"junk")
    with pytest.raises(Unreadable) as e:
        picture(path, 0)
    assert e.value.reason == (
        f"cannot be decoded: no picture of a format that is read: {', '.join(FORMATS)}"
    )


@pytest.mark.parametrize(("bits", "row"), [(2, [0, 1, 2, 3]), (4, [0, 1, 7, 15])])
def test_a_grey_mask_of_few_bits_holds_its_classes(bits, row):
    packed = 0
    for value in row:
        packed = packed << bits | value
    data = packed.to_bytes(len(row) * bits // 8)
    header = struct.pack(">IIBBBBB", len(row), 1, bits, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" + data)), (b"IEND", b"")]
    png = PNG + b"".join(chunk(*one) for one in chunks)
    np.testing.assert_array_equal(indices(png), np.array([row], np.uint8), strict=True)


def test_exif_behind_a_pngs_pixels_counts_everywhere(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(np.arange(800, dtype=np.uint32).reshape(20, 40).astype(np.uint8)).save(
        file, "PNG"
    )
    png = file.getvalue()
    end = png.index(b"IEND") - 4
    turned = png[:end] + chunk(b"eXIf", exif.tobytes()[6:]) + png[end:]
    assert decode(turned).shape == (40, 20, 3)
    assert indices(turned).shape == (40, 20)
    assert size(turned) == (40, 20)
    assert size(png) == (20, 40)


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_numbers_of_32_bits_are_refused(kind):
    data = encoded(Image.fromarray(np.ones((2, 2), kind)), "tiff")
    with pytest.raises(ValueError, match=r"mode [IF], numbers of 32 bits; wanted: 8 or 16 bits"):
        decode(data)


DEEP = np.array([[0, 128, 129, 257], [65535, 65406, 32768, 300]], np.uint16)
SHALLOW = np.array([[0, 0, 1, 1], [255, 254, 128, 1]], np.uint8)
"""The nearest of 8 bits: 65535 is 255, so one of 8 bits is 257."""


@pytest.mark.parametrize(
    "data",
    [
        b"P5 4 2 65535 " + DEEP.astype(">u2").tobytes(),
        b"P2 4 2 65535 " + b" ".join(str(n).encode() for n in DEEP.ravel()),
        encoded(Image.fromarray(DEEP), "png"),
        encoded(Image.fromarray(DEEP), "tiff"),
        encoded(Image.fromarray(DEEP.astype(">u2")), "tiff"),
    ],
    ids=["pgm", "plain pgm", "png", "tiff", "tiff of the other byte order"],
)
def test_grey_of_16_bits_is_rounded_to_8(data):
    found = decode(data)
    np.testing.assert_array_equal(found, np.repeat(SHALLOW[..., None], 3, 2), strict=True)


def test_grey_of_fewer_levels_is_stretched_to_16_bits_first():
    found = decode(b"P5 3 1 4095 " + np.array([0, 2048, 4095], ">u2").tobytes())
    np.testing.assert_array_equal(found[0, :, 0], [0, 128, 255])


def test_colour_of_16_bits_keeps_the_upper_8():
    wide = DEEP.reshape(1, 8).repeat(3, 0).T.reshape(2, 4, 3).astype(">u2")
    header = struct.pack(">IIBBBBB", 4, 2, 16, 2, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in wide))
    png = PNG + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(decode(png), (wide >> 8).astype(np.uint8))


@pytest.mark.parametrize("kind", ["gif", "webp", "png", "tiff"])
def test_of_an_animation_the_first_picture_is_read(kind):
    first, second = (Image.new("RGB", (8, 6), colour) for colour in ("red", "blue"))
    data = encoded(first, kind, save_all=True, append_images=[second], **QUALITY.get(kind, {}))
    assert Image.open(io.BytesIO(data)).n_frames == 2
    np.testing.assert_array_equal(decode(data), np.asarray(first))


QUALITY = {"webp": {"lossless": True}}


def test_a_printers_colours_are_converted():
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    np.testing.assert_allclose(decode(encoded(image, "jpeg")), np.full((16, 16, 3), [255, 0, 0]))


EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 8 8
%%EndComments
showpage
%%EOF
"""


@pytest.fixture
def ghostscript(tmp_path, monkeypatch):
    """A file that is there once anybody has called Ghostscript."""
    found = tmp_path / "called"
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {found}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # it has not been looked for
    return found


@pytest.mark.parametrize("end", ["jpg", "png", "eps"])
def test_a_picture_starts_no_program(tmp_path, ghostscript, end):
    path = tmp_path / f"a.{end}"
    path.write_bytes(EPS)
    for read in (picture, lambda path, i: mask_of(path, i, (8, 8), plain(("a",)))):
        with pytest.raises(Unreadable, match=r"a format that is read: .*JPEG, .*PNG"):
            read(path, 0)
    with pytest.raises(UnidentifiedImageError):
        size(EPS)
    assert not ghostscript.exists()
    with Image.open(path) as open_to_all, pytest.raises(OSError, match=r".*"):
        open_to_all.load()  # the trap works
    assert ghostscript.exists()


def test_pictures_are_opened_in_one_place():
    root = pathlib.Path(__file__).parents[3]
    files = [
        file
        for floor in ("train", "models", "experiments")
        for file in (root / floor).rglob("*.py")
    ]
    opening = [file.name for file in files if "Image.open(" in file.read_text()]
    assert sorted(opening) == ["decode.py", "endings.py"]  # which asks whether it is one


@pytest.mark.parametrize(
    ("kind", "made"), [("TIFF", "tiff"), ("PPM", "ppm"), ("JPEG2000", "jpeg2000")]
)
def test_formats_of_cameras_and_programs_are_read(kind, made):
    assert kind in FORMATS
    assert decode(encoded(Image.fromarray(WIDE), made)).shape == WIDE.shape


def test_of_several_pictures_the_first_is_read():
    first, second = (Image.fromarray(pixels(8, 8, seed)) for seed in (1, 2))
    data = encoded(first, "mpo", save_all=True, append_images=[second], quality=95)
    assert Image.open(io.BytesIO(data)).format == "MPO"
    np.testing.assert_array_equal(decode(data), decode(encoded(first, "jpeg", quality=95)))


def a_pipe(path):
    os.mkfifo(path)


def a_socket(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (pathlib.Path.mkdir, "it is a folder"),
        (a_pipe, "it is a pipe or a socket"),
        (a_socket, "it is a pipe or a socket"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a device"),
        (
            lambda path: path.symlink_to(path.parent / "gone"),
            "the file does not exist: a link leads to nothing",
        ),
    ],
)
def test_what_is_no_file_is_not_opened(tmp_path, monkeypatch, make, said):
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    path = pathlib.Path("a.jpg")
    make(path)
    with pytest.raises(Unreadable, match=rf"a\.jpg, example 3: .*{said}"):
        picture(path, 3)


def test_a_name_that_no_file_can_have_is_refused(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    for name in ("a\0.jpg", "a" * 300, "a.jpg/b.jpg", "loop.jpg"):
        path = tmp_path / name
        with pytest.raises(Unreadable, match="example 3: no name of a file"):
            picture(path, 3)
        assert length(path) == -1


def test_the_length_of_a_file(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(b"12345")
    assert [length(tmp_path / name) for name in ("a.jpg", "gone.jpg", "")] == [5, -1, -1]

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "stat", refuse)
    with pytest.raises(Refused, match=r"a\.jpg cannot be read: Permission denied"):
        length(tmp_path / "a.jpg")


def test_a_huge_file_is_not_read(tmp_path):
    with (tmp_path / "a.jpg").open("wb") as file:
        file.truncate(decoding.LARGEST)  # it takes no room on the disk
    os.truncate(tmp_path / "a.jpg", decoding.LARGEST + 1)
    with pytest.raises(Unreadable, match=r"a\.jpg, .* 1,073,741,825 bytes, more than"):
        content(tmp_path / "a.jpg", 0)


def claiming(width, height):
    """A PNG that says so, and holds no pixel."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    return PNG + b"".join(chunk(*one) for one in chunks)


@pytest.mark.parametrize("how", ["error", "default"])
@pytest.mark.parametrize("width", [10_000, 16_000, 60_000])
def test_a_picture_of_too_many_pixels_is_refused(tmp_path, how, width):
    """In Pillow's sight good for a warning, and for an error; here they are alike, and said."""
    data = claiming(width, 9_000)
    over = (
        f"it has {width * 9_000:,} pixels, more than max_pixels=89478485; --max-pixels "
        f"{width * 9_000} lets it in"
    )
    (tmp_path / "a.png").write_bytes(data)
    with warnings.catch_warnings(record=how == "default") as warned:
        warnings.simplefilter(how)
        with pytest.raises(Unreadable, match=over + "$"):
            picture(tmp_path / "a.png", 0)
        with pytest.raises(ValueError, match=over):
            size(data)
    del warned


def test_the_most_pixels_are_read():
    data = encoded(Image.fromarray(WIDE), "png")
    with at_most(800):
        np.testing.assert_array_equal(decode(data), WIDE)
        with at_most(799), pytest.raises(ValueError, match="800 pixels, more than max_pixels=799"):
            decode(data)
        np.testing.assert_array_equal(decode(data), WIDE)


def test_more_pixels_than_pillow_would_read_may_be_let_in(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # as it was, afterwards
    data = claiming(20_000, 10_000)
    with at_most(200_000_000):
        assert size(data) == (10_000, 20_000)
        with pytest.raises(OSError, match="truncated"):  # not for its number
            decode(data)
    with pytest.raises(ValueError, match="200,000,000 pixels, more than max_pixels=89478485"):
        size(data)


def test_the_limit_is_that_of_the_thread_that_reads():
    data = encoded(Image.fromarray(WIDE), "png")
    with at_most(1), ThreadPoolExecutor(1) as others:
        np.testing.assert_array_equal(others.submit(decode, data).result(), WIDE)


def test_it_crosses_processes():
    again = pickle.loads(pickle.dumps(Unreadable("a.jpg", 3, "is gone")))
    assert str(again) == "a.jpg, example 3: is gone"
    assert (again.name, again.index, again.reason) == ("a.jpg", 3, "is gone")
