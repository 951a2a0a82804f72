"""WAV: a sound file as numbers, PCM of 8 to 32 bits or floating, any number of channels.

Read here, since Python's `wave` knows PCM alone, and a header must be had without the samples
behind it (RIFF: IBM and Microsoft 1991; the forms of a sample: Microsoft's mmreg.h).
"""

import io
import os
import pathlib
import struct
from typing import BinaryIO, NamedTuple

import numpy as np

from train.data.decode import Unreadable, content

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
CODINGS = {2: "ADPCM", 6: "A-law", 7: "mu-law", 17: "ADPCM", 85: "MP3"}
"""Some that are not read, as people know them."""
ENDLESS = 0x7FFFF000
"""A writer that does not know how long its file will be, such as one into a pipe, says that it has
at least so many bytes, or 0: its samples go on to the file's end."""


class Header(NamedTuple):
    """What a file says of its samples.

    Attributes:
        rate: steps a second.
        channels: numbers a step.
        bits: of a number.
        floating: whether numbers are floating ones.
        at: where in the file the first stands, in bytes.
        steps: how many there are.
    """

    rate: int
    channels: int
    bits: int
    floating: bool
    at: int
    steps: int


def header(path: str | os.PathLike) -> Header:
    """Of a file; its samples are not read.

    Raises:
        ValueError: it is no WAV file, or of a form that is not read; says what.
        OSError: as the system says.
    """
    with open(path, "rb") as file:
        return _header(file, os.fstat(file.fileno()).st_size)


def decode(data: bytes) -> tuple[np.ndarray, int]:
    """The samples of a file, and its rate.

    Args:
        data: a whole file.

    Returns:
        (L, C) float32, and steps a second. Integers are divided by the largest that their bits
        could hold: -1 <= x < 1, of 32 bits 1 after rounding too. Floating numbers stay as they are.

    Raises:
        ValueError: as `header`.
    """
    found = _header(io.BytesIO(data), len(data))
    width = found.bits // 8
    raw = np.frombuffer(data, np.uint8, found.steps * found.channels * width, found.at)
    values: np.ndarray
    if found.floating:
        with np.errstate(over="ignore"):  # what becomes infinite is found by who reads it
            values = raw.view(f"<f{width}").astype(np.float32)
    elif width == 1:  # the only one without a sign
        values = (raw.astype(np.float32) - 128) / 128
    else:
        # Its bytes as the upper ones of 32 bits: then all widths are divided alike.
        wide = np.zeros((raw.size // width, 4), np.uint8)
        wide[:, 4 - width :] = raw.reshape(-1, width)
        values = (wide.view("<i4")[:, 0] / 2.0**31).astype(np.float32)
    return values.reshape(found.steps, found.channels), found.rate


def sound(path: pathlib.Path, index: int) -> tuple[np.ndarray, int]:
    """The samples in a file, as `decode` gives them, for example `index`.

    Raises:
        Unreadable: as `train.data.decode.content`, or the file can't be decoded.
        Refused: as `content`.
    """
    data = content(path, index)
    try:
        return decode(data)
    except ValueError as error:
        raise Unreadable(str(path), index, f"cannot be decoded: {error}") from None


def _header(file: BinaryIO, size: int) -> Header:
    start = file.read(12)
    if len(start) < 12 or start[:4] != b"RIFF" or start[8:] != b"WAVE":
        what = f"begins with {start[:4]!r}" if start else "is empty"
        raise ValueError(f"no WAV file: it {what}")
    said = int.from_bytes(start[4:8], "little")
    endless = said == 0 or said >= ENDLESS
    form: tuple[int, int, int, int] | None = None
    at = 12
    while len(head := file.read(8)) == 8:
        name, length = head[:4], int.from_bytes(head[4:], "little")
        at += 8
        if name == b"fmt ":
            form = _form(file.read(min(length, 40)))
        elif name == b"data":
            if form is None:
                raise ValueError("its samples come before their form (no `fmt ` chunk)")
            there = size - at
            if endless and (length == 0 or length > there):
                length = there
            return _samples(form, at, length, there)
        at += length + length % 2  # chunks begin at even places
        file.seek(at)
    raise ValueError("it ends before its samples (no `data` chunk)")


def _form(chunk: bytes) -> tuple[int, int, int, int]:
    """Coding, channels, rate and bits."""
    if len(chunk) < 16:
        raise ValueError("it ends within its header")
    coding, channels, rate, _, _, bits = struct.unpack("<HHIIHH", chunk[:16])
    if coding == EXTENSIBLE and len(chunk) >= 26:
        coding = int.from_bytes(chunk[24:26], "little")
    if coding not in (PCM, FLOAT):
        named = f" ({CODINGS[coding]})" if coding in CODINGS else ""
        raise ValueError(f"its coding {coding}{named} is not read; wanted: PCM or floating numbers")
    if bits not in ((32, 64) if coding == FLOAT else (8, 16, 24, 32)):
        raise ValueError(f"samples of {bits} bits are not read")
    if not channels or not rate:
        raise ValueError(f"it has {channels} channels, {rate} steps a second")
    return coding, channels, rate, bits


def _samples(form: tuple[int, int, int, int], at: int, length: int, there: int) -> Header:
    coding, channels, rate, bits = form
    if length > there:
        raise ValueError(f"it ends early: {there:,} of its {length:,} bytes of samples are there")
    steps = length // (channels * bits // 8)
    if not steps:
        raise ValueError("it holds no samples")
    return Header(rate, channels, bits, coding == FLOAT, at, steps)
