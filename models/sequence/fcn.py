"""FCN1D: the fully convolutional network for time series (Wang et al. 2017, arXiv:1611.06455)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from models.layers.norm import BatchNorm
from models.sequence.classifier import check_series, sequence_classifier
from models.sequence.lengths import convolved, mask

ModuleDef = Callable[..., Any]


def around(kernel: int) -> list[tuple[int, int]]:
    """Zeros that keep the length at stride 1; the odd one of an even kernel goes after."""
    return [((kernel - 1) // 2, kernel // 2)]


class FCN1D(nn.Module):
    """A backbone: (B, L, C) float -> (B, L, channels[-1]); see section II-B and figure 1 (b).

    Three convolutions of 8, 5 and 3 steps, each with BatchNorm and ReLU; no pooling between them.
    Convolutions have no bias (the authors' have one, which BatchNorm takes off again).

    Attributes:
        channels: of each convolution.
        kernels: steps of each.
        norm: `BatchNorm`, or what has its call and its parameters.
        conv_general_dilated: the convolution, with the signature of JAX's.
        dtype: of the arithmetic and the steps; inferred from input and parameters by default.
        param_dtype: of the parameters.

    Raises:
        ValueError: `channels` and `kernels` are empty, not as many or not above 0.
    """

    channels: tuple[int, ...] = (128, 256, 128)
    kernels: tuple[int, ...] = (8, 5, 3)
    norm: ModuleDef = BatchNorm
    conv_general_dilated: Callable[..., jax.Array] = lax.conv_general_dilated
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        as_many = len(self.channels) == len(self.kernels) > 0
        if not as_many or min(*self.channels, *self.kernels) < 1:
            raise ValueError(
                f"channels={self.channels} and kernels={self.kernels} "
                f"must be as many, at least one, each above 0"
            )
        super().__post_init__()

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool, length: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array | None]:
        check_series(x, length, self, "conv1")
        conv = partial(
            nn.Conv,
            use_bias=False,
            kernel_init=nn.initializers.he_normal(),
            conv_general_dilated=self.conv_general_dilated,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )
        norm = partial(self.norm, dtype=self.dtype, param_dtype=self.param_dtype)
        for number, (features, k) in enumerate(zip(self.channels, self.kernels, strict=True), 1):
            layer = conv(features, (k,), padding=around(k), name=f"conv{number}")
            x, length = convolved(layer, x, length)
            valid = mask(length, x.shape[1])
            x = norm(name=f"norm{number}")(x, train=train, act=nn.relu, valid=valid)
        return x, length


fcn1d = partial(sequence_classifier, FCN1D)
