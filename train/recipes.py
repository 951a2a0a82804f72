"""Recipes: which one a data set's name stands for, and what of it follows from what is asked."""

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from train.data.named import prepared
from train.experiment import Recipe
from train.trained import LONGEST_WARMUP, Trained

Config = TypeVar("Config", bound=Any)


Asked = TypeVar("Asked", bound=Recipe)


def before(default: Asked, given: Collection[str], *, new: bool) -> Asked:
    """The recipe that fields are changed of: the length of the run is said once.

    Where epochs are asked for, its steps are left open, and with them when a new run validates and
    how long it warms up (a recipe without a warm-up stays without).

    Args:
        default: the recipe, or that of the run that goes on.
        given: names of the fields that are asked for.
        new: whether a run begins.
    """
    if "epochs" not in given:
        return replace(default, epochs=None) if "steps" in given else default
    if "steps" in given:
        return default  # both: the recipe refuses that
    changes: dict[str, Any] = {"steps": None}
    if new:
        changes["evaluate_every"] = None
        if getattr(default, "warmup_steps", 0):
            changes["warmup_steps"] = None
    return replace(default, **changes)


def after(config: Asked, given: Collection[str], earlier: Asked | None = None) -> Asked:
    """The recipe, once fields are changed.

    True and False, asked for as whether to mirror, are "yes" and "no", unless the run that goes on
    has them itself. In a new run a warm-up that nobody asked for is left open where it would take
    more than a fifth of the steps that somebody did.

    Args:
        config: with the changes.
        given: names of the fields that are asked for.
        earlier: the recipe of the run that goes on; None for a new run.
    """
    changes: dict[str, Any] = {}
    new = earlier is None
    if new and isinstance(config, Trained) and "steps" in given and "warmup_steps" not in given:
        steps, warmup = config.steps, config.warmup_steps
        if steps and warmup and warmup > LONGEST_WARMUP * steps:
            changes["warmup_steps"] = None
    mirror, before = (getattr(one, "mirror", None) for one in (config, earlier))
    if "mirror" in given and isinstance(mirror, bool) and not isinstance(before, bool):
        changes["mirror"] = "yes" if mirror else "no"
    return replace(config, **changes)


def resolved(data: str, wanted: str) -> str:
    """`data` itself; for "auto", `wanted` where it is prepared, else the embedded digits."""
    if data != "auto":
        return data
    return wanted if prepared(wanted) else "digits"


def of_set(data: str, known: Mapping[str, Config], otherwise: Config) -> Config:
    """The recipe of a data set, with its `data`.

    Args:
        data: its name, with or without a configuration and a version: "mnist:3.0.1".
        known: name of a set, without these -> its recipe.
        otherwise: the one of other sets.
    """
    name = re.split("[/:]", data)[0]
    return replace(known.get(name, otherwise), data=data)
