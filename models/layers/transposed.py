"""Transposed convolution: the gradient of a convolution with respect to its input, as a layer.

Every input position adds its values times the whole kernel to the output, `strides` apart:

    y[s i + d k - p] += x[i] kernel[k]        for i < n, k < K, on each axis

so that the full extent is s (n - 1) + d (K - 1) + 1, of which padding takes off p at each end.
A convolution with the same stride, dilation and padding maps this size back to n.

| form, of one axis | what is taken off the full extent |
|---|---|
| p, or (before, after) | that many on each side, or before and after |
| "VALID" | nothing |
| "SAME" | as much as leaves s n, an odd one after; where the kernel's reach is below the stride, \
zeros come after |
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from models.layers.conv import (
    CHANNELS_LAST,
    Padding,
    Pads,
    at_least_one,
    before_and_after,
    one_an_axis,
    pad_width,
)


def crop_width(
    kernel: int,
    stride: int = 1,
    padding: Padding = 0,
    dilation: int = 1,
    output_padding: int = 0,
) -> tuple[int, int]:
    """What is taken off the full extent of one axis, before and after; negative: zeros are added.

    Args:
        kernel, stride, dilation: of the window that moves along the output.
        padding: see the table above.
        output_padding: how many positions more to keep after, which the padding would take off, or
            zeros where it takes off less. Of the sizes that a convolution maps to the same n, it
            chooses one: below the stride or the dilation.

    Raises:
        ValueError: names the argument that is no whole number or too small or large, or the
            padding that is no form.
    """
    kernel, stride = at_least_one("kernel", kernel), at_least_one("stride", stride)
    dilation = at_least_one("dilation", dilation)
    more = operator.index(output_padding) if hasattr(output_padding, "__index__") else -1
    if not 0 <= more < max(stride, dilation):
        raise ValueError(
            f"output_padding={output_padding!r} must be a whole number, at least 0 and below the "
            f"stride {stride} or the dilation {dilation}"
        )
    if padding == "SAME":
        before, after = pad_width(stride, kernel, stride, "SAME", dilation)
        gap = max(stride - dilation * (kernel - 1) - 1, 0)
        return before, after - gap - more
    if isinstance(padding, str) and padding != "VALID":
        raise ValueError(f"padding={padding!r} is none of VALID, SAME")
    before, after = (0, 0) if padding == "VALID" else before_and_after(padding)
    return before, after - more


def transposed_size(
    size: int,
    kernel: int,
    stride: int = 1,
    padding: Padding = 0,
    dilation: int = 1,
    output_padding: int = 0,
) -> int:
    """Of one axis: s (n - 1) - 2p + d (k - 1) + output_padding + 1 with p on each side.

    "SAME" gives s n + output_padding. 0 where the padding takes everything off. Arguments and
    errors are those of `crop_width`; `size` is n, of the input.
    """
    size = at_least_one("size", size)
    crop = crop_width(kernel, stride, padding, dilation, output_padding)
    return max(stride * (size - 1) + dilation * (kernel - 1) + 1 - sum(crop), 0)


class ConvTranspose(nn.Module):
    """(B, L, C) -> (B, L', features), (B, H, W, C) -> (B, H', W', features).

    y[s i + d k - p] += x[i] kernel[k], plus a bias: PyTorch's ConvTranspose1d and 2d. Sizes are
    `transposed_size`'s. Flax's layer of this name has no output padding, and its kernel is this one
    mirrored.

    Parameters: `kernel` (spatial…, C / groups, features), as `nn.Conv`'s, with kernel[k] what an
    input position adds at k: input channels of a group meet the features of that group alone.
    PyTorch's weight (C, features / groups, spatial…) is this one with other axes, not mirrored.
    `bias` (features,).

    Attributes:
        features: channels that come out.
        kernel_size: a number for each spatial axis, of which there are one or two; an int is one.
        strides: how far apart the output positions of two neighbouring inputs are, for all axes or
            for each.
        padding: what is taken off at the ends, for all axes or a form for each (a bare pair is a
            number for each of two axes, as in `nn.Conv`). See the module's table.
        output_padding: positions more at the end, for all axes or for each.
        kernel_dilation: the distance of two taps of the kernel, for all axes or for each.
        feature_group_count: groups of channels.
        use_bias: whether there is a bias.
        dtype: of the computation and the output; inferred from x and the parameters by default.
        param_dtype: of the parameters.
        precision: see `jax.lax.Precision`.
        kernel_init, bias_init: initialisers.
        conv_general_dilated: what computes it, with the signature of JAX's; a backend's knows a
            dilated input as the gradient that it is.
    """

    features: int
    kernel_size: int | Sequence[int]
    strides: int | Sequence[int] = 1
    padding: Pads = 0
    output_padding: int | Sequence[int] = 0
    kernel_dilation: int | Sequence[int] = 1
    feature_group_count: int = 1
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32
    precision: Any = None
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    bias_init: nn.initializers.Initializer = nn.initializers.zeros
    conv_general_dilated: Callable[..., jax.Array] = lax.conv_general_dilated

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """The layer's output, of `dtype`.

        Raises:
            ValueError: names the attribute that is no whole number or too small or large, that has
                other axes than `kernel_size` or does not divide the channels; or x, of another
                rank or without a position; or the padding that leaves nothing.
        """
        features = at_least_one("features", self.features)
        groups = at_least_one("feature_group_count", self.feature_group_count)
        sizes = self.kernel_size
        kernels = [
            at_least_one("kernel_size", k)
            for k in (sizes if isinstance(sizes, tuple | list) else [sizes])
        ]
        rank = len(kernels)
        if rank not in (1, 2):
            raise ValueError(f"kernel_size={sizes!r} must have one or two axes")
        if x.ndim != rank + 2 or 0 in x.shape[1:]:
            raise ValueError(
                f"x of shape {x.shape} under kernel_size={sizes!r}: expected {rank + 2} axes, "
                f"with at least one position and channel"
            )
        channels = x.shape[-1]
        for name, count in (("x", channels), ("features", features)):
            if count % groups:
                raise ValueError(
                    f"feature_group_count={groups} does not divide the {count} channels of {name}"
                )
        strides = each("strides", self.strides, rank)
        dilations = each("kernel_dilation", self.kernel_dilation, rank)
        forms = one_an_axis("padding", self.padding, rank)
        mores = one_an_axis("output_padding", self.output_padding, rank)
        axes = list(zip(kernels, strides, forms, dilations, mores, strict=True))
        crops = [crop_width(*axis) for axis in axes]
        reach = [d * (k - 1) for k, d in zip(kernels, dilations, strict=True)]
        if 0 in (transposed_size(n, *axis) for n, axis in zip(x.shape[1:-1], axes, strict=True)):
            raise ValueError(
                f"padding={self.padding!r} leaves nothing of x of shape {x.shape} under "
                f"kernel_size={sizes!r}, strides={self.strides!r}"
            )

        shape = (*kernels, channels // groups, features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        bias = None
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (features,), self.param_dtype)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        # A crop within the kernel's reach is less padding of the dilated input. The rest is cut
        # off, or added, afterwards: padding never is negative (XLA on a CPU may then read beyond)
        # and never beyond the reach, where a backend would no longer see a gradient.
        inner = [
            tuple(min(max(c, 0), r) for c in crop) for crop, r in zip(crops, reach, strict=True)
        ]
        y = self.conv_general_dilated(
            x,
            jnp.flip(kernel, range(rank)),
            window_strides=(1,) * rank,
            padding=[(r - b, r - a) for r, (b, a) in zip(reach, inner, strict=True)],
            lhs_dilation=tuple(strides),
            rhs_dilation=tuple(dilations),
            dimension_numbers=CHANNELS_LAST[rank],
            feature_group_count=groups,
            precision=self.precision,
        )
        rest = [
            (b - before, a - after) for (b, a), (before, after) in zip(inner, crops, strict=True)
        ]
        if any(map(any, rest)):
            moves = [(0, 0, 0), *((before, after, 0) for before, after in rest), (0, 0, 0)]
            y = lax.pad(y, jnp.zeros((), y.dtype), moves)
        return y if bias is None else y + bias.reshape((1,) * (rank + 1) + bias.shape)


def each(name: str, value: int | Sequence[int], rank: int) -> list[int]:
    """A number above 0 for each axis."""
    return [at_least_one(name, one) for one in one_an_axis(name, value, rank)]
