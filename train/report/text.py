"""Text in pictures: in DejaVu Sans, and in a bundled font what that one lacks."""

import base64
import functools
import io
import itertools
import pathlib
from importlib.util import find_spec

from PIL import Image, ImageDraw, ImageFont

from train.legible import legible

CJK = pathlib.Path(__file__).parent / "fonts" / "WenQuanYiMicroHei-CJK.ttf"
"""Chinese, Japanese and Korean; its licence lies beside it."""
FAMILY = "WenQuanYi Micro Hei"
"""What it calls itself."""
SIZE = 11
FILES = pathlib.Path(find_spec("matplotlib").origin).parent / "mpl-data"  # type: ignore
"""Matplotlib's own, found without its import."""
FONTS = (FILES / "fonts" / "ttf" / "DejaVuSans.ttf", CJK)
"""The first that has a character draws it."""


def draw_text(
    picture: Image.Image,
    at: tuple[float, float],
    text: str,
    *,
    fill: str = "black",
    width: float | None = None,
    size: int = SIZE,
) -> None:
    r"""Write a line, its upper left corner at x and y.

    Args:
        picture: is drawn on.
        at: x, y in pixels.
        text: characters that no font has are escaped, as `\u0e41`.
        fill: its colour.
        width: pixels that there are; what is longer, at the usual size, ends in an ellipsis.
        size: of the font, in pixels.
    """
    draw = ImageDraw.Draw(picture)
    x, y = at
    base = y + _font(FONTS[0], size).getmetrics()[0]
    shown = text if width is None else shortened(text, width)
    for path, piece in pieces(shown):
        font = _font(path, size)
        draw.text((x, base), piece, fill=fill, font=font, anchor="ls")
        x += font.getlength(piece)


def extent(text: str, *, size: int = SIZE) -> tuple[float, int]:
    """Width and height in pixels of a line, its font of that size."""
    width = sum(_font(path, size).getlength(piece) for path, piece in pieces(text))
    return width, sum(_font(FONTS[0], size).getmetrics())


def shortened(text: str, width: float) -> str:
    """As much of the text as fits, and an ellipsis in place of the rest."""
    if extent(text)[0] <= width:
        return text
    return next(
        (cut for end in range(len(text) - 1, 0, -1) if extent(cut := text[:end] + "…")[0] <= width),
        "",
    )


def pieces(text: str) -> list[tuple[pathlib.Path, str]]:
    """The text in parts of one font each; what none has, and what is no text, is escaped."""
    found = []
    for character in legible(text):
        path = next((one for one in FONTS if ord(character) in _characters(one)), None)
        if path is None:
            character = character.encode("unicode_escape").decode()
        found.append((path or FONTS[0], character))
    parts = itertools.groupby(found, key=lambda pair: pair[0])
    return [(path, "".join(piece for _, piece in pairs)) for path, pairs in parts]


def face(text: str) -> str:
    """CSS that brings what the text needs of `CJK` along, where the reader has no such font.

    Args:
        text: of a page or an SVG.

    Returns:
        An `@font-face` of the family `FAMILY`; "" where the text needs nothing of it.
    """
    odd = {character for character in text if character > "\u2000"}
    return _face("".join(sorted(odd & _bundled()))) if odd else ""


@functools.cache
def _face(characters: str) -> str:
    if not characters:
        return ""
    from fontTools import subset, ttLib

    options = subset.Options(hinting=False, notdef_outline=True, layout_features=[])
    part = ttLib.TTFont(CJK, recalcTimestamp=False)
    chosen = subset.Subsetter(options)
    chosen.populate(text=characters)
    chosen.subset(part)
    out = io.BytesIO()
    part.flavor = "woff"
    part.save(out)
    data = base64.b64encode(out.getvalue()).decode()
    # Blocked: what Chromium lays out before it has read the font may keep its boxes.
    rules = f"font-family: '{FAMILY}'; font-display: block; src: url(data:font/woff;base64,{data})"
    return f"@font-face {{ {rules}; }}"


@functools.cache
def _bundled() -> frozenset[str]:
    return frozenset(map(chr, _characters(CJK) - _characters(FONTS[0])))


@functools.cache
def _font(path: pathlib.Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)


@functools.cache
def _characters(path: pathlib.Path) -> frozenset[int]:
    from fontTools.ttLib import TTFont

    with TTFont(path, lazy=True) as font:
        return frozenset(font.getBestCmap())
