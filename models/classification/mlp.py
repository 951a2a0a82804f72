"""MLP: dense layers on the pixels in a row. It has no maps, so it is a network of its own."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from models.classification.classifier import check_num_classes, fitting
from models.layers.image import check_image


class MLP(nn.Module):
    """Images to logits: (B, H, W, C), flattened in this order -> (B, num_classes).

    Hidden layers have ReLU and start as He et al. 2015 (arXiv:1502.01852, eq. 10) say. The last
    layer is as `Classifier`'s: at least float32, with all its digits. An MLP takes images of the
    one size that its weights are for.

    Attributes:
        num_classes: at least 1.
        widths: units of each hidden layer; none makes a linear classifier.
        dtype: of the hidden layers' arithmetic; inferred from image and weights by default.
        param_dtype: of the parameters.

    Raises:
        TypeError: `num_classes` is no whole number.
        ValueError: it or a width is below 1; the image has other values than the weights are for.
    """

    num_classes: int
    widths: tuple[int, ...] = (256, 128, 100)
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        check_num_classes(self.num_classes)
        if any(width < 1 for width in self.widths):
            raise ValueError(f"widths={self.widths} must be at least 1")
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        check_image(x)
        values = math.prod(x.shape[1:])
        first: Any = self.get_variable("params", "hidden1" if self.widths else "head", None)
        if first is not None and first["kernel"].shape[0] != values:
            raise ValueError(
                f"image of shape {x.shape}: {values} values, "
                f"the first weights are for {first['kernel'].shape[0]}"
            )
        dtype = self.dtype or np.promote_types(x.dtype, self.param_dtype)
        y = x.reshape(x.shape[0], values).astype(dtype)
        for number, width in enumerate(self.widths, 1):
            hidden = nn.Dense(
                width,
                kernel_init=nn.initializers.he_normal(),
                dtype=dtype,
                param_dtype=self.param_dtype,
                name=f"hidden{number}",
            )
            y = nn.relu(hidden(y))
        wide = np.promote_types(dtype, np.float32)
        head = nn.Dense(
            self.num_classes,
            dtype=wide,
            param_dtype=self.param_dtype,
            precision="highest",
            name="head",
        )
        return head(y.astype(wide))


def mlp(*, num_classes: int, **fields: Any) -> MLP:
    """One with the fields that fit it (see `fitting`)."""
    return MLP(num_classes, **fitting(MLP, fields))
