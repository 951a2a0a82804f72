"""Classification: one label an image or a signal; cross-entropy, and a confusion matrix."""

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from models.classification.auxiliary import parts
from train.metrics.confusion import (
    accuracy,
    balanced_accuracy,
    confusion,
    f1,
    in_top_k,
    macro,
    precision,
    recall,
)
from train.metrics.ranking import roc_auc
from train.tasks.adapt import Adapt, as_it_is
from train.tasks.inputs import Inputs, applied, normalised
from train.tasks.task import (
    Aux,
    Measured,
    Merging,
    Predictions,
    Ratio,
    Summary,
    Sums,
    Task,
    means,
)


def classification(
    network: nn.Module,
    *,
    num_classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    adapt: Adapt = as_it_is,
    label_smoothing: float = 0.0,
    auxiliary_weight: float = 0.3,
) -> Task:
    """A task for images, or signals, with one class each.

    Args:
        network: (B, H, W, C) float32 -> (B, num_classes) logits, or in training
            `WithAuxiliary`, those of auxiliary heads beside them. Of signals: (B, L, C) and, by the
            name of `length`, (B,) int32 or None, see `train.tasks.inputs`.
        num_classes: of the data.
        mean, std: per channel, of pixels 0..255 or of the steps of signals; the network's input is
            (x - mean) / std.
        adapt: brings images to the size and the channels that the network takes, before they are
            normalised, see `train.tasks.adapt`.
        label_smoothing: in the training loss, of the target that is spread evenly over all classes
            (Szegedy et al. 2015, section 7). The loss that is measured is without.
        auxiliary_weight: of the sum of the auxiliary heads' cross-entropies, which the training
            loss has beside the main one's: 0.3 as in Szegedy et al. 2014, section 5; torchvision
            trains Inception v3 with 0.4. Nothing where the network has no such heads.

    Raises:
        ValueError: `auxiliary_weight` is below 0 or not finite.

    `loss` reports `loss` (all of it), `accuracy` and, where there are auxiliary heads,
    `auxiliary_loss`, the sum of their cross-entropies before it is weighted. `measure` yields
    `loss`, `confusion` and, for more than 10 classes, `top5`. Labels are (B,) int32, or
    (B, num_classes) distributions in training.
    """
    if not 0 <= auxiliary_weight < math.inf:
        raise ValueError(f"auxiliary_weight={auxiliary_weight} must be finite and at least 0")

    def inputs(batch: dict) -> Inputs:
        return normalised(batch, mean, std, adapt)

    def loss(variables: dict, batch: dict, key: jax.Array) -> tuple[jax.Array, Aux]:
        collections = [name for name in variables if name != "params"]
        how = {"train": True, "mutable": collections, "rngs": {"dropout": key}}
        output, updated = applied(network, variables, inputs(batch), **how)
        logits, aux = parts(output)
        import chex

        chex.assert_shape([logits, *aux], (None, num_classes))
        targets = distributions(batch["label"], num_classes)
        smooth = optax.smooth_labels(targets, label_smoothing)
        main, *others = (optax.softmax_cross_entropy(each, smooth) for each in (logits, *aux))
        losses = main + auxiliary_weight * sum(others)
        total, weight = over_valid(losses, batch["valid"])
        right = jnp.argmax(logits, -1) == jnp.argmax(targets, -1)
        sums: Sums = {
            "loss": Ratio(total, weight),
            "accuracy": Ratio(*over_valid(right.astype(losses.dtype), batch["valid"])),
        }
        if others:
            sums["auxiliary_loss"] = Ratio(*over_valid(sum(others), batch["valid"]))
        return total / jnp.maximum(weight, 1), Aux(dict(updated), sums)

    def logits_of(variables: dict, x: Inputs) -> jax.Array:
        logits: jax.Array = applied(network, variables, x, train=False)
        import chex

        chex.assert_shape(logits, (None, num_classes))
        return logits

    def predict(variables: dict, x: Inputs) -> jax.Array:
        return jax.nn.softmax(logits_of(variables, x))

    def measure(variables: dict, batch: dict) -> Measured:
        return measured(logits_of(variables, inputs(batch)), batch)

    def measured(logits: jax.Array, batch: dict) -> Measured:
        labels, valid = batch["label"], batch["valid"]
        losses = optax.softmax_cross_entropy(logits, distributions(labels, num_classes))
        predicted = jnp.argmax(logits, -1)
        sums: Sums = {
            "loss": Ratio(*over_valid(losses, valid)),
            "confusion": confusion(labels, predicted, num_classes, valid),
        }
        if num_classes > 10:
            top = in_top_k(logits, labels, 5).astype(losses.dtype)
            sums["top5"] = Ratio(*over_valid(top, valid))
        confidence = jnp.max(jax.nn.softmax(logits), -1)
        records = {"index": batch["index"], "predicted": predicted, "confidence": confidence}
        if num_classes == 2:
            # Not a probability: those of sure examples round to one value and would be ties.
            records["log_odds"] = logits[:, 1] - logits[:, 0]
        return Measured(sums, records)

    merging = Merging(
        mean=mean_of,
        measured=lambda probabilities, batch: measured(as_logits(probabilities), batch),
        mirrored=lambda probabilities: probabilities,
    )
    return Task(inputs, loss, predict, measure, score, summarise, merging)


