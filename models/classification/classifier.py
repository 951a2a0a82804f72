"""Classifier: a backbone and a linear head on the mean of its last map."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from models.layers.pooling import global_average_pool

BACKEND = frozenset({"conv_general_dilated", "norm"})
"""Fields that `models.backends` brings to any network."""


class Classifier(nn.Module):
    """Images to logits: (B, H, W, C) -> (B, num_classes).

    The head and its logits are float32 where the backbone computes in bfloat16, and of the
    backbone's dtype where that is wider. Its product keeps all digits of that type; by default
    accelerators round the factors (recent GPUs to TF32).

    Attributes:
        backbone: `(x, *, train)` -> tuple of maps (B, h, w, c).
        num_classes: at least 1.
        param_dtype: of the head.

    Raises:
        TypeError: `num_classes` is no whole number.
        ValueError: it is below 1.
    """

    backbone: nn.Module
    num_classes: int
    param_dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        check_num_classes(self.num_classes)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        last = self.backbone(x, train=train)[-1]  # type: ignore[operator]
        wide = np.promote_types(last.dtype, np.float32)
        head = nn.Dense(
            self.num_classes,
            dtype=wide,
            param_dtype=self.param_dtype,
            precision="highest",
            name="head",
        )
        return head(global_average_pool(last.astype(wide)))


def classifier(
    backbone: Callable[..., nn.Module],
    *,
    num_classes: int,
    param_dtype: Any = jnp.float32,
    **fields: Any,
) -> Classifier:
    """A classifier on a new backbone, `fields` being the backbone's (see `fitting`)."""
    made = backbone(param_dtype=param_dtype, **fitting(backbone, fields))
    return Classifier(made, num_classes, param_dtype)


def fitting(module: Callable[..., nn.Module], fields: dict[str, Any]) -> dict[str, Any]:
    """`fields` without those of a backend that a network has no use for.

    A backend brings a convolution and a BatchNorm to whatever network it is given to; one without
    convolutions, or without BatchNorm, has no such field, and what was brought is left out. Any
    other field that the network lacks stays, and is refused by its constructor.

    Args:
        module: a module's class, or a `partial` over one.
        fields: of the new module, by name.
    """
    own = module.func if isinstance(module, partial) else module
    known = {field.name for field in dataclasses.fields(own)}  # type: ignore[arg-type]
    return {name: value for name, value in fields.items() if name in known or name not in BACKEND}


def check_num_classes(num_classes: Any) -> None:
    """Refuses what is no number of classes.

    Raises:
        TypeError: it is no whole number.
        ValueError: it is below 1.
    """
    if isinstance(num_classes, bool) or not isinstance(num_classes, int | np.integer):
        raise TypeError(f"num_classes={num_classes!r} is not a whole number")
    if num_classes < 1:
        raise ValueError(f"num_classes={num_classes} must be at least 1")
