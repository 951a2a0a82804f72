"""Arrays as colours: weights around zero, activations, and heat over a picture."""

import numpy as np
from PIL import Image

from train.report.figures import own_settings

OPACITY = 0.65
"""Of the hottest place over a picture."""
BETWEEN = 190
"""Grey between kernels whose weights of 0 are white."""


def coloured(values: np.ndarray, name: str) -> np.ndarray:
    """(…) of 0..1 -> (…, 3) uint8, by one of matplotlib's colour maps; NaN is white."""
    with own_settings():
        from matplotlib import colormaps

        table = colormaps[name]
        colours = table(np.nan_to_num(values), bytes=True)[..., :3]
    return np.where(np.isnan(values)[..., None], 255, colours).astype(np.uint8)


def signed(values: np.ndarray) -> np.ndarray:
    """(H, W) of -1..1 -> (H, W, 3): blue below 0, white at it, red above; NaN is grey."""
    return np.where(
        np.isnan(values)[..., None], BETWEEN, coloured((values + 1) / 2, "RdBu_r")
    ).astype(np.uint8)


def mixed(values: np.ndarray) -> np.ndarray:
    """(H, W, 3) red, green and blue of -1..1 -> uint8: grey at 0; NaN is white."""
    return np.nan_to_num(np.rint(127.5 * (values + 1)), nan=255.0).astype(np.uint8)


def heated(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 under (H, W) of 0..1: the picture in grey, the more covered the hotter."""
    grey = np.asarray(Image.fromarray(picture).convert("L"), np.float64)[..., None]
    share = OPACITY * heat[..., None]
    found = (1 - share) * grey + share * coloured(heat, "turbo")
    return np.clip(np.rint(found), 0, 255).astype(np.uint8)


def scaled(values: np.ndarray) -> np.ndarray:
    """Values from 0 or the least of them to the largest, as 0..1; all zeros where they are one."""
    low, high = min(values.min(initial=0), 0), values.max(initial=0)
    return (values - low) / (high - low) if high > low else np.zeros(values.shape)


def in_colour(pixels: np.ndarray) -> np.ndarray:
    """(H, W, C) -> (H, W, 3): the first three channels, or the first one thrice."""
    return pixels[..., :3] if pixels.shape[-1] >= 3 else pixels[..., :1].repeat(3, axis=-1)


def enlarged(pixels: np.ndarray, side: int) -> Image.Image:
    """(H, W, 3) uint8, by a whole factor where the longer side has fewer pixels than `side`."""
    factor = max(round(side / max(pixels.shape[:2])), 1)
    return Image.fromarray(pixels.repeat(factor, axis=0).repeat(factor, axis=1))
