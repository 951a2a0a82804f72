"""Sized: how images come to the size that a recipe asks for, on the host or on the device."""

from collections.abc import Sequence
from typing import Any, Literal

from train.data.host import Host, Stage
from train.data.source import About
from train.refusal import Refused
from train.tasks import adapt

PICTURES = 224
"""Height and width in pixels that pictures of many shapes come to, where no size is asked."""


def on_host(
    data: str, size: int, training: Stage, testing: Stage | None = None
) -> tuple[Host, Host]:
    """What brings images of many shapes to one square, in training and to be tested.

    Args:
        data: name of the set, for the refusal.
        size: height and width in pixels.
        training, testing: how; both alike by default.

    Raises:
        Refused: `size` is 0.
    """
    if not size:
        raise Refused(
            f"data={data!r} has images of many shapes: size=0 names none; --size {PICTURES}"
        )
    shapes = ((size, size),)
    return Host(training, shapes), Host(testing or training, shapes)


def smallest(network: Any) -> int:
    """Height and width in pixels of the smallest image that a classifier trains on."""
    parts = (network, getattr(network, "backbone", None))
    return max(getattr(part, "smallest", 1) for part in parts)


def fitting(network: Any, size: int) -> int:
    """The least height or width in pixels from `size` on that a network takes."""
    if hasattr(network, "input_size"):
        return network.input_size(size)
    return max(size, smallest(network))


def refuse_unfit(network: Any, model: str, **asked: Sequence[int]) -> None:
    """Refuse images of a size that a network does not take.

    Args:
        network: with `one_size` where its parameters depend on the image's size.
        model: its name.
        **asked: field -> the heights or widths in pixels that it asks for.

    Raises:
        Refused: one is too small, or no multiple of the stride; names the next that is taken. Or
            they are several for a network that takes one.
    """
    least = fitting(network, 1)
    stride = fitting(network, least + 1) > least + 1
    wanted = f"multiples of its stride, {least}" if stride else f"sizes from {least} on"
    for field, sizes in asked.items():
        for size in sizes:
            if (fit := fitting(network, size)) != size:
                raise Refused(f"{field}={size}: {model} takes {wanted}, such as {fit}")
    several = sorted({size for sizes in asked.values() for size in sizes})
    if getattr(network, "one_size", False) and len(several) > 1:
        fields = " and ".join(f"{field}={value}" for field, value in asked.items())
        raise Refused(f"{fields}: {model} has dense layers, for images of one size")


def on_device(
    size: int, by: Literal["resize", "pad"], about: About, *, least: int, model: str
) -> adapt.Adapt:
    """What brings images of one shape to a square one, or to the smallest that a network takes.

    Args:
        size: height and width in pixels; 0 leaves images as they are, if they are large enough.
        by: "resize", bilinearly, or "pad", by black around them.
        about: of the images; those of many shapes are the host's.
        least: height and width of the smallest that the network takes.
        model: its name, for the refusal.

    Raises:
        Refused: `size` is below `least`, or below the size of images that are to be padded.
    """
    if 0 < size < least:
        raise Refused(f"size={size}: {model} takes images from {least} pixels on")
    if about.shape is None:
        return adapt.as_it_is
    height, width, _ = about.shape
    if not size and min(height, width) >= least:
        return adapt.as_it_is
    size = size or least
    if by == "pad" and max(height, width) > size:
        raise Refused(f"by='pad': images of {height}x{width} are larger than size={size}")
    return (adapt.resized if by == "resize" else adapt.padded)(size, size)
