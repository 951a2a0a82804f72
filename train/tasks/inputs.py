"""Inputs: what a network reads of a batch: images; or signals, and how much of each is no padding.

A task whose network takes either stands on these three functions, and works on both.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from train.tasks.adapt import Adapt, as_it_is


class Signal(NamedTuple):
    """Series of a batch.

    Attributes:
        values: (B, L, C) float32, normalised; 0 from `length` on.
        length: (B,) int32: how many steps of each are no padding; None where none is padded.
    """

    values: jax.Array
    length: jax.Array | None


Inputs = jax.Array | Signal
"""(B, H, W, C) float32 images, or series."""


def normalised(
    batch: dict, mean: Sequence[float], std: Sequence[float], adapt: Adapt = as_it_is
) -> Inputs:
    """The images of a batch, else its signals: (x - mean) / std.

    Args:
        batch: with `image`, or with `signal` and, where series are padded, their `length`.
        mean, std: per channel: of pixels 0..255, or of the steps of signals.
        adapt: comes first: to the size and channels that a network takes, or another order of time.
    """
    name = "image" if "image" in batch else "signal"
    x = adapt(batch[name].astype(jnp.float32))
    shape = (1,) * (x.ndim - 1) + (-1,)
    shift, scale = (np.asarray(one, np.float32).reshape(shape) for one in (mean, std))
    x = (x - shift) / scale
    if name == "image":
        return x
    length = batch.get("length")
    if length is not None:
        # Zeros beside a series, as a convolution pads it, and not what they come to here.
        there = jnp.arange(x.shape[1], dtype=jnp.int32)[None, :] < length[:, None]
        x = jnp.where(there[..., None], x, 0)
    return Signal(x, length)


def applied(network: nn.Module, variables: dict, x: Inputs, **how: Any) -> Any:
    """`network.apply`; a network of signals is told their length."""
    if isinstance(x, Signal):
        return network.apply(variables, x.values, length=x.length, **how)
    return network.apply(variables, x, **how)


def first_variables(network: nn.Module, key: jax.Array, x: Inputs) -> dict[str, Any]:
    """The first variables of a network: `train.experiment.Parts.init` of a task of signals."""
    if isinstance(x, Signal):
        return dict(network.init(key, x.values, length=x.length, train=False))
    return dict(network.init(key, x, train=False))
