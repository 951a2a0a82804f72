"""Segmentation: a class a pixel; losses of pixels, and what follows from one confusion matrix."""

import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from models.classification.auxiliary import WithAuxiliary, parts
from train.data.batch import IGNORE
from train.metrics.confusion import accuracy, f1, iou, over_seen, weighted
from train.tasks.classification import as_logits, mean_of
from train.tasks.pixel_losses import PixelLoss, cross_entropy
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


def segmentation(
    network: nn.Module,
    *,
    num_classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    loss: PixelLoss | None = None,
    auxiliary_weight: float = 0.4,
    preprocess: Callable[[jax.Array], jax.Array] | None = None,
) -> Task:
    """A task for images with a mask each.

    Args:
        network: (B, H, W, C) float32 -> (B, H - 2 margin, W - 2 margin, num_classes) logits, or in
            training `WithAuxiliary`; with `margin` and `input_size` (`models.segmentation`). Images
            of other sizes than it takes, and margins, are made up for by a mirrored border.
        num_classes: of the masks, 2..255.
        mean, std: per channel, of pixels 0..255; the network's input is (pixels - mean) / std.
        loss: of the logits, by default `cross_entropy()`; pixels of 255 in the mask, and invalid
            examples, do not count.
        auxiliary_weight: of the sum of the same losses of the auxiliary heads (deep supervision);
            0.5 in torchvision's recipe, 0.4 in Zhao et al. 2017 (arXiv:1612.01105, section 4).
        preprocess: what `inputs` does to images first, (B, H, W, C) float32 in 0..255, in training
            and prediction alike; it leaves every pixel in its place.

    Raises:
        ValueError: `num_classes` or `auxiliary_weight` is out of its range.

    `loss` reports `loss` (all of it), `pixel_accuracy`, `all_ignored` (1 for a batch in which no
    pixel counts: its loss and gradients are 0) and, where there are auxiliary heads,
    `auxiliary_loss`; `measure`'s is the mean, over the examples with a pixel that counts, of
    their own losses without the auxiliary ones (for Dice another quantity than a batch's).
    `predict` yields `mask` (B, H, W) uint8 and `probabilities` (B, H, W, num_classes). What is
    measured is counted in the pixels of the source, to which masks go back by `matrix`.
    """
    if not 2 <= num_classes <= IGNORE:
        raise ValueError(f"num_classes={num_classes} must be from 2 to {IGNORE}")
    if not 0 <= auxiliary_weight < math.inf:
        raise ValueError(f"auxiliary_weight={auxiliary_weight} must be finite and at least 0")
    loss_of = cross_entropy() if loss is None else loss
    shift, scale = np.asarray(mean, np.float32), np.asarray(std, np.float32)

    def inputs(batch: dict) -> jax.Array:
        x = batch["image"].astype(jnp.float32)
        x = x if preprocess is None else preprocess(x)
        return (x - shift.reshape(1, 1, 1, -1)) / scale.reshape(1, 1, 1, -1)

    def counted(batch: dict) -> jax.Array:
        return (batch["mask"] != IGNORE) & batch["valid"][:, None, None]

    def training_loss(variables: dict, batch: dict, key: jax.Array) -> tuple[jax.Array, Aux]:
        collections = [name for name in variables if name != "params"]

        def apply(x: jax.Array) -> Any:
            return network.apply(
                variables, x, train=True, mutable=collections, rngs={"dropout": key}
            )

        (logits, aux), updated = over_border(network, apply, inputs(batch))
        mask, counts = batch["mask"], counted(batch)
        import chex

        chex.assert_shape([logits, *aux], (*mask.shape, num_classes))
        main, *others = (loss_of(each, mask, counts) for each in (logits, *aux))
        total = main + auxiliary_weight * sum(others)
        pixels = jnp.sum(counts, dtype=total.dtype)
        right = (jnp.argmax(logits, -1) == mask) & counts
        one = jnp.ones_like(total)
        sums: Sums = {
            "loss": Ratio(total, one),
            "pixel_accuracy": Ratio(jnp.sum(right, dtype=total.dtype), pixels),
            "all_ignored": Ratio((pixels == 0).astype(total.dtype), one),
        }
        if others:
            sums["auxiliary_loss"] = Ratio(sum(others), one)
        return total, Aux(dict(updated), sums)

    def logits_of(variables: dict, x: jax.Array) -> jax.Array:
        def apply(x: jax.Array) -> Any:
            return network.apply(variables, x, train=False), None

        (logits, _), _ = over_border(network, apply, x)
        import chex

        chex.assert_shape(logits, (*x.shape[:3], num_classes))
        return logits

    def predict(variables: dict, x: jax.Array) -> dict[str, jax.Array]:
        logits = logits_of(variables, x)
        mask = jnp.argmax(logits, -1).astype(jnp.uint8)
        return {"mask": mask, "probabilities": jax.nn.softmax(logits)}

    def measure(variables: dict, batch: dict) -> Measured:
        return measured(logits_of(variables, inputs(batch)), batch)

    def measured(logits: jax.Array, batch: dict) -> Measured:
        valid = batch["valid"]
        # Example by example: the measure must not depend on how a split falls into batches.
        losses = jax.vmap(loss_of)(logits, batch["mask"], counted(batch))
        weight = jnp.any(counted(batch), axis=(1, 2))
        sums: Sums = {
            "loss": Ratio(
                jnp.sum(jnp.where(weight, losses, 0)), jnp.sum(weight, dtype=losses.dtype)
            ),
            "count": jnp.sum(valid, dtype=jnp.int32),
        }
        predicted = jnp.argmax(logits, -1).astype(jnp.uint8)
        kept = {name: batch[name] for name in ("index", "matrix", "size")}
        return Measured(sums, {"mask": predicted} | kept)

    def score(record: dict, truth: dict) -> tuple[Sums, dict[str, Any]]:
        guess = to_source(record["mask"], record["matrix"], record["size"])
        matrix = pixel_confusion(truth["mask"], guess, num_classes)
        kept = {
            "index": int(record["index"]),
            "iou": over_seen(iou(matrix), matrix) if matrix.any() else math.nan,
            "pixel_accuracy": accuracy(matrix) if matrix.any() else math.nan,
            "shape": guess.shape,
            "mask": zlib.compress(guess.tobytes(), 1),
        }
        return {"confusion": matrix}, kept

    def summary(sums: Sums, kept: list[dict[str, Any]]) -> Summary:
        # Where no example could be read there is no matrix.
        return summarise({"confusion": np.zeros((num_classes,) * 2, np.int64)} | sums, kept)

    merging = Merging(
        mean=mean_masks,
        measured=lambda found, batch: measured(as_logits(found["probabilities"]), batch),
        mirrored=lambda found: {name: each[:, :, ::-1] for name, each in found.items()},
    )
    return Task(inputs, training_loss, predict, measure, score, summary, merging)


