"""Weights, images and pictures that depend on their names and shapes alone, by NumPy.

The scripts here give them to torchvision, the tests to our functions.
"""

import numpy as np


def drawn(name, shape):
    """One array of float32, uniform, of mean 0 and standard deviation 1."""
    values = np.random.default_rng(list(name.encode())).random(shape, np.float32)
    return (values - np.float32(0.5)) * np.float32(12**0.5)


def images(shape):
    """(B, C, H, W) float32: noise on large patches, which no averaging takes away."""
    *batch, height, width = shape
    rows, columns = np.arange(height) * 4 // height, np.arange(width) * 4 // width
    patches = drawn("patches", (*batch, 4, 4))[..., rows[:, None], columns]
    return patches + drawn("noise", shape)


def weights(shapes):
    """torchvision's name -> shape, to the same name -> array.

    No scale is 1, no bias and no mean 0. Kernels keep the size of what goes through (He et al.
    2015): logits depend on all of it, however deep the network.
    """

    def draw(name, shape):
        value = drawn(name, shape)
        kind = name.rpartition(".")[2]
        if kind == "num_batches_tracked":
            return np.zeros(shape, np.int64)
        if kind == "running_var" or (kind == "weight" and len(shape) == 1):
            return 1 + np.float32(0.2) * value
        if kind == "weight":
            value *= np.float32((2 / np.prod(shape[1:])) ** 0.5)
            return value
        return np.float32(0.1) * value

    return {name: draw(name, shape) for name, shape in shapes.items()}


def sampled(name, values, count=400):
    """As many of the values, at positions that depend on the name and the number of values."""
    positions = np.random.default_rng(list(name.encode())).integers(values.size, size=count)
    return values.reshape(-1)[positions]


def picture(height, width):
    """(height, width, 3) uint8: edges, ramps and noise, computed in whole numbers."""
    noise = np.random.default_rng([height, width]).integers(0, 64, (height, width, 3))
    y, x, channel = np.ogrid[:height, :width, :3]
    return ((3 * y + 2 * x + 50 * channel) % 192 + noise).astype(np.uint8)


def spaced(name, shape, low, high):
    """float32 from low to high, no two nearer than evenly spaced, in an order that is drawn."""
    values = np.linspace(low, high, int(np.prod(shape)), dtype=np.float32)
    return np.random.default_rng(list(name.encode())).permutation(values).reshape(shape)
