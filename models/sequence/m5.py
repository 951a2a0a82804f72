"""M5: a network for raw audio (Dai et al. 2016, arXiv:1610.00087, table 1)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from models.layers.norm import BatchNorm
from models.layers.pooling import max_pool
from models.sequence.classifier import check_series, sequence_classifier
from models.sequence.lengths import convolved, mask, output_length, zeroed

ModuleDef = Callable[..., Any]
POOL = 4


class M5(nn.Module):
    """A backbone: (B, L, C) float -> (B, ceil(L / 1024), channels[-1]): 32 steps of 32,000.

    A convolution of 80 steps (10 ms at 8 kHz) at stride 4, then three of 3 steps, each with
    BatchNorm, ReLU and the maximum over 4 steps. The paper does not say how it pads: here by zeros
    on both sides, and what is left over at the end is pooled too, which gives its sizes (8000,
    2000, 500, 125, 32).

    Attributes:
        channels: of each convolution.
        norm: `BatchNorm`, or what has its call and its parameters.
        conv_general_dilated: the convolution, with the signature of JAX's.
        dtype: of the arithmetic and the steps; inferred from input and parameters by default.
        param_dtype: of the parameters.

    Raises:
        ValueError: there are no `channels`, or one is below 1; in a call, a batch has not 4 steps.
            A series in it whose `length` is below 4 has no step left, as one of length 0.
    """

    channels: tuple[int, ...] = (128, 128, 256, 512)
    norm: ModuleDef = BatchNorm
    conv_general_dilated: Callable[..., jax.Array] = lax.conv_general_dilated
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        if min(self.channels, default=0) < 1:
            raise ValueError(f"channels={self.channels} must be at least one, each above 0")
        super().__post_init__()

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool, length: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array | None]:
        check_series(x, length, self, "conv1", smallest=4)
        conv = partial(
            nn.Conv,
            use_bias=False,
            kernel_init=nn.initializers.he_normal(),
            conv_general_dilated=self.conv_general_dilated,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )
        norm = partial(self.norm, dtype=self.dtype, param_dtype=self.param_dtype)
        for number, features in enumerate(self.channels, 1):
            kernel, stride, padding = (3, 1, 1) if number > 1 else (80, 4, 38)
            layer = conv(features, (kernel,), strides=stride, padding=padding, name=f"conv{number}")
            x, length = convolved(layer, x, length)
            valid = mask(length, x.shape[1])
            x = norm(name=f"norm{number}")(x, train=train, act=nn.relu, valid=valid)
            x, length = pooled(x, length)
        return x, length


def pooled(x: jax.Array, length: jax.Array | None) -> tuple[jax.Array, jax.Array | None]:
    """Maxima of values that are at least 0: (B, L, C) -> (B, ceil(L / 4), C), and the lengths."""
    padding = (0, POOL - 1)
    y = max_pool(zeroed(x, length), (POOL,), strides=POOL, padding=[padding])
    return y, output_length(length, POOL, POOL, padding)


m5 = partial(sequence_classifier, M5)
