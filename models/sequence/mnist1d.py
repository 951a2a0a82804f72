"""The networks of MNIST-1D's table (Greydanus & Kobak 2024, arXiv:2011.14439): linear, MLP, CNN.

Their weights belong to series of one length, as an MLP's to images of one size. Where series are
shorter, `length` says so: what is beyond counts as 0, whatever stands there. Weights and biases are
drawn as the reference's are, PyTorch's default: uniformly up to 1 / sqrt(fan-in).
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from models.classification.classifier import check_num_classes, fitting
from models.layers.image import smallest_size
from models.sequence.classifier import check_series
from models.sequence.lengths import convolved, zeroed


def drawn(fan_in: int) -> dict[str, nn.initializers.Initializer]:
    """Initialisers of a layer whose outputs are each a sum of so many products."""
    reach = fan_in**-0.5

    def uniform(key: jax.Array, shape: Any, dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -reach, reach)

    return {"kernel_init": uniform, "bias_init": uniform}


class Flat(nn.Module):
    """Dense layers on a series in a row: (B, L, C) -> (B, num_classes).

    The first hidden layer has ReLU; each further one adds what its ReLU yields to its input, as in
    the reference. The last layer is as `Classifier`'s: at least float32, with all its digits.

    Attributes:
        num_classes: at least 1.
        widths: of the hidden layers, all equal; none makes logistic regression.
        dtype: of the hidden layers' arithmetic; inferred from series and weights by default.
        param_dtype: of the parameters.

    Raises:
        TypeError: `num_classes` is no whole number.
        ValueError: it or a width is below 1, or widths differ; the series has other values than the
            weights are for.
    """

    num_classes: int
    widths: tuple[int, ...] = ()
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        check_num_classes(self.num_classes)
        if min(self.widths, default=1) < 1 or len(set(self.widths)) > 1:
            raise ValueError(f"widths={self.widths} must be equal, at least 1")
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, length: jax.Array | None = None) -> jax.Array:
        check_series(x, length, self)
        y = in_a_row(zeroed(x, length), self, "hidden1" if self.widths else "head")
        dtype = self.dtype or np.promote_types(x.dtype, self.param_dtype)
        y = y.astype(dtype)
        for number, width in enumerate(self.widths, 1):
            hidden = nn.Dense(
                width,
                **drawn(y.shape[-1]),
                dtype=dtype,
                param_dtype=self.param_dtype,
                name=f"hidden{number}",
            )
            y = nn.relu(hidden(y)) + (y if number > 1 else 0)
        return head(y, self.num_classes, self.param_dtype)


class CNN1D(nn.Module):
    """Convolutions at stride 2 with ReLU, flattened, and a linear head: (B, L, C) -> logits.

    Attributes:
        num_classes: at least 1.
        channels: of each convolution.
        kernels: steps of each; one step is padded on each side.
        conv_general_dilated: the convolution, with the signature of JAX's.
        dtype: of the convolutions' arithmetic; inferred from series and weights by default.
        param_dtype: of the parameters.

    Raises:
        TypeError: `num_classes` is no whole number.
        ValueError: it is below 1; `channels` and `kernels` are empty, not as many or not above 0;
            the series is too short, or not of the length that the weights are for.
    """

    num_classes: int
    channels: tuple[int, ...] = (25, 25, 25)
    kernels: tuple[int, ...] = (5, 3, 3)
    conv_general_dilated: Callable[..., jax.Array] = lax.conv_general_dilated
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        check_num_classes(self.num_classes)
        as_many = len(self.channels) == len(self.kernels) > 0
        if not as_many or min(*self.channels, *self.kernels) < 1:
            raise ValueError(
                f"channels={self.channels} and kernels={self.kernels} "
                f"must be as many, at least one, each above 0"
            )
        super().__post_init__()

    @property
    def smallest(self) -> int:
        """Steps of the shortest series: 3 with the default kernels."""
        return smallest_size((kernel, 2, 1) for kernel in self.kernels)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, length: jax.Array | None = None) -> jax.Array:
        check_series(x, length, self, "conv1", smallest=self.smallest)
        for number, (features, k) in enumerate(zip(self.channels, self.kernels, strict=True), 1):
            conv = nn.Conv(
                features,
                (k,),
                strides=2,
                padding=1,
                **drawn(k * x.shape[-1]),
                conv_general_dilated=self.conv_general_dilated,
                dtype=self.dtype,
                param_dtype=self.param_dtype,
                name=f"conv{number}",
            )
            x, length = convolved(conv, x, length)
            x = nn.relu(x)
        y = in_a_row(zeroed(x, length), self, "head")
        return head(y, self.num_classes, self.param_dtype)


def in_a_row(x: jax.Array, module: nn.Module, first: str) -> jax.Array:
    """(B, l, c) -> (B, l c), refused if a dense layer's weights are for another number."""
    values = x.shape[1] * x.shape[2]
    weights: Any = module.get_variable("params", first, None)
    if weights is not None and weights["kernel"].shape[0] != values:
        raise ValueError(
            f"series of {values} values at {first}, whose weights are for "
            f"{weights['kernel'].shape[0]}: series must have the length that they had in training"
        )
    return x.reshape(x.shape[0], values)


def head(y: jax.Array, num_classes: int, param_dtype: Any) -> jax.Array:
    """The logits, of a layer named so in the module that calls."""
    wide = np.promote_types(y.dtype, np.float32)
    dense = nn.Dense(
        num_classes,
        **drawn(y.shape[-1]),
        dtype=wide,
        param_dtype=param_dtype,
        precision="highest",
        name="head",
    )
    return dense(y.astype(wide))


def linear1d(*, num_classes: int, **fields: Any) -> Flat:
    """Logistic regression, with the fields that fit it (see `fitting`)."""
    return Flat(num_classes, **fitting(Flat, fields))


def mlp1d(*, num_classes: int, widths: tuple[int, ...] = (100, 100), **fields: Any) -> Flat:
    """The reference's MLP, with the fields that fit it (see `fitting`)."""
    return Flat(num_classes, widths, **fitting(Flat, fields))


def cnn1d(*, num_classes: int, **fields: Any) -> CNN1D:
    """The reference's CNN, with the fields that fit it (see `fitting`)."""
    return CNN1D(num_classes, **fitting(CNN1D, fields))
