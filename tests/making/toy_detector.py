"""A detector in a page: boxes of varying number through the whole house, as an experiment.

python tests/making/toy_detector.py --steps 60

It is the smallest task whose examples have boxes: images of 16x16 with 0 to 3 bright squares, each
in a cell of a 4x4 grid. The tests start it from the command line and in one process.
"""

import os
import signal
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from models.layers.norm import BatchNorm
from train import cli
from train.augment import chain, flip
from train.data.arrays import Arrays
from train.data.named import Splits
from train.data.source import About
from train.experiment import Parts
from train.run import run
from train.tasks.task import Aux, Measured, Predictions, Ratio, Summary, Task, means
from train.trained import Trained, descent

NAME = Path(__file__).stem
GRID, CELL, CAPACITY = 4, 4, 3


def scenes(count, seed, split):
    """16x16 images with 0 to 3 bright squares, each in a cell of its own."""
    rng = np.random.default_rng(seed)
    images, boxes = rng.integers(0, 60, (count, 16, 16, 1), np.uint8), []
    for image in images:
        cells = rng.permutation(GRID * GRID)[: rng.integers(0, CAPACITY + 1)]
        corners = np.stack([cells % GRID, cells // GRID], -1) * CELL
        for x, y in corners:
            image[y : y + CELL, x : x + CELL] = 200
        boxes.append(np.concatenate([corners, corners + CELL], -1).astype(np.float32))
    labels = [np.zeros(len(b), np.int32) for b in boxes]
    return Arrays(
        {"image": images, "boxes": boxes, "box_label": labels},
        About("squares", split, ("square",), mirror=True, shape=(16, 16, 1)),
    )


# --- the detector: a network and a task, nothing else -----------------------------------------


class Detector(nn.Module):
    """(B, 16, 16, 1) -> (B, 4, 4, 5): objectness and box; in training an auxiliary (B,) too."""

    dtype: str = "float32"
    conv_general_dilated: object = lax.conv_general_dilated
    norm: object = BatchNorm

    @nn.compact
    def __call__(self, x, *, train):
        types = {"dtype": self.dtype, "param_dtype": self.dtype}
        conv = partial(nn.Conv, conv_general_dilated=self.conv_general_dilated, **types)
        x = conv(8, (CELL, CELL), strides=CELL, use_bias=False)(x)
        x = self.norm(**types)(x, train=train, act=nn.relu)
        count = conv(1, (1, 1), name="count")(x).sum((1, 2, 3))
        x = conv(5, (1, 1), name="head")(x)
        return (x, count) if train else x


CORNERS = np.stack(np.meshgrid(np.arange(GRID), np.arange(GRID)), -1) * CELL
ANCHORS = np.concatenate([CORNERS, CORNERS + CELL], -1)[None].astype(np.float32)


def targets(batch):
    """(B, 4, 4) whether a box is centred in the cell, and (B, 4, 4, 4) that box."""
    boxes, valid = batch["boxes"], batch["box_valid"] & batch["valid"][:, None]
    x, y = jnp.moveaxis((boxes[..., :2] + boxes[..., 2:]).astype(int) // 2 // CELL, -1, 0)
    cells = jax.nn.one_hot(y * GRID + x, GRID * GRID) * valid[..., None]
    shape = (len(boxes), GRID, GRID)
    return cells.sum(1).reshape(shape), jnp.einsum("bnc,bnk->bck", cells, boxes).reshape(*shape, 4)


def detection(network):
    def inputs(batch):
        return batch["image"].astype(jnp.float32) / 255

    def loss(variables, batch, key):
        (out, count), updated = network.apply(
            variables, inputs(batch), train=True, mutable=["batch_stats"]
        )
        there, boxes = targets(batch)
        of_score = optax.sigmoid_binary_cross_entropy(out[..., 0], there).sum()
        of_box = (jnp.abs(out[..., 1:] + ANCHORS - boxes).sum(-1) * there).sum()
        of_count = ((count - there.sum((1, 2))) ** 2).sum()  # the auxiliary output
        weight = jnp.maximum(batch["valid"].sum(), 1).astype(out.dtype)
        total = of_score + of_box + 0.01 * of_count
        return total / weight, Aux(dict(updated), {"loss": Ratio(total, weight)})

    def predict(variables, x):
        out = network.apply(variables, x, train=False)
        boxes = (out[..., 1:] + ANCHORS).reshape(len(x), -1, 4)
        scores, best = jax.lax.top_k(nn.sigmoid(out[..., 0]).reshape(len(x), -1), CAPACITY)
        return {"boxes": jnp.take_along_axis(boxes, best[..., None], 1), "scores": scores}

    def measure(variables, batch):
        keep = {name: batch[name] for name in ("matrix", "size", "index")}
        return Measured({"scenes": batch["valid"].sum()}, predict(variables, inputs(batch)) | keep)

    def score(record, truth):
        assert record["size"].tolist() == [16, 16]
        assert np.array_equal(record["matrix"], np.eye(3))
        found = record["boxes"][record["scores"] > 0.5]
        near = np.abs(found[:, None] - truth["boxes"][None]).max(-1) < 1
        sums = {
            "recall": Ratio(near.any(0).sum(), len(truth["boxes"])),
            "precision": Ratio(near.any(1).sum(), len(found)),
        }
        return sums, (int(record["index"]), len(found))

    def summarise(sums, kept):
        indices, found = zip(*kept, strict=True)
        predictions = Predictions(indices, {"squares": found})
        return Summary(means(sums) | {"count": int(sums["scenes"])}, {"predictions": predictions})

    return Task(inputs, loss, predict, measure, score, summarise)


# --- the experiment ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Config(Trained):
    """The recipe.

    Attributes:
        dtype: of the network's arithmetic and parameters.
    """

    data: str = "squares"
    model: str = "detector"
    steps: int = 60
    batch_size: int = 16
    learning_rate: float = 0.02
    ema: float = 0.9
    dtype: Literal["float32", "float64"] = "float32"  # type: ignore[assignment]
    evaluate_every: int = 20
    save_every: int = 10
    log_every: int = 5


def recipe(data: str = "auto") -> Config:
    """The one recipe."""
    return replace(Config(), data="squares" if data == "auto" else data)


def splits(config: Config) -> Splits:
    """Squares at random."""
    return Splits(scenes(96, 0, "train"), scenes(21, 2, "validation"), scenes(37, 1, "test"))


def adam(rate, *, weight_decay, clip_norm):
    return optax.chain(optax.scale_by_adam(), rate)


def build(config: Config, about: About, *, conv=lax.conv_general_dilated, norm=BatchNorm) -> Parts:
    """Network, task, optimiser and augmentation; needs no data."""
    network = Detector(config.dtype, conv, norm)
    return Parts(
        network=network,
        task=detection(network),
        transform=chain(flip()),
        rank="recall",
        report=[],
        capacity={"boxes": CAPACITY},
        **descent(config, adam, optax.constant_schedule(1.0)),
    )


def main(config: Config) -> Summary:
    """Train and report."""
    return run(sys.modules[__name__], config)


def signalling(step, at):
    """`step`, and a SIGTERM to this process once that many were made."""
    made = []

    def signalled(*arguments):
        made.append(None)
        if len(made) == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(*arguments)

    return signalled


if __name__ == "__main__":
    sys.exit(cli.command_line(NAME))
