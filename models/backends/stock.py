"""XLA's own convolution and gradients, as an engine: what the others fall back to by shape."""

import jax

from models.backends import xla
from models.backends.convolution import Engine, Geometry, mapped
from models.layers.conv import CHANNELS_LAST


def forward(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """`Engine.forward`."""

    def one(x: jax.Array, w: jax.Array) -> jax.Array:
        return xla.conv_general_dilated(
            x,
            w,
            geometry.strides,
            geometry.pads,
            rhs_dilation=geometry.dilations,
            dimension_numbers=CHANNELS_LAST[len(geometry.size)],
            feature_group_count=geometry.groups,
        )

    return mapped(one, x, w)


def data(y: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """`Engine.data`."""
    channels = w.shape[-2] * geometry.groups
    x = jax.ShapeDtypeStruct((*y.shape[:2], *geometry.size, channels), y.dtype)
    return jax.linear_transpose(lambda x: forward(x, w, geometry), x)(y)[0]


def weights(x: jax.Array, y: jax.Array, geometry: Geometry) -> jax.Array:
    """`Engine.weights`."""
    shape = (x.shape[0], *geometry.kernel, x.shape[-1] // geometry.groups, y.shape[-1])
    w = jax.ShapeDtypeStruct(shape, x.dtype)
    return jax.linear_transpose(lambda w: forward(x, w, geometry), w)(y)[0]


STOCK = Engine(forward, data, weights)
