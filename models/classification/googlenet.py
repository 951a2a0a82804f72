"""GoogLeNet (Szegedy et al. 2014), in the paper's form and in torchvision's.

`GoogLeNet` is the backbone; `googlenet` and `googlenet_2014` at the end are the classifiers.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from models.classification.auxiliary import auxiliary_classifier
from models.layers.image import check_channels, check_image
from models.layers.input_transform import InputTransform
from models.layers.local_response import local_response_normalise
from models.layers.norm import BatchNorm
from models.layers.pooling import adaptive_average_pool, max_pool, mean_dtype, summing_dtype

ModuleDef = Callable[..., Any]

# Szegedy et al. 2014, table 1: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool proj.
BLOCKS = {
    "inception3a": (64, 96, 128, 16, 32, 32),
    "inception3b": (128, 128, 192, 32, 96, 64),
    "inception4a": (192, 96, 208, 16, 48, 64),
    "inception4b": (160, 112, 224, 24, 64, 64),
    "inception4c": (128, 128, 256, 24, 64, 64),
    "inception4d": (112, 144, 288, 32, 64, 64),
    "inception4e": (256, 160, 320, 32, 128, 128),
    "inception5a": (256, 160, 320, 32, 128, 128),
    "inception5b": (384, 192, 384, 48, 128, 128),
}
STRIDES = {"conv1": 2, "conv2": 4, "conv3": 4} | {
    name: {"3": 8, "4": 16, "5": 32}[name[-2]] for name in BLOCKS
}
CHANNELS = {"conv1": 64, "conv2": 64, "conv3": 192} | {
    name: one + three + five + pooled for name, (one, _, three, _, five, pooled) in BLOCKS.items()
}


class Layer(nn.Module):
    """Convolution, BatchNorm and ReLU; or convolution with a bias and ReLU.

    (B, H, W, C) -> (B, h, w, features)

    Attributes:
        norm: None gives the convolution a bias.
    """

    features: int
    window: tuple[int, int]
    conv: ModuleDef
    norm: ModuleDef | None
    strides: int = 1
    padding: int | tuple[int, int] = 0

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        pads = (
            self.padding if isinstance(self.padding, int) else tuple((p, p) for p in self.padding)
        )
        y = self.conv(
            self.features,
            self.window,
            strides=self.strides,
            padding=pads,
            use_bias=self.norm is None,
            name="conv",
        )(x)
        return (
            nn.relu(y) if self.norm is None else self.norm(name="norm")(y, train=train, act=nn.relu)
        )


def branch(
    x: jax.Array, name: str, *steps: tuple[int, tuple[int, int], int], layer: ModuleDef, train: bool
) -> jax.Array:
    """Layers in a row, called `name`_1, `name`_2, …; a single one is called `name`.

    Args:
        x: (B, H, W, C).
        steps: features, odd window and stride of each; at stride 1 height and width are kept,
            beyond it nothing is padded.
    """
    for number, (features, window, strides) in enumerate(steps, 1):
        make = layer(
            features,
            window,
            strides=strides,
            padding=(window[0] // 2, window[1] // 2) if strides == 1 else 0,
            name=f"{name}_{number}" if len(steps) > 1 else name,
        )
        x = make(x, train=train)
    return x


class Inception(nn.Module):
    """Four branches, their channels one after the other (Szegedy et al. 2014, fig. 2b).

    (B, H, W, C) -> (B, H, W, c), c being the sum of the first, third, fifth and last width.

    Attributes:
        widths: a row of table 1, see `BLOCKS`.
        five: window of the branch that is 5x5 in the paper.
    """

    widths: tuple[int, int, int, int, int, int]
    five: int
    layer: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        one, reduce3, three, reduce5, five, pooled = self.widths
        run = partial(branch, layer=self.layer, train=train)
        around = max_pool(x, (3, 3), strides=1, padding=1)
        branches = [
            run(x, "branch1", (one, (1, 1), 1)),
            run(x, "branch2", (reduce3, (1, 1), 1), (three, (3, 3), 1)),
            run(x, "branch3", (reduce5, (1, 1), 1), (five, (self.five, self.five), 1)),
            run(around, "branch4", (pooled, (1, 1), 1)),
        ]
        return jnp.concatenate(branches, axis=-1)


class NamedMaps(nn.Module):
    """A backbone that returns the maps of the blocks it is asked for.

    Attributes:
        maps: names of blocks.

    Raises:
        ValueError: `maps` is empty or names no block.
    """

    BLOCK_STRIDES: ClassVar[dict[str, int]]
    BLOCK_CHANNELS: ClassVar[dict[str, int]]
    maps: tuple[str, ...]

    def __post_init__(self) -> None:
        unknown = [name for name in self.maps if name not in self.BLOCK_STRIDES]
        if unknown or not self.maps:
            known = ", ".join(self.BLOCK_STRIDES)
            raise ValueError(f"maps={self.maps!r}: expected at least one of {known}")
        super().__post_init__()

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels of the image to one of each map."""
        return tuple(self.BLOCK_STRIDES[name] for name in self.maps)

    @property
    def channels(self) -> tuple[int, ...]:
        """Of each map."""
        return tuple(self.BLOCK_CHANNELS[name] for name in self.maps)


