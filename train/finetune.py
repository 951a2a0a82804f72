"""Fine-tuning: the weights that a run starts from, which of them move, and how fast.

A prefix is the beginning of a parameter's path, of whole names: "backbone/stage1_block1" or
"backbone/stem" has all that lies under it; `python -m models.inspect resnet18` lists the paths.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

import models
from models.pretrained import torchvision
from models.pretrained.files import read
from models.pretrained.naming import for_pixels, names
from models.pretrained.preprocess import MEAN, STD
from train.refusal import Refused
from train.seal import flat, shortened
from train.state import State
from train.tasks.task import Task

BACKBONE = "backbone"
"""The part of a network that must be among the weights; the others may start anew."""


def frozen(
    inner: optax.GradientTransformation, prefixes: Sequence[str]
) -> optax.GradientTransformation:
    """`inner`, for parameters under none of the prefixes; the others stay as they are.

    They have no part in a global norm that `inner` clips, and no decay shrinks them.

    Raises:
        Refused: at its `init`, a prefix is that of no parameter.
    """
    if not prefixes:
        return inner
    rules: dict[str, optax.GradientTransformation] = {"moves": inner, "stays": optax.set_to_zero()}
    return optax.multi_transform(rules, grouped(dict.fromkeys(prefixes, "stays"), "moves"))


def rates(factors: Mapping[str, float]) -> optax.GradientTransformation:
    """Multiply updates by the factor of the longest prefix that they are under, or by 1.

    Raises:
        Refused: at its `init`, a prefix is that of no parameter.
    """
    rules: dict[str, optax.GradientTransformation] = {"": optax.identity()}
    rules |= {prefix: optax.scale(factor) for prefix, factor in factors.items()}
    return optax.multi_transform(rules, grouped({prefix: prefix for prefix in factors}, ""))


def grouped(groups: Mapping[str, str], rest: str) -> Callable[[Any], Any]:
    """A label for each leaf: that of the longest prefix that it is under, or `rest`."""

    def labels(params: Any) -> Any:
        paths = list(flat(params))
        for prefix in groups:
            if not any(under(path, prefix) for path in paths):
                tops = sorted({"/".join(path.split("/")[:2]) for path in paths})
                raise Refused(f"no parameter is under {prefix!r}; there are {', '.join(tops)}")

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


def torchvision_weights(model: str, path: str) -> dict[str, Any]:
    """Variables for `begun` from a file of torchvision's weights.

    Args:
        model: a network of `models.names()`: the weights are its own, or of the classifier whose
            backbone it has.
        path: of the file.

    Raises:
        Refused: torchvision has neither; the file is none, or of another network.
    """
    variant = models.variant(model)
    classifier = variant.classifier or model
    if classifier not in names():
        raise Refused(f"init_from={path!r}: torchvision has no weights of {model}")
    try:
        tensors = read(path)
        if model in names() and (model == classifier or for_pixels(tensors)):
            return torchvision.from_torchvision(model, tensors)
        found = torchvision.from_torchvision(classifier, tensors)
    except (OSError, ValueError, ImportError) as error:
        raise Refused(f"init_from={path!r}: {error}") from error
    if variant.converted is not None:
        found |= {"params": variant.converted(found["params"])}
    return found


def normalises(network: nn.Module, task: Task, shape: Sequence[int]) -> bool:
    """Whether a network has a BatchNorm; nothing is computed.

    Args:
        network: of the task.
        task: of images alone.
        shape: (H, W, C) of an image.
    """
    x = jax.eval_shape(task.inputs, {"image": jax.ShapeDtypeStruct((1, *shape), jnp.uint8)})
    init = partial(network.init, train=False)
    return "batch_stats" in jax.eval_shape(init, jax.random.key(0), x)


def imagenet(channels: int) -> tuple[list[float], list[float]]:
    """Mean and standard deviation, of 0..255, by which torchvision's networks have images.

    Raises:
        Refused: the images are of other `channels` than 1, which is then given thrice, or 3.
    """
    if channels not in (1, 3):
        raise Refused(f"init_from: images of {channels} channels are not grey nor of colour")
    return [255 * each for each in MEAN], [255 * each for each in STD]


def begun(state: State, weights: Mapping[str, Any]) -> tuple[State, list[str]]:
    """A first state with other weights in place of its random ones.

    The backbone must be the same to the last array. A layer beside it, of a head or an auxiliary
    head, is taken over whole or, where it is absent or of other shapes, as the last one is with
    another number of classes, starts anew.

    Args:
        state: before the first step.
        weights: variables, as `models.pretrained` returns them.

    Returns:
        The state, its leaves where and of the dtypes they were, and what to say of it.

    Raises:
        Refused: as `check_backbone`.
    """
    check_backbone(state.variables, weights)
    there, here = flat(weights), flat(state.variables)
    layers: dict[str, list[str]] = {}
    for path in here:
        layers.setdefault(layer(path), []).append(path)
    fits = {
        name: all(shape(there, path) == shape(here, path) for path in paths)
        for name, paths in layers.items()
    }

    def taken(path: Any, leaf: jax.Array) -> jax.Array:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if not fits[layer(name)]:
            return leaf
        return jax.device_put(jnp.asarray(there[name], leaf.dtype), leaf.sharding)

    variables = jax.tree_util.tree_map_with_path(taken, state.variables)
    collections = {name: value for name, value in variables.items() if name != "params"}
    ema = None if state.ema is None else jax.tree.map(jnp.copy, variables)
    anew = sorted(name for name, fit in fits.items() if not fit)
    said = [f"Starts anew, being of another shape or absent: {', '.join(anew)}."] if anew else []
    return state.replace(params=variables["params"], collections=collections, ema=ema), said


def check_backbone(variables: Any, weights: Mapping[str, Any]) -> None:
    """Refuse weights of another backbone, before a run is begun with them.

    Args:
        variables: of the network, or their shapes.
        weights: variables, as `models.pretrained` returns them.

    Raises:
        Refused: lists what differs within the backbone.
    """
    there, here = flat(weights), flat(variables)
    of_backbone = sorted(path for path in {*there, *here} if under(layer(path), BACKBONE))
    differ = [path for path in of_backbone if shape(there, path) != shape(here, path)]
    if differ:
        lines = [
            f"{path}: {shape(there, path) or 'absent'} in the weights, "
            f"{shape(here, path) or 'absent'} in the network"
            for path in differ
        ]
        raise Refused(f"init_from: the weights are of another network: {shortened(lines)}")


def layer(path: str) -> str:
    """Of a variable's path, that of its module: without the collection and its own name."""
    return "/".join(path.split("/")[1:-1])


def shape(leaves: Mapping[str, Any], path: str) -> tuple[int, ...] | None:
    """Of the array at a path; None where there is none."""
    return tuple(leaves[path].shape) if path in leaves else None
