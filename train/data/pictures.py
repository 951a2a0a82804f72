"""Pictures: files and arrays of any size as a source of images alone, in a run's channels."""

import errno
import hashlib
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from models.pretrained.picture import rgb, upright
from train.data import decode
from train.data.decode import Unreadable
from train.data.source import About, Example
from train.refusal import Refused

Picture = str | os.PathLike | np.ndarray
"""A file, or (H, W, C) or (H, W) uint8."""

ALPHA = 4
"""Channels of colour and opacity."""
FORBIDDEN = (errno.EACCES, errno.EPERM)


class Pictures:
    """A source of `image` alone; a file that can't be read is `Unreadable` when it is asked for."""

    def __init__(self, pictures: Sequence[Picture], channels: int):
        """Nothing is read yet.

        Args:
            pictures: at least one.
            channels: that all are brought to: 1 is grey, 3 colour, 4 colour and opacity.

        Raises:
            Refused: an array is no picture; names its place, type and shape.
        """
        self.about = About("pictures", "given", (), mirror=False)
        self._pictures = [_checked(i, picture) for i, picture in enumerate(pictures)]
        self._channels = channels

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, i: int) -> Example:
        picture = self._pictures[i]
        if isinstance(picture, np.ndarray):
            return {"image": in_channels(picture, self._channels, f"pictures[{i}]")}
        return {"image": in_channels(self._read(picture, i), self._channels, str(picture))}

    def truth(self, i: int) -> dict[str, Any]:
        """Nothing is known of them."""
        return {}

    def name(self, i: int) -> str | None:
        """The file of picture i; None of an array."""
        picture = self._pictures[i]
        return None if isinstance(picture, np.ndarray) else str(picture)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the names of the files, and of the arrays."""
        digest = hashlib.sha256()
        for one in self._pictures:
            digest.update(one.tobytes() if isinstance(one, np.ndarray) else os.fsencode(one))
        return digest.hexdigest()

    def _read(self, path: pathlib.Path, i: int) -> np.ndarray:
        try:
            if self._channels != ALPHA:
                return decode.picture(path, i)
            return _with_opacity(decode.content(path, i), path, i)
        except Unreadable:
            raise
        except Refused as error:
            # Of a training set it would be missing; here the others can be told all the same.
            if getattr(error.__cause__, "errno", None) not in FORBIDDEN:
                raise
            why = f"cannot be read: {os.strerror(error.__cause__.errno)}"  # type: ignore[union-attr]
            raise Unreadable(str(path), i, why) from error


def in_channels(image: np.ndarray, channels: int, name: str) -> np.ndarray:
    """(H, W, C) uint8 -> (H, W, channels): grey is repeated, colour weighed as Rec. 601 does,
    opacity left out, or full where there was none.

    Raises:
        Refused: it can't be brought to them; names the picture.
    """
    has = image.shape[-1]
    if has == channels:
        return image
    if has not in (1, 3, ALPHA) or channels not in (1, 3, ALPHA):
        raise Refused(f"{name} has {has} channels; the run takes images of {channels}")
    colour = image[..., :3] if has >= 3 else image.repeat(3, axis=-1)
    if channels == 1:
        return np.asarray(Image.fromarray(np.ascontiguousarray(colour)).convert("L"))[..., None]
    if channels == ALPHA:
        return np.concatenate([colour, np.full_like(colour[..., :1], 255)], axis=-1)
    return colour


def _checked(i: int, picture: Picture) -> pathlib.Path | np.ndarray:
    if isinstance(picture, str | os.PathLike):
        return pathlib.Path(picture)
    image = np.asarray(picture)
    image = image[..., None] if image.ndim == 2 else image
    if image.ndim != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise Refused(
            f"pictures[{i}] is {image.dtype} {image.shape}; wanted: a file, or uint8 "
            "(height, width, channels)"
        )
    return image


def _with_opacity(data: bytes, path: pathlib.Path, i: int) -> np.ndarray:
    try:
        image = upright(decode.opened(data))
        if image.mode.startswith("I"):  # 16 bits, which Pillow converts to no other mode
            image = rgb(image)
        return np.array(image.convert("RGBA"))
    except MemoryError:
        raise
    except Exception as error:  # decoders raise what they like
        why = f"cannot be decoded: {decode.reason(error)}"
        raise Unreadable(str(path), i, why) from error