def mean_masks(several: Sequence[dict[str, jax.Array]]) -> dict[str, jax.Array]:
    """What is likeliest by the mean of several predictions' probabilities."""
    probabilities = mean_of([one["probabilities"] for one in several])
    mask = jnp.argmax(probabilities, -1).astype(jnp.uint8)
    return {"mask": mask, "probabilities": probabilities}


def first_variables(network: nn.Module, key: jax.Array, x: jax.Array) -> dict[str, Any]:
    """The first variables of a network for images (B, H, W, C) of any size, as `inputs` yields."""

    def init(x: jax.Array) -> tuple[Any, Any]:
        return network.init_with_output(key, x, train=False)

    return dict(over_border(network, init, x)[1])


def over_border(
    network: Any, apply: Callable[[jax.Array], tuple[Any, Any]], x: jax.Array
) -> tuple[WithAuxiliary, Any]:
    """`apply` to the image with a border that the network needs; its logits cropped to the image.

    The border mirrors the image (Ronneberger et al. 2015, fig. 2), the edge not repeated.

    Args:
        network: with `margin` and `input_size`.
        apply: x -> (logits, or `WithAuxiliary` of such; anything).
        x: (B, H, W, C).
    """
    height, width = x.shape[1:3]
    around = []
    for size in (height, width):
        missing = network.input_size(size) - size
        before = missing // 2
        around.append((before, missing - before))
    if any(map(any, around)):
        x = jnp.pad(x, [(0, 0), *around, (0, 0)], mode="reflect")
    output, others = apply(x)
    top, left = (before - network.margin for before, _ in around)

    def cropped(logits: jax.Array) -> jax.Array:
        return logits[:, top : top + height, left : left + width]

    logits, aux = parts(output)
    return WithAuxiliary(cropped(logits), tuple(map(cropped, aux))), others


