"""Host stages: what brings an example of any size to a shape before it crosses to the device.

Each chooses a rectangle of the source and where in the image it goes; `train.data.stretch` takes it
there, and says so in `matrix` and `size`, which the device's geometry goes on from.
"""

import dataclasses
import math
from typing import ClassVar, NamedTuple, Protocol

import numpy as np

from train.augment.kinds import Shape
from train.data.order import order
from train.data.source import Example
from train.data.stretch import Piece, bring
from train.refusal import Refused

TRIES = 10


class Stage(Protocol):
    """(example, shape, rng) -> an example whose image has that height and width; it pickles.

    `rng` is the example's own, from (seed, epoch, slot) alone. `random` says whether it is used.
    """

    @property
    def random(self) -> bool: ...

    def __call__(self, example: Example, shape: Shape, rng: np.random.Generator) -> Example: ...


class Host(NamedTuple):
    """How a loader brings examples of any size to a shape.

    Attributes:
        stage: applied to each example.
        shapes: declared heights and widths; a step has one of them, and each compiles once.
        every: steps from one drawing of the shape to the next.
    """

    stage: Stage
    shapes: tuple[Shape, ...]
    every: int = 1

    def shape(self, step: int) -> Shape:
        """The shape of a step: a function of the step alone.

        Whichever they are, `len(shapes)` blocks of `every` steps have each shape once.
        """
        lap, turn = divmod(step // self.every, len(self.shapes))
        return self.shapes[int(order(0, lap, turn, len(self.shapes)))]


def check(host: Host) -> None:
    """Refuses a host stage that could not work.

    Raises:
        Refused: no shapes, one that is not two positive integers, or a field that is not positive.
    """
    if not host.shapes:
        raise Refused("host.shapes=() declares none")
    for shape in host.shapes:
        if len(shape) != 2 or not all(isinstance(n, int) and n > 0 for n in shape):
            raise Refused(f"host.shapes: {shape!r} is not a height and a width in pixels")
    if len(set(host.shapes)) < len(host.shapes):
        raise Refused(f"host.shapes={host.shapes} names one twice")
    if host.every < 1:
        raise Refused(f"host.every={host.every} is not positive")


def generator(seed: int, epoch: int, slot: int) -> np.random.Generator:
    """The random numbers of one example: Philox, its key the seed and epoch, its counter the slot.

    Draw by `random()` alone, which is a shift and a product of raw words: those are the same in
    every version of NumPy, what other distributions make of them need not be.
    """
    key = np.array([seed % 2**32, epoch % 2**32], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, slot]))


@dataclasses.dataclass(frozen=True)
class Resize:
    """The whole image stretched to the shape; the ratio of its sides is lost."""

    random: ClassVar[bool] = False

    def __call__(self, example: Example, shape: Shape, rng: np.random.Generator) -> Example:
        del rng
        height, width = example["image"].shape[:2]
        return bring(example, shape, Piece((0, 0, width, height), (0, 0, *shape[::-1])))


@dataclasses.dataclass(frozen=True)
class Letterbox:
    """The whole image as large as fits, in the middle; an odd row or column goes below or right.

    Its height and width are rounded to whole pixels, and `matrix` holds what they then are.

    Attributes:
        fill: what lies around it, one value or one a channel, 0..255. Images of another number of
            channels are refused.
    """

    fill: float | tuple[float, ...] = 114.0
    random: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not np.all((np.asarray(self.fill) >= 0) & (np.asarray(self.fill) <= 255)):
            raise ValueError(f"fill={self.fill!r} is not in 0..255")

    def __call__(self, example: Example, shape: Shape, rng: np.random.Generator) -> Example:
        del rng
        *size, channels = example["image"].shape
        if np.size(self.fill) not in (1, channels):
            raise Refused(f"fill={self.fill!r} for an image with {channels} channels")
        scale = min(new / old for new, old in zip(shape, size, strict=True))
        high, wide = (max(1, round(scale * n)) for n in size)
        top, left = (shape[0] - high) // 2, (shape[1] - wide) // 2
        piece = Piece((0, 0, size[1], size[0]), (left, top, left + wide, top + high))
        return bring(example, shape, piece, self.fill)


@dataclasses.dataclass(frozen=True)
class CentreCrop:
    """The image resized to cover the shape, then the middle of it.

    Attributes:
        enlarge: how much larger than needed it is resized: with 256/224, images come to 256 on
            their shorter side and are cut to 224, as classifiers of ImageNet are tested
            (Krizhevsky et al. 2012); sizes and places are rounded as torchvision does.
    """

    enlarge: float = 256 / 224
    random: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 1 <= self.enlarge < math.inf:
            raise ValueError(f"enlarge={self.enlarge} is not 1 or more")

    def __call__(self, example: Example, shape: Shape, rng: np.random.Generator) -> Example:
        del rng
        size = example["image"].shape[:2]
        needed = [new / old for new, old in zip(shape, size, strict=True)]
        scale = self.enlarge * max(needed)
        # The small term keeps a size that is whole from falling short of itself by rounding.
        high, wide = (
            max(new, math.floor(scale * n + 1e-6)) for new, n in zip(shape, size, strict=True)
        )
        top, left = round((high - shape[0]) / 2), round((wide - shape[1]) / 2)
        y, x = size[0] / high, size[1] / wide
        box = (left * x, top * y, (left + shape[1]) * x, (top + shape[0]) * y)
        return bring(example, shape, Piece(box, (0, 0, *shape[::-1])))


@dataclasses.dataclass(frozen=True)
class RandomResizedCrop:
    """A rectangle of random area, ratio and place, stretched to the shape (Szegedy et al. 2014, 6).

    As torchvision draws it: ten tries for one that lies inside the image; else the largest in the
    middle whose ratio is allowed. Edges are whole pixels.

    Attributes:
        area: least and largest share of the image's area.
        ratio: least and largest width / height, drawn evenly in the logarithm.
    """

    area: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.area[0] <= self.area[1] <= 1:
            raise ValueError(f"area={self.area} is not two ascending shares of (0, 1]")
        if not 0 < self.ratio[0] <= self.ratio[1] < math.inf:
            raise ValueError(f"ratio={self.ratio} is not two ascending ratios above 0")

    def __call__(self, example: Example, shape: Shape, rng: np.random.Generator) -> Example:
        box = self.box(example["image"].shape[:2], rng)
        return bring(example, shape, Piece(box, (0, 0, *shape[::-1]), alone=True))

    def box(
        self, size: tuple[int, ...], rng: np.random.Generator
    ) -> tuple[float, float, float, float]:
        """x0 y0 x1 y1 of the rectangle in an image of that height and width."""
        height, width = size
        low, high = map(math.log, self.ratio)
        for _ in range(TRIES):
            area = height * width * _between(*self.area, rng)
            ratio = math.exp(_between(low, high, rng))
            wide, tall = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < wide <= width and 0 < tall <= height:
                left, top = _place(width - wide, rng), _place(height - tall, rng)
                return left, top, left + wide, top + tall
        wide = max(1, min(width, round(height * self.ratio[1])))
        tall = max(1, min(height, round(width / self.ratio[0])))
        left, top = (width - wide) // 2, (height - tall) // 2
        return left, top, left + wide, top + tall


def _between(low: float, high: float, rng: np.random.Generator) -> float:
    return low + (high - low) * rng.random()


def _place(room: int, rng: np.random.Generator) -> int:
    """0..room, all alike."""
    return min(room, int(rng.random() * (room + 1)))
