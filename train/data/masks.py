"""Masks as files have them: a class a pixel, read as it is written and checked."""

import pathlib
from collections.abc import Sequence

import numpy as np

from train.data.batch import IGNORE
from train.data.decode import Unreadable, content, opened, reason, upright
from train.data.source import About
from train.refusal import Refused

PNG = b"\x89PNG\r\n\x1a\n"
BITS = 24
"""Where a PNG says how many bits a channel has."""

Colours = tuple[tuple[int, int, int], ...]


def indices(data: bytes) -> np.ndarray:
    """What stands in each pixel of a picture of one channel; a palette's colours are not looked up.

    Upright, as its image is: EXIF orientation is applied.

    Args:
        data: a whole PNG, or whatever else loses nothing.

    Returns:
        (H, W) uint8.

    Raises:
        ValueError: it has several channels, or more than 8 bits.
        Exception: it cannot be decoded; of what type is the decoder's.
    """
    image = upright(opened(data))
    if image.mode not in ("L", "P", "1"):
        raise ValueError(f"it is of mode {image.mode}; wanted: one channel of 8 bits, or a palette")
    found = np.array(image, np.uint8)
    if data[:8] == PNG and image.mode == "L" and data[BITS] in (2, 4):
        found //= 255 // (2 ** data[BITS] - 1)  # Pillow stretches grey of few bits to 0..255
    return found


def check(mask: np.ndarray, shape: tuple[int, ...], classes: Sequence[str]) -> None:
    """Refuses a mask that is of another size than its image, or holds an undeclared class.

    Raises:
        ValueError: names the size, or the value and where it first stands.
    """
    if mask.shape != shape[:2]:
        (height, width), (rows, columns) = shape[:2], mask.shape
        raise ValueError(f"the mask is {columns}x{rows}, its image {width}x{height}")
    wrong = (mask >= len(classes)) & (mask != IGNORE)
    if wrong.any():
        row, column = (int(at[0]) for at in np.nonzero(wrong))
        raise ValueError(
            f"the mask's pixel ({row}, {column}) is of class {mask[row, column]}, outside the "
            f"{len(classes)} classes 0..{len(classes) - 1} and not {IGNORE}"
        )


def missing(about: About) -> str:
    """What no one may overlook of a set's masks: classes that none of them holds; "" if none.

    Args:
        about: measured (`train.data.statistics`).

    Raises:
        Refused: all pixels that were measured are 255: there is nothing to learn from.
    """
    if not about.mask_pixels:
        return ""
    *pixels, ignored = about.mask_pixels
    share = 100 * ignored / (sum(pixels) + ignored)
    if not any(pixels):
        raise Refused(f"data={about.name!r}: every pixel of the masks that were read is {IGNORE}")
    absent = [name for name, n in zip(about.mask_classes, pixels, strict=True) if not n]
    if not absent:
        return ""
    shown = ", ".join(map(repr, absent[:8])) + (", …" if len(absent) > 8 else "")
    return (
        f"Of {len(pixels)} classes, {len(absent)} occur in none of the training masks that were "
        f"read: {shown}; {share:.1f} % of the pixels are {IGNORE}, which is ignored."
    )


def mask_of(path: pathlib.Path, index: int, shape: tuple[int, ...], classes: Sequence[str]):
    """(H, W) uint8: the mask in a file, of the image of `shape`, for example `index`.

    Raises:
        Unreadable: there is no such file, or it cannot be decoded, or `check` refuses it.
        Refused: as `train.data.decode.content`.
    """
    data = content(path, index)
    try:
        mask = indices(data)
        check(mask, shape, classes)
    except MemoryError:
        raise
    except Exception as error:
        raise Unreadable(str(path), index, reason(error)) from error
    return mask


def colours(count: int) -> Colours:
    """Pascal VOC's colour table: a class's bits, from the lowest, are the high bits of red, green
    and blue in turn, so that 0 is black and each class differs from all others.
    """
    return tuple((_channel(c, 0), _channel(c, 1), _channel(c, 2)) for c in range(count))


def _channel(value: int, first: int) -> int:
    return sum((value >> (3 * bit + first) & 1) << (7 - bit) for bit in range(8))
