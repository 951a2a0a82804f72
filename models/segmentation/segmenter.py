"""Segmenter: a backbone, a head that reads its maps, and logits brought to the image's size."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from models.classification.auxiliary import WithAuxiliary
from models.classification.classifier import check_num_classes, fitting
from models.layers.image import check_image
from models.layers.norm import BatchNorm
from models.layers.resize import bilinear

ModuleDef = Callable[..., Any]


class Segmenter(nn.Module):
    """Images to logits a pixel: (B, H, W, C) -> (B, H, W, num_classes).

    In training `WithAuxiliary` of such logits where there is an auxiliary head. Parameters are the
    same whether `init` is called with `train` or without. Logits and their resizing are at least
    float32. Dropout draws from `dropout`.

    Attributes:
        backbone: `(x, *, train)` -> tuple of maps (B, h, w, c), with `strides`.
        num_classes: at least 1.
        head: `(num_classes, *, strides, conv, norm, logits, name)` -> module, (maps, *, train) ->
            (B, h, w, num_classes); `strides` are those of the maps, `logits` makes its last layer.
        aux: the same for a head of its own on all maps but the last; None for none.
        norm, conv_general_dilated, dtype, param_dtype: of the heads, as the backbone's.

    Raises:
        TypeError: `num_classes` is no whole number.
        ValueError: it is below 1; `aux` on a backbone of one map; in a call, the image is none or
            too small for the backbone, or what a head refuses.
    """

    backbone: nn.Module
    num_classes: int
    head: ModuleDef
    aux: ModuleDef | None = None
    norm: ModuleDef = BatchNorm
    conv_general_dilated: Callable[..., jax.Array] = lax.conv_general_dilated
    dtype: Any = None
    param_dtype: Any = jnp.float32

    margin = 0
    """Pixels at each side of the image that have no logits."""

    def __post_init__(self) -> None:
        check_num_classes(self.num_classes)
        strides = self.backbone.strides  # type: ignore[attr-defined]
        if self.aux is not None and len(strides) < 2:
            raise ValueError(f"aux={self.aux}: a backbone with strides={strides} has one map alone")
        super().__post_init__()

    def input_size(self, size: int) -> int:
        """The least height or width of an image whose logits cover `size` pixels."""
        return max(size, getattr(self.backbone, "smallest", 1))

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array | WithAuxiliary:
        check_image(x)
        height, width = x.shape[1:3]
        maps = self.backbone(x, train=train)  # type: ignore[operator]
        strides = self.backbone.strides  # type: ignore[attr-defined]
        conv, logits = conv_and_logits(self, maps[-1])
        norm = partial(self.norm, dtype=self.dtype, param_dtype=self.param_dtype)

        def read(head: ModuleDef, name: str, count: int) -> jax.Array:
            layers = {"conv": conv, "norm": norm, "logits": logits}
            made = head(self.num_classes, strides=strides[:count], name=name, **layers)
            return bilinear(made(maps[:count], train=train), height, width)

        main = read(self.head, "head", len(maps))
        if self.aux is None or not (train or self.is_initializing()):
            return main
        aux = read(self.aux, "aux", len(maps) - 1)
        return WithAuxiliary(main, (aux,)) if train else main


def conv_and_logits(network: Any, x: jax.Array) -> tuple[ModuleDef, ModuleDef]:
    """The convolutions of a network's heads, bound to its fields; the second yields logits.

    Args:
        network: with the fields `conv_general_dilated`, `dtype` and `param_dtype`.
        x: a map that the heads read: logits are at least float32, or of its type if wider.
    """
    conv = partial(
        nn.Conv,
        use_bias=False,
        kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
        conv_general_dilated=network.conv_general_dilated,
        dtype=network.dtype,
        param_dtype=network.param_dtype,
    )
    logits = partial(
        conv,
        use_bias=True,
        kernel_init=nn.initializers.normal(0.01),
        dtype=np.promote_types(x.dtype, np.float32),
        precision="highest",
    )
    return conv, logits


def check_fields(*, dropout: float = 0.0, **sizes: int | tuple[int, ...]) -> None:
    """Refuses fields of a network or a head that no layer could be made with.

    Args:
        dropout: a rate.
        **sizes: by the field's name: a number of channels, of pixels, or some of them.

    Raises:
        ValueError: `dropout` is not from 0 to below 1, or a size is no whole number above 0.
    """
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout={dropout} must be from 0 to below 1")
    for name, size in sizes.items():
        each = size if isinstance(size, tuple | list) else (size,)
        whole = all(isinstance(one, int | np.integer) for one in each)
        if not each or not whole or min(each) < 1:
            raise ValueError(f"{name}={size!r} must be whole, and at least 1")


def segmenter(
    backbone: Callable[..., nn.Module],
    *,
    num_classes: int,
    head: ModuleDef,
    aux_head: ModuleDef | None = None,
    aux: bool = True,
    norm: ModuleDef = BatchNorm,
    conv_general_dilated: Callable[..., jax.Array] = lax.conv_general_dilated,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    **fields: Any,
) -> Segmenter:
    """A segmenter on a new backbone, `fields` being the backbone's.

    Args:
        backbone: see `Segmenter`.
        num_classes: of all logits.
        head, aux_head: see `Segmenter`'s `head` and `aux`.
        aux: whether there is the auxiliary head at all.
        norm, conv_general_dilated, dtype, param_dtype: of backbone and heads.
        **fields: of the backbone.
    """
    shared = {
        "norm": norm,
        "conv_general_dilated": conv_general_dilated,
        "dtype": dtype,
        "param_dtype": param_dtype,
    }
    made = backbone(**fitting(backbone, shared | fields))
    return Segmenter(made, num_classes, head, aux_head if aux else None, **shared)
