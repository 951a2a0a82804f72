"""Scenes composed of small grey pictures: boxes, classes and masks, made from an index alone.

`Scenes` makes every value of the frozen benchmark `digit_scenes`: float64, these operations in this
order. Random words are raw 64-bit outputs of NumPy's Philox, the same on every platform; an integer
in [low, high] is low + word mod (high - low + 1).
"""

import functools
import hashlib
from typing import Any, NamedTuple

import numpy as np

from train.data.legend import Colours
from train.data.source import About, Example, Source
from train.refusal import Refused

SIZE = 96
"""Height and width of a scene."""
CAPACITY = 8
"""Most objects in a scene."""
FULL = 16.0
"""The brightest value of a picture once it is scaled: that of scikit-learn's digits."""
INK = 5.937
"""Of `FULL`: brighter pixels belong to the object."""
SEED = 0
"""Of the benchmark, whatever a run's seed is."""

ROW = np.dtype(
    [
        ("image", np.uint8, (SIZE, SIZE, 3)),
        ("mask", np.uint8, (SIZE, SIZE)),
        ("boxes", "<f4", (CAPACITY, 4)),
        ("box_label", "<i4", (CAPACITY,)),
        ("count", np.uint8),
    ]
)
"""A scene as `train.data.cache` keeps it."""

_NOISE = SIZE * SIZE * 3
_DRAWS = 1 + 4 * 4 * 3 + 1 + 6 * 8 + 1 + CAPACITY * 8
"""Words before the noise, at most."""

# fmt: off
PALETTE: Colours = (
    (0, 0, 0), (204, 102, 119), (51, 34, 136), (221, 204, 119), (17, 119, 51), (136, 204, 238),
    (136, 34, 85), (68, 170, 153), (153, 153, 51), (170, 68, 153), (221, 221, 221),
)
# fmt: on
"""Background and ten classes: Tol's muted colours (2021), which stay apart without red or green."""


class _Object(NamedTuple):
    """One picture in a scene: what it is, where it stands and how it is drawn."""

    label: int
    box: tuple[int, int, int, int]
    top: int
    left: int
    value: np.ndarray
    """(size, size) float64, 0..16."""
    colour: list[int]
    opacity: int


class _Plan(NamedTuple):
    """All that the words before the noise decide."""

    corners: list[int]
    bars: list[tuple[slice, slice, list[int]]]
    objects: list[_Object]
    noise: np.ndarray
    """(96 * 96 * 3,) uint64."""


class Scenes:
    """Scenes of 96x96x3 with 0 to 8 pictures, bars that are no object, coloured ground, noise.

    A scene is a function of (part, index). Boxes never overlap, and are those of a picture's ink.
    Examples: image (96, 96, 3) uint8; mask (96, 96) uint8, 0 background, class + 1 elsewhere; boxes
    (n, 4) float32; box_label (n,) int32. A picture without ink at the size drawn is left out.
    """

    def __init__(self, pictures: Source, length: int, part: int, full: int, about: About):
        """See `scenes_of`.

        Args:
            pictures: (h, w, 1) uint8 images and labels, those of this part alone.
            length: number of scenes.
            part: 0, 1 or 2; parts are made from other words.
            full: the brightest value that a picture's pixels may have.
            about: of the scenes.

        Raises:
            Refused: the pictures are not of one shape with one channel, or of one pixel's height
                or width.
        """
        shape = pictures.about.shape
        if shape is None or len(shape) != 3 or shape[2] != 1 or min(shape[:2]) < 2:
            raise Refused(
                f"data={pictures.about.name!r} has images of shape {shape}; scenes are composed of "
                "grey ones of one shape, (height, width, 1), at least 2x2"
            )
        self.about = about
        self._pictures, self._length, self._part = pictures, length, part
        self._scale = FULL / full

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, i: int) -> Example:
        plan = self._plan(i, _NOISE)
        return {"image": _paint(plan), **_truth(plan)}

    def truth(self, i: int) -> dict[str, Any]:
        """The annotations of scene i; no image is made."""
        return _truth(self._plan(i, 0))

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the pictures' fingerprint, the part, the number of scenes and the recipe's."""
        facts = ("scenes 1", self._pictures.fingerprint, self._part, self._length, self._scale)
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    def _plan(self, i: int, noise: int) -> _Plan:
        if not 0 <= i < self._length:
            raise IndexError(f"index {i} is outside 0..{self._length - 1}")
        bits = np.random.Philox(key=np.array([SEED, self._part * 2**32 + i], np.uint64))
        words = bits.random_raw(_DRAWS + noise)
        draw = _Draws(words[:_DRAWS].tolist())
        ground, strokes = ((0, 120), (110, 255))[:: 1 if draw(0, 1) else -1]
        corners = [draw(*ground) for _ in range(4 * 4 * 3)]
        bars = [_bar(draw, strokes) for _ in range(draw(0, 6))]
        objects: list[_Object] = []
        for _ in range(draw(0, CAPACITY)):
            one = self._object(draw, strokes)
            if one is not None and not any(_overlap(one.box, other.box) for other in objects):
                objects.append(one)
        return _Plan(corners, bars, objects, words[draw.spent : draw.spent + noise])

    def _object(self, draw: "_Draws", strokes: tuple[int, int]) -> _Object | None:
        which, size, opacity = draw(0, len(self._pictures) - 1), draw(10, 32), draw(96, 255)
        colour = [draw(*strokes) for _ in range(3)]
        top, left = draw(0, SIZE - size), draw(0, SIZE - size)
        picture = self._pictures[which]
        value = _resize(picture["image"][..., 0] * self._scale, size)
        ink = value > INK
        rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
        if not rows.size:
            return None
        x0, x1 = left + int(columns[0]), left + int(columns[-1]) + 1
        y0, y1 = top + int(rows[0]), top + int(rows[-1]) + 1
        label = int(picture["label"])
        return _Object(label, (x0, y0, x1, y1), top, left, value, colour, opacity)


class _Draws:
    """Integers from a scene's words, in order."""

    def __init__(self, words: list[int]):
        self._words = words
        self.spent = 0

    def __call__(self, low: int, high: int) -> int:
        """In [low, high], both ends included."""
        word = self._words[self.spent]
        self.spent += 1
        return low + word % (high - low + 1)


