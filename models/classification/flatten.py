"""FlattenClassifier: a backbone, its last map flattened, and dense layers."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from models.classification.classifier import check_num_classes, fitting
from models.layers.pooling import adaptive_average_pool


class FlattenClassifier(nn.Module):
    """Images to logits: (B, H, W, C) -> (B, num_classes), through dense layers with ReLU.

    The last map is averaged to `size` x `size` positions, so that any image which the backbone
    takes is taken, and flattened in the order (H, W, C), where PyTorch flattens (C, H, W). Hidden
    layers compute in the backbone's dtype; the last one, as `Classifier`'s, in at least float32
    with all its digits. Dropout draws from `dropout`.

    Attributes:
        backbone: `(x, *, train)` -> tuple of maps (B, h, w, c).
        num_classes: at least 1.
        size: of the map that is flattened.
        widths: of the hidden layers.
        dropout: rate before each hidden layer and before the last, in training.
        dense_init: of all dense layers' weights; the last one's biases start at 0.
        hidden_bias_init: of the hidden layers' biases.
        param_dtype: of the dense layers.

    Raises:
        TypeError: `num_classes` is no whole number.
        ValueError: it, `size` or a width is below 1; `dropout` is not one rate in [0, 1) for each
            dense layer.
    """

    backbone: nn.Module
    num_classes: int
    size: int
    widths: tuple[int, ...]
    dropout: tuple[float, ...]
    dense_init: nn.initializers.Initializer = nn.initializers.he_normal()
    hidden_bias_init: nn.initializers.Initializer = nn.initializers.zeros
    param_dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        check_num_classes(self.num_classes)
        if min((self.size, *self.widths)) < 1:
            raise ValueError(f"size={self.size} and widths={self.widths} must be at least 1")
        rates = len(self.dropout) == len(self.widths) + 1
        if not rates or not all(0 <= rate < 1 for rate in self.dropout):
            raise ValueError(
                f"dropout={self.dropout} must be {len(self.widths) + 1} rates from 0 to below 1: "
                f"before each of widths={self.widths} and before the last layer"
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        last = self.backbone(x, train=train)[-1]  # type: ignore[operator]
        wide = np.promote_types(last.dtype, np.float32)
        dense = partial(nn.Dense, kernel_init=self.dense_init, param_dtype=self.param_dtype)
        dropout = partial(nn.Dropout, deterministic=not train)

        y = adaptive_average_pool(last, (self.size, self.size))
        y = y.reshape(y.shape[0], math.prod(y.shape[1:]))
        for number, (width, rate) in enumerate(zip(self.widths, self.dropout, strict=False), 1):
            hidden = dense(
                width, dtype=last.dtype, bias_init=self.hidden_bias_init, name=f"hidden{number}"
            )
            y = nn.relu(hidden(dropout(rate)(y)))
        y = dropout(self.dropout[-1])(y).astype(wide)
        return dense(self.num_classes, dtype=wide, precision="highest", name="head")(y)


def flatten_classifier(
    backbone: Callable[..., nn.Module],
    *,
    num_classes: int,
    size: int,
    widths: tuple[int, ...],
    dropout: tuple[float, ...],
    dense_init: nn.initializers.Initializer = nn.initializers.he_normal(),
    hidden_bias_init: nn.initializers.Initializer = nn.initializers.zeros,
    param_dtype: Any = jnp.float32,
    **fields: Any,
) -> FlattenClassifier:
    """One on a new backbone, `fields` being the backbone's (see `fitting`)."""
    made = backbone(param_dtype=param_dtype, **fitting(backbone, fields))
    return FlattenClassifier(
        made, num_classes, size, widths, dropout, dense_init, hidden_bias_init, param_dtype
    )
