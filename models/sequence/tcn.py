"""TCN: the temporal convolutional network (Bai et al. 2018, arXiv:1803.01271)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from models.layers.conv import at_least_one
from models.sequence.classifier import check_series, sequence_classifier
from models.sequence.lengths import zeroed

ModuleDef = Callable[..., Any]


class WeightNormConv(nn.Conv):
    """`flax.linen.Conv` of weight scale * kernel / |kernel| (Salimans & Kingma 2016).

    The norm is that of each output channel's weights. `scale` (features,) starts at sqrt(2), at
    which the weights have the variance of He et al. 2015.
    """

    @nn.nowrap
    def param(self, name: str, *args: Any, **kwargs: Any) -> Any:
        value = super().param(name, *args, **kwargs)
        if name != "kernel":
            return value
        start = nn.initializers.constant(2**0.5)
        scale = super().param("scale", start, (self.features,), self.param_dtype)
        wide = value.astype(jnp.promote_types(value.dtype, jnp.float32))
        axes = tuple(range(value.ndim - 1))
        # The root of 0 has no gradient.
        size = jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(wide), axes, keepdims=True), 1e-24))
        scale = scale.astype(wide.dtype).reshape(size.shape[:-1] + scale.shape)
        return (scale * wide / size).astype(value.dtype)


class TemporalBlock(nn.Module):
    """Two dilated causal convolutions, each with ReLU and dropout, and a shortcut (figure 1 (b)).

    (B, L, C) -> (B, L, features); step t comes of steps t - 2 (kernel - 1) dilation … t.

    Attributes:
        dropout: rate, of whole channels of a series (the paper's spatial dropout), in training.
        conv: of the two convolutions.
        project: of the shortcut, a convolution of one step, where the channels change.
    """

    features: int
    kernel: int
    dilation: int
    dropout: float
    conv: ModuleDef
    project: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array, length: jax.Array | None, *, train: bool) -> jax.Array:
        causal = partial(
            self.conv,
            self.features,
            (self.kernel,),
            kernel_dilation=self.dilation,
            padding=[(self.dilation * (self.kernel - 1), 0)],
        )
        drop = partial(nn.Dropout, self.dropout, broadcast_dims=(1,), deterministic=not train)
        y = x
        for name in ("conv1", "conv2"):
            y = drop()(nn.relu(causal(name=name)(zeroed(y, length))))
        if x.shape[-1] != self.features:
            x = self.project(self.features, (1,), name="shortcut")(x)
        return nn.relu(x + y)


class TCN(nn.Module):
    """A backbone: (B, L, C) float -> (B, L, channels[-1]); no step sees a later one.

    Level i has dilation 2^i. Weights are normalised as in the paper (`WeightNormConv`), but for the
    shortcuts', as in the authors' code. Convolutions have a bias.

    Attributes:
        channels: of each level. The defaults are the paper's for sequential MNIST.
        kernel: steps of each convolution.
        weight_norm: whether weights are normalised.
        dropout: rate after each convolution, in training, drawn from `dropout`.
        conv_general_dilated: the convolution, with the signature of JAX's.
        dtype: of the arithmetic and the steps; inferred from input and parameters by default.
        param_dtype: of the parameters.

    Raises:
        ValueError: there are no `channels`, or one or `kernel` is below 1; `dropout` is no rate.
    """

    channels: tuple[int, ...] = (25,) * 8
    kernel: int = 7
    weight_norm: bool = True
    dropout: float = 0.0
    conv_general_dilated: Callable[..., jax.Array] = lax.conv_general_dilated
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        if min(self.channels, default=0) < 1:
            raise ValueError(f"channels={self.channels} must be at least one, each above 0")
        at_least_one("kernel", self.kernel)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout} must be a rate from 0 to below 1")
        super().__post_init__()

    @property
    def dilations(self) -> tuple[int, ...]:
        """Of each level."""
        return tuple(2**level for level in range(len(self.channels)))

    @property
    def receptive_field(self) -> int:
        """Steps that one of the output comes of: 1 + 2 (k - 1) (2^levels - 1), itself the last."""
        return 1 + 2 * (self.kernel - 1) * sum(self.dilations)

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool, length: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array | None]:
        check_series(x, length, self, "level1", "conv1")
        x = zeroed(x, length)  # the shortcut's kernel sees it too
        fields = {
            "kernel_init": nn.initializers.he_normal(),
            "conv_general_dilated": self.conv_general_dilated,
            "dtype": self.dtype,
            "param_dtype": self.param_dtype,
        }
        project = partial(nn.Conv, **fields)
        conv = partial(WeightNormConv if self.weight_norm else nn.Conv, **fields)
        for level, (features, d) in enumerate(zip(self.channels, self.dilations, strict=True), 1):
            block = TemporalBlock(
                features,
                self.kernel,
                d,
                self.dropout,
                conv=conv,
                project=project,
                name=f"level{level}",
            )
            x = block(x, length, train=train)
        return x, length


tcn = partial(sequence_classifier, TCN, read="last")
SmallTCN = partial(TCN, channels=(32,) * 4, kernel=3)
tcn_small = partial(sequence_classifier, SmallTCN, read="last")