def mean_of(several: Sequence[jax.Array]) -> jax.Array:
    """The mean of arrays of one shape."""
    return sum(several[1:], start=several[0]) / len(several)


def as_logits(probabilities: jax.Array) -> jax.Array:
    """Logits whose softmax they are: logarithms, of 0 that of the least normal number."""
    return jnp.log(jnp.maximum(probabilities, jnp.finfo(probabilities.dtype).tiny))


def distributions(labels: jax.Array, num_classes: int) -> jax.Array:
    """(B,) int32 labels, or (B, num_classes) distributions as they are -> distributions."""
    return jax.nn.one_hot(labels, num_classes) if labels.ndim == 1 else labels


def over_valid(values: jax.Array, valid: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(B,) values -> their sum and their number, of valid examples alone."""
    return jnp.sum(jnp.where(valid, values, 0)), jnp.sum(valid, dtype=values.dtype)


def score(record: dict, truth: dict) -> tuple[Sums, dict[str, Any]]:
    """What the report wants to know of one example; no sums of its own."""
    kept = {
        "index": int(record["index"]),
        "label": int(truth["label"]),
        "predicted": int(record["predicted"]),
        "confidence": float(record["confidence"]),
    }
    return {}, kept | {name: float(record[name]) for name in ("log_odds",) if name in record}


def summarise(sums: Sums, kept: list[dict[str, Any]]) -> Summary:
    """Scalars: loss, accuracies, top5, macro precision, recall and F1, count.

    The macro averages are over the classes that have an example (`train.metrics.confusion.macro`).
    Tables: `confusion`; `mistakes`, the surest first; `predictions`: `truth` and `prediction`, of
    which `score` is the probability.

    For two classes `roc_auc` too, of the second class; NaN where one of them has no examples.
    """
    matrix = np.asarray(sums["confusion"])
    scalars = means(sums)
    scalars |= {
        "accuracy": accuracy(matrix),
        "balanced_accuracy": balanced_accuracy(matrix),
        "precision": macro(precision(matrix), matrix),
        "recall": macro(recall(matrix), matrix),
        "f1": macro(f1(matrix), matrix),
        "count": int(matrix.sum()),
    }
    if len(matrix) == 2:
        known = [one for one in kept if one["label"] in (0, 1)]
        labels, odds = ([one[name] for one in known] for name in ("label", "log_odds"))
        scalars["roc_auc"] = roc_auc(np.array(labels), np.array(odds))
    mistakes = [one for one in kept if one["label"] != one["predicted"]]
    mistakes.sort(key=lambda one: -one["confidence"])
    index, truth, predicted, confidence = (
        [one[name] for one in kept] for name in ("index", "label", "predicted", "confidence")
    )
    columns = {"truth": truth, "prediction": predicted, "score": confidence}
    predictions = Predictions(index, columns, classes=("truth", "prediction"))
    tables = {"confusion": matrix, "mistakes": mistakes, "predictions": predictions}
    return Summary(scalars, tables)
