"""Detection: boxes with a class and a score each, measured in the pixels of the source."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from models.detection.detections import Detections, Images
from train.metrics.detection import counts, iou
from train.tasks.detection.source_pixels import extent, to_source
from train.tasks.detection.truth import truth
from train.tasks.task import Aux, Measured, Ratio, Summary, Sums, Task

DetectionLoss = Callable[..., tuple[jax.Array, Aux]]
"""(variables, Images, Truth, key, *what the network reads beside the images) -> (loss, Aux).

It closes over its network, applies it in training mode, and yields the updated collections and what
is logged: "loss" and its parts, a `Ratio` each. Where there is no object at all the loss is finite,
and the gradient of its box terms 0."""

RECALLS = (0.5, 0.7)
"""IoUs from which a proposal is near an object."""

PROPOSALS = ("proposals", "proposal_valid")
"""What Fast R-CNN and R-CNN read beside the images."""


def detection(
    network: nn.Module,
    *,
    loss: DetectionLoss,
    num_classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    preprocess: Callable[[jax.Array], jax.Array] | None = None,
    reads: Sequence[str] = (),
) -> Task:
    """A task for images with boxes.

    Args:
        network: with the method `detect(image, extent, *others) -> Detections`.
        loss: see `DetectionLoss`.
        num_classes: of the data; no background.
        mean, std: per channel, of pixels 0..255; the network's input is (pixels - mean) / std.
        preprocess: what `inputs` does to images first, (B, H, W, C) float32 in 0..255, in training
            and prediction alike; it leaves every pixel in its place.
        reads: keys of the batch that the network reads beside the images: `PROPOSALS`, for one that
            takes regions. They follow the images, in this order, in `inputs`, in `detect` and in
            the loss.

    Raises:
        ValueError: `num_classes` is less than 1.

    `inputs` yields `Images`, or with `reads` the tuple (Images, *others). `predict` yields `boxes`,
    `scores`, `labels` and `valid`, as `models.detection.detections.Detections`. What is measured is
    measured in the pixels of the source, to which boxes go back by `matrix`.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes={num_classes} must be at least 1")
    shift, scale = np.asarray(mean, np.float32), np.asarray(std, np.float32)

    def inputs(batch: dict) -> Any:
        x = batch["image"].astype(jnp.float32)
        x = x if preprocess is None else preprocess(x)
        x = (x - shift.reshape(1, 1, 1, -1)) / scale.reshape(1, 1, 1, -1)
        images = Images(x, extent(batch))
        return (images, *(batch[key] for key in reads)) if reads else images

    def training_loss(variables: dict, batch: dict, key: jax.Array) -> tuple[jax.Array, Aux]:
        images, *others = parted(inputs(batch))
        return loss(variables, images, truth(batch), key, *others)

    def predict(variables: dict, x: Any) -> dict[str, jax.Array]:
        images, *others = parted(x)
        found: Any = network.apply(variables, images.image, images.extent, *others, method="detect")
        assert isinstance(found, Detections)
        return found._asdict()

    def measure(variables: dict, batch: dict) -> Measured:
        found, valid = predict(variables, inputs(batch)), batch["valid"]
        full = jnp.all(found["valid"], axis=1) & valid
        sums: Sums = {
            "count": jnp.sum(valid, dtype=jnp.int32),
            "at_cap": jnp.sum(full, dtype=jnp.int32),
        }
        kept = ("index", "matrix", "size", *(name for name in PROPOSALS if name in reads))
        return Measured(sums, found | {name: batch[name] for name in kept})

    def score(record: dict, annotations: dict) -> tuple[Sums, dict[str, Any]]:
        kept = scored(record, annotations, num_classes)
        return recalls(record, kept) if PROPOSALS[0] in record else {}, kept

    def summary(sums: Sums, kept: list[dict[str, Any]]) -> Summary:
        from train.tasks.detection.summary import summarise

        return summarise(sums, kept, num_classes)

    return Task(inputs, training_loss, predict, measure, score, summary)


def parted(inputs: Any) -> tuple[Any, ...]:
    """(Images, *what the network reads beside them) of a task's inputs."""
    return (inputs,) if isinstance(inputs, Images) else tuple(inputs)


def first_variables(network: nn.Module, key: jax.Array, inputs: Any) -> dict[str, Any]:
    """The first variables of a network for a task's inputs: `Parts.init`."""
    images, *others = parted(inputs)
    return dict(network.init(key, images.image, *others, train=False))


def scored(record: dict, annotations: dict, num_classes: int) -> dict[str, Any]:
    """One example: what was found in it and what is there, in the pixels of its source.

    Args:
        record: a row of `measure`'s, on the host.
        annotations: the source's `truth`: `boxes`, `box_label`, and as far as they are known
            `box_valid`, `box_crowd`, `box_difficult` and `box_area`.
        num_classes: of the data.

    Returns:
        index: int. size: (2,) int, height and width. boxes (k, 4), scores (k,) float32, labels (k,)
        int32, by falling score: all that is finite, and of a class of the data. true_boxes (n, 4)
        float32, true_labels (n,) int32, crowd, difficult (n,) bool, and area (n,) float32, where
        the set gives it another than the boxes': the objects of some area.
    """
    boxes, scores = (np.asarray(record[name], np.float32) for name in ("boxes", "scores"))
    labels = np.asarray(record["labels"], np.int32)
    good = np.asarray(record["valid"], bool) & np.isfinite(boxes).all(-1) & np.isfinite(scores)
    good &= (labels >= 0) & (labels < num_classes)
    rows = np.flatnonzero(good)
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    size = np.asarray(record["size"], np.int32)
    true = np.asarray(annotations["boxes"], np.float32).reshape(-1, 4)
    count = len(true)
    there = np.asarray(annotations.get("box_valid", np.ones(count, bool)), bool)
    there = there & (true[:, 2:] > true[:, :2]).all(-1)
    none = np.zeros(count, bool)
    found = {
        "index": int(record["index"]),
        "size": size,
        "boxes": to_source(boxes[rows], record["matrix"], size),
        "scores": scores[rows],
        "labels": labels[rows],
        "true_boxes": true[there],
        "true_labels": np.asarray(annotations["box_label"], np.int32)[there],
        "crowd": np.asarray(annotations.get("box_crowd", none), bool)[there],
        "difficult": np.asarray(annotations.get("box_difficult", none), bool)[there],
    }
    if "box_area" in annotations:
        found["area"] = np.asarray(annotations["box_area"], np.float32)[there]
    return found


def recalls(record: dict, kept: dict[str, Any]) -> Sums:
    """`recall_50`, `recall_70`: the objects that a proposal overlaps so far, which bounds mAP.

    Args:
        record: a row of `measure`'s, with proposals.
        kept: the same example, as `scored` has it.
    """
    boxes = np.asarray(record["proposals"])[np.asarray(record["proposal_valid"], bool)]
    boxes = to_source(boxes, record["matrix"], record["size"])
    best = iou(kept["true_boxes"][counts(kept)], boxes).max(axis=1, initial=0.0)
    return {
        f"recall_{round(100 * least)}": Ratio(int((best >= least).sum()), len(best))
        for least in RECALLS
    }
