"""torchvision's weights as variables of the networks that have its names.

    variables = load("resnet50", "resnet50-11ad3fa6.pth")
    network = models.create("resnet50", num_classes=1000)
    logits = network.apply(variables, x, train=False)

What torchvision calls a module of ours is said in `models.pretrained.naming`; what a module's
tensors are called, and how their axes lie, is the same everywhere:

| ours | torchvision's | axes |
|---|---|---|
| kernel of a convolution | weight | (h, w, I, O) from (O, I, h, w) |
| kernel of a dense layer | weight | (I, O) from (O, I) |
| the same after a flattened map | weight | I runs over (h, w, c), there over (c, h, w) |
| scale, bias | weight, bias | |
| mean, var | running_mean, running_var | |

The pictures that published weights expect: `models.pretrained.preprocess`, for detectors
`models.pretrained.detection_picture`; fields that some of them need:
`models.pretrained.published`. To train on in the
manner of torchvision, `BatchNorm` needs `unbiased=True`; its momentum 0.9 is torchvision's 0.1.
"""

import math
import pathlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

import models
from models.pretrained.files import read
from models.pretrained.naming import Family, family_of
from models.pretrained.preprocess import MEAN, STD
from models.pretrained.wrapping import unwrapped

Path = tuple[str, ...]
"""Of one variable of ours: ("params", "head", "bias")."""


COUNTER = "num_batches_tracked"
"""What torch keeps beside each pair of running statistics."""


LISTED = 7
"""Tensors that an error shows at most."""


class Tensor(NamedTuple):
    """One of torchvision's, and what becomes of it."""

    name: str
    shape: tuple[int, ...]
    ours: Callable[[np.ndarray], np.ndarray]
    """Its axes in our order: a view of it, or a copy."""


def load(
    name: str, path: str | pathlib.Path, *, transform_input: bool = True
) -> dict[str, dict[str, Any]]:
    """`from_torchvision` of a file, which `models.pretrained.files.read` reads.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: a torch file, and no torch that reads it safely; see `read`.
        ValueError: what `read` or `from_torchvision` refuses; the file is named.
    """
    family_of(name)
    state_dict = read(path)
    try:
        return from_torchvision(name, state_dict, transform_input=transform_input)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def from_torchvision(
    name: str, state_dict: Mapping[str, Any], *, transform_input: bool = True, whole: bool = True
) -> dict[str, dict[str, Any]]:
    """Variables for `models.create(name, num_classes=…)`, as many classes as the weights have.

    Weights with auxiliary heads (the published ones of googlenet, where they are untrained, of
    inception_v3 and of the networks for segmentation have them) are for `aux=True`, the default
    there; those without for `aux=False`.

    Args:
        name: one of `models.pretrained.naming.names()`.
        state_dict: torchvision's name -> NumPy array of floats, which is copied.
            `num_batches_tracked` is passed over: our statistics move at a fixed rate. What wraps
            the names, such as `module.`, is understood, see `models.pretrained.wrapping`.
        transform_input: of googlenet and inception_v3, whose input transform is among their
            variables; torchvision's weights don't tell. True: images come normalised by ImageNet's
            mean and standard deviation, as all networks' do, and the network makes (pixel - 0.5) /
            0.5 of them. The published weights need it. False: for weights that were trained
            without. Other networks have no such transform.
        whole: whether the layers behind the backbone must be there. False: one of them may be
            absent, and is then absent from the variables too, as the head of weights that were
            trained without labels is; where the last one is, tensors of other heads are passed
            over.

    Returns:
        {"params", "batch_stats", …}, in float32 whatever the weights were: exact from float16 and
        bfloat16, rounded from float64.

    Raises:
        ValueError: torchvision has no such network; or tensors are missing, unexpected, of another
            shape, or no floats: they are counted, and some of each are listed; or there are those
            of several such networks.
    """
    family = family_of(name)
    found = {
        family.earlier(key): np.asarray(value)
        for key, value in state_dict.items()
        if not (key.endswith(COUNTER) and key.removesuffix(COUNTER) + "running_mean" in state_dict)
    }
    found = unwrapped(found, {tensor.name for tensor in tensors(name, 1).values()})
    auxiliary = any(key.startswith(family.auxiliary) for key in found)
    wanted = tensors(name, count_classes(found, family), auxiliary=auxiliary)
    if not whole:
        wanted, found = without_heads(wanted, found, family)
    check(name, found, wanted.values())
    variables = {
        path: jnp.asarray(tensor.ours(found[tensor.name]).astype(np.float32))
        for path, tensor in wanted.items()
    }
    if family.transforms:
        # (pixel - 0.5) / 0.5 = 2 * (normalised * STD + MEAN) - 1
        scale = [2 * std if transform_input else 1 for std in STD]
        shift = [2 * mean - 1 if transform_input else 0 for mean in MEAN]
        for leaf, value in (("scale", scale), ("shift", shift)):
            path = ("input_transform", "backbone", "input", leaf)
            variables[path] = jnp.asarray(value, jnp.float32)
    return unflatten_dict(variables)


