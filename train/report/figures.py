"""Figures: drawn under settings of our own, whatever the user has set up for matplotlib."""

import contextlib
import functools
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from PIL import Image

from train.data.decode import decode
from train.report.text import CJK, FAMILY, FILES, face

if TYPE_CHECKING:  # matplotlib takes a second to import, and most commands draw nothing
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, distinct to colour-blind readers."""
OURS = {
    "font.family": ["DejaVu Sans", FAMILY],
    "svg.fonttype": "none",  # text as text: readable in every script, and a tenth of the size
    "svg.hashsalt": "svertka",  # the same figure is the same bytes
}

Draw = Callable[[], "Figure"]
"""Imports what it needs of matplotlib itself, and makes a `matplotlib.figure.Figure`."""


@contextlib.contextmanager
def own_settings() -> Iterator[None]:
    """Inside, matplotlib's defaults and `OURS` hold; `matplotlibrc` and `MPLBACKEND` do not.

    A notebook's backend, which a command inherits, or TeX for all text must end no run.
    """
    # What it says of its cache, of fonts and of settings is of no use to who trains.
    logging.getLogger("matplotlib").setLevel(logging.CRITICAL)
    with _environment(MPLBACKEND=None):  # one that is unknown ends the import
        try:
            import matplotlib
        except Exception:  # a file of settings that is no text does too
            for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
                del sys.modules[name]  # else what is half imported is taken for whole
            with _environment(MATPLOTLIBRC=str(FILES / "matplotlibrc")):
                import matplotlib
    plain: dict[Any, Any] = dict(matplotlib.rcParamsDefault)
    for name in ("backend", "backend_fallback"):  # no window is opened, and none is chosen anew
        plain.pop(name, None)
    with warnings.catch_warnings():
        # The fonts that measure the text may lack a script that the reader's fonts have.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        warnings.filterwarnings("ignore", "Matplotlib currently does not support")
        _add_font()
        with matplotlib.rc_context(plain | OURS):
            yield


@contextlib.contextmanager
def _environment(**values: str | None) -> Iterator[None]:
    """Inside, variables of the environment are these; None for one that is not set."""
    before = {name: os.environ.pop(name, None) for name in values}
    os.environ.update({name: value for name, value in values.items() if value is not None})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@functools.cache
def _add_font() -> None:
    from matplotlib.font_manager import fontManager

    fontManager.addfont(CJK)


def svg(draw: Draw) -> tuple[str, float, float]:
    """A figure as SVG, which brings the bundled font along; its width and height in inches."""
    out = io.StringIO()
    with own_settings():
        drawn = draw()
        drawn.savefig(out, format="svg", metadata={"Date": None})
    width, height = drawn.get_size_inches()
    text = out.getvalue()
    if font := face(text):
        text = text.replace("<defs>", f"<defs>\n  <style>{font}</style>", 1)
    return text, float(width), float(height)


def png(draw: Draw, *, dpi: int = 150) -> bytes:
    """A figure as PNG."""
    out = io.BytesIO()
    with own_settings():
        draw().savefig(out, format="png", dpi=dpi)
    return out.getvalue()


def image(draw: Draw, *, dpi: int = 100) -> Image.Image:
    """A figure as a picture, to stand among others."""
    return Image.fromarray(decode(png(draw, dpi=dpi)))


def light(axes: "Axes") -> None:
    """Small ticks, pale lines behind the data, two sides of a frame."""
    axes.tick_params(labelsize=8, length=3, color="#888888")
    axes.grid(True, color="#E6E6E6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#888888")