class GoogLeNet(NamedMaps):
    """A backbone: (B, H, W, C) float -> a map for each of `maps`.

    Height and width are halved five times: by the first convolution, rounding up, and by maxima
    whose last window may hang over the edge (PyTorch's and Caffe's ceil_mode), so that windows of
    3 round down and those of 2 round up.

    Attributes:
        maps: the blocks whose maps are returned, each a key of `STRIDES`; by default the last one
            of each resolution. Parameters do not depend on it.
        five: window of the branch that is 5x5 in the paper.
        last_window: of the fourth maximum.
        batch_norm: whether convolutions have `norm`, with epsilon 0.001, in place of biases.
        response: applied after the first maximum and before the second, if given.
        norm: `BatchNorm`, or what has its call and its parameters.
        conv_general_dilated: the convolution, with the signature of JAX's.
        dtype: of the arithmetic and the maps; inferred from input and parameters by default.
        param_dtype: of the parameters.

    Raises:
        ValueError: `maps` is empty or names no block; a window is below 1 or, where it is `five`,
            even; in a call, the image is none or smaller than `smallest`.
    """

    BLOCK_STRIDES = STRIDES
    BLOCK_CHANNELS = CHANNELS
    maps: tuple[str, ...] = ("conv3", "inception3b", "inception4e", "inception5b")
    five: int = 3
    last_window: int = 2
    batch_norm: bool = True
    response: Callable[[jax.Array], jax.Array] | None = None
    norm: ModuleDef = BatchNorm
    conv_general_dilated: Callable[..., jax.Array] = lax.conv_general_dilated
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        if self.five < 1 or self.five % 2 == 0:
            raise ValueError(f"five={self.five} must be odd and at least 1")
        if self.last_window not in (2, 3):
            raise ValueError(f"last_window={self.last_window} must be 2 or 3")
        super().__post_init__()

    @property
    def smallest(self) -> int:
        """Height and width of the smallest image: the fourth maximum needs last_window - 1."""
        return 16 * (self.last_window - 1) - 1

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
        norm = partial(self.norm, epsilon=1e-3, **types) if self.batch_norm else None
        return partial(Layer, conv=conv, norm=norm)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, ...]:
        check_image(x, smallest=self.smallest)
        check_channels(x, self, "conv1", "conv")
        layer = self.layer
        response = self.response or (lambda x: x)
        found: dict[str, jax.Array] = {}

        x = InputTransform(self.param_dtype, name="input")(x)
        found["conv1"] = x = layer(64, (7, 7), strides=2, padding=3, name="conv1")(x, train=train)
        x = response(halved(x, 3))
        found["conv2"] = x = layer(64, (1, 1), name="conv2")(x, train=train)
        found["conv3"] = x = layer(192, (3, 3), padding=1, name="conv3")(x, train=train)
        x = halved(response(x), 3)
        for name, widths in BLOCKS.items():
            if name == "inception4a":
                x = halved(x, 3)
            if name == "inception5a":
                x = halved(x, self.last_window)
            found[name] = x = Inception(widths, self.five, layer, name=name)(x, train=train)
        return tuple(found[name] for name in self.maps)


