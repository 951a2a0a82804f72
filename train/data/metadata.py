"""Metadata: what a file holds beside its pixels, and what must not cost the picture.

Pillow refuses a PNG for a megabyte of text or of colour profile, or for a false checksum of either,
and a JPEG, a TIFF or an AVIF for some of what may be wrong there. None of it changes a pixel.
"""

import re
import struct
import zlib

PNG = b"\x89PNG\r\n\x1a\n"
_END = b"\0\0\0\0IEND\xaeB`\x82"
_PIXELS = (b"IDAT", b"fdAT")
_SMALL = 2**20
"""Bytes of a text of a PNG that is read, unpacked."""
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_TURNING = (b"exif", b"Raw profile type exif", b"XML:com.adobe.xmp")
"""Texts of a PNG that may say which side is up."""

_JPEG = b"\xff\xd8"
_TIFF = {b"II*\0": "<", b"MM\0*": ">"}
"""How a TIFF begins, and the order of its bytes."""
_OF_PIXELS = {
    *(254, 255, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320),
    *(322, 323, 324, 325, 332, 338, 339, 347, *range(512, 522), 529, 530, 531, 532),
}
"""Tags of a TIFF that say how its pixels are stored."""
_ORIENTATION = 274
_AVIF_EXIF = re.compile(rb"(infe(?:\x02.{7}|\x03.{9}))Exif", re.DOTALL)
"""The entry of an AVIF's list of items that calls one its EXIF."""


def of_png(data: bytes, pixels: bool = True) -> bytes:
    """A PNG with its pixels, its transparency, and what may say which side of it is up.

    Left out is all else that need not be read: text, colour profiles, the further frames of an
    animation. What is cut off stays so, for the decoder to refuse.

    Args:
        data: a whole PNG.
        pixels: whether the pixels are kept; without, what is behind them can be read at once.
    """
    kept, at = [data[: len(PNG)]], len(PNG)
    while at < len(data):
        kind = data[at + 4 : at + 8]
        end = at + 12 + int.from_bytes(data[at : at + 4])  # length, kind and checksum: 4 bytes each
        if end > len(data) or not kind.isalpha():
            kept += [data[at:] if pixels or kind not in _PIXELS else _END]
            break
        if (pixels or kind not in _PIXELS) and _needed(kind, data[at + 8 : end - 4], data[at:end]):
            kept.append(data[at:end])
        at = end
    else:
        kept += [] if pixels else [_END]
    return b"".join(kept)


def without(data: bytes) -> bytes | None:
    """A file that its decoder refuses, without what may be at fault beside its pixels.

    Returns:
        None: there is no such thing.
    """
    if data.startswith(_JPEG):
        bare = _of_jpeg(data)
    elif data[:4] in _TIFF:
        bare = _of_tiff(data, _TIFF[data[:4]])
    elif data[4:8] == b"ftyp":
        bare = _AVIF_EXIF.sub(rb"\1free", data, count=1)
    else:
        return None
    return None if bare == data else bare


def _needed(kind: bytes, body: bytes, chunk: bytes) -> bool:
    if kind[:1].isupper() or kind == b"tRNS":  # without which there are no such pixels
        return True
    if kind not in (b"eXIf", *_TEXTS):
        return False
    if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:]):
        return False
    return kind == b"eXIf" or _turns(kind, body)


def _turns(kind: bytes, body: bytes) -> bool:
    """Whether a text can say which side is up, and can be read."""
    key, _, rest = body.partition(b"\0")
    if key not in _TURNING or len(body) > _SMALL:
        return False
    if kind == b"zTXt":
        method, packed = rest[:1], rest[1:]
    elif kind == b"iTXt" and rest[:1] != b"\0":
        method, packed = rest[1:2], rest[2:].split(b"\0", 2)[-1]
    else:
        return True
    unpacking = zlib.decompressobj()
    try:
        unpacking.decompress(packed, _SMALL)
    except zlib.error:
        return False
    return method == b"\0" and not unpacking.unconsumed_tail


def _of_jpeg(data: bytes) -> bytes:
    """A JPEG without its comments and applications' segments, but those that say its colours."""
    kept, at = [data[:2]], 2
    while data[at : at + 1] == b"\xff" and (marker := data[at + 1 : at + 2]) != b"\xda":
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        # JFIF's and Adobe's, where they are whole.
        colours = (marker == b"\xe0" and end - at >= 16) or (marker == b"\xee" and end - at >= 14)
        if colours or not (b"\xe0" <= marker <= b"\xef" or marker == b"\xfe"):
            kept.append(data[at:end])
        at = end
    return b"".join([*kept, data[at:]])


def _of_tiff(data: bytes, order: str) -> bytes:
    """A TIFF whose first directory says what its pixels need, and which side is up, alone."""
    at = int.from_bytes(data[4:8], "little" if order == "<" else "big")
    if len(data) < at + 2:
        return data
    (count,) = struct.unpack_from(f"{order}H", data, at)
    entries = [data[i : i + 12] for i in range(at + 2, at + 2 + 12 * count, 12)]
    kept = [one for one in entries if len(one) == 12 and _says(one, order)]
    directory = struct.pack(f"{order}H", len(kept)) + b"".join(kept) + bytes(4)  # no other follows
    return data[:at] + directory + data[at + len(directory) :]


def _says(entry: bytes, order: str) -> bool:
    tag, kind, count, value = struct.unpack(f"{order}HHIH2x", entry)
    if tag == _ORIENTATION:
        return kind == 3 and count == 1 and 1 <= value <= 8  # a short number
    return tag in _OF_PIXELS
