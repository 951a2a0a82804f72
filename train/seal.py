"""Seal: what was written of a checkpoint, so that what is read can be judged."""

import hashlib
import json
from typing import Any

import jax
import numpy as np

from train.digest import digests
from train.refusal import Failed


class Differs(Failed):
    """A sound checkpoint holds other arrays than the target: the network or optimiser changed."""


def sealed(
    step: int, variables: dict[str, Any], rest: dict[str, Any], shared: dict[str, str]
) -> dict[str, Any]:
    """As JSON: for every array, what it is and its digest, under a seal.

    Args:
        step: that is written.
        variables: path -> array, of what is evaluated.
        rest: of the state, what lies there alone.
        shared: path of an array in the state -> that in the variables, where alone it lies.
    """
    described = describe(variables)
    state = describe(rest) | {path: described[there] for path, there in shared.items()}
    content = {"step": step, "items": {"variables": described, "state": state}}
    return seal({**content, "shared": shared} if shared else content)


def seal(content: dict[str, Any]) -> dict[str, Any]:
    """`content` with the SHA-256 of its own text."""
    text = json.dumps(content, sort_keys=True)
    return {**content, "seal": hashlib.sha256(text.encode()).hexdigest()}


def intact(written: dict[str, Any], step: int) -> bool:
    """Whether it is what was sealed of `step`."""
    content = {key: value for key, value in written.items() if key != "seal"}
    return written["step"] == step and seal(content) == written


def flat(tree: Any) -> dict[str, Any]:
    """The leaves by their path, such as "params/conv/kernel"; what is None or {} has none.

    Raises:
        ValueError: two leaves have the same path.
    """
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    named = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
    if len(named) != len(leaves):
        raise ValueError("two arrays have the same path: a key contains '/'")
    return named


def layout(leaves: dict[str, Any]) -> dict[str, str]:
    """Path -> what the array is, such as "float32(3, 3, 16, 16)"."""
    return {path: f"{np.dtype(leaf.dtype)}{tuple(leaf.shape)}" for path, leaf in leaves.items()}


def describe(leaves: dict[str, Any]) -> dict[str, list]:
    """Path -> [what the array is, its digest]."""
    numbers = digests(leaves.values())
    return {
        path: [what, number]
        for (path, what), number in zip(layout(leaves).items(), numbers, strict=True)
    }


def compare(written: dict[str, list], target: dict[str, Any]) -> None:
    """Whether the arrays of a target are those that were written, as `describe` has it.

    Raises:
        Differs: names those that are not.
    """
    there = {path: what for path, (what, _) in written.items()}
    asked = layout(target)
    lines = [
        f"{path}: {there.get(path, 'absent')} there, {asked.get(path, 'absent')} asked"
        for path in sorted({*there, *asked})
        if there.get(path) != asked.get(path)
    ]
    if lines:
        raise Differs(f"of {len({*there, *asked})} arrays {len(lines)} differ: {shortened(lines)}")


def shortened(lines: list[str], most: int = 5) -> str:
    """At most so many, in one line."""
    more = f"; and {len(lines) - most} more" if len(lines) > most else ""
    return "; ".join(lines[:most]) + more


def digest_of(tree: Any) -> str:
    """SHA-256 over what each array of a tree is, its path and its bits."""
    text = json.dumps(describe(flat(tree)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
