"""Network: the one that a recipe names, as the recipe wants it."""

import difflib
from typing import Any

import flax.linen as nn

import models
from train.experiment import decided
from train.refusal import Refused, choose
from train.trained import Trained

SCRIPTS = {
    "classification": "experiments/classify.py",
    "segmentation": "experiments/segment.py",
    "detection": "experiments/detect.py",
    "sequence": "experiments/sequence.py",
}
"""Task -> what trains any of its networks."""
SHOWN = 4
"""Of the networks that have a field, how many are named."""


def refuse_other_network(model: str, task: str) -> None:
    """Refuse a model that is no network of the task.

    Args:
        model: its name.
        task: one of `models.TASKS`.

    Raises:
        Refused: it is one of another task (says what trains it), or none at all (the nearest ones
            are named).
    """
    for other, script in SCRIPTS.items():
        if other != task and model in models.names(other):
            raise Refused(f"model={model!r} is a network of {other}; {script} trains it")
    choose("model", model, models.names(task))


def refuse_other_fields(config: Trained) -> None:
    """Refuse what `config.of_network` sets and the network of the recipe can't have.

    Raises:
        Refused: the network has no such field, or not with this value.
    """
    for name, value in config.of_network.items():
        if not has_field(config.model, name, value):
            raise Refused(
                f"{name}={value!r}: {config.model} has no such option"
                + others(config.model, name, value)
            )
    try:
        models.variant(config.model).make(num_classes=1, **config.of_network)
    except ValueError as error:
        raise Refused(f"model={config.model!r}: {error}") from None


def others(model: str, name: str, value: Any) -> str:
    """Which networks of the task have such a field, in words, the most alike first."""
    alike = next(table for table in models.TASKS.values() if model in table)
    found = [one for one in alike if has_field(one, name, value)]
    if not found:
        return ""
    found.sort(key=lambda one: -difflib.SequenceMatcher(None, model, one).ratio())
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return f"; {', '.join(found[:SHOWN])}{more} have it"


def has_field(model: str, name: str, value: Any) -> bool:
    """Whether a network has a field of that name, which may have that value beside others."""
    try:
        models.variant(model).make(num_classes=1, **{name: value})
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def network_of(
    config: Trained,
    num_classes: int,
    *,
    conv: Any,
    norm: Any,
    auxiliary: bool = True,
    channels: tuple[int, ...] = (),
    dropout: float = 0.0,
) -> nn.Module:
    """The network of a recipe.

    Args:
        config: the recipe: its `model` is one of `models.names()`, with `config.of_network` in
            place of the variant's own fields.
        num_classes: of the logits.
        conv: the convolution.
        norm: the batch normalisation.
        auxiliary: whether auxiliary heads are built, where the network has any.
        channels: of each level or stage; none takes the model's own.
        dropout: rate; 0 takes the model's own.

    Raises:
        Refused: the network has no form of such channels, or takes no rate of dropout; or batches
            are too small for it.
    """
    variant = models.variant(config.model)
    if decided(config.batch_size) < variant.least_batch * config.accumulation:
        raise Refused(
            f"batch_size={config.batch_size} in {config.accumulation} slice(s): {config.model} "
            f"normalises one value a channel for each image, and needs {variant.least_batch} images"
        )
    fields: dict[str, Any] = {"dtype": config.dtype, "conv_general_dilated": conv, "norm": norm}
    if variant.auxiliary:
        fields["aux"] = auxiliary
    fields |= config.of_network
    try:
        if channels:
            if variant.narrowed is None:
                raise ValueError(f"the widths of {config.model} can't be changed")
            fields |= variant.narrowed(channels)
        network = variant.make(num_classes=num_classes, **fields)
    except ValueError as error:
        named = f"channels={channels}" if channels else f"model={config.model!r}"
        raise Refused(f"{named}: {error}") from error
    if not dropout:
        return network
    if not hasattr(network, "dropout"):
        raise Refused(f"dropout={dropout}: {config.model} has its own")
    return network.clone(dropout=dropout)
