"""Scalars: what a task will measure, known before anything is trained."""

import copy
import warnings
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from train.data.pipeline import Pipeline
from train.evaluate import add
from train.prepared import Prepared
from train.refusal import choose
from train.tasks.task import Sums


def refuse_unmeasured(prepared: Prepared, metric: str) -> None:
    """Refuse a scalar that the test split will not have.

    Where a task can't say what it measures before it has, nothing is refused.

    Raises:
        Refused: names the nearest ones.
    """
    every = range(len(prepared.data.test))
    found = scalars(prepared, every[:1])
    if found is not None and metric not in found:  # it may depend on what there is
        found = scalars(prepared, every)
    if found is not None:
        choose("metric", metric, found)


def scalars(prepared: Prepared, examples: Iterable[int]) -> set[str] | None:
    """Names of what the test split is measured by; nothing is compiled or computed on a device.

    The task sums up a batch of ones, of the shapes that its network gives, and scores records of
    zeros, as if nothing had been found in these examples.

    Args:
        prepared: the recipe.
        examples: of the test split, whose annotations are read.

    Returns:
        None where the task does not take these.
    """
    task, source = prepared.parts.task, prepared.data.test
    score = task.score
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            batch = shapes(prepared)
            variables = prepared.shapes().evaluated
            sums, records = jax.eval_shape(task.measure, variables, batch)
            ones = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), sums)
            record = {name: row(name, x, batch) for name, x in records.items()}
            scored: Sums = {}
            kept = []
            if score is not None:
                for i in examples:
                    own, keep = score({**record, "index": np.int32(i)}, source.truth(i))
                    scored = add(scored, own)
                    kept.append(keep)
            found = task.summarise({**add({}, ones), **scored}, kept)
    except Exception:  # whatever a task of somebody's own makes of these
        return None
    return {*found.scalars, *(["unreadable"] if prepared.gaps["test"] is not None else [])}


def shapes(prepared: Prepared) -> dict[str, Any]:
    """Of a batch that is measured: one that is trained on, without its augmentation."""
    loader = copy.copy(prepared.loader)
    assert isinstance(loader, Pipeline), f"{loader} is no loader that can do without"
    loader.transform = None
    return jax.eval_shape(loader.device, loader.data, loader.payload, 0, jax.random.key(0))


def row(name: str, record: Any, batch: dict[str, Any]) -> np.ndarray:
    """Of a record: of an image that is where and as large as its source's, else zeros."""
    if name == "matrix":
        return np.eye(3, dtype=record.dtype)
    if name == "size":
        return np.array(batch["image"].shape[1:3], record.dtype)
    return np.zeros(record.shape[1:], record.dtype)
