"""Multiply-adds of a traced program, and of which module each is."""

import math
import re
from collections.abc import Iterator
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr

from models.backends.convolution import PRIMITIVES
from models.inspect.traced import TAG


def products(jaxpr: Jaxpr, transposed: set[int], tag: int = 0) -> Iterator[tuple[int, int]]:
    """(the module's number, multiply-adds) of every product in a traced program.

    Args:
        jaxpr: the program.
        transposed: numbers of the modules that are transposed convolutions.
        tag: the module's number where an equation names none.
    """
    for equation in jaxpr.eqns:
        # Inside a jitted or rematerialised function the scopes around it are not repeated.
        scopes = re.findall(rf"{TAG}(\d+)", str(equation.source_info.name_stack))
        own = int(scopes[-1]) if scopes else tag
        if found := multi_adds(equation, own in transposed):
            yield own, found
            continue
        inner = [list(products(one, transposed, own)) for one in programs(equation.params)]
        if equation.primitive.name == "cond":
            inner = [max(inner, key=lambda branch: sum(count for _, count in branch))]
        times = equation.params["length"] if equation.primitive.name == "scan" else 1
        for part in inner:
            yield from ((module, times * count) for module, count in part)


def programs(params: dict[str, Any]) -> Iterator[Jaxpr]:
    """Those among an equation's parameters."""
    for value in params.values():
        for one in value if isinstance(value, tuple | list) else [value]:
            if isinstance(one, ClosedJaxpr | Jaxpr):
                yield one.jaxpr if isinstance(one, ClosedJaxpr) else one


def multi_adds(equation: Any, transposed: bool) -> int:
    """Of one equation, see the module's table; 0 for what is no product."""
    kind, params = equation.primitive, equation.params
    if kind.name not in ("conv_general_dilated", "dot_general") and kind not in OURS:
        return 0
    first, second = (operand.aval.shape for operand in equation.invars[:2])
    out = equation.outvars[0].aval.shape
    if kind.name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        return math.prod(out) * math.prod(first[axis] for axis in contracted)
    if kind in OURS:
        # Leading axis S: see `models.backends.convolution`. Kernel and y stand at different places.
        if transposed and OURS[kind] == "forward":  # at stride 1
            window = math.prod(second[1:-2]) * second[-1]
            return math.prod(first) * window // params["geometry"].groups
        which = {"forward": (second, out), "data": (second, first), "weights": (out, second)}
        kernel, y = which[OURS[kind]]
        return math.prod(y) * math.prod(kernel[1:-1])
    axes = params["dimension_numbers"]
    kernel = [second[axis] for axis in axes.rhs_spec]  # features, channels / groups, window…
    if transposed or set(params["lhs_dilation"]) != {1}:
        return math.prod(first) * math.prod(kernel[2:]) * kernel[0] // params["feature_group_count"]
    return math.prod(out) * math.prod(kernel[1:]) // params["batch_group_count"]


OURS = {primitive: which for which, primitive in PRIMITIVES.items()}
