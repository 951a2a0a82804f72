"""Classifiers with auxiliary heads: logits from within the backbone, for training alone."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from models.classification.classifier import Classifier, fitting
from models.layers.pooling import global_average_pool

ModuleDef = Callable[..., Any]


class WithAuxiliary(NamedTuple):
    """What a network with auxiliary heads yields in training."""

    logits: jax.Array
    """(B, num_classes), or (B, H, W, num_classes) of pixels."""
    aux: tuple[jax.Array, ...]
    """The same of each auxiliary head, from the image on."""


class AuxiliaryClassifier(Classifier):
    """Images to logits, and in training to `WithAuxiliary` where there are heads.

    The main head is `Classifier`'s, behind dropout. Parameters are the same whether `init` is
    called with `train` or without. Dropout draws from `dropout`.

    Attributes:
        backbone: `(x, *, train)` -> tuple of maps (B, h, w, c): one for each of `heads`, and the
            last one; its `layer` makes a convolution in the manner of its own.
        heads: `(num_classes, *, layer, dense, name)` -> module, (map, *, train) -> logits, whose
            parameters depend on the channels of a map but not on its size.
        dropout: rate before the main head.
        smallest: height and width of the smallest image in training; outside it the heads are not
            asked, and the backbone alone decides.

    Raises:
        TypeError: `num_classes` is no whole number.
        ValueError: it is below 1; `dropout` is not from 0 to below 1; in a call, the image is none
            or too small.
    """

    heads: tuple[ModuleDef, ...] = ()
    dropout: float = 0.0
    smallest: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout} must be from 0 to below 1")
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array | WithAuxiliary:  # type: ignore[override]
        *maps, last = self.backbone(x, train=train)  # type: ignore[operator]
        if train and min(x.shape[1:3]) < self.smallest:
            raise ValueError(
                f"image of shape {x.shape}: {x.shape[1]}x{x.shape[2]} pixels are too few, the "
                f"smallest that this network's auxiliary heads take is "
                f"{self.smallest}x{self.smallest}; without them (aux=False) it trains on smaller"
            )
        wide = np.promote_types(last.dtype, np.float32)
        dense = partial(nn.Dense, dtype=wide, param_dtype=self.param_dtype, precision="highest")
        mean = global_average_pool(last.astype(wide))
        mean = nn.Dropout(self.dropout, deterministic=not train)(mean)
        logits = dense(self.num_classes, name="head")(mean)
        if not self.heads or not (train or self.is_initializing()):
            return logits
        if not train:
            # To create the heads' parameters; any map will do, and this one is large enough.
            maps = [jnp.zeros((1, 17, 17, m.shape[-1]), m.dtype) for m in maps]
        layer = self.backbone.layer  # type: ignore[attr-defined]
        aux = tuple(
            head(self.num_classes, layer=layer, dense=dense, name=f"aux{number}")(m, train=train)
            for number, (head, m) in enumerate(zip(self.heads, maps, strict=True), 1)
        )
        return WithAuxiliary(logits, aux) if train else logits


def auxiliary_classifier(
    backbone: Callable[..., nn.Module],
    *,
    num_classes: int,
    head: ModuleDef,
    reads: tuple[str, ...],
    last: str,
    dropout: float,
    smallest: int = 1,
    aux: bool = True,
    param_dtype: Any = jnp.float32,
    **fields: Any,
) -> AuxiliaryClassifier:
    """One on a new backbone, `fields` being the backbone's (see `fitting`).

    Args:
        backbone: its field `maps` names the blocks whose maps it returns.
        num_classes: of all logits.
        head: an auxiliary head.
        reads: the blocks that each have such a head.
        last: the block that the main head reads.
        dropout: rate before the main head.
        smallest: height and width of the smallest image that the auxiliary heads take.
        aux: whether there are auxiliary heads at all.
        param_dtype: of all parameters.
    """
    reads = reads if aux else ()
    made = backbone(maps=(*reads, last), param_dtype=param_dtype, **fitting(backbone, fields))
    return AuxiliaryClassifier(
        made,
        num_classes,
        param_dtype,
        heads=(head,) * len(reads),
        dropout=dropout,
        smallest=max(smallest, made.smallest) if aux else made.smallest,  # type: ignore[attr-defined]
    )


def parts(output: jax.Array | WithAuxiliary) -> WithAuxiliary:
    """What any classifier yields, in this form: no auxiliary logits where there were none."""
    return output if isinstance(output, WithAuxiliary) else WithAuxiliary(output, ())
