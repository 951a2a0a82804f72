"""Task: what a network is fitted to and measured by, as a record of pure functions."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

Array = jax.Array


class Ratio(NamedTuple):
    """A mean that adds up: `total` and `weight` are summed, and divided once, at the end."""

    total: Any
    weight: Any


Sums = dict[str, Any]
"""Name -> integer counts (an array of any shape) or a `Ratio`."""


def means(sums: Sums) -> dict[str, Any]:
    """The ratios among sums, on the host, divided: a float each, or a list of N for N seeds."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            name: np.divide(value.total, value.weight).tolist()
            for name, value in sums.items()
            if isinstance(value, Ratio)
        }


class Aux(NamedTuple):
    """What a loss yields beside itself."""

    collections: dict[str, Any]
    """Updated variable collections, `batch_stats` for one; {} if the network has none."""
    sums: Sums
    """To log."""


class Measured(NamedTuple):
    """What one evaluation batch yields."""

    sums: Sums
    records: dict[str, Array]
    """Arrays with axis B that go to the host to be scored; {} if there are none."""


class Predictions(NamedTuple):
    """What was predicted, example by example; a run writes it down (`train.report.predictions`)."""

    indices: Sequence[int]
    """(M,): where in the source each example stands; one that has several rows is named in each."""
    columns: Mapping[str, Sequence[Any]]
    """Name -> (M,) numbers or texts."""
    classes: tuple[str, ...] = ()
    """The columns of integers that are indices of the source's classes."""


class Summary(NamedTuple):
    """What an evaluation found."""

    scalars: dict[str, float]
    tables: dict[str, Any]
    """Arrays and lists of rows for the report: confusion matrix, per-class table, mistakes; and
    "predictions", a `Predictions`, for the file of that name."""


class Merging(NamedTuple):
    """What is done to the predictions of a task where several are made of one example."""

    mean: Callable[[Sequence[Any]], Any]
    """Predictions of the same batch -> predictions: their mean."""
    measured: Callable[[Any, dict], Measured]
    """(predictions, batch) -> Measured, wherever the predictions come from."""
    mirrored: Callable[[Any], Any] | None = None
    """Predictions of images that were mirrored, left for right -> of the images; None where the
    ones tell nothing of the others."""


class Task(NamedTuple):
    """Six functions; the loop knows a task only by them. It closes over its network.

    Every normaliser (examples, pixels, boxes) spans the batch that the loss is given; an empty one
    gives loss 0 and gradient 0.
    """

    inputs: Callable[[dict], Any]
    """(batch) -> pytree: everything that `predict` reads; uint8 -> normalised float here."""
    loss: Callable[[dict, dict, Array], tuple[Array, Aux]]
    """(variables, batch, key) -> (loss, Aux)."""
    predict: Callable[[dict, Any], Any]
    """(variables, inputs) -> predictions in fixed shapes."""
    measure: Callable[[dict, dict], Measured]
    """(variables, batch) -> Measured; examples with `valid` False weigh nothing in the sums."""
    score: Callable[[dict, dict], tuple[Sums, Any]] | None
    """(record, truth) -> (sums, kept): numpy, one valid example, in source pixels."""
    summarise: Callable[[Sums, list], Summary]
    """(sums, kept in the order of the source) -> Summary: on the host, once."""
    merging: Merging | None = None
    """For `train.tasks.several`; None where predictions have no mean. The loop does not ask."""
