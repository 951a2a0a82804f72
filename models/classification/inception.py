"""Inception v3 (Szegedy et al. 2015, arXiv:1512.00567), in torchvision's form.

`InceptionV3` is the backbone, `inception_v3` at the end the classifier. Blocks and branches have
torchvision's names, which are those of TensorFlow's checkpoint.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from models.classification.auxiliary import auxiliary_classifier
from models.classification.googlenet import Layer, NamedMaps, branch
from models.layers.image import check_channels, check_image, smallest_size
from models.layers.input_transform import InputTransform
from models.layers.norm import BatchNorm
from models.layers.pooling import average_pool, global_average_pool, max_pool, summing_dtype

ModuleDef = Callable[..., Any]

POINT = (1, 1)
AROUND = (3, 3)
ROW = (1, 7)
COLUMN = (7, 1)

STRIDES = (
    {"Conv2d_1a_3x3": 2, "Conv2d_2a_3x3": 2, "Conv2d_2b_3x3": 2}
    | {"Conv2d_3b_1x1": 4, "Conv2d_4a_3x3": 4}
    | dict.fromkeys(("Mixed_5b", "Mixed_5c", "Mixed_5d"), 8)
    | dict.fromkeys(("Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"), 16)
    | dict.fromkeys(("Mixed_7a", "Mixed_7b", "Mixed_7c"), 32)
)
CHANNELS = (
    {"Conv2d_1a_3x3": 32, "Conv2d_2a_3x3": 32, "Conv2d_2b_3x3": 64}
    | {"Conv2d_3b_1x1": 80, "Conv2d_4a_3x3": 192}
    | {"Mixed_5b": 256, "Mixed_5c": 288, "Mixed_5d": 288}
    | dict.fromkeys(("Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"), 768)
    | {"Mixed_7a": 1280, "Mixed_7b": 2048, "Mixed_7c": 2048}
)
MOVES = (
    *((3, 2, 0), (3, 1, 0), (3, 1, 1), (3, 2, 0), (1, 1, 0), (3, 1, 0), (3, 2, 0)),
    *((3, 2, 0), (3, 2, 0)),
)
"""Kernel, stride and padding of all that narrows a map: the stem, Mixed_6a, Mixed_7a."""


class InceptionA(nn.Module):
    """5x5, and two 3x3 in place of one (Szegedy et al. 2015, fig. 5).

    (B, H, W, C) -> (B, H, W, 224 + pool_features)
    """

    pool_features: int
    layer: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        run = partial(branch, layer=self.layer, train=train)
        branches = [
            run(x, "branch1x1", (64, POINT, 1)),
            run(x, "branch5x5", (48, POINT, 1), (64, (5, 5), 1)),
            run(x, "branch3x3dbl", (64, POINT, 1), (96, AROUND, 1), (96, AROUND, 1)),
            run(mean_around(x), "branch_pool", (self.pool_features, POINT, 1)),
        ]
        return jnp.concatenate(branches, axis=-1)


class InceptionB(nn.Module):
    """Half the resolution (Szegedy et al. 2015, fig. 10, with a convolution less on one side).

    (B, H, W, C) -> (B, floor((H - 1) / 2), floor((W - 1) / 2), 480 + C)
    """

    layer: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        run = partial(branch, layer=self.layer, train=train)
        branches = [
            run(x, "branch3x3", (384, AROUND, 2)),
            run(x, "branch3x3dbl", (64, POINT, 1), (96, AROUND, 1), (96, AROUND, 2)),
            max_pool(x, AROUND, strides=2),
        ]
        return jnp.concatenate(branches, axis=-1)


class InceptionC(nn.Module):
    """7x7 as rows and columns of 7 (Szegedy et al. 2015, fig. 6): (B, H, W, C) -> (B, H, W, 768).

    Attributes:
        inner: channels between them.
    """

    inner: int
    layer: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        run = partial(branch, layer=self.layer, train=train)
        point, row, column = ((self.inner, window, 1) for window in (POINT, ROW, COLUMN))
        branches = [
            run(x, "branch1x1", (192, POINT, 1)),
            run(x, "branch7x7", point, row, (192, COLUMN, 1)),
            run(x, "branch7x7dbl", point, column, row, column, (192, ROW, 1)),
            run(mean_around(x), "branch_pool", (192, POINT, 1)),
        ]
        return jnp.concatenate(branches, axis=-1)


class InceptionD(nn.Module):
    """Half the resolution, 7x7 before it on one side.

    (B, H, W, C) -> (B, floor((H - 1) / 2), floor((W - 1) / 2), 512 + C)
    """

    layer: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        run = partial(branch, layer=self.layer, train=train)
        point, row, column = ((192, window, 1) for window in (POINT, ROW, COLUMN))
        branches = [
            run(x, "branch3x3", point, (320, AROUND, 2)),
            run(x, "branch7x7x3", point, row, column, (192, AROUND, 2)),
            max_pool(x, AROUND, strides=2),
        ]
        return jnp.concatenate(branches, axis=-1)


class InceptionE(nn.Module):
    """Rows and columns of 3 beside each other (Szegedy et al. 2015, fig. 7).

    (B, H, W, C) -> (B, H, W, 2048)
    """

    layer: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        run = partial(branch, layer=self.layer, train=train)
        single = run(x, "branch3x3_1", (384, POINT, 1))
        double = run(x, "branch3x3dbl_1", (448, POINT, 1))
        double = run(double, "branch3x3dbl_2", (384, AROUND, 1))
        branches = [
            run(x, "branch1x1", (320, POINT, 1)),
            run(single, "branch3x3_2a", (384, (1, 3), 1)),
            run(single, "branch3x3_2b", (384, (3, 1), 1)),
            run(double, "branch3x3dbl_3a", (384, (1, 3), 1)),
            run(double, "branch3x3dbl_3b", (384, (3, 1), 1)),
            run(mean_around(x), "branch_pool", (192, POINT, 1)),
        ]
        return jnp.concatenate(branches, axis=-1)


BLOCKS: dict[str, ModuleDef] = {
    "Mixed_5b": partial(InceptionA, pool_features=32),
    "Mixed_5c": partial(InceptionA, pool_features=64),
    "Mixed_5d": partial(InceptionA, pool_features=64),
    "Mixed_6a": InceptionB,
    "Mixed_6b": partial(InceptionC, inner=128),
    "Mixed_6c": partial(InceptionC, inner=160),
    "Mixed_6d": partial(InceptionC, inner=160),
    "Mixed_6e": partial(InceptionC, inner=192),
    "Mixed_7a": InceptionD,
    "Mixed_7b": InceptionE,
    "Mixed_7c": InceptionE,
}


class InceptionV3(NamedMaps):
    """A backbone: (B, H, W, C) float -> a map for each of `maps`.

    Where the resolution halves nothing is padded, so maps are a little smaller than the image's
    size over their stride: 35, 17 and 8 of 299.

    Attributes:
        maps: the blocks whose maps are returned, each a key of `STRIDES`; by default the last one
            of each resolution. Parameters do not depend on it.
        norm: `BatchNorm`, or what has its call and its parameters; with epsilon 0.001.
        conv_general_dilated: the convolution, with the signature of JAX's.
        dtype: of the arithmetic and the maps; inferred from input and parameters by default.
        param_dtype: of the parameters.

    Raises:
        ValueError: `maps` is empty or names no block; in a call, the image is none or smaller than
            `smallest`.
    """

    BLOCK_STRIDES = STRIDES
    BLOCK_CHANNELS = CHANNELS
    maps: tuple[str, ...] = ("Conv2d_4a_3x3", "Mixed_5d", "Mixed_6e", "Mixed_7c")
    norm: ModuleDef = BatchNorm
    conv_general_dilated: Callable[..., jax.Array] = lax.conv_general_dilated
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @property
    def smallest(self) -> int:
        """Height and width of the smallest image: 75."""
        return smallest_size(MOVES)

    @property
    def layer(self) -> ModuleDef:
        """`Layer` as it is in this network."""
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        conv = partial(
            nn.Conv,
            kernel_init=nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal"),
            conv_general_dilated=self.conv_general_dilated,
            **types,
        )
        return partial(Layer, conv=conv, norm=partial(self.norm, epsilon=1e-3, **types))

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, ...]:
        check_image(x, smallest=self.smallest)
        check_channels(x, self, "Conv2d_1a_3x3", "conv")
        layer = self.layer
        found: dict[str, jax.Array] = {}

        def stem(x: jax.Array, name: str, window: tuple[int, int], **how: int) -> jax.Array:
            found[name] = layer(CHANNELS[name], window, **how, name=name)(x, train=train)
            return found[name]

        x = InputTransform(self.param_dtype, name="input")(x)
        x = stem(x, "Conv2d_1a_3x3", AROUND, strides=2)
        x = stem(x, "Conv2d_2a_3x3", AROUND)
        x = stem(x, "Conv2d_2b_3x3", AROUND, padding=1)
        x = max_pool(x, AROUND, strides=2)
        x = stem(x, "Conv2d_3b_1x1", POINT)
        x = stem(x, "Conv2d_4a_3x3", AROUND)
        x = max_pool(x, AROUND, strides=2)
        for name, block in BLOCKS.items():
            found[name] = x = block(layer=layer, name=name)(x, train=train)
        return tuple(found[name] for name in self.maps)


def mean_around(x: jax.Array) -> jax.Array:
    """The mean of the 3x3 around each position; beyond the edge are zeros, and count."""
    return average_pool(x, AROUND, strides=1, padding=1)


class AuxiliaryHead(nn.Module):
    """Logits from the last 17x17 map (Szegedy et al. 2015, section 4 and fig. 8).

    (B, H, W, C) -> (B, num_classes), H and W at least 17

    Attributes:
        layer: see `Layer`.
        dense: of the last layer.
    """

    num_classes: int
    layer: ModuleDef
    dense: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        y = average_pool(x, (5, 5), strides=3)
        y = self.layer(128, POINT, name="conv0")(y, train=train)
        y = self.layer(768, (5, 5), name="conv1")(y, train=train)
        mean = global_average_pool(y.astype(summing_dtype(y)))
        return self.dense(self.num_classes, name="fc")(mean)


# torchvision's, with its dropout (the paper names none).
inception_v3 = partial(
    auxiliary_classifier,
    InceptionV3,
    head=AuxiliaryHead,
    reads=("Mixed_6e",),
    last="Mixed_7c",
    dropout=0.5,
    smallest=299,
)
