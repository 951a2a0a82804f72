"""A detector on a backbone, both made from one list of fields."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn

from models.classification.classifier import fitting


def detector(
    network: Callable[..., nn.Module],
    backbone: Callable[..., nn.Module],
    *,
    num_classes: int,
    **fields: Any,
) -> Any:
    """A detector on a new backbone.

    Args:
        network: its class, or a `partial` over it: with the fields `backbone` and `num_classes`.
        backbone: likewise.
        num_classes: of the logits of a box.
        **fields: each goes to the network, to the backbone, or to both: to what has one of its
            name. One that neither has is refused by the backbone, but for what a backend brings
            (`models.classification.classifier.fitting`).
    """
    own, theirs = names(network), names(backbone)
    others = {name: value for name, value in fields.items() if name in theirs or name not in own}
    made = backbone(**fitting(backbone, others))
    ours = {name: value for name, value in fields.items() if name in own}
    return network(backbone=made, num_classes=num_classes, **ours)


def names(module: Callable[..., nn.Module]) -> set[str]:
    """Of the fields of a module that is yet to be made."""
    kind: Any = module.func if isinstance(module, partial) else module
    return {field.name for field in dataclasses.fields(kind)}
