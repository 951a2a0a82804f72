"""Feature maps: what the modules of a network yield on the way, by the path of the module.

A map is an array (B, spatial…, c) that a module yields, of the input's batch and number of axes.
Its name is the path of its module, "backbone/stage1_block2"; where a module yields several, or is
called several times, each has its place behind it: "backbone[0]".

    feature_maps(network, variables, x)                                    # a map a stage
    feature_maps(network, variables, x, names=["backbone/stage1_block2"])
"""

import inspect
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jax.extend.core import ClosedJaxpr, Literal, Var, jaxpr_as_fun

BACKBONE = "backbone"


class Program(NamedTuple):
    """A network as a program that yields its maps beside its results."""

    jaxpr: ClosedJaxpr
    """Of the flattened (variables, *inputs)."""
    results: Any
    """What it yields, a variable of the program in place of each array."""
    maps: dict[str, Var]
    """By their names, in the order in which their modules are done."""
    modules: dict[str, type[nn.Module]]
    """Path of each that is called -> its class, in the same order."""


def program(network: nn.Module, variables: Any, *inputs: Any, **how: Any) -> Program:
    """The program of a call outside training; nothing is computed.

    Args:
        network: any Linen module.
        variables: its own; arrays or their shapes.
        *inputs: of its call, the first with axis B; likewise.
        **how: of its call: `length=` of series.
    """
    if "train" in inspect.signature(type(network).__call__).parameters:
        how = {"train": False, **how}
    done: dict[tuple[str, ...], type[nn.Module]] = {}

    def note(module: nn.Module, method: str) -> bool:
        if method == "__call__" and module.path:
            done.setdefault(module.path, type(module))
        return method == "__call__"

    def call(variables: Any, *inputs: Any) -> Any:
        results, kept = network.apply(
            variables, *inputs, **how, capture_intermediates=note, mutable=["intermediates"]
        )
        return results, kept["intermediates"]

    jaxpr, (results, kept) = jax.make_jaxpr(call, return_shape=True)(variables, *inputs)
    names = iter(jaxpr.jaxpr.outvars)
    results, kept = (jax.tree.map(lambda _: next(names), tree) for tree in (results, kept))
    batch, axes = inputs[0].shape[0], len(inputs[0].shape)
    maps = {}
    for path in done:
        inner = kept
        for name in path:
            inner = inner[name]
        found = [v for v in jax.tree.leaves(inner["__call__"]) if not isinstance(v, Literal)]
        found = [v for v in found if len(shape_of(v)) == axes and shape_of(v)[0] == batch]
        for place, variable in enumerate(found):
            name = "/".join(path) + (f"[{place}]" if len(found) > 1 else "")
            maps[name] = variable
    return Program(jaxpr, results, maps, {"/".join(path): done[path] for path in done})


def ending(whole: ClosedJaxpr, *wanted: Var) -> Callable[..., list[Any]]:
    """The program, with other variables of it as its results: of the same arguments."""
    return jaxpr_as_fun(ClosedJaxpr(whole.jaxpr.replace(outvars=[*wanted]), whole.consts))


def cut(whole: ClosedJaxpr, at: Var) -> ClosedJaxpr:
    """The program with one more argument, the last, which is `at` in place of what it would be."""
    (fresh,) = jax.make_jaxpr(lambda x: x)(at.aval).jaxpr.invars
    jaxpr = whole.jaxpr

    def renamed(variables: Sequence[Var]) -> list[Var]:
        return [fresh if each is at else each for each in variables]

    equations = [
        each.replace(outvars=renamed(each.outvars)) if at in each.outvars else each
        for each in jaxpr.eqns
    ]
    invars = [*renamed(jaxpr.invars), at]
    return ClosedJaxpr(jaxpr.replace(invars=invars, eqns=equations), whole.consts)


def map_shapes(
    network: nn.Module, variables: Any, *inputs: Any, **how: Any
) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every map, see `program`; nothing is computed."""
    maps = program(network, variables, *inputs, **how).maps
    return {name: shape_of(variable) for name, variable in maps.items()}


def feature_maps(
    network: nn.Module, variables: Any, *inputs: Any, names: Sequence[str] = (), **how: Any
) -> dict[str, jax.Array]:
    """Maps of a network outside training, by their names.

    Args:
        network, variables, inputs, how: see `program`.
        names: of the maps; by default those of `stages`.

    Raises:
        ValueError: a name is that of no map; the maps there are, are named.
    """
    found = program(network, variables, *inputs, **how)
    chosen = list(names) or list(stages(found).values())
    for name in chosen:
        check_name(network, found.maps, name)
    run = jax.jit(ending(found.jaxpr, *(found.maps[name] for name in chosen)))
    return dict(zip(chosen, run(*jax.tree.leaves((variables, *inputs))), strict=True))


def stages(found: Program) -> dict[str, str]:
    """Stage -> the map that it ends with; none for a network without maps.

    Those of the backbone, "stage1" and so on; where it yields one alone, or there is no backbone,
    those of the modules in it. Of "down1_conv1" and "down1_conv2" it is the last, by the name that
    they share; a convolution whose normalisation follows is none.
    """
    own = [name for name in found.maps if name.partition("[")[0] == BACKBONE]
    if len(own) > 1:
        return {f"stage{number}": name for number, name in enumerate(own, 1)}
    prefix = f"{BACKBONE}/" if own else ""
    unique: dict[Var, str] = {}  # without dropout, which yields what it is given
    for name, variable in found.maps.items():
        if name.startswith(prefix) and "/" not in name.removeprefix(prefix):
            unique.setdefault(variable, name)
    inner = [*unique.values()]
    kept = [
        name
        for name, after in itertools.zip_longest(inner, inner[1:])
        if after is None or not normalised(found, name, after)
    ]
    local = {name.removeprefix(prefix): name for name in kept}
    return {name.rpartition("_")[0] or name: whole for name, whole in local.items()}


def normalised(found: Program, name: str, after: str) -> bool:
    """Whether a map is a convolution's and the next one the same behind a layer of another kind."""
    first, second = (
        issubclass(found.modules[one.partition("[")[0]], nn.Conv) for one in (name, after)
    )
    same = shape_of(found.maps[name]) == shape_of(found.maps[after])
    return first and not second and same


def shape_of(variable: Var) -> tuple[int, ...]:
    """Of an array."""
    aval: Any = variable.aval
    return tuple(aval.shape)


def positions(variable: Var) -> int:
    """Of a map, over all its spatial axes."""
    return math.prod(shape_of(variable)[1:-1])


def check_name(network: nn.Module, maps: Any, name: str) -> None:
    """Refuse a name that is that of no map.

    Raises:
        ValueError: names the network's class and the maps of its outer modules.
    """
    if name in maps:
        return
    outer = [one for one in maps if one.count("/") <= 1]
    more = f" and {len(maps) - len(outer)} within these" if len(outer) < len(maps) else ""
    raise ValueError(
        f"layer={name!r} is no map of {type(network).__name__}; "
        f"there are {', '.join(outer) or 'none'}{more}"
    )
