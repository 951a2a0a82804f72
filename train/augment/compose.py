"""Chain: many stages, one reading of the pixels."""

from collections.abc import Sequence
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from train.augment.coordinates import VISIBLE, moved
from train.augment.homography import product
from train.augment.kinds import Geometric, Mixing, Paired, Pixel, Shape, Stage, kind
from train.augment.matrices import identities
from train.augment.mixing import mixed
from train.augment.warp import Border, Interpolation, warp, warp_mask, warp_nearest
from train.data.batch import IGNORE, Batch, Transform


def chain(
    *stages: Stage,
    fill: float | Sequence[float] = 0.0,
    mask_fill: int = IGNORE,
    border: Border = "constant",
    interpolation: Interpolation = "bilinear",
    visible: float = VISIBLE,
) -> Transform:
    """The stages one after the other: geometry, then pixels, then mixing.

    The geometric maps are multiplied and the image is read once: what an earlier map moved out of
    the image and a later one moves back is there again. `mask`, coordinate keys and `matrix`
    (`train.data.batch`) move by the same product. Stage k draws from `fold_in(key, k)`; both halves
    of a `Paired` do, the one among the geometry, the other among the pixels.

    Args:
        stages: of all kinds; no geometric one, whole or half, after one that only changes pixels;
            nothing after one that mixes.
        fill: what lies outside the image, one value or one a channel, in pixels 0..255 (rounded
            where they are integers); with the mean colour it is 0 once the mean is subtracted.
        mask_fill: what lies outside the mask, a class 0..255.
        border: `constant` for these two; `reflect` and `edge` (`train.augment.warp.Border`) go on
            with the image and the mask themselves. Boxes are those of the image alone.
        interpolation: of the image; `bilinear` smooths noise and outlines, `nearest` leaves them as
            sharp as they are, and ragged. Masks are read by the nearest pixel in any case.
        visible: the share of a moved box's area, 0..1, that must be inside the image for it to be a
            box still; nothing never is.

    Raises:
        TypeError: a stage is of no kind: a number, or a function of other arguments, such as `flip`
            for `flip()`.
        ValueError: the stages are in another order; `fill`, `mask_fill`, `border`,
            `interpolation` or `visible` is none of those above. Once traced: geometry without an
            image, an image with other axes or channels than `fill`, a mask of another shape or not
            of integers, and what a stage refuses (mixing: boxes, proposals and masks).
    """
    colour = np.asarray(fill, np.float32)
    if colour.ndim > 1 or not ((colour >= 0) & (colour <= 255)).all():
        raise ValueError(f"fill={fill!r} is not one value in 0..255, or one a channel")
    if mask_fill not in range(256):
        raise ValueError(f"mask_fill={mask_fill!r} is not an integer in 0..255")
    if border not in get_args(Border):
        raise ValueError(f"border={border!r} is not one of {', '.join(get_args(Border))}")
    if interpolation not in get_args(Interpolation):
        names = ", ".join(get_args(Interpolation))
        raise ValueError(f"interpolation={interpolation!r} is not one of {names}")
    if not 0 <= visible <= 1:
        raise ValueError(f"visible={visible} is not in 0..1")
    read = warp if interpolation == "bilinear" else warp_nearest
    geometric, pixel, mixing = _by_kind(stages)

    def move(key: jax.Array, batch: Batch) -> Batch:
        _check(batch, fill, colour.size)
        image = batch["image"]
        size, height, width, channels = image.shape
        shape: Shape = (height, width)
        matrix = identities(size)
        current = batch
        for k, stage in geometric.items():
            pixels = (size, *shape, channels)
            view: dict[str, Any] = {**current, "image": jax.ShapeDtypeStruct(pixels, image.dtype)}
            matrix = product(stage.draw(jax.random.fold_in(key, k), view), matrix)
            shape = stage.shape(shape)
            # Always from the source's coordinates: what is clipped here may come back.
            current = moved(batch, matrix, shape, visible)
        current = {**current, "image": read(image, matrix, shape, colour, border)}
        if "mask" in batch:
            current["mask"] = warp_mask(batch["mask"], matrix, shape, mask_fill, border)
        return current

    def transform(key: jax.Array, batch: Batch) -> Batch:
        if geometric:
            batch = move(key, batch)
        for k, change in pixel.items():
            batch = change(jax.random.fold_in(key, k), batch)
        for k, mix in mixing.items():
            batch = mixed(mix, jax.random.fold_in(key, k), batch)
        return batch

    return transform


def _by_kind(
    stages: Sequence[Any],
) -> tuple[dict[int, Geometric], dict[int, Pixel], dict[int, Mixing]]:
    """Place -> stage, of geometry, of pixels and of mixing; a pair is in the first two."""
    geometric: dict[int, Geometric] = {}
    pixel: dict[int, Pixel] = {}
    mixing: dict[int, Mixing] = {}
    of_pixels_alone = False
    for k, stage in enumerate(stages):
        name = f"stages[{k}]"
        which = kind(name, stage)
        if mixing:
            raise ValueError(f"{name} comes after stages[{k - 1}], which mixes: that is the last")
        if which in (Geometric, Paired) and of_pixels_alone:
            raise ValueError(f"{name} is geometric and comes after a stage of pixels")
        if which is Geometric:
            geometric[k] = stage
        elif which is Paired:
            geometric[k], pixel[k] = stage
        elif which is Mixing:
            mixing[k] = stage
        else:
            pixel[k] = stage
            of_pixels_alone = True
    return geometric, pixel, mixing


def _check(batch: Batch, fill: Any, colours: int) -> None:
    """Refuses a batch whose pixels cannot be moved."""
    if "image" not in batch:
        raise ValueError(f"no 'image' in the batch for a geometric stage, only {sorted(batch)}")
    shape = batch["image"].shape
    if len(shape) != 4:
        raise ValueError(f"image has shape {shape}, not (B, H, W, C)")
    if colours not in (1, shape[3]):
        raise ValueError(f"fill={fill!r} for an image with {shape[3]} channels")
    if "mask" in batch:
        mask = batch["mask"]
        if mask.shape != shape[:3] or not jnp.issubdtype(mask.dtype, jnp.integer):
            raise ValueError(
                f"mask is {mask.dtype}{mask.shape}, not integers {shape[:3]} like the image"
            )
