"""Batch normalisation (Ioffe & Szegedy 2015): normalise, add, activate."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

Act = Callable[[jax.Array], jax.Array]


def normalise(
    x: jax.Array,
    mean: jax.Array,
    var: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    *,
    epsilon: float,
    act: Act | None,
    add: jax.Array | None,
    dtype: Any,
) -> jax.Array:
    """act((x - mean) / sqrt(var + epsilon) * scale + bias + add), in scale's dtype, then `dtype`.

    x (…, C); mean, var, scale and bias (C,); `act` and `add` where they are given.
    """
    wide = scale.dtype
    factor = jax.lax.rsqrt(var + epsilon) * scale
    y = (x.astype(wide) - along_channels(mean, x)) * along_channels(factor, x)
    y = y + along_channels(bias, x)
    if add is not None:
        y = y + add.astype(wide)
    if act is not None:
        y = act(y)
    return y.astype(dtype)


def batch_normalise(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    *,
    valid: jax.Array | None = None,
    **how: Any,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`normalise` by the statistics of x itself, and these: (y, mean, variance).

    `valid`, of x's shape without the channels, says which values they are of: all by default.
    """
    wide = x.astype(scale.dtype)
    mean = mean_of(wide, valid)
    var = mean_of(jnp.square(wide - along_channels(mean, x)), valid)
    return normalise(wide, mean, var, scale, bias, **how), mean, var


def mean_of(x: jax.Array, valid: jax.Array | None) -> jax.Array:
    """Per channel, over all other axes: (…, C) -> (C,); of no valid value it is 0."""
    axes = tuple(range(x.ndim - 1))
    if valid is None:
        return jnp.mean(x, axes)
    total = jnp.sum(jnp.where(valid[..., None], x, 0), axes)
    return total / jnp.maximum(jnp.sum(valid, dtype=x.dtype), 1)


