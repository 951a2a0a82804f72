"""The normalisation that a network's weights expect of its images, on top of the caller's."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from models.layers.norm import along_channels


class InputTransform(nn.Module):
    """x * scale + shift, a channel at a time: (B, H, W, C) -> (B, H, W, C).

    `scale` and `shift` (C,) are constants that belong to the weights, not parameters: nothing
    trains them, and they are saved and averaged with the others. They begin as ones and zeros,
    which change no image, and are set by who brings weights. Their collection is
    `input_transform`; they and the arithmetic have the widest type of x, `param_dtype` and float32.

    Attributes:
        param_dtype: of the network's parameters. Maps come in x's type or this, the wider.
    """

    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        dtype = np.promote_types(x.dtype, self.param_dtype)
        wide = np.promote_types(dtype, np.float32)
        channels = (x.shape[-1],)
        scale = self.variable("input_transform", "scale", jnp.ones, channels, wide)
        shift = self.variable("input_transform", "shift", jnp.zeros, channels, wide)
        factor, more = (along_channels(v.value.astype(wide), x) for v in (scale, shift))
        return (x.astype(wide) * factor + more).astype(dtype)
