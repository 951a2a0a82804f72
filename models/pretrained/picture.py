"""A picture of Pillow's in red, green and blue, upright: as training sees the same file."""

import numpy as np
from PIL import ExifTags, Image

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
SAYING = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
"""What of a picture's `info` may hold the orientation."""


def rgb(image: Image.Image) -> Image.Image:
    """8 bits of red, green and blue; EXIF's orientation is applied.

    Grey is repeated; of 16 bits of grey the nearest of 8 is taken (65535 is 255); palettes are
    looked up; CMYK is converted; transparency is left out, the colours beneath it kept.

    Raises:
        ValueError: its pixels are numbers of 32 bits, whose range nobody knows.
        Exception: the file cannot be decoded; of what type is the decoder's.
    """
    kind = image.format
    image = upright(image)
    if image.mode.startswith("I;16") or (image.mode == "I" and kind == "PPM"):
        wide = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(
            f"its pixels are of mode {image.mode}, numbers of 32 bits; wanted: 8 or 16 bits a "
            "channel"
        )
    elif "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def upright(image: Image.Image) -> Image.Image:
    """A picture turned as its EXIF says, which it then has no more.

    EXIF that cannot be read turns nothing.
    """
    image.load()  # a PNG may have its EXIF behind its pixels; a TIFF is then turned
    try:
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except MemoryError:
        raise
    except Exception:  # of bytes that are no EXIF: OSError, SyntaxError, struct.error, ...
        turn = None
    if turn is None:
        return image
    turned = image.transpose(turn)
    for key in SAYING:  # it would be turned again
        turned.info.pop(key, None)
    return turned