class BatchNorm(nn.Module):
    """Per channel, over all other axes: (x - mean) / sqrt(variance + epsilon) * scale + bias.

    In training the statistics are the batch's (under jit the global batch's, however it is
    sharded), else the running ones. They and all arithmetic have the widest type of x, `dtype` and
    float32, and the variance takes a second pass over x - mean: E[x^2] - E[x]^2 loses all its
    digits where the mean is large.

    Parameters `scale`, `bias` and batch statistics `mean`, `var` are (C,), named as Flax's.

    Attributes:
        momentum: of the running statistics: running = momentum * running + (1 - momentum) * batch
            (PyTorch's `momentum` is 1 minus this).
        epsilon: added to the variance.
        unbiased: whether the running variance gets the batch's times n / (n - 1), as in the paper
            and in PyTorch; else the batch's own, as in Flax. What normalises is the batch's own.
        dtype: of the output; inferred from x and the parameters by default.
        param_dtype: of scale and bias.
        scale_init, bias_init: initialisers.
        batch_normalise: what normalises in training, with the signature of `batch_normalise`; a
            backend may do it in fewer passes over memory.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    unbiased: bool = False
    dtype: Any = None
    param_dtype: Any = jnp.float32
    scale_init: nn.initializers.Initializer = nn.initializers.ones
    bias_init: nn.initializers.Initializer = nn.initializers.zeros
    batch_normalise: Callable[..., tuple[jax.Array, jax.Array, jax.Array]] = batch_normalise

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        train: bool,
        act: Act | None = None,
        add: jax.Array | None = None,
        valid: jax.Array | None = None,
    ) -> jax.Array:
        """act(normalised x + add), each step where it is given, then rounded to `dtype`.

        Args:
            x: (…, C) of floats.
            train: whether to use the batch's statistics, and to update the running ones.
            act: activation.
            add: of x's shape: the other branch of a residual block.
            valid: (…) bool, x's shape without the channels: what the batch's statistics are of,
                where some of x is padding; of none, the running ones stay.

        Raises:
            ValueError: in training, x has one value a channel (variance 0: all would become the
                bias) or none.
        """
        features = x.shape[-1]
        scale = self.param("scale", self.scale_init, (features,), self.param_dtype)
        bias = self.param("bias", self.bias_init, (features,), self.param_dtype)
        dtype = nn.dtypes.canonicalize_dtype(x, scale, bias, dtype=self.dtype)
        wide = np.promote_types(np.promote_types(x.dtype, np.float32), dtype)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (features,), wide)
        running_var = self.variable("batch_stats", "var", jnp.ones, (features,), wide)

        how: dict[str, Any] = {"epsilon": self.epsilon, "act": act, "add": add, "dtype": dtype}
        scale, bias = scale.astype(wide), bias.astype(wide)
        if not train:
            mean, var = running_mean.value.astype(wide), running_var.value.astype(wide)
            return normalise(x, mean, var, scale, bias, **how)
        count: Any = x.size // features
        if count < 2:
            raise ValueError(
                f"{'/'.join(self.path) or 'BatchNorm'}: x of shape {x.shape} has {count} "
                f"value(s) a channel; training needs at least 2"
            )
        less: Any = count - 1
        if valid is not None:
            how["valid"] = valid
            count = jnp.sum(valid, dtype=wide)
            less = jnp.maximum(count - 1, 1)
        y, mean, var = self.batch_normalise(x, scale, bias, **how)
        if not self.is_initializing():
            spread = var * (count / less) if self.unbiased else var
            for running, batch in ((running_mean, mean), (running_var, spread)):
                old, new = running.value, self.moved(running.value, batch)
                running.value = new if valid is None else jnp.where(count > 0, new, old)
        return y

    def moved(self, running: jax.Array, batch: jax.Array) -> jax.Array:
        """The running statistic one step on, in its own dtype."""
        return self.momentum * running + (1 - self.momentum) * batch.astype(running.dtype)


class FrozenBatchNorm(BatchNorm):
    """`BatchNorm` that no training moves: by its running statistics, with a fixed scale and bias.

    For fine-tuning with few examples a batch. Variables and their names are `BatchNorm`'s.
    """

    @nn.nowrap
    def param(self, *args: Any, **kwargs: Any) -> Any:
        return jax.lax.stop_gradient(super().param(*args, **kwargs))

    def __call__(self, x: jax.Array, *, train: bool, **how: Any) -> jax.Array:
        """As `BatchNorm`'s; `train` changes nothing."""
        del train
        return super().__call__(x, train=False, **how)


class NoNorm(nn.Module):
    """In `BatchNorm`'s place, nothing normalised: act(x + bias + add).

    The parameter `bias` is (C,); there are no statistics. All arithmetic is in the widest type of
    x, `dtype` and float32.

    Attributes:
        dtype: of the output; inferred from x and the parameter by default.
        param_dtype: of the bias.
        bias_init: its initialiser.
    """

    dtype: Any = None
    param_dtype: Any = jnp.float32
    bias_init: nn.initializers.Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        train: bool,
        act: Act | None = None,
        add: jax.Array | None = None,
        valid: jax.Array | None = None,
    ) -> jax.Array:
        """As `BatchNorm`'s; `train` and `valid` change nothing."""
        del train, valid
        bias = self.param("bias", self.bias_init, (x.shape[-1],), self.param_dtype)
        dtype = nn.dtypes.canonicalize_dtype(x, bias, dtype=self.dtype)
        wide = np.promote_types(np.promote_types(x.dtype, np.float32), dtype)
        y = x.astype(wide) + along_channels(bias.astype(wide), x)
        y = y if add is None else y + add.astype(wide)
        return (y if act is None else act(y)).astype(dtype)


def along_channels(value: jax.Array, x: jax.Array) -> jax.Array:
    """(C,) -> (1, …, 1, C) of x's rank."""
    return value.reshape((1,) * (x.ndim - 1) + value.shape)
