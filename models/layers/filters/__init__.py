"""Classical filters of pictures (B, H, W, C): point-wise, linear, edges, median.

What a network learns, these fix by hand: g = h(f) for each point (`pointwise`), a kernel that
slides over the picture (`linear`, `edges`), or an order within a window (`rank`). All are pure
functions, work under `jax.jit`, `vmap` and `grad`, treat every example and channel by itself, and
keep the size.

*Types.* Floating pictures keep their dtype; what is computed in between has at least float32 and
is rounded once. Of integers, point-wise filters and the median keep the dtype too, rounding to the
nearest (even at a tie) and clipping to what it holds; linear filters and edges return float32,
since a gradient is signed and a mean has a fraction.

*White.* Nobody guesses from the pixels whether they end at 1 or at 255. Where it matters, `white`
says which value is white (black is 0). It is 1.0 for floats and the largest number of an unsigned
integer by default (255 for uint8); signed integers have no default. Floats are never clipped.

*Borders.* `mode` names what lies outside, as in `scipy.ndimage`: see `borders`.
"""

from models.layers.filters.edges import (
    Gradient,
    direction,
    laplacian,
    laplacian_of_gaussian,
    magnitude,
    prewitt,
    scharr,
    sobel,
)
from models.layers.filters.linear import (
    box,
    convolve,
    correlate,
    emboss,
    gaussian,
    sharpen,
    unsharp_mask,
)
from models.layers.filters.pointwise import (
    brightness,
    contrast,
    equalise_histogram,
    gamma,
    invert,
    threshold,
)
from models.layers.filters.rank import median

__all__ = [
    "Gradient",
    "box",
    "brightness",
    "contrast",
    "convolve",
    "correlate",
    "direction",
    "emboss",
    "equalise_histogram",
    "gamma",
    "gaussian",
    "invert",
    "laplacian",
    "laplacian_of_gaussian",
    "magnitude",
    "median",
    "prewitt",
    "scharr",
    "sharpen",
    "sobel",
    "threshold",
    "unsharp_mask",
]