def halved(x: jax.Array, window: int) -> jax.Array:
    """Maxima of windows two apart; the last one may hang over the edge: PyTorch's ceil_mode.

    (B, H, W, C) -> (B, h, w, C), h = ceil((H - window) / 2) + 1: for a window of 3, H / 2 rounded
    down, for one of 2, rounded up. H and W are at least window - 1.
    """
    over = tuple((0, (size - window) % 2) for size in x.shape[1:3])
    return max_pool(x, (window, window), strides=2, padding=over)


class AuxiliaryHead(nn.Module):
    """Logits from within the network (Szegedy et al. 2014, section 5).

    (B, H, W, C) -> (B, num_classes)

    Attributes:
        pool: (B, H, W, C) -> (B, 4, 4, C).
        layer: see `Layer`.
        dense: of the two dense layers.
        dropout: rate before the last layer.
    """

    num_classes: int
    layer: ModuleDef
    dense: ModuleDef
    pool: Callable[[jax.Array], jax.Array]
    dropout: float = 0.7

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        y = self.layer(128, (1, 1), name="conv")(self.pool(x), train=train)
        y = nn.relu(self.dense(1024, name="fc1")(y.reshape(y.shape[0], 4 * 4 * 128)))
        y = nn.Dropout(self.dropout, deterministic=not train)(y)
        return self.dense(self.num_classes, name="fc2")(y)


def pooled_as_in_2014(x: jax.Array) -> jax.Array:
    """Means of 4x4 windows of one size, evenly apart: (B, H, W, C) -> (B, 4, 4, C).

    H // 4 apart, and as large as then reaches the edge: on the paper's 14x14, 5x5 windows at
    stride 3. The windows of PyTorch's adaptive pooling are 4 or 5 wide there. Below 4 positions
    all windows are the whole axis.
    """
    y = x.astype(summing_dtype(x))
    for axis in (1, 2):
        stride = x.shape[axis] // 4
        starts, width = (
            range(0, 4 * stride, stride) if stride else (0,) * 4,
            x.shape[axis] - 3 * stride,
        )
        windows = [lax.slice_in_dim(y, at, at + width, axis=axis).mean(axis) for at in starts]
        y = jnp.stack(windows, axis)
    return y.astype(mean_dtype(x))


# torchvision's: a window of 3 for 5 (its issue 906), BatchNorm, 2 for 3 in the last maximum,
# adaptive pooling in the auxiliary heads, half the paper's dropout before the main one.
googlenet = partial(
    auxiliary_classifier,
    GoogLeNet,
    head=partial(AuxiliaryHead, pool=partial(adaptive_average_pool, sizes=(4, 4))),
    reads=("inception4a", "inception4d"),
    last="inception5b",
    dropout=0.2,
)
# Szegedy et al. 2014, table 1 and section 5; the constants of the local response normalisation of
# figure 3 are not given there: those of Krizhevsky et al. 2012.
GoogLeNet2014 = partial(
    GoogLeNet, five=5, last_window=3, batch_norm=False, response=local_response_normalise
)
googlenet_2014 = partial(
    auxiliary_classifier,
    GoogLeNet2014,
    head=partial(AuxiliaryHead, pool=pooled_as_in_2014),
    reads=("inception4a", "inception4d"),
    last="inception5b",
    dropout=0.4,
)
