"""The layer table of a network: what each layer yields, holds and costs. Nothing is computed.

The network is traced with shapes alone. Multiplications are read from the traced program, so that
they are counted whatever module or backend asks for them, and each is assigned to the innermost
module that was running. Counted are multiply-adds, as in torchvision's "GFLOPS":

| operation | multiply-adds |
|---|---|
| convolution | output positions x kernel positions x (channels / groups) x features |
| transposed convolution | input positions x kernel positions x (channels / groups) x features |
| product of matrices, dense layer | output values x length of the sum |
| everything else: bias, normalisation, pooling, activation | 0 |

Padding is counted like any other input, and a kernel's zeros like any other weight: a partial table
of connections costs what it is computed as. What `lax.scan` repeats counts each time, of `lax.cond`
the dearest branch, of a loop without a known end one turn.
"""

import inspect
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr
from rich.box import SIMPLE_HEAD
from rich.table import Table

from models.backends.convolution import PRIMITIVES
from models.layers.transposed import ConvTranspose

Path = tuple[str, ...]
Shape = tuple[int, ...]
TAG = "svertka_layer_"
"""With a number: the name of a scope around a module's call, which its equations carry."""


class Row(NamedTuple):
    """A layer: a module with no others inside, or with parameters or products of its own."""

    path: str
    """Of the module, joined by "/"; that of its parameters."""
    kind: str
    """Its class."""
    window: str
    """Kernel, stride, dilation and groups of a convolution, as "3x3/2"; else empty."""
    outputs: tuple[Shape, ...]
    """Shapes that it yields, batch included: one, unless it yields several arrays or is called with
    several sizes. None if the call does not reach it: an auxiliary head outside training."""
    parameters: int
    """Its own, counted once however often it is called: those that are trained."""
    others: int
    """Values of its own in other collections: batch statistics, fixed tables."""
    multi_adds: int
    """Of all its calls, for the whole batch."""


def layer_table(
    network: nn.Module, *inputs: Any, train: bool = False, depth: int | None = None
) -> list[Row]:
    """The layers of a network, in the order in which `init` meets them.

    layer_table(models.create("resnet50", num_classes=1000), (1, 224, 224, 3))

    Sums over the rows are the network's: of `parameters`, of `others`, of `multi_adds`.

    Args:
        network: any Linen module.
        *inputs: of its call, each a shape with its batch axis, of float32 then, or anything with
            `shape` and `dtype`.
        train: given to networks that take it.
        depth: fold what lies deeper into the module at that depth of the path; 1 leaves the
            modules of the network itself.

    Raises:
        ValueError: `depth` is below 1; or what the network says to its inputs.
    """
    if depth is not None and depth < 1:
        raise ValueError(f"depth={depth} must be at least 1")
    arrays = [
        x if hasattr(x, "dtype") else jax.ShapeDtypeStruct(tuple(x), jnp.float32) for x in inputs
    ]
    takes = inspect.signature(type(network).__call__).parameters
    flags: dict[str, Any] = {"train": train} if "train" in takes else {}
    known = Calls()

    def init(*arrays: Any) -> Any:
        return network.init(jax.random.key(0), *arrays, **flags)

    def call(variables: Any, *arrays: Any) -> Any:
        state = [name for name in variables if name != "params"]
        keys = {"params": jax.random.key(0)}
        return network.apply(variables, *arrays, **flags, mutable=state, rngs=keys)[0]

    with nn.intercept_methods(known.enter):
        variables = jax.eval_shape(init, *arrays)
        known.outputs.clear()
        program, results = jax.make_jaxpr(call, return_shape=True)(variables, *arrays)
    # Lifted transformations enter a block once under the network's own path.
    known.outputs[()] = shapes(results)

    work: Counter[Path] = Counter()
    for tag, multi_adds in products(program.jaxpr, known.transposed):
        work[known.paths[tag]] += multi_adds
    parameters, others = Counter[Path](), Counter[Path]()
    for keys, leaf in jax.tree_util.tree_leaves_with_path(variables):
        collection, *names = (getattr(key, "key", str(key)) for key in keys)
        holder = known.innermost(tuple(names))
        (parameters if collection == "params" else others)[holder] += math.prod(leaf.shape)

    order = known.kinds if depth is None else dict.fromkeys(path[:depth] for path in known.kinds)
    within = {path[:length] for path in order for length in range(len(path))}
    rows = []
    for path in order:
        deeper = depth == len(path)
        inner = [p for p in known.kinds if p == path or (deeper and p[:depth] == path)]
        held, beside, cost = (sum(of[p] for p in inner) for of in (parameters, others, work))
        if held or beside or cost or path not in within:
            outputs = tuple(known.outputs.get(path, ()))
            kind, moves = known.kinds.get(path, ("", ""))  # none of a module's own was called
            rows.append(Row("/".join(path), kind, moves, outputs, held, beside, cost))
    return rows


def rendered(rows: Sequence[Row], title: str = "") -> Table:
    """The table for a terminal, with totals."""
    parameters, others, work = (
        sum(getattr(row, name) for row in rows) for name in ("parameters", "others", "multi_adds")
    )
    idle = sum(row.parameters for row in rows if not row.outputs)
    beside = [f"{others:,} values that are not trained"] if others else []
    beside += [f"{parameters - idle:,} parameters of what is called"] if idle else []
    table = Table(
        box=SIMPLE_HEAD, title=title or None, title_justify="left", show_footer=True, pad_edge=False
    )
    table.add_column("layer", "total", overflow="fold")
    table.add_column("kind")
    table.add_column("output", justify="right")
    table.add_column("parameters", f"{parameters:,}", justify="right", no_wrap=True)
    table.add_column("multi-adds", f"{work:,}", justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.path or "(itself)",
            f"{row.kind} {row.window}".strip(),
            ", ".join("x".join(map(str, shape)) for shape in row.outputs) or "not called",
            f"{row.parameters:,}" if row.parameters else "",
            f"{row.multi_adds:,}" if row.multi_adds else "",
        )
    table.caption, table.caption_justify = "\n".join(beside) or None, "left"
    return table


class Calls:
    """Which modules a trace runs through. A path is known by its number from the first call on."""

    def __init__(self) -> None:
        self.paths: list[Path] = [()]
        self.kinds: dict[Path, tuple[str, str]] = {}
        self.outputs: dict[Path, dict[Shape, None]] = {}
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
        if not within:  # else a method that the module calls of its own
            self.outputs.setdefault(path, {}).update(shapes(result))
        return result

    def innermost(self, path: Path) -> Path:
        """The module that holds a variable, whose path goes on with its name at least."""
        while path not in self.kinds:
            path = path[:-1]
        return path


def shapes(results: Any) -> dict[Shape, None]:
    """Of all arrays, each once, in order."""
    return dict.fromkeys(leaf.shape for leaf in jax.tree.leaves(results) if hasattr(leaf, "shape"))


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
