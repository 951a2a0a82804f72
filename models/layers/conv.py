"""Padding forms of a convolution, and the size of what comes out.

The convolution itself is `flax.linen.Conv` (1-D: (B, L, C); 2-D: (B, H, W, C)), whose `padding`
takes these forms as they are: a name or a number for all axes, or a list with a number or a pair
(before, after) for each axis. Here a form is that of one axis. The transposed convolution, with the
forms and sizes of its own, is in `models.layers.transposed`.

| form | the axis is extended by |
|---|---|
| "VALID" | nothing |
| "SAME" | zeros, so that ceil(size / stride) come out; an odd one goes after |
| p, or (before, after) | that many zeros on each side, or before and after |
| "CIRCULAR", "REFLECT" | its own other end, or its mirror image (edge not repeated): as many as \
keep the size at stride 1; an odd one goes after |

SciPy's mode "same" puts the odd one of an even kernel *before*: that is (k // 2, (k - 1) // 2).
"""

import operator
from collections.abc import Sequence
from typing import Any

Padding = str | int | tuple[int, int]
"""Of one axis."""
Pads = str | int | Sequence[int | tuple[int, int]]
"""One form for all spatial axes, or one for each; "VALID", "SAME" or numbers."""
CHANNELS_LAST = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC")}
"""Number of spatial axes -> the axes of input, kernel and output, as `jax.lax` names them."""


def pad_width(
    size: int, kernel: int, stride: int = 1, padding: Padding = "SAME", dilation: int = 1
) -> tuple[int, int]:
    """How many elements a padding form adds before and after one axis.

    Args:
        size: of the axis.
        kernel, stride, dilation: of the window that moves along it, in elements.
        padding: see the table above.

    Raises:
        ValueError: names the argument that is no whole number or below 1, or the padding that is
            no form.
    """
    size, kernel = at_least_one("size", size), at_least_one("kernel", kernel)
    stride, dilation = at_least_one("stride", stride), at_least_one("dilation", dilation)
    reach = dilation * (kernel - 1)
    if not isinstance(padding, str):
        return before_and_after(padding)
    if padding == "VALID":
        return 0, 0
    if padding == "SAME":
        total = max((-(-size // stride) - 1) * stride + reach + 1 - size, 0)
        return total // 2, total - total // 2
    if padding in ("CIRCULAR", "REFLECT"):
        return reach // 2, reach - reach // 2
    raise ValueError(f"padding={padding!r} is none of VALID, SAME, CIRCULAR, REFLECT")


def output_size(
    size: int, kernel: int, stride: int = 1, padding: Padding = "SAME", dilation: int = 1
) -> int:
    """Windows that fit on one axis: floor((H + 2p - d (k - 1) - 1) / s) + 1 with p on each side.

    "SAME", "CIRCULAR" and "REFLECT" give ceil(H / s). 0 where not one window fits. Arguments and
    errors are those of `pad_width`.
    """
    padded = size + sum(pad_width(size, kernel, stride, padding, dilation))
    return max((padded - dilation * (kernel - 1) - 1) // stride + 1, 0)


def before_and_after(padding: Any) -> tuple[int, int]:
    """A padding given as one number for both sides, or as one for each."""
    try:
        sides = padding if isinstance(padding, tuple | list) else (padding, padding)
        before, after = map(operator.index, sides)
    except (TypeError, ValueError):
        raise ValueError(f"padding={padding!r} is neither a whole number nor two") from None
    if before < 0 or after < 0:
        raise ValueError(f"padding={padding!r} must not be negative")
    return before, after


def at_least_one(name: str, value: Any) -> int:
    """The value as an int, NumPy's included; refused under its name where it is no such number."""
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise ValueError(f"{name}={value!r} must be a whole number, at least 1")
    return number


def one_an_axis(name: str, value: Any, rank: int) -> list[Any]:
    """A list or tuple as it is, if it has one value for each axis; else the value for all axes."""
    if not isinstance(value, tuple | list):
        return [value] * rank
    if len(value) != rank:
        raise ValueError(f"{name}={value!r} has {len(value)} values for {rank} spatial axes")
    return list(value)
