"""From figures, pixels and values to HTML that needs no other file."""

import base64
import functools
import io
import math
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from train.files import cause
from train.legible import legible
from train.metrics.quantities import COUNT, SHARE, quantity
from train.report.figures import Draw, svg
from train.report.text import face

if TYPE_CHECKING:  # imported late: most commands write no page
    import jinja2

SMALL = 64
"""Longest side in pixels of a picture that is embedded as it is."""
SHRUNK = 192
"""Longest side of a larger picture once embedded."""


def render(template: str, **values: Any) -> Markup:
    """A template of this folder, filled; every value that is not `Markup` is escaped.

    What can't be shown of a text (`train.report.names.legible`) is written in its stead.
    """
    return Markup(_environment().get_template(template).render(**values))


def written(page: str) -> bytes:
    """A page as its file has it: in UTF-8, and with what its text needs of the bundled font."""
    text = str(page)  # `Markup` would escape the quotes of what is put in
    text = text.replace("</style>", f"{face(text)}\n</style>", 1)
    return text.encode("utf-8", "backslashreplace")


def figure(draw: Draw, alt: str) -> Markup:
    """An `<img>` that holds as SVG the figure that `draw` makes, its text as text."""
    drawn, width, height = svg(draw)
    return Markup('<img alt="{}" width="{:.0f}" height="{:.0f}" src="{}">').format(
        legible(alt), 96 * width, 96 * height, _data("image/svg+xml", drawn.encode())
    )


def shown(make: Callable[[], Markup]) -> Markup:
    """Pictures of one example, or why there are none: an unreadable file costs no section."""
    try:
        return make()
    except Exception as error:
        return Markup('<p class="failed">No picture: {}.</p>').format(legible(cause(error)))


def picture(pixels: np.ndarray, alt: str) -> Markup:
    """An `<img>` of (H, W, C): small ones exact, as PNG, others shrunk, as JPEG.

    Three channels are colour and so are the first three of four, without the opacity; of any other
    number the first is shown in grey. What is not uint8 is rounded and clipped to it, NaN is black:
    a picture is no reason to lose the page of a long run.
    """
    if pixels.dtype != np.uint8:
        wide = np.nan_to_num(pixels.astype(np.float64))
        pixels = np.clip(np.rint(wide), 0, 255).astype(np.uint8)
    image = Image.fromarray(pixels[..., :3] if pixels.shape[-1] in (3, 4) else pixels[..., 0])
    small = max(image.size) <= SMALL
    if not small:
        image.thumbnail((SHRUNK, SHRUNK))
    out = io.BytesIO()
    if small:
        image.save(out, "PNG", optimize=True)
    else:
        image.save(out, "JPEG", quality=85)
    source = _data("image/png" if small else "image/jpeg", out.getvalue())
    return Markup('<img class="{}" alt="{}" src="{}">').format(
        "pixels" if small else "photo", legible(alt), source
    )


def drawing(pixels: np.ndarray, alt: str, *, longest: int = SHRUNK) -> Markup:
    """An `<img>` of (H, W, 3) uint8 in few colours: PNG, shrunk by leaving pixels out.

    Args:
        pixels: the picture.
        alt: what is said of it.
        longest: its longest side in pixels, at most.
    """
    image = Image.fromarray(pixels)
    factor = longest / max(image.size)
    if factor < 1:
        width, height = (max(round(n * factor), 1) for n in image.size)
        image = image.resize((width, height), Image.Resampling.NEAREST)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return Markup('<img class="pixels" alt="{}" src="{}">').format(
        legible(alt), _data("image/png", out.getvalue())
    )


def number(value: Any, digits: int = 4) -> str:
    """1,234 for counts, `digits` decimals below 10 and one less for every digit more.

    A dash for what does not exist.
    """
    if value is None or not math.isfinite(value):
        return "–"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if not (1e-3 <= abs(value) < 1e6 or value == 0):
        return f"{value:.3g}"
    decimals = digits - (len(f"{abs(value):.0f}") - 1)
    return f"{value:,.{max(decimals, 0)}f}"


def percent(value: Any, decimals: int = 2) -> str:
    """0.9876 -> 98.76 %, a dash for what does not exist."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{100 * value:.{decimals}f}\N{NARROW NO-BREAK SPACE}%"


def score(name: str, value: Any) -> str:
    """A quantity as its unit in `train.metrics.quantities` wants it."""
    unit = quantity(name).unit
    if unit == SHARE:
        return percent(value)
    if unit == COUNT and value is not None and math.isfinite(value):
        return number(round(value))
    return number(value)


def _legible(value: Any) -> Any:
    return legible(value) if type(value) is str else value


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


@functools.cache
def _environment() -> "jinja2.Environment":
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_legible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"number": number, "percent": percent}
    return made
