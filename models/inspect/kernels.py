"""Kernels: the weights of a network's first layer, as pictures or curves of what it responds to."""

import math
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from models.inspect.errors import Lacking
from models.inspect.feature_maps import program


def first_kernels(
    network: nn.Module, variables: Any, *inputs: Any, **how: Any
) -> tuple[str, np.ndarray]:
    """The first layer's path and kernels, (window…, c, n), window and input having as many axes.

    A dense layer on all values in a row has the whole input as its window.

    Args:
        network: any Linen module.
        variables: its own.
        *inputs: of its call, the first (B, spatial…, C); arrays or their shapes.
        **how: of its call.

    Raises:
        Lacking: no layer has such a kernel.
    """
    shape = tuple(inputs[0].shape)
    for path in program(network, variables, *inputs, **how).modules:
        held = variables.get("params", {})
        for name in path.split("/"):
            held = held.get(name, {})
        kernel = held.get("kernel")
        if kernel is None:
            continue
        if kernel.ndim == 2 and kernel.shape[0] == math.prod(shape[1:]):
            kernel = kernel.reshape(*shape[1:], -1)
        if kernel.ndim == len(shape):
            return path, np.asarray(jax.device_get(kernel))
    raise Lacking(f"{type(network).__name__} has no layer with kernels of {len(shape)} axes")


def tiles(kernels: np.ndarray) -> np.ndarray:
    """Kernels for display, from -1 to 1, 0 being a weight of 0, each by its own largest weight.

    Args:
        kernels: (h, w, c, n).

    Returns:
        (n, h, w, 3) of 3 channels, red, green and blue; else (n c, h, w), the channels of a kernel
        one after the other. A kernel of zeros stays one.
    """
    each = np.moveaxis(np.asarray(kernels, np.float64), -1, 0)
    largest = np.abs(each).max(axis=(1, 2, 3), keepdims=True)
    each = each / np.where(largest > 0, largest, 1)
    if each.shape[-1] == 3:
        return each
    return np.moveaxis(each, -1, 1).reshape(-1, *each.shape[1:3])


def grid(pictures: np.ndarray, columns: int, gap: int = 1) -> np.ndarray:
    """Pictures (n, h, w, …) in rows from the left, NaN between them and where there are no more.

    Returns:
        (rows (h + gap) - gap, columns (w + gap) - gap, …) float64.

    Raises:
        ValueError: `columns` is below 1 or `gap` below 0.
    """
    if columns < 1 or gap < 0:
        raise ValueError(f"columns={columns} must be at least 1 and gap={gap} at least 0")
    count, height, width, *rest = pictures.shape
    columns = min(columns, max(count, 1))
    rows = -(-count // columns)
    whole = np.full((rows * (height + gap), columns * (width + gap), *rest), np.nan)
    for at, picture in enumerate(pictures):
        y, x = at // columns * (height + gap), at % columns * (width + gap)
        whole[y : y + height, x : x + width] = picture
    return whole[: rows * (height + gap) - gap, : columns * (width + gap) - gap]
