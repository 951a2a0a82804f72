"""Pictures from bytes: one upright form whatever the file holds, and what cannot be read."""

import io
import pathlib

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from train.data import jpeg
from train.refusal import Refused

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture upright, by its EXIF orientation."""
SIDEWAYS = frozenset(TURNS[i] for i in (5, 6, 7, 8))


class Unreadable(Refused):
    """An example that cannot be read, while others may be; the loader may skip it.

    Attributes:
        name: of the file that is at fault, or of the example in its set.
        index: of the example in the source that was asked.
        reason: what is wrong, without either.
    """

    def __init__(self, name: str, index: int, reason: str):
        super().__init__(name, index, reason)  # all three, so that it crosses processes
        self.name, self.index, self.reason = name, index, reason

    def __str__(self) -> str:
        return f"{self.name}, example {self.index}: {self.reason}"


def decode(data: bytes) -> np.ndarray:
    """A picture in red, green and blue, upright: its EXIF orientation is applied.

    Grey is repeated; of 16 bits the nearest of 8 is taken (65535 is 255); palettes are looked up;
    CMYK is converted; transparency is left out, the colours beneath it kept.

    Args:
        data: a whole file: JPEG, PNG, BMP, WebP, GIF (its first picture), TIFF.

    Returns:
        (H, W, 3) uint8.

    Raises:
        Exception: it is none of these, is damaged or ends early; of what type is the decoder's.
    """
    file = Image.open(io.BytesIO(data))
    if (pixels := jpeg.pixels(file, data)) is not None:
        return pixels
    image = upright(file)
    if image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"its pixels are of mode {image.mode}; wanted: 8 or 16 bits a channel")
    elif "transparency" in image.info:
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"))


def upright(image: Image.Image) -> Image.Image:
    """A picture turned as its EXIF says."""
    image.load()  # a PNG may have its EXIF behind its pixels
    turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return image if turn is None else image.transpose(turn)


def size(data: bytes) -> tuple[int, int]:
    """(height, width) of the upright picture, from its header; no pixel is decoded.

    Args:
        data: as `decode` takes it.

    Raises:
        Exception: as `decode`.
    """
    image = Image.open(io.BytesIO(data))
    if image.format == "PNG" and "exif" not in image.info:
        # Pillow would decode the pixels in search of EXIF behind them.
        exif = Image.Exif()
        exif.load(_behind(data))
    else:
        exif = image.getexif()
    turn = TURNS.get(exif.get(ExifTags.Base.Orientation, 1))
    return image.size if turn in SIDEWAYS else image.size[::-1]


def picture(path: pathlib.Path, index: int) -> np.ndarray:
    """The picture in a file, as `decode` gives it, for example `index`.

    Raises:
        Unreadable: there is no such file, or it cannot be decoded.
        Refused: as `content`.
    """
    data = content(path, index)
    try:
        return decode(data)
    except MemoryError:
        raise
    except Exception as error:  # decoders raise what they like: OSError, SyntaxError, struct.error
        raise Unreadable(str(path), index, f"cannot be decoded: {reason(error)}") from error


def content(path: pathlib.Path, index: int) -> bytes:
    """A file's bytes, for example `index`.

    Raises:
        Unreadable: there is no such file.
        Refused: the system does not give it, whatever is in it: too many open files, no
            permission, a disk that fails. That is no fault of the example, and nothing to skip.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise Unreadable(str(path), index, "the file does not exist") from None
    except OSError as error:
        raise Refused(f"{path}, example {index}: cannot be read: {error.strerror}") from error


def reason(error: Exception) -> str:
    """What a decoder says, in one line that is the same in every process."""
    if isinstance(error, UnidentifiedImageError):  # its words hold an address
        return "no picture of a known format"
    return " ".join(str(error).split()) or type(error).__name__


def _behind(png: bytes) -> bytes:
    """The EXIF of a PNG, wherever it stands among the file's chunks; empty if there is none."""
    at = 8
    while at + 8 <= len(png):
        length, kind = int.from_bytes(png[at : at + 4]), png[at + 4 : at + 8]
        if kind == b"eXIf":
            return b"Exif\0\0" + png[at + 8 : at + 8 + length]
        at += 12 + length  # its length, kind and checksum are 4 bytes each
    return b""
