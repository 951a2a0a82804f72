"""Policies: random operations of a fixed list, by torchvision's tables of magnitudes.

Every operation is computed for the whole batch, and each example keeps the one that it drew.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from train.augment.amounts import clipped, image_of, real
from train.augment.blur import sharpened
from train.augment.colour import brightened, contrasted, saturated
from train.augment.homography import product
from train.augment.kinds import Geometric, Paired, Shape
from train.augment.matrices import centred, shears, shifts, turns
from train.augment.once import once
from train.augment.rectangles import whole
from train.augment.tone import autocontrasted, equalised, posterised, solarised
from train.data.batch import Batch


class Operation(NamedTuple):
    """What an operation's magnitudes are.

    Attributes:
        magnitudes: (number of bins, image shape) -> that many, from the weakest on.
        signed: whether half of the examples take the negative.
    """

    magnitudes: Callable[[int, Shape], np.ndarray]
    signed: bool = False


def _none(bins: int, shape: Shape) -> np.ndarray:
    return np.zeros(bins)


def _up_to(most: float) -> Operation:
    return Operation(lambda bins, shape: np.linspace(0, most, bins), signed=True)


def _width(share: float) -> Operation:
    return Operation(lambda bins, shape: np.linspace(0, share * shape[1], bins), signed=True)


def _height(share: float) -> Operation:
    return Operation(lambda bins, shape: np.linspace(0, share * shape[0], bins), signed=True)


def _bits(fewest: int) -> Operation:
    return Operation(lambda bins, shape: np.round(np.linspace(8, fewest, bins)))


def _operations(
    shear: float, x: Operation, y: Operation, degrees: float, factor: float, bits: int
) -> dict[str, Operation]:
    """The fourteen operations, by the names and in the units of torchvision."""
    return {
        "Identity": Operation(_none),
        "ShearX": _up_to(shear),
        "ShearY": _up_to(shear),
        "TranslateX": x,
        "TranslateY": y,
        "Rotate": _up_to(degrees),
        "Brightness": _up_to(factor),
        "Color": _up_to(factor),
        "Contrast": _up_to(factor),
        "Sharpness": _up_to(factor),
        "Posterize": _bits(bits),
        "Solarize": Operation(lambda bins, shape: np.linspace(255, 0, bins)),
        "AutoContrast": Operation(_none),
        "Equalize": Operation(_none),
    }


RAND = _operations(0.3, _width(150 / 331), _height(150 / 331), 30.0, 0.9, bits=4)
"""RandAugment: shears, pixels a pixel; shifts, pixels; degrees; factors less 1; bits; values."""
WIDE = _operations(0.99, _up_to(32.0), _up_to(32.0), 135.0, 0.99, bits=2)
"""TrivialAugment Wide, in the same units."""


def rand_augment(operations: int = 2, magnitude: int = 9, bins: int = 31) -> tuple[Paired, ...]:
    """RandAugment (Cubuk et al. 2019): some operations, all of one magnitude.

    Stages for `chain(*rand_augment(), fill=mean)`: each draws one of fourteen operations an
    example, and its sign, as torchvision's RandAugment. It differs from that in the order: all
    geometry comes first, as one map by which the image is read once, bilinearly (torchvision: each
    operation by itself, the nearest pixel), then colour; and colours are not rounded in between.

    Args:
        operations: how many, one after the other.
        magnitude: 0..bins - 1, the place in each operation's table.
        bins: magnitudes in a table, from the least to the largest.

    Raises:
        ValueError: `operations` is negative, `bins` less than 2, or `magnitude` not in the table.
    """
    if operations < 0:
        raise ValueError(f"operations={operations} is negative")
    _check_bins(bins)
    if magnitude not in range(bins):
        raise ValueError(f"magnitude={magnitude} is none of {bins} bins, 0..{bins - 1}")
    return (_policy(RAND, bins, magnitude),) * operations


def trivial_augment_wide(bins: int = 31) -> tuple[Paired, ...]:
    """TrivialAugment (Müller and Hutter 2021), wide: one operation, its magnitude drawn too.

    Stages, here one, for `chain(*trivial_augment_wide(), fill=mean)`, as torchvision's
    TrivialAugmentWide, but that the image is read bilinearly and by one map with all other
    geometry of the chain, which comes before all colour.

    Args:
        bins: magnitudes in a table, from the least to the largest, equally likely.

    Raises:
        ValueError: `bins` is less than 2.
    """
    _check_bins(bins)
    return (_policy(WIDE, bins, None),)


def moving(amounts: Mapping[str, jax.Array], shape: Shape) -> jax.Array:
    """(B, 3, 3): shear about the upper left corner, then shift, then rotation about the centre.

    As torchvision's `affine` and `rotate` where one of the amounts is not 0.

    Args:
        amounts: name -> (B,) float32: of "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate".
        shape: height and width of the image.
    """
    size = amounts["Rotate"].shape[0]
    leaning = shears(size, -amounts["ShearX"], -amounts["ShearY"])
    # Towards 0, as torchvision takes whole pixels.
    right, down = (jnp.trunc(amounts[name]) for name in ("TranslateX", "TranslateY"))
    turning = centred(turns(size, amounts["Rotate"]), shape)
    return product(turning, product(shifts(size, right, down), leaning))


def colouring(
    image: jax.Array, amounts: Mapping[str, jax.Array], chosen: Mapping[str, jax.Array]
) -> jax.Array:
    """(B, H, W, C) float32: each example by the operation of colour that it chose, if any.

    Args:
        image: see `train.augment.colour`.
        amounts: name -> (B,) float32: of "Brightness", "Color", "Contrast", "Sharpness",
            "Posterize" and "Solarize".
        chosen: name -> (B,) bool: of these and of "AutoContrast" and "Equalize"; one an example.
    """
    # All from the image itself: in a row, XLA would compute what is before again and again.
    results = {
        "Brightness": brightened(image, 1 + amounts["Brightness"]),
        "Color": saturated(image, 1 + amounts["Color"]),
        "Contrast": contrasted(image, 1 + amounts["Contrast"]),
        "Sharpness": sharpened(image, 1 + amounts["Sharpness"]),
        "Posterize": posterised(image, amounts["Posterize"]),
        "Solarize": solarised(image, amounts["Solarize"]),
        "AutoContrast": autocontrasted(image),
        "Equalize": equalised(image),
    }
    x = clipped(real(image))
    for name, result in results.items():
        x = jnp.where(chosen[name][:, None, None, None], result, x)
    return x


def _policy(table: Mapping[str, Operation], bins: int, magnitude: int | None) -> Paired:
    """One operation an example, at one magnitude or, if None, at any."""

    def choose(
        key: jax.Array, size: int, shape: Shape
    ) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        """Amounts, 0 where not chosen, and whether chosen, of every operation."""
        share = jax.random.uniform(key, (size, 3), jnp.float32)
        operation, place = jnp.unstack(
            whole(share[:, :2], jnp.array([[len(table), bins]], jnp.int32)), axis=1
        )
        if magnitude is not None:
            place = jnp.full(size, magnitude, jnp.int32)
        sign = jnp.where(share[:, 2] < 0.5, jnp.float32(-1), jnp.float32(1))
        amounts, chosen = {}, {}
        for n, (name, one) in enumerate(table.items()):
            chosen[name] = operation == n
            values = jnp.asarray(one.magnitudes(bins, shape), jnp.float32)
            value = values[place] * sign if one.signed else values[place]
            amounts[name] = jnp.where(chosen[name], value, 0)
        return amounts, chosen

    def draw(key: jax.Array, batch: Batch) -> jax.Array:
        size, height, width, _ = batch["image"].shape
        amounts, _ = choose(key, size, (height, width))
        return moving(amounts, (height, width))

    def recolour(key: jax.Array, batch: Batch) -> Batch:
        image = once(key, image_of(batch))
        amounts, chosen = choose(key, image.shape[0], (image.shape[1], image.shape[2]))
        return {**batch, "image": colouring(image, amounts, chosen)}

    return Paired(Geometric(draw), recolour)


def _check_bins(bins: int) -> None:
    if bins < 2:
        raise ValueError(f"bins={bins} is less than 2")
