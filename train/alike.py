"""Alike: whether two recipes that differ in their fields come to the same run."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np

from train.data.source import About
from train.experiment import Parts, Recipe
from train.prepared import Prepared


class Made(NamedTuple):
    """What a recipe comes to, without its data."""

    module: ModuleType
    config: Any
    """Settled."""
    about: About
    parts: Parts


def made_by(prepared: Prepared) -> Made:
    """What is kept of a recipe to be compared with others."""
    return Made(prepared.module, prepared.config, prepared.about, prepared.parts)


def same_run(a: Made, b: Made) -> bool:
    """Whether two recipes of one experiment come to the same run, whatever their fields say.

    They do where `build` composes the same of both, the same data are read, and no field differs
    that the run itself reads. What can't be compared is taken to differ.
    """
    fields = [field.name for field in dataclasses.fields(Recipe) if field.name != "workdir"]
    try:
        return (
            all(getattr(a.config, name) == getattr(b.config, name) for name in fields)
            and same(a.about, b.about)
            and same(composed(a.parts), composed(b.parts))
            and prints(a) == prints(b)
        )
    except Exception:  # parts of somebody's own, which can't be taken apart
        return False


def composed(parts: Parts) -> list[Any]:
    """The parts, with the optimiser as it is for their scalars: it may close over all fields."""
    hyper: dict[str, Any] = parts.hyper
    return [parts._replace(optimizer=len), parts.optimizer(hyper)]


def prints(made: Made) -> list[str | None]:
    """The fingerprint of each split."""
    splits = made.module.splits(made.config)
    return [None if source is None else source.fingerprint for source in splits]


def same(a: Any, b: Any, held: frozenset[tuple[int, int]] = frozenset()) -> bool:
    """Whether two values are equal, functions by their code and what they close over.

    Modules of Linen and other dataclasses are compared field by field.

    Args:
        a, b: anything.
        held: pairs that are being compared: a function may close over itself.
    """
    pair = (id(a), id(b))
    if a is b or pair in held:
        return True
    if type(a) is not type(b):
        return False
    equal = partial(same, held=held | {pair})
    if isinstance(a, np.ndarray | jax.Array):
        return a.shape == b.shape and a.dtype == b.dtype and bool(np.array_equal(a, b))
    if isinstance(a, Mapping):
        return list(a) == list(b) and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, Sequence) and not isinstance(a, str | bytes):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, partial):
        return equal((a.func, a.args, a.keywords), (b.func, b.args, b.keywords))
    if isinstance(a, MethodType):
        return equal((a.__func__, a.__self__), (b.__func__, b.__self__))
    if isinstance(a, FunctionType):
        return a.__code__ == b.__code__ and equal(*map(closed_over, (a, b)))
    if dataclasses.is_dataclass(a) and not isinstance(a, type):
        names = [field.name for field in dataclasses.fields(a) if field.name != "parent"]
        return all(equal(getattr(a, name), getattr(b, name)) for name in names)
    return bool(a == b)


def closed_over(function: FunctionType) -> tuple[Any, ...]:
    """What a function has beside its code."""
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    given = (function.__defaults__, function.__kwdefaults__, vars(function))
    return (function.__module__, *given, cells)
