"""Pictures from bytes: one upright form whatever the file holds, and what cannot be read."""

import io
import pathlib

import numpy as np
from PIL import ExifTags, Image

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
    turn = _turn(image)
    return image if turn is None else image.transpose(turn)


def size(data: bytes) -> tuple[int, int]:
    """(height, width) of the upright picture, from its header; no pixel is decoded.

    Args:
        data: as `decode` takes it; the beginning is enough.

    Raises:
        Exception: as `decode`.
    """
    image = Image.open(io.BytesIO(data))
    # A PNG without EXIF before its pixels would be decoded in search of some behind them.
    turn = _turn(image) if image.format != "PNG" or "exif" in image.info else None
    return image.size if turn in SIDEWAYS else image.size[::-1]


def picture(path: pathlib.Path, index: int) -> np.ndarray:
    """The picture in a file, as `decode` gives it, for example `index`.

    Raises:
        Unreadable: there is no such file, or it cannot be decoded.
    """
    try:
        return decode(path.read_bytes())
    except FileNotFoundError:
        raise Unreadable(str(path), index, "the file does not exist") from None
    except Exception as error:  # decoders raise what they like: OSError, SyntaxError, struct.error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Unreadable(str(path), index, f"cannot be decoded: {reason}") from error


def _turn(image: Image.Image) -> Image.Transpose | None:
    return TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
