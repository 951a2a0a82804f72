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

import contextlib
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from rich.box import SIMPLE_HEAD
from rich.table import Table

from models.inspect.errors import UnknownPrimitive
from models.inspect.multi_adds import products
from models.inspect.receptive_field import Field, fields
from models.inspect.traced import Path, traced

Shape = tuple[int, ...]


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
    activation: int
    """Bytes of what it yields in all its calls, for the whole batch, of the dtype that it has."""
    fields: tuple[Field, ...] | None
    """Receptive fields of what it yields, each once (see `models.inspect.receptive_field`); None
    where the network holds a primitive of which nothing is known."""


def layer_table(
    network: nn.Module,
    *inputs: Any,
    train: bool = False,
    depth: int | None = None,
    **named: Any,
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
        **named: inputs by their name, as `length`.

    Raises:
        ValueError: `depth` is below 1; or what the network says to its inputs.
    """
    if depth is not None and depth < 1:
        raise ValueError(f"depth={depth} must be at least 1")
    program, known, variables, _, _ = found = traced(network, inputs, named, train)
    seen: dict[str, list[Field]] | None = None
    with contextlib.suppress(UnknownPrimitive):
        seen = fields(found).layers
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
            arrays, name = known.outputs.get(path, []), "/".join(path)
            outputs = tuple(dict.fromkeys(array.shape for array in arrays))
            size = sum(math.prod(array.shape) * array.dtype.itemsize for array in arrays)
            kind, moves = known.kinds.get(path, ("", ""))  # none of a module's own was called
            field = None if seen is None else tuple(dict.fromkeys(seen.get(name, ())))
            rows.append(Row(name, kind, moves, outputs, held, beside, cost, size, field))
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
    table.add_column("field", justify="right", overflow="fold")
    table.add_column("bytes", justify="right", no_wrap=True)
    table.add_column("parameters", f"{parameters:,}", justify="right", no_wrap=True)
    table.add_column("multi-adds", f"{work:,}", justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.path or "(itself)",
            f"{row.kind} {row.window}".strip(),
            ", ".join("x".join(map(str, shape)) for shape in row.outputs) or "not called",
            "?" if row.fields is None else ", ".join(dict.fromkeys(map(str, row.fields))),
            f"{row.activation:,}" if row.activation else "",
            f"{row.parameters:,}" if row.parameters else "",
            f"{row.multi_adds:,}" if row.multi_adds else "",
        )
    table.caption, table.caption_justify = "\n".join(beside) or None, "left"
    return table
