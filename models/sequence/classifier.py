"""SequenceClassifier: a 1-D backbone, its steps read as one vector, and a linear head."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from models.classification.classifier import check_num_classes, fitting
from models.sequence.lengths import last_step, masked_mean, zeroed

READS: dict[str, Callable[[jax.Array, jax.Array | None], jax.Array]] = {
    "mean": masked_mean,
    "last": last_step,
    "steps": zeroed,
}
"""What the head reads -> how it is taken from the backbone's steps."""


class SequenceClassifier(nn.Module):
    """Series to logits: (B, L, C) -> (B, num_classes); (B, l, num_classes) of all steps.

    For regression the logits are the values. The head and its logits are float32 where the backbone
    computes in bfloat16, and of the backbone's dtype where that is wider, as `Classifier`'s.

    Attributes:
        backbone: `(x, *, train, length)` -> steps (B, l, c), and how many of each are valid (B,);
            None where all are.
        num_classes: at least 1.
        read: what the head reads: "mean" of all steps, the "last" one, or each of all "steps",
            0 beyond a series' end. Of a series of length 0, mean and last step are 0.
        param_dtype: of the head.

    Raises:
        TypeError: `num_classes` is no whole number.
        ValueError: it is below 1; `read` is none of the three.
    """

    backbone: nn.Module
    num_classes: int
    read: str = "mean"
    param_dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        check_num_classes(self.num_classes)
        if self.read not in READS:
            raise ValueError(f"read={self.read!r} is none of {', '.join(READS)}")
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, length: jax.Array | None = None) -> jax.Array:
        steps, left = self.backbone(x, train=train, length=length)  # type: ignore[operator]
        wide = np.promote_types(steps.dtype, np.float32)
        head = nn.Dense(
            self.num_classes,
            dtype=wide,
            param_dtype=self.param_dtype,
            precision="highest",
            name="head",
        )
        return head(READS[self.read](steps.astype(wide), left))


def sequence_classifier(
    backbone: Callable[..., nn.Module],
    *,
    num_classes: int,
    read: str = "mean",
    param_dtype: Any = jnp.float32,
    **fields: Any,
) -> SequenceClassifier:
    """A classifier on a new backbone, `fields` being the backbone's (see `fitting`)."""
    made = backbone(param_dtype=param_dtype, **fitting(backbone, fields))
    return SequenceClassifier(made, num_classes, read, param_dtype)


def check_series(
    x: jax.Array, length: jax.Array | None, module: nn.Module, *first: str, smallest: int = 1
) -> None:
    """Refuses what is no batch of series that a network's weights are for, before any layer.

    Args:
        x: what a network was called with; its values are never read, so it may be traced.
        length: the same.
        module: bound; without its weights (in `init`) any number of channels is taken.
        first: path, from the module, of the first convolution, whose `kernel` is (k, C, F).
        smallest: steps that the network needs at least, padding included.

    Raises:
        ValueError: `x` has not 3 axes, is not floating, is too short or of other channels than the
            weights are for; `length` is not one whole number, with a sign, for each series.
    """
    if x.ndim != 3:
        raise ValueError(f"series of shape {x.shape}: expected 3 axes, (B, L, C)")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"series of dtype {x.dtype}: expected normalised floats")
    if x.shape[2] < 1:
        raise ValueError(f"series of shape {x.shape}: has no channels")
    if x.shape[1] < smallest:
        raise ValueError(
            f"series of shape {x.shape}: {x.shape[1]} steps are too few, "
            f"the least that this network takes is {smallest}"
        )
    if length is not None and (
        length.shape != x.shape[:1] or not jnp.issubdtype(length.dtype, jnp.signedinteger)
    ):
        raise ValueError(
            f"length of shape {length.shape} and dtype {length.dtype}: "
            f"expected {x.shape[:1]} of whole numbers with a sign, one for each series"
        )
    found: Any = {"kernel": None}
    if first:
        found = module.get_variable("params", first[0], {})
        for name in first[1:]:
            found = found.get(name, {})
    kernel = found.get("kernel")
    if kernel is not None and kernel.shape[-2] != x.shape[2]:
        raise ValueError(
            f"series of shape {x.shape}: {x.shape[2]} channel(s), "
            f"the weights of {'/'.join(first)} are for {kernel.shape[-2]}"
        )
