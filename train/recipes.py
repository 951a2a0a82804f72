"""Recipes: which one a data set's name stands for."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from train.data.named import prepared

Config = TypeVar("Config", bound=Any)


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
