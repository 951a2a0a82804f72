"""Endings: what the name of a picture ends with, of those that are read and of others."""

import os
import warnings

from PIL import Image

from train.data import decode

_KNOWN = Image.registered_extensions()
ENDINGS = frozenset((".jif", ".jfi", ".mpo")) | {
    ending for ending, name in _KNOWN.items() if name in decode.FORMATS
}
"""What the name of a picture that is read ends with, in lower case."""

_NO_PICTURES = ("BUFR", "GRIB", "HDF5", "IPTC", "MPEG", "PDF")
"""Data, films and documents, which Pillow has a name for too."""
UNREAD = (
    frozenset(
        (
            ".3fr", ".ai", ".arw", ".avif", ".avifs", ".bpg", ".cr2", ".cr3", ".crw", ".dcm",
            ".dicom", ".djvu", ".dng", ".erf", ".exr", ".flif", ".hdr", ".heic", ".heif", ".heics",
            ".hif", ".iff", ".jng", ".jp3", ".jpm", ".jxl", ".jxr", ".kdc", ".mef", ".mng", ".mos",
            ".mrw", ".nef", ".nrw", ".orf", ".pam", ".pef", ".pict", ".pct", ".psb", ".raf",
            ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".svg", ".svgz", ".wbmp", ".wdp",
            ".x3f", ".xcf",
        )
    )
    | {ending for ending, name in _KNOWN.items() if name not in _NO_PICTURES}
) - ENDINGS  # fmt: skip
"""What the name of a picture ends with that is not read: it must not be missing unsaid."""


def ending(name: str) -> str:
    """Of a file's name, in lower case, with its dot; "" where there is none."""
    return os.path.splitext(name.rstrip())[1].lower()


def is_one(path: str) -> bool:
    """Whether a file is a picture of a format that is read, by its content; its header is read."""
    with warnings.catch_warnings(action="ignore"):
        try:
            with Image.open(path, formats=decode.FORMATS):
                return True
        except Image.DecompressionBombError:
            return True
        except Exception:  # decoders raise what they like
            return False
