"""AlexNet: Krizhevsky et al. 2012, in two towers, and Krizhevsky 2014, in one.

`AlexNet` is the backbone; the partials at the end name its variants and their heads.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from models.classification.flatten import flatten_classifier
from models.layers.image import check_channels, check_image, smallest_size
from models.layers.local_response import local_response_normalise
from models.layers.pooling import max_pool

LAYERS = ((11, 4, 2), (5, 1, 2), (3, 1, 1), (3, 1, 1), (3, 1, 1))
"""Kernel, stride and padding of the five convolutions."""
POOLED = (1, 2, 5)
"""Convolutions that a pooling follows; its windows of 3 overlap, being 2 apart."""
UNIFORM = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""From -1 to 1 times 1 / sqrt(fan-in): PyTorch's default for weights."""


class AlexNet(nn.Module):
    """A backbone: (B, H, W, C) float -> the maps before each pooling, and what the last one yields.

    An image of 224x224, as of 227x227, gives 6x6 positions at the end. The paper says 224 and means
    227 or a padding: its first map is 55x55, which takes 2 pixels of padding, as in torchvision.

    Attributes:
        features: channels of each convolution.
        groups: of each convolution; with 2, each half of its maps sees one half of the input's, as
            on the paper's two GPUs.
        response: what normalises the first two maps after their ReLU, if anything does.
        kernel_init: of the convolutions.
        biases: what each convolution's biases start at.
        conv_general_dilated: the convolution, with the signature of JAX's.
        dtype: of the arithmetic and the maps; inferred from input and parameters by default.
        param_dtype: of the parameters.

    Raises:
        ValueError: `features`, `groups` and `biases` are not five each, features and groups not
            above 0, or a convolution's groups do not divide its channels; in a call, the image is
            none or smaller than `smallest`.
    """

    features: tuple[int, ...] = (64, 192, 384, 256, 256)
    groups: tuple[int, ...] = (1, 1, 1, 1, 1)
    response: Callable[[jax.Array], jax.Array] | None = None
    kernel_init: nn.initializers.Initializer = UNIFORM
    biases: tuple[float, ...] = (0, 0, 0, 0, 0)
    conv_general_dilated: Callable[..., jax.Array] = lax.conv_general_dilated
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        given = f"features={self.features}, groups={self.groups} and biases={self.biases}"
        if {len(self.features), len(self.groups), len(self.biases)} != {5}:
            raise ValueError(f"{given} must be five each")
        if min(*self.features, *self.groups) < 1:
            raise ValueError(f"{given}: features and groups must be above 0")
        before = (self.groups[0], *self.features)
        for inputs, outputs, groups in zip(before, self.features, self.groups, strict=False):
            if inputs % groups or outputs % groups:
                raise ValueError(f"{given}: {groups} groups of {inputs} to {outputs} channels")
        super().__post_init__()

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels of the image to one of each map."""
        return (4, 8, 16, 32)

    @property
    def channels(self) -> tuple[int, ...]:
        """Of each map."""
        first, second, _, _, last = self.features
        return (first, second, last, last)

    @property
    def smallest(self) -> int:
        """Height and width of the smallest image: 63."""
        pairs = ((move, (3, 2, 0)) if n in POOLED else (move,) for n, move in enumerate(LAYERS, 1))
        return smallest_size(move for pair in pairs for move in pair)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, ...]:
        check_image(x, smallest=self.smallest)
        check_channels(x, self, "conv1")
        maps = []
        for number, (kernel, stride, padding) in enumerate(LAYERS, 1):
            conv = nn.Conv(
                self.features[number - 1],
                (kernel, kernel),
                strides=stride,
                padding=padding,
                feature_group_count=self.groups[number - 1],
                kernel_init=self.kernel_init,
                bias_init=nn.initializers.constant(self.biases[number - 1]),
                conv_general_dilated=self.conv_general_dilated,
                dtype=self.dtype,
                param_dtype=self.param_dtype,
                name=f"conv{number}",
            )
            x = nn.relu(conv(x))
            if self.response is not None and number <= 2:
                x = self.response(x)
            if number in POOLED:
                maps.append(x)
                x = max_pool(x, (3, 3), strides=2)
        return (*maps, x)


# Krizhevsky 2014 ("One weird trick", arXiv:1404.5997) in torchvision's form: its widths, its start
# (PyTorch draws the biases too, here they start at 0), its dropout before each hidden layer.
alexnet = partial(
    flatten_classifier,
    AlexNet,
    size=6,
    widths=(4096, 4096),
    dropout=(0.5, 0.5, 0.0),
    dense_init=UNIFORM,
)
# Krizhevsky et al. 2012, section 3.5; start: section 5, where also the dense hidden layers' biases
# are 1; dropout on the output of the hidden layers: section 4.2.
alexnet_2012 = partial(
    flatten_classifier,
    partial(
        AlexNet,
        features=(96, 256, 384, 384, 256),
        groups=(1, 2, 1, 2, 2),
        response=local_response_normalise,
        kernel_init=nn.initializers.normal(0.01),
        biases=(0, 1, 0, 1, 1),
    ),
    size=6,
    widths=(4096, 4096),
    dropout=(0.0, 0.5, 0.5),
    dense_init=nn.initializers.normal(0.01),
    hidden_bias_init=nn.initializers.ones,
)
