"""Fine-tuning: the weights that a run starts from, which of them move, and how fast.

A prefix is the beginning of a parameter's path, of whole names: "backbone/stage1_block1" or
"backbone/stem" has all that lies under it; `python -m models.inspect resnet18` lists the paths.
"""

import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import models
from train.refusal import Refused
from train.seal import flat, shortened
from train.state import State

EVERYTHING = "all"
"""In place of prefixes: all parameters are under it."""

BACKBONE = "backbone"
"""The part of a network that must be among the weights; the others may start anew."""

MOST = 12
"""Names that an error lists."""


class Weights(NamedTuple):
    """What a run starts from, see `train.weights`.

    Attributes:
        variables: of a network; layers beside its backbone may be absent.
        origin: where they are from, as the provenance has it.
        classes: names of its outputs; () where nobody knows them.
        anew: layers that are not taken over, although they would fit.
        said: lines for the user.
    """

    variables: Mapping[str, Any]
    origin: Mapping[str, Any] = {}
    classes: tuple[str, ...] = ()
    anew: frozenset[str] = frozenset()
    said: Sequence[str] = ()


def frozen(
    inner: optax.GradientTransformation, prefixes: Sequence[str]
) -> optax.GradientTransformation:
    """`inner`, for parameters under none of the prefixes; the others stay as they are.

    They have no part in a global norm that `inner` clips, and no decay shrinks them. Under
    `EVERYTHING` all stay.

    Raises:
        Refused: at its `init`, a prefix is that of no parameter.
    """
    if not prefixes:
        return inner
    rules: dict[str, optax.GradientTransformation] = {"moves": inner, "stays": optax.set_to_zero()}
    if EVERYTHING in prefixes:
        return optax.multi_transform(rules, lambda params: jax.tree.map(lambda _: "stays", params))
    return optax.multi_transform(rules, grouped(dict.fromkeys(prefixes, "stays"), "moves"))


def rates(factors: Mapping[str, float]) -> optax.GradientTransformation:
    """Multiply updates by the factor of the longest prefix that they are under, or by 1.

    Raises:
        Refused: at its `init`, a prefix is that of no parameter.
    """
    rules: dict[str, optax.GradientTransformation] = {"": optax.identity()}
    rules |= {prefix: optax.scale(factor) for prefix, factor in factors.items()}
    return optax.multi_transform(rules, grouped({prefix: prefix for prefix in factors}, ""))


def scaled(
    rate: optax.GradientTransformation, factors: Mapping[str, float], biases: float = 1.0
) -> optax.GradientTransformation:
    """`rate`, after the factors of `rates` and that of `bias_rate`; a factor of 1 changes nothing.

    Args:
        rate: what scales the updates by minus the learning rate.
        factors: by prefix.
        biases: of all biases.
    """
    slower = {prefix: factor for prefix, factor in factors.items() if factor != 1}
    before = [*([rates(slower)] if slower else []), *([bias_rate(biases)] if biases != 1 else [])]
    return optax.chain(*before, rate) if before else rate


def bias_rate(factor: float) -> optax.GradientTransformation:
    """Multiply updates of biases by a factor: of each `bias` beside a `kernel`.

    The shift of a normalisation is none.
    """

    def update(updates: Any, params: Any) -> Any:
        del params
        kernels = {layer(f"/{path}") for path in flat(updates) if path.endswith("kernel")}

        def one(path: Any, leaf: jax.Array) -> jax.Array:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            biased = name.split("/")[-1] == "bias" and layer(f"/{name}") in kernels
            return jnp.asarray(factor, leaf.dtype) * leaf if biased else leaf

        return jax.tree_util.tree_map_with_path(one, updates)

    return optax.stateless(update)


def grouped(groups: Mapping[str, str], rest: str) -> Callable[[Any], Any]:
    """A label for each leaf: that of the longest prefix that it is under, or `rest`."""

    def labels(params: Any) -> Any:
        paths = list(flat(params))
        for prefix in groups:
            if not any(under(path, prefix) for path in paths):
                tops = sorted({"/".join(path.split("/")[:2]) for path in paths})
                near = tops
                if len(tops) > MOST:
                    near = [*difflib.get_close_matches(prefix, tops, n=MOST, cutoff=0), "..."]
                raise Refused(f"no parameter is under {prefix!r}; there are {', '.join(near)}")

        def label(path: Any, leaf: Any) -> str:
            del leaf
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            fits = [prefix for prefix in groups if under(name, prefix)]
            return groups[max(fits, key=len)] if fits else rest

        return jax.tree_util.tree_map_with_path(label, params)

    return labels


