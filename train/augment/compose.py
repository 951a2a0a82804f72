"""Chain: many stages, one reading of the pixels."""

import inspect
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from train.augment.coordinates import UNMOVABLE, moved
from train.augment.homography import product
from train.augment.kinds import Geometric, Pixel, Shape
from train.augment.warp import warp
from train.data.batch import Batch, Transform


def chain(*stages: Geometric | Pixel, fill: float | Sequence[float] = 0.0) -> Transform:
    """The stages one after the other, geometry first.

    The geometric maps are multiplied and the image is read once: what an earlier map moved out of
    the image and a later one moves back is there again. Coordinate keys (`train.data.batch`) and
    `matrix` move by the same product. Stage k draws from `fold_in(key, k)`.

    Args:
        stages: of both kinds; no geometric one after one of pixels.
        fill: what lies outside the image, one value or one a channel, in pixels 0..255 (rounded
            where they are integers); with the mean colour it is 0 once the mean is subtracted.

    Raises:
        TypeError: a stage is of neither kind: a number, or a function of other arguments, such as
            `flip` for `flip()`.
        ValueError: a geometric stage comes after one of pixels; `fill` is not in 0..255. Once
            traced: the image has other axes, or channels than `fill`; the batch holds what geometry
            ought to move and cannot yet (`train.augment.coordinates.UNMOVABLE`).
    """
    border = np.asarray(fill, np.float32)
    if border.ndim > 1 or not ((border >= 0) & (border <= 255)).all():
        raise ValueError(f"fill={fill!r} is not one value in 0..255, or one a channel")
    geometric: list[Geometric] = []
    pixel: list[Pixel] = []
    for k, stage in enumerate(stages):
        if not isinstance(stage, Geometric):
            if not callable(stage):
                raise TypeError(f"stages[{k}]={stage!r} is neither Geometric nor a function")
            if not takes_key_and_batch(stage):
                raise TypeError(
                    f"stages[{k}]={stage!r} does not take (key, batch); a stage is what its "
                    f"constructor returns: flip(), not flip"
                )
            pixel.append(stage)
        elif pixel:
            raise ValueError(f"stages[{k}] is geometric and comes after a stage of pixels")
        else:
            geometric.append(stage)

    def move(key: jax.Array, batch: Batch) -> Batch:
        for name in UNMOVABLE:
            if name in batch:
                raise ValueError(f"{name!r} in the batch: no geometric stage can move it yet")
        image = batch["image"]
        if image.ndim != 4:
            raise ValueError(f"image has shape {image.shape}, not (B, H, W, C)")
        if border.size not in (1, image.shape[3]):
            raise ValueError(f"fill={fill!r} for an image with {image.shape[3]} channels")
        size, height, width, channels = image.shape
        shape: Shape = (height, width)
        matrix = jnp.broadcast_to(jnp.eye(3, dtype=jnp.float32), (size, 3, 3))
        current = batch
        for k, stage in enumerate(geometric):
            pixels = (size, *shape, channels)
            view: dict[str, Any] = {**current, "image": jax.ShapeDtypeStruct(pixels, image.dtype)}
            matrix = product(stage.draw(jax.random.fold_in(key, k), view), matrix)
            shape = stage.shape(shape)
            # Always from the source's coordinates: what is clipped here may come back.
            current = moved(batch, matrix, shape)
        return {**current, "image": warp(image, matrix, shape, border)}

    def transform(key: jax.Array, batch: Batch) -> Batch:
        if geometric:
            batch = move(key, batch)
        for k, stage in enumerate(pixel, start=len(geometric)):
            batch = stage(jax.random.fold_in(key, k), batch)
        return batch

    return transform


def takes_key_and_batch(stage: Pixel) -> bool:
    """Whether a function can be called with two arguments, as far as Python can tell."""
    try:
        signature = inspect.signature(stage)
    except ValueError:
        # Some compiled functions do not say.
        return True
    try:
        signature.bind(None, None)
    except TypeError:
        return False
    return True