def tensors(name: str, num_classes: int, *, auxiliary: bool = True) -> dict[Path, Tensor]:
    """Where each variable of a network comes from; nothing is allocated.

    Args:
        name: one of `models.pretrained.naming.names()`.
        num_classes: of the logits.
        auxiliary: whether with the auxiliary heads, where the network has any.
    """
    family = family_of(name)
    fields = {"aux": auxiliary} if family.auxiliary else {}
    network = models.create(name, num_classes=num_classes, **fields)
    image = jax.ShapeDtypeStruct((1, 299, 299, 3), jnp.float32)
    tree = jax.eval_shape(partial(network.init, train=False), jax.random.key(0), image)
    found = {}
    for path, leaf in flatten_dict(tree).items():
        if path[0] in ("params", "batch_stats"):
            module = family.module("/".join(path[1:-1]), network)
            found[path] = tensor(module, path[-1], leaf.shape, family.flattened.get(module, (1, 1)))
    return found


def tensor(module: str, leaf: str, shape: tuple[int, ...], flattened: tuple[int, int]) -> Tensor:
    """What torchvision has for one variable of ours.

    Args:
        module: its module, as torchvision calls it.
        leaf: our name within the module.
        shape: ours.
        flattened: of a dense layer: height and width of the map that it reads, (1, 1) if of none.
    """
    names = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
    name = f"{module}.{names.get(leaf, leaf)}"
    if leaf != "kernel":
        return Tensor(name, shape, lambda theirs: theirs)
    if len(shape) == 4:
        height, width, inputs, outputs = shape
        theirs = (outputs, inputs, height, width)
        return Tensor(name, theirs, lambda theirs: theirs.transpose(2, 3, 1, 0))
    inputs, outputs = shape
    as_map = (outputs, inputs // math.prod(flattened), *flattened)
    return Tensor(
        name,
        (outputs, inputs),
        lambda theirs: theirs.reshape(as_map).transpose(2, 3, 1, 0).reshape(shape),
    )


def without_heads(
    wanted: Mapping[Path, Tensor], found: Mapping[str, np.ndarray], family: Family
) -> tuple[dict[Path, Tensor], dict[str, np.ndarray]]:
    """The wanted tensors but for layers that are absent behind the backbone, and the found ones.

    Where the last layer is absent, what is named like nothing of the backbone belongs to another
    head, and is left out too, unless something of the backbone is missing.
    """
    backbone = [tensor.name for path, tensor in wanted.items() if path[1] == "backbone"]
    there = {path[1:-1] for path, tensor in wanted.items() if tensor.name in found}
    wanted = {
        path: tensor
        for path, tensor in wanted.items()
        if path[1] == "backbone" or path[1:-1] in there
    }
    names = {tensor.name for tensor in wanted.values()}
    headed = any(name.startswith(f"{family.head}.") for name in names)
    if headed or any(name not in found for name in backbone):
        return wanted, dict(found)
    beginnings = {first(name) for name in backbone}
    left = {k: v for k, v in found.items() if k in names or first(k) in beginnings}
    return wanted, left


def first(name: str) -> str:
    """Of a tensor's name, what stands before the first dot."""
    return name.partition(".")[0]


def check(name: str, found: Mapping[str, np.ndarray], wanted: Iterable[Tensor]) -> None:
    """Refuses tensors that are not exactly the wanted ones: how many, and some of each kind."""
    shapes = {tensor.name: tensor.shape for tensor in wanted}
    faults = [
        ("missing", f"{k} is missing: expected {shapes[k]}") for k in shapes if k not in found
    ]
    for key, value in found.items():
        if key not in shapes:
            faults.append(("unexpected", f"{key} is unexpected: found {value.shape}"))
        elif value.shape != shapes[key]:
            said = f"{key} is misshapen: expected {shapes[key]}, found {value.shape}"
            faults.append(("misshapen", said))
        elif not jnp.issubdtype(value.dtype, jnp.floating):
            faults.append(("no floats", f"{key} is of dtype {value.dtype}: expected floats"))
    if not faults:
        return
    counts = Counter(kind for kind, _ in faults)
    listed = [said for _, said in faults]
    if len(faults) > LISTED:
        of_kind = {kind: [said for its, said in faults if its == kind] for kind in counts}
        listed = [said for each in of_kind.values() for said in each[: LISTED // len(counts)]]
        listed.append("...")
    lines = "".join(f"\n  {said}" for said in listed)
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    raise ValueError(f"{len(faults)} tensor(s) do not fit {name}: {kinds}{lines}")


def count_classes(found: Mapping[str, np.ndarray], family: Family) -> int:
    """As the head has them; ImageNet's 1000 where it is missing or misshapen, said by `check`.

    It is a dense layer, (classes, c), or a convolution, (classes, c, h, w), with `each` class so
    often as there are anchors.
    """
    head = found.get(f"{family.head}.weight")
    shape = () if head is None else head.shape
    return shape[0] // family.each if len(shape) in (2, 4) and shape[0] >= family.each else 1000