def _bar(draw: _Draws, strokes: tuple[int, int]) -> tuple[slice, slice, list[int]]:
    colour = [draw(*strokes) for _ in range(3)]
    length, thick = draw(8, 32), draw(1, 4)
    height, width = (length, thick) if draw(0, 1) else (thick, length)
    top, left = draw(0, SIZE - height), draw(0, SIZE - width)
    return slice(top, top + height), slice(left, left + width), colour


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    return min(a[2], b[2]) > max(a[0], b[0]) and min(a[3], b[3]) > max(a[1], b[1])


def _paint(plan: _Plan) -> np.ndarray:
    """(96, 96, 3) uint8."""
    image = _resize(np.array(plan.corners, np.float64).reshape(4, 4, 3), SIZE)
    for rows, columns, colour in plan.bars:
        image[rows, columns] = colour
    for one in plan.objects:
        size = len(one.value)
        window = image[one.top : one.top + size, one.left : one.left + size]
        alpha = np.clip(one.value / 12, 0, 1)[..., None] * (one.opacity / 255)
        window[:] = window * (1 - alpha) + np.array(one.colour, np.float64) * alpha
    low = plan.noise.astype(np.uint16)  # two draws of 0..31 stand in the lowest ten bits
    noise = (low & 31).astype(np.int16) + ((low >> 5) & 31).astype(np.int16) - np.int16(31)
    image += noise.reshape(image.shape)
    image += 0.4973  # rounding, away from ties
    return np.clip(image, 0, 255, out=image).astype(np.uint8)  # what is not negative: its floor


def _truth(plan: _Plan) -> dict[str, np.ndarray]:
    mask = np.zeros((SIZE, SIZE), np.uint8)
    for one in plan.objects:
        size = len(one.value)
        window = mask[one.top : one.top + size, one.left : one.left + size]
        window[one.value > INK] = one.label + 1
    return {
        "mask": mask,
        "boxes": np.array([one.box for one in plan.objects], np.float32).reshape(-1, 4),
        "box_label": np.array([one.label for one in plan.objects], np.int32),
    }


def _resize(grid: np.ndarray, size: int) -> np.ndarray:
    """Bilinear, half-pixel centres, edges repeated, rows before columns: (h, w, ...) ->
    (size, size, ...) float64.
    """
    y0, dy = _weights(grid.shape[0], size)
    x0, dx = _weights(grid.shape[1], size)
    more = (1,) * (grid.ndim - 2)
    dy, dx = dy.reshape(-1, 1, *more), dx.reshape(1, -1, *more)
    rows = grid[y0] * (1 - dy) + grid[y0 + 1] * dy
    return rows[:, x0] * (1 - dx) + rows[:, x0 + 1] * dx


@functools.cache
def _weights(size: int, to: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each of `to` places: the pixel before it, and how far it is beyond that one's centre."""
    at = np.clip((np.arange(to) + 0.5) * size / to - 0.5, 0, size - 1)
    before = np.minimum(at.astype(int), size - 2)
    return before, at - before