def to_source(mask: np.ndarray, matrix: np.ndarray, size: np.ndarray) -> np.ndarray:
    """A predicted mask in the pixels of the source: each takes the class where its centre went.

    Args:
        mask: (h, w) uint8.
        matrix: (3, 3): source (x, y, 1) -> mask (x, y, 1).
        size: height and width of the source.

    Returns:
        (*size,) uint8; what lies outside the mask takes the nearest class inside.
    """
    height, width = (int(n) for n in size)
    matrix = np.asarray(matrix, np.float64)
    if (height, width) == mask.shape and np.array_equal(matrix, np.eye(3)):
        return mask
    x, y = np.arange(width)[None, :] + 0.5, np.arange(height)[:, None] + 0.5
    u, v, w = (row[0] * x + row[1] * y + row[2] for row in matrix)
    column = np.clip(np.floor(u / w), 0, mask.shape[1] - 1).astype(np.intp)
    row = np.clip(np.floor(v / w), 0, mask.shape[0] - 1).astype(np.intp)
    return mask[row, column]


def pixel_confusion(truth: np.ndarray, guess: np.ndarray, num_classes: int) -> np.ndarray:
    """(C, C) int64 on the host: rows are the truth, columns the prediction; 255 is not counted.

    Raises:
        ValueError: the masks differ in shape, or a class is none.
    """
    if truth.shape != guess.shape:
        raise ValueError(f"a mask of shape {truth.shape}, predicted one of {guess.shape}")
    there = truth != IGNORE
    truth, guess = truth[there], guess[there]
    if max(truth.max(initial=0), guess.max(initial=0)) >= num_classes:
        raise ValueError(f"a class above {num_classes - 1}")
    pairs = truth.astype(np.int64) * num_classes + guess
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def summarise(sums: Sums, kept: list[dict[str, Any]]) -> Summary:
    """Scalars: miou, dice, pixel_accuracy, frequency_weighted_iou, loss, count.

    Tables: `confusion`, pixels; `worst`, every example from the lowest mean IoU on; `predictions`:
    of each example the mean IoU (over the classes that occur in it or are predicted) and the share
    of its pixels that are right, NaN where none counts.
    """
    matrix = np.asarray(sums["confusion"])
    scalars = means(sums) | {
        "miou": over_seen(iou(matrix), matrix),
        "dice": over_seen(f1(matrix), matrix),
        "pixel_accuracy": accuracy(matrix),
        "frequency_weighted_iou": weighted(iou(matrix), matrix),
        "count": int(sums["count"]),
    }
    worst = sorted((one for one in kept if not math.isnan(one["iou"])), key=lambda one: one["iou"])
    index, miou, right = (
        [one[name] for one in kept] for name in ("index", "iou", "pixel_accuracy")
    )
    predictions = Predictions(index, {"miou": miou, "pixel_accuracy": right})
    return Summary(scalars, {"confusion": matrix, "worst": worst, "predictions": predictions})
