"""Masks as files have them: a class a pixel, read as it is written and checked."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from models.pretrained.picture import upright
from train.data.batch import IGNORE
from train.data.decode import Unreadable, content, opened, reason, size
from train.data.legend import Legend, ignores
from train.data.source import About
from train.refusal import Refused

PNG = b"\x89PNG\r\n\x1a\n"
BITS = 24
"""Where a PNG says how many bits a channel has."""
LOSSY = ("JPEG", "MPO")
"""Formats that keep a picture nearly, and so no mask."""


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
    return _values(image, data)


def _values(image: Image.Image, data: bytes) -> np.ndarray:
    """What stands in each pixel of a decoded picture of one channel; `data` is its file."""
    found = np.array(image, np.uint8)
    if data[:8] == PNG and image.mode == "L" and data[BITS] in (2, 4):
        found //= 255 // (2 ** data[BITS] - 1)  # Pillow stretches grey of few bits to 0..255
    return found


def check(mask: np.ndarray, shape: tuple[int, ...], classes: Sequence[str]) -> None:
    """Refuses a mask that is of another size than its image, or holds an undeclared class.

    Raises:
        ValueError: names the size, or the value and where it first stands.
    """
    _check_size(mask, shape)
    wrong = _outside(mask, len(classes))
    if wrong.any():
        row, column = (int(at[0]) for at in np.nonzero(wrong))
        raise ValueError(
            f"the mask's pixel ({row}, {column}) is of class {mask[row, column]}, outside the "
            f"{len(classes)} classes 0..{len(classes) - 1} and not {IGNORE}"
        )


def _outside(mask: np.ndarray, count: int) -> np.ndarray:
    return (mask >= count) & (mask != IGNORE)


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


class Drawn(NamedTuple):
    """A mask as its file has it, upright.

    Attributes:
        values: (H, W) integers; None of a mask in colour.
        codes: (H, W) int32 of a mask of several channels, a colour's red, green and blue in one
            number; None of others.
        table: (256,) int32, the colour of each value of a mask of one channel of 8 bits, by its
            palette or in grey; None of others.
    """

    values: np.ndarray | None
    codes: np.ndarray | None = None
    table: np.ndarray | None = None


GREYS = np.arange(256, dtype=np.int32) * 0x10101
"""The colour of each value without a palette."""


def drawn(data: bytes) -> Drawn:
    """What stands in each pixel of a mask's file.

    Args:
        data: a whole file of a format that loses nothing.

    Raises:
        ValueError: it is a JPEG, it has pixels that are not opaque, or it is neither grey of up to
            16 bits, nor a palette, nor red, green and blue of 8 bits.
        Exception: it cannot be decoded; of what type is the decoder's.
    """
    file = opened(data)
    if file.format in LOSSY:
        raise ValueError("it is a JPEG, which changes classes at their edges; wanted: a PNG")
    image = upright(file)
    mode = image.mode
    if mode in ("L", "1"):
        return Drawn(_values(image, data), table=GREYS)
    if mode == "P":
        table = np.zeros(256, np.int32)
        palette = np.array(image.getpalette("RGB") or [], np.int32).reshape(-1, 3)
        table[: len(palette)] = _codes(palette)
        return Drawn(_values(image, data), table=table)
    found = np.asarray(image)
    if mode.startswith("I"):
        return Drawn(found.astype(np.int64))
    deep = data[:8] == PNG and data[BITS] == 16
    if mode not in ("LA", "RGB", "RGBA") or deep:
        said = "has colours of 16 bits" if deep else f"is of mode {mode}"
        raise ValueError(f"it {said}; wanted: one channel, a palette, or colours of 8 bits")
    if mode.endswith("A"):
        if (clear := np.argwhere(found[..., -1] != 255)).size:
            row, column = clear[0].tolist()
            raise ValueError(
                f"the mask's pixel ({row}, {column}) has opacity {found[row, column, -1]} of 255; "
                "wanted: a mask that is opaque everywhere"
            )
        found = found[..., :-1]
    if mode == "LA":
        return Drawn(found[..., 0], table=GREYS)
    grey = (found == found[..., :1]).all()
    return Drawn(found[..., 0] if grey else None, codes=_codes(found))


def classed(data: bytes, legend: Legend, shape: tuple[int, ...]) -> np.ndarray:
    """(H, W) uint8: the class of each pixel of a mask's file, or 255.

    In a mask of several channels colours count, and equal channels are values where one of them is
    no class's colour. In a mask of one channel it is values that count, unless the colours are the
    set's own and every pixel has one of them.

    Args:
        data: the file.
        legend: what stands for a class.
        shape: of the image.

    Raises:
        ValueError: the mask is of another size than its image, or a pixel is of no class; names
            it. As `drawn`.
        Exception: as `drawn`.
    """
    values, codes, table = drawn(data)
    one = codes if values is None else values
    assert one is not None
    _check_size(one, shape)
    if codes is not None:
        found = _by_code(codes, legend)
        if (found >= 0).all():
            return found.astype(np.uint8)
        if values is None:
            raise ValueError(_strange(codes, found, legend))
    elif table is not None and legend.painted:
        found = _by_code(table, legend)[one]
        if (found >= 0).all():
            return found.astype(np.uint8)
    assert values is not None
    return _by_value(values, legend)


def _by_code(codes: np.ndarray, legend: Legend) -> np.ndarray:
    """The class of each colour; 255, or -1 where it is of none."""
    known = dict.fromkeys(map(_code, legend.ignored), IGNORE)
    known |= {_code(colour): c for c, colour in enumerate(legend.colours)}
    found = np.full(codes.shape, -1, np.int16)
    for code, c in known.items():
        found[codes == code] = c
    return found


def _strange(codes: np.ndarray, found: np.ndarray, legend: Legend) -> str:
    row, column = np.argwhere(found < 0)[0].tolist()
    code = int(codes[row, column])
    colour = (code >> 16, code >> 8 & 255, code & 255)
    hint = "" if legend.painted else "; without colours of their own they have VOC's"
    return (
        f"the mask's pixel ({row}, {column}) has the colour {colour}, which is none of the "
        f"{len(legend.names)} classes'{hint}; a class says its own as NAME=#{code:06x}"
    )


def _by_value(values: np.ndarray, legend: Legend) -> np.ndarray:
    places = legend.values == tuple(range(len(legend.values)))
    if places and values.dtype == np.uint8 and not _outside(values, len(legend.values)).any():
        return values  # as most masks are
    table = np.full(max(int(values.max(initial=0)), *legend.values, IGNORE) + 1, -1, np.int16)
    table[list(legend.values)] = np.arange(len(legend.values))
    if ignores(legend):
        table[IGNORE] = IGNORE
    found = np.where(values < 0, -1, table[np.maximum(values, 0)])
    if (found >= 0).all():
        return found.astype(np.uint8)
    row, column = np.argwhere(found < 0)[0].tolist()
    value = values[row, column]
    raise ValueError(
        f"the mask's pixel ({row}, {column}) is of class {value}, {_none_of(legend)}; a class says "
        f"its own value as NAME={value}"
    )


def _none_of(legend: Legend) -> str:
    count = len(legend.names)
    if legend.values == tuple(range(count)):
        return f"outside the {count} classes 0..{count - 1} and not {IGNORE}"
    shown = ", ".join(
        f"{value} ({name})"
        for name, value in list(zip(legend.names, legend.values, strict=True))[:8]
    )
    return f"none of {shown}{', …' if count > 8 else ''}"


def _code(colour: tuple[int, int, int]) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def _codes(colours: np.ndarray) -> np.ndarray:
    wide = colours.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def _check_size(mask: np.ndarray, shape: tuple[int, ...]) -> None:
    if mask.shape != shape[:2]:
        (height, width), (rows, columns) = shape[:2], mask.shape
        raise ValueError(f"the mask is {columns}x{rows}, its image {width}x{height}")


def mask_of(path: pathlib.Path, index: int, shape: tuple[int, ...], legend: Legend) -> np.ndarray:
    """(H, W) uint8: the mask in a file, of the image of `shape`, for example `index`.

    Raises:
        Unreadable: there is no such file, or it cannot be decoded, or `classed` refuses it.
        Refused: as `train.data.decode.content`.
    """
    data = content(path, index)
    try:
        return classed(data, legend, shape)
    except MemoryError:
        raise
    except Exception as error:
        raise Unreadable(str(path), index, reason(error)) from error


def truth_of(
    image: pathlib.Path, mask: pathlib.Path, index: int, legend: Legend
) -> dict[str, np.ndarray]:
    """The mask of an image; of the image the header is read.

    Raises:
        Unreadable: as `mask_of`; the image is no picture.
        Refused: as `train.data.decode.content`.
    """
    data = content(image, index)
    try:
        shape = size(data)
    except MemoryError:
        raise
    except Exception as error:
        raise Unreadable(str(image), index, f"has no size: {reason(error)}") from error
    return {"mask": mask_of(mask, index, shape, legend)}
