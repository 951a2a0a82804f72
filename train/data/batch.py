"""Batch: a dict of arrays whose leading axis is the example. A key that is absent is absent.

| key | shape, type | meaning |
|---|---|---|
| `image` | (B, H, W, C) uint8, or float32 once colour has changed it | pixels 0..255 |
| `label` | (B,) int32 | class |
| `boxes` | (B, N, 4) float32 | x0 y0 x1 y1; pixel (r, c) covers [c, c+1) x [r, r+1) |
| `box_label`, `box_valid` | (B, N) int32, bool | class from 0; whether the row is a box |
| `matrix` | (B, 3, 3) float32 | source (x, y, 1) -> `image` (x, y, 1) |
| `size` | (B, 2) int32 | height and width of the source image |
| `index` | (B,) int32 | where in the source the example stands |
| `valid` | (B,) bool | False: padding of the last evaluation batch, or unreadable |

In a source's example the axis B is absent, `boxes` has as many rows as there are boxes, and
`matrix`, `size`, `index` and `valid` are added by the loader.
"""

from collections.abc import Callable

import jax

Batch = dict[str, jax.Array]
Transform = Callable[[jax.Array, Batch], Batch]
"""(key, batch) -> batch, traced: augmentation."""

COORDINATES = ("boxes",)
"""Keys that every geometric augmentation moves by the matrix that moves the pixels."""
