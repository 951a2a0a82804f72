"""Batch: a dict of arrays whose leading axis is the example. A key that is absent is absent.

| key | shape, type | meaning |
|---|---|---|
| `image` | (B, H, W, C) uint8, or float32 once colour has changed it | pixels 0..255 |
| `signal` | (B, L, C) float32 | 1-D data; padding from `length` on |
| `length` | (B,) int32 | how many steps of `signal` are no padding; absent where none is padded |
| `target` | (B, K) float32 | what is regressed or forecast |
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

In a source's example the axis B is absent, ragged axes are as long as the example has them
(`boxes` has as many rows as there are boxes, `signal` as many steps), and the keys that a loader
adds are not there. What else must be known of a key stands in `KEYS`, which all code that handles
keys reads: a new key is a row there. A key that it does not have passes through as it is.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

Batch = dict[str, jax.Array]
Transform = Callable[[jax.Array, Batch], Batch]
"""(key, batch) -> batch, traced: augmentation."""


class Key(NamedTuple):
    """What is known of a key.

    Attributes:
        dtype: of its values in a batch; None: what the source gives.
        shape: of an example's, without B: a number of places, or the name of an axis.
        ragged: where examples may differ in the length of the first axis, the key that a loader's
            `capacity` names for it; keys with the same one have equally many rows.
        valid: the key that says what of this axis is no padding: a bool a row, or how many.
        moves: what a map of the image plane does to it: "pixels" are read at other places,
            "corners" are moved.
        annotation: for which annotation a data set is asked that has it (`train.data.keys`), and
            `truth` gives it; "": it is no annotation, a network may read it.
        added: by the loader; no source need give it.
    """

    dtype: Any
    shape: tuple[str | int, ...]
    ragged: str = ""
    valid: str = ""
    moves: Literal["", "pixels", "corners"] = ""
    annotation: str = ""
    added: bool = False


def _box(dtype: Any) -> Key:
    return Key(dtype, ("N",), ragged="boxes", valid="box_valid", annotation="boxes")


# fmt: off
KEYS: dict[str, Key] = {
    "image": Key(None, ("H", "W", "C"), moves="pixels"),
    "signal": Key(np.float32, ("L", "C"), ragged="signal", valid="length"),
    "length": Key(np.int32, ()),
    "target": Key(np.float32, ("K",), annotation="target"),
    "label": Key(np.int32, (), annotation="label"),
    "boxes": _box(np.float32)._replace(shape=("N", 4), moves="corners"),
    "box_label": _box(np.int32),
    "box_valid": _box(np.bool_),
    "box_crowd": _box(np.bool_),
    "box_difficult": _box(np.bool_),
    "proposals": Key(
        np.float32, ("P", 4), ragged="proposals", valid="proposal_valid", moves="corners"
    ),
    "proposal_valid": Key(np.bool_, ("P",), ragged="proposals", valid="proposal_valid"),
    "mask": Key(np.uint8, ("H", "W"), moves="pixels", annotation="mask"),
    "matrix": Key(np.float32, (3, 3), added=True),
    "size": Key(np.int32, (2,), added=True),
    "index": Key(np.int32, (), added=True),
    "epoch": Key(np.int32, (), added=True),
    "valid": Key(np.bool_, (), added=True),
    "replaced": Key(np.bool_, (), added=True),
}
# fmt: on
"""All keys of a batch."""

INPUTS = tuple(key for key, row in KEYS.items() if not (row.annotation or row.added))
"""Keys that a network may read; a source's others are annotations."""

COORDINATES = tuple(key for key, row in KEYS.items() if row.moves == "corners")
"""Keys that every geometric augmentation moves by the matrix that moves the pixels."""

RAGGED = {key: row.valid for key, row in KEYS.items() if key == row.ragged}
"""Key that may have a capacity -> the key that says what of it is no padding."""

IGNORE = 255
"""A mask's pixel that belongs to no class and weighs nothing."""


def rows_of(key: str, example: Any) -> list[str]:
    """The keys of an example or a batch that have a row for each row of `key`, itself among them.

    Args:
        key: of `RAGGED`.
        example: any mapping or sequence of keys.
    """
    return [name for name in example if name in KEYS and KEYS[name].ragged == key]
