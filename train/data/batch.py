"""Batch: a dict of arrays whose leading axis is the example. A key that is absent is absent.

| key | shape, type | meaning |
|---|---|---|
| `image` | (B, H, W, C) uint8, or float32 once colour has changed it | pixels 0..255 |
| `signal` | (B, L, C) float32 | 1-D data |
| `label` | (B,) int32, or (B, K) float32 once examples are mixed | class |
| `boxes` | (B, N, 4) float32 | x0 y0 x1 y1; pixel (r, c) covers [c, c+1) x [r, r+1) |
| `box_label`, `box_valid` | (B, N) int32, bool | class from 0; whether the row is a box |
| `box_crowd`, `box_difficult` | (B, N) bool | COCO's crowd, VOC's difficult |
| `proposals`, `proposal_valid` | (B, P, 4) float32, (B, P) bool | regions computed beforehand |
| `mask` | (B, H, W) uint8 | class a pixel, 255 = ignore; 0 = background where the set has one |
| `matrix` | (B, 3, 3) float32 | source (x, y, 1) -> `image` (x, y, 1) |
| `size` | (B, 2) int32 | height and width of the source image |
| `index` | (B,) int32 | where in the source the example stands |
| `epoch` | (B,) int32 | how often the source was gone through before |
| `valid` | (B,) bool | False: padding of the last evaluation batch, or unreadable |
| `replaced` | (B,) bool | in training, stands in for an example that could not be read |

In a source's example the axis B is absent, `boxes` has as many rows as there are boxes, and
`matrix`, `size`, `index`, `epoch`, `valid` and `replaced` are added by the loader.
"""

from collections.abc import Callable

import jax

Batch = dict[str, jax.Array]
Transform = Callable[[jax.Array, Batch], Batch]
"""(key, batch) -> batch, traced: augmentation."""

COORDINATES = ("boxes", "proposals")
"""Keys that every geometric augmentation moves by the matrix that moves the pixels."""

IGNORE = 255
"""A mask's pixel that belongs to no class and weighs nothing."""
