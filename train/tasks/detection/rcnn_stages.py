"""R-CNN's stages after fine-tuning: from the regions of a training set to the collection `svm`."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from models.detection.boxes import encode, iou
from models.detection.rcnn import RCNN
from train.files import writing
from train.tasks.detection.ignored import in_ignored
from train.tasks.detection.outputs import taken
from train.tasks.detection.regions import with_objects
from train.tasks.detection.svm import box_regressor, hard_mined

NEGATIVE = 0.3
"""A region is a negative of a class where it overlaps each of its objects by less."""
MOVED = 0.6
"""A proposal teaches a regressor from this IoU with an object on."""


class Collected(NamedTuple):
    """Of all regions of a set, R of them, what SVMs and regressors are fitted to."""

    features: np.ndarray
    """(R, D) float32; on the disk where a file was given."""
    positive: np.ndarray
    """(R,) int32: the class of a region that is an object itself, else -1."""
    overlap: np.ndarray
    """(R, C) float32: the largest IoU with an object of each class; 1 of what may not count."""
    pooled: np.ndarray
    """(M, F) float32, of the proposals that regressors learn from."""
    targets: np.ndarray
    """(M, 4) float32: dx dy dw dh to their object."""
    labels: np.ndarray
    """(M,) int32: its class."""


def collect(
    network: RCNN,
    variables: Mapping[str, Any],
    batches: Iterable[tuple[Any, Any, jax.Array, jax.Array]],
    file: Path | None = None,
) -> Collected:
    """Run the network over the regions of a set, batch by batch.

    Args:
        network: fine-tuned.
        variables: its own.
        batches: (images, truth, proposals, proposal_valid) of one shape each.
        file: where features go, which may be many; None keeps them in memory.

    Raises:
        train.files.WriteFailed: they can't be written there.
    """
    classes = network.num_classes - 1

    @jax.jit
    def read(variables: Any, images: Any, truth: Any, proposals: jax.Array, there: jax.Array):
        boxes, valid = with_objects(proposals, there, truth)
        overlaps = iou(truth.boxes, boxes)
        real = jnp.where(truth.valid[..., None], overlaps, 0)
        aside = jnp.any((overlaps >= NEGATIVE) & truth.ignored[..., None], axis=1)
        aside |= in_ignored(boxes, truth)
        kind = jax.nn.one_hot(truth.labels, classes, axis=-1)
        each = jnp.max(real[..., None] * kind[:, :, None], axis=1, initial=0)
        each = jnp.where(aside[..., None], 1, each)
        most = jnp.max(real, axis=1, initial=0)
        at = jnp.argmax(real, axis=1) if real.shape[1] else jnp.zeros(most.shape, jnp.int32)
        own = jnp.arange(boxes.shape[1]).reshape(1, -1) >= proposals.shape[1]
        labels = taken(truth.labels, at)
        found: Any = network.apply(variables, images.image, boxes, method="regions")
        near = (most >= MOVED) & valid & ~own
        return {
            "valid": valid,
            "positive": jnp.where(own & valid, labels, -1),
            "overlap": each,
            "near": near,
            "targets": encode(taken(truth.boxes, at), boxes),
            "labels": labels,
            "features": found.features.reshape(*valid.shape, -1),
            "pooled": found.pooled.reshape(*valid.shape, -1),
        }

    parts: list[dict[str, np.ndarray]] = []
    width = 0
    rows = 0
    with writing(file or ""):
        out = None if file is None else open(file, "wb")  # noqa: SIM115  closed below
    try:
        for batch in batches:
            found = jax.device_get(read(variables, *batch))
            valid, near = found.pop("valid"), found.pop("near")
            one = {key: found[key][near] for key in ("pooled", "targets", "labels")}
            one |= {key: found[key][valid] for key in ("positive", "overlap", "features")}
            width, rows = one["features"].shape[1], rows + len(one["features"])
            if out is not None:
                with writing(out.name):  # `tofile` does not say why a disk takes no more
                    out.write(one.pop("features").astype(np.float32).tobytes())
            parts.append(one)
    finally:
        if out is not None:
            with writing(out.name):
                out.close()
    if not parts or not rows:
        raise ValueError("batches hold no region")
    joined = {key: np.concatenate([one[key] for one in parts]) for key in parts[0]}
    if file is not None:
        joined["features"] = np.memmap(file, np.float32, mode="r", shape=(rows, width))
    return Collected(**joined)


def machines(found: Collected, *, seed: int) -> dict[str, np.ndarray]:
    """`kernel` (D, C) and `bias` (C,): an SVM a class, see `hard_mined`."""
    each = [
        hard_mined(
            found.features, found.positive == c, found.overlap[:, c] < NEGATIVE, seed=seed + c
        )
        for c in range(found.overlap.shape[1])
    ]
    kernels, biases = zip(*each, strict=True)
    return {"kernel": np.stack(kernels, axis=1), "bias": np.asarray(biases, np.float32)}


def regressors(found: Collected) -> dict[str, np.ndarray]:
    """`box_kernel` (F, 4 C) and `box_bias` (4 C,): a regressor a class, see `box_regressor`."""
    each = [
        box_regressor(found.pooled[found.labels == c], found.targets[found.labels == c])
        for c in range(found.overlap.shape[1])
    ]
    kernels, biases = zip(*each, strict=True)
    return {"box_kernel": np.concatenate(kernels, axis=1), "box_bias": np.concatenate(biases)}
