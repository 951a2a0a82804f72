"""A network's call, traced: the program, and which module each equation and each array is of."""

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import ClosedJaxpr

from models.layers.transposed import ConvTranspose

Path = tuple[str, ...]
TAG = "svertka_layer_"
"""With a number: the name of a scope around a module's call, which its equations carry, and of what
it yields."""


class Traced(NamedTuple):
    """Attributes:
    program: its arguments are the leaves of the variables, and then those of `inputs`.
    calls: the modules that it runs through.
    variables: of `init`, as shapes.
    inputs, results: of the call, the same.
    """

    program: ClosedJaxpr
    calls: "Calls"
    variables: Any
    inputs: Any
    results: Any


def traced(network: nn.Module, inputs: Any, named: Any, train: bool) -> Traced:
    """A call. Nothing is computed.

    Args:
        network: any Linen module.
        inputs: of its call, each a shape with its batch axis, of float32 then, or anything with
            `shape` and `dtype`.
        named: those by name, as `length`.
        train: given to networks that take it.
    """

    def array(x: Any) -> Any:
        return x if hasattr(x, "dtype") else jax.ShapeDtypeStruct(tuple(x), jnp.float32)

    positional = tuple(map(array, inputs))
    named = {name: array(x) for name, x in named.items()}
    takes = inspect.signature(type(network).__call__).parameters
    flags: dict[str, Any] = {"train": train} if "train" in takes else {}
    calls = Calls()

    def init(inputs: Any, named: Any) -> Any:
        return network.init(jax.random.key(0), *inputs, **named, **flags)

    def call(variables: Any, inputs: Any, named: Any) -> Any:
        state = [name for name in variables if name != "params"]
        keys = {"params": jax.random.key(0)}
        how = {**named, **flags, "mutable": state, "rngs": keys}
        return network.apply(variables, *inputs, **how)[0]

    with nn.intercept_methods(calls.enter):
        variables = jax.eval_shape(init, positional, named)
        calls.outputs.clear()
        program, results = jax.make_jaxpr(call, return_shape=True)(variables, positional, named)
    # Lifted transformations enter a block once under the network's own path.
    calls.outputs[()] = arrays(results)
    return Traced(program, calls, variables, (positional, named), results)


class Calls:
    """Which modules a trace runs through. A path is known by its number from the first call on."""

    def __init__(self) -> None:
        self.paths: list[Path] = [()]
        self.kinds: dict[Path, tuple[str, str]] = {}
        self.outputs: dict[Path, list[jax.ShapeDtypeStruct]] = {}
        self.transposed: set[int] = set()
        self.running: list[Path] = []

    def enter(self, method: Any, args: Any, kwargs: Any, context: Any) -> Any:
        """Around a module's method, for `nn.intercept_methods`."""
        module = context.module
        if module.scope is None:  # what a module that is not in use yet says of itself
            return method(*args, **kwargs)
        path = module.path
        if path not in self.kinds:
            self.kinds[path] = (type(module).__name__, window(module))
            if path:
                self.paths.append(path)
        tag = self.paths.index(path)
        if isinstance(module, ConvTranspose | nn.ConvTranspose):
            self.transposed.add(tag)
        within = path in self.running
        self.running.append(path)
        try:
            with jax.named_scope(f"{TAG}{tag}"):
                result = method(*args, **kwargs)
        finally:
            self.running.pop()
        if within:  # a method that the module calls of its own
            return result
        self.outputs.setdefault(path, []).extend(arrays(result))
        return jax.tree.map(lambda leaf: known(leaf, f"{TAG}{tag}"), result)

    def innermost(self, path: Path) -> Path:
        """The module that holds a variable, whose path goes on with its name at least."""
        while path not in self.kinds:
            path = path[:-1]
        return path


def arrays(results: Any) -> list[jax.ShapeDtypeStruct]:
    """Of all arrays, shape and dtype, in order."""
    leaves = [leaf for leaf in jax.tree.leaves(results) if hasattr(leaf, "shape")]
    return [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]


def known(leaf: Any, name: str) -> Any:
    """An array by a name; anything else as it is."""
    return checkpoint_name(leaf, name) if isinstance(leaf, jax.Array) else leaf


def window(module: nn.Module) -> str:
    """Of a convolution: "3x3/2, dilated 2, 32 groups"."""
    size = getattr(module, "kernel_size", None)
    if size is None or not hasattr(module, "strides"):
        return ""
    axes = tuple(size) if isinstance(size, Sequence) else (size,)

    def moved(name: str) -> str:
        value = getattr(module, name, 1) or 1
        each = tuple(value) if isinstance(value, Sequence) else (value,)
        return "" if {*each} == {1} else "x".join(map(str, each[:1] if len({*each}) == 1 else each))

    stride, dilation = moved("strides"), moved("kernel_dilation")
    groups = getattr(module, "feature_group_count", 1)
    return (
        "x".join(map(str, axes))
        + (f"/{stride}" if stride else "")
        + (f", dilated {dilation}" if dilation else "")
        + (f", {groups} groups" if groups != 1 else "")
    )