def under(path: str, prefix: str) -> bool:
    """Whether a path is the prefix, or goes on from it with a whole name."""
    return path == prefix or path.startswith(prefix.rstrip("/") + "/")


def normalises(init: Callable[[jax.Array, Any], Any], inputs: Any) -> bool:
    """Whether a network has a BatchNorm; nothing is computed.

    Args:
        init: (key, inputs) -> its variables.
        inputs: arrays, or their shapes.
    """
    return "batch_stats" in jax.eval_shape(init, jax.random.key(0), inputs)


def begun(state: State, weights: Weights) -> tuple[State, list[str]]:
    """A first state with other weights in place of its random ones.

    The backbone must be the same to the last array. A layer beside it, of a head or an auxiliary
    head, is taken over whole or, where it is absent or of other shapes, as the last one is with
    another number of classes, starts anew.

    Args:
        state: before the first step.
        weights: of the same backbone, see `check_backbone`.

    Returns:
        The state, its leaves where and of the dtypes they were, and what to say of it.
    """
    there, here = flat(weights.variables), flat(state.variables)
    layers: dict[str, list[str]] = {}
    for path in here:
        layers.setdefault(layer(path), []).append(path)
    fits = {
        name: all(shape(there, path) == shape(here, path) for path in paths)
        for name, paths in layers.items()
    }

    def taken(path: Any, leaf: jax.Array) -> jax.Array:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if not fits[layer(name)] or layer(name) in weights.anew:
            return leaf
        value = np.asarray(there[name]).astype(leaf.dtype)
        # Of several processes each puts what lies on its own devices.
        return jax.make_array_from_callback(leaf.shape, leaf.sharding, lambda index: value[index])

    variables = jax.tree_util.tree_map_with_path(taken, state.variables)
    collections = {name: value for name, value in variables.items() if name != "params"}
    ema = None if state.ema is None else jax.tree.map(jnp.copy, variables)
    said = list(weights.said)
    for why, anew in (
        ("being of another shape or absent", [name for name, fit in fits.items() if not fit]),
        ("being of other classes", [name for name in weights.anew if fits.get(name)]),
    ):
        if anew:
            said.append(f"Starts anew, {why}: {', '.join(gathered(anew, layers))}.")
    return state.replace(params=variables["params"], collections=collections, ema=ema), said


def gathered(some: Collection[str], layers: Collection[str]) -> list[str]:
    """Names of layers, in order; where all in a part of the network are among them, the part's."""
    found = set()
    for name in some:
        parts = name.split("/")
        above = ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
        whole = (part for part in above if all(x in some for x in layers if under(x, part)))
        found.add(next(whole))
    return sorted(found)


def check_backbone(variables: Any, weights: Mapping[str, Any], heads: Collection[str] = ()) -> None:
    """Refuse weights of another backbone, before a run is begun with them.

    Args:
        variables: of the network, or their shapes.
        weights: variables, as `models.pretrained` returns them.
        heads: of a network without a `backbone`, the layers that may be others, beside those of
            auxiliary heads: all else must be the same.

    Raises:
        Refused: says how much differs within the backbone, and some of it.
    """
    there, here = flat(weights), flat(variables)
    whole = any(under(layer(path), BACKBONE) for path in here)

    def of_backbone(path: str) -> bool:
        name = layer(path)
        return under(name, BACKBONE) if whole else not (name in heads or name.startswith("aux"))

    paths = sorted(path for path in {*there, *here} if of_backbone(path))
    differ = [path for path in paths if shape(there, path) != shape(here, path)]
    if differ:
        lines = [
            f"{path}: {shape(there, path) or 'absent'} in the weights, "
            f"{shape(here, path) or 'absent'} in the network"
            for path in differ
        ]
        raise Refused(
            f"init_from: the weights are of another network: of {len(paths)} arrays "
            f"{len(differ)} differ: {shortened(lines)}"
        )


def backbone_of(model: str) -> str:
    """The classifier whose backbone a network of `models.names()` has; its own name by default."""
    return models.variant(model).classifier or model


def layer(path: str) -> str:
    """Of a variable's path, that of its module: without the collection and its own name."""
    return "/".join(path.split("/")[1:-1])


def shape(leaves: Mapping[str, Any], path: str) -> tuple[int, ...] | None:
    """Of the array at a path; None where there is none."""
    return tuple(leaves[path].shape) if path in leaves else None
