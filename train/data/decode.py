"""Pictures from bytes: one upright form whatever the file holds, and what cannot be read."""

import contextlib
import contextvars
import errno
import io
import pathlib
import re
import stat
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from models.pretrained.picture import rgb
from train.data import jpeg, metadata
from train.data.upright import size as upright_size
from train.refusal import Refused

Image.init()
FORMATS = tuple(
    name
    for name in ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
    if name in Image.OPEN  # not every Pillow has AVIF
)
"""Those that are read: pictures that people have, each decoded within the process. Pillow knows
more, among them EPS, which is a program, and which it has Ghostscript run. Telephones write
JPEGs with further ones behind them (MPO): these are JPEG here."""
LARGEST = 2**30
"""Bytes of a picture's file."""
PIXELS = 89_478_485
"""A picture of more is refused, unless `at_most` lets it in: a small file may hold very many, and
they would take all memory. Pillow's own number."""
_most: contextvars.ContextVar[int] = contextvars.ContextVar("most", default=PIXELS)

_METADATA = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
"""A filter of warnings: what Pillow thinks of EXIF, palettes and the like is no news to anybody who
reads a million pictures; and what it cannot read it raises."""

NO_SUCH_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
"""What the system says of a path at which there can be no file."""


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


@contextlib.contextmanager
def at_most(pixels: int) -> Iterator[None]:
    """Within, in this thread, a picture of more pixels is refused, and one of as many is read.

    Pillow's own guard, `Image.MAX_IMAGE_PIXELS`, is raised to that in this process, and stays.
    """
    if Image.MAX_IMAGE_PIXELS is not None:
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, pixels)
    token = _most.set(pixels)
    try:
        yield
    finally:
        _most.reset(token)


def decode(data: bytes) -> np.ndarray:
    """A picture in red, green and blue, upright: its EXIF orientation is applied.

    Grey is repeated; of 16 bits of grey the nearest of 8 is taken (65535 is 255), of 16 bits of
    colour the upper 8; palettes are looked up; CMYK is converted; transparency is left out, the
    colours beneath it kept. Broken metadata turns nothing and costs nothing.

    Args:
        data: a whole file of one of `FORMATS`; where it holds several pictures, the first is read.

    Returns:
        (H, W, 3) uint8.

    Raises:
        Exception: it is none of these, is damaged or ends early, has numbers of 32 bits, whose
            range nobody knows, or has too many pixels (`at_most`); of what type is the decoder's.
    """
    file = opened(data)
    if (pixels := jpeg.pixels(file, data)) is not None:
        return pixels
    return np.array(rgb(file))


def opened(data: bytes) -> ImageFile.ImageFile:
    """A picture of one of `FORMATS`: its header is read, no pixel is decoded.

    Raises:
        Exception: as `decode`.
    """
    if data.startswith(metadata.PNG):
        data = metadata.of_png(data)
    try:
        image = _open(data)
    except MemoryError:
        raise
    except Exception:
        bare = metadata.without(data)
        if bare is None:
            raise
        image = _open(bare)
    _check(image.width * image.height)
    return image


def size(data: bytes) -> tuple[int, int]:
    """(height, width) of the upright picture, from its header; no pixel is decoded.

    Args:
        data: as `decode` takes it.

    Raises:
        Exception: as `decode`.
    """
    if data.startswith(metadata.PNG):
        data = metadata.of_png(data, pixels=False)
    return upright_size(opened(data))


def picture(path: pathlib.Path, index: int) -> np.ndarray:
    """The picture in a file, as `decode` gives it, for example `index`.

    Raises:
        Unreadable: as `content`, or the file cannot be decoded.
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
        Unreadable: there is no such file, it is no file but a folder, a device or a pipe, which are
            not opened, or it is larger than `LARGEST`.
        Refused: the system does not give it, whatever is in it: too many open files, no
            permission, a disk that fails. That is no fault of the example, and nothing to skip.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise Unreadable(str(path), index, f"it is {_kind(found.st_mode)}, no file")
        if found.st_size > LARGEST:
            raise Unreadable(
                str(path), index, f"it has {found.st_size:,} bytes, more than {LARGEST:,}"
            )
        return path.read_bytes()
    except ValueError as error:  # a name with a zero byte
        raise Unreadable(repr(str(path)), index, f"no name of a file: {error}") from None
    except OSError as error:
        if error.errno == errno.ENOENT:
            link = ": a link leads to nothing" if path.is_symlink() else ""
            raise Unreadable(str(path), index, f"the file does not exist{link}") from None
        if error.errno in NO_SUCH_FILE:
            said = f"no name of a file: {error.strerror}"
            raise Unreadable(str(path), index, said) from None
        raise Refused(f"{path}, example {index}: cannot be read: {error.strerror}") from error


def length(path: pathlib.Path) -> int:
    """Bytes of a file; -1 where there is none.

    Raises:
        Refused: the system does not say.
    """
    try:
        found = path.stat()
    except ValueError:  # a name with a zero byte
        return -1
    except OSError as error:
        if error.errno in NO_SUCH_FILE:
            return -1
        raise Refused(f"{path} cannot be read: {error.strerror}") from error
    return found.st_size if stat.S_ISREG(found.st_mode) else -1


def reason(error: Exception) -> str:
    """What a decoder says, in one line that is the same in every process."""
    if isinstance(error, UnidentifiedImageError):  # its words hold an address
        return f"no picture of a format that is read: {', '.join(FORMATS)}"
    return " ".join(str(error).split()) or type(error).__name__


def _kind(mode: int) -> str:
    """What stands where a file is wanted."""
    if stat.S_ISDIR(mode):
        return "a folder"
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        return "a pipe or a socket"
    return "a device"


def _open(data: bytes) -> ImageFile.ImageFile:
    if warnings.filters[:1] != [_METADATA]:  # tests and programs set their own
        warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:  # "Image size (N pixels) exceeds"
        found = re.search(r"(\d+) pixels", str(error))
        _check(int(found[1]) if found else 2 * PIXELS)
        raise


def _check(pixels: int) -> None:
    """Refuses so many."""
    most = _most.get()
    if pixels > most:
        raise ValueError(
            f"it has {pixels:,} pixels, more than max_pixels={most}; --max-pixels {pixels} lets it "
            "in"
        )
