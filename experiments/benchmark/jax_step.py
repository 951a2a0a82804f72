"""This project's side of `experiments.benchmark --what step`: one network, one step, timed.

A process of its own runs this file, as another runs `torch_step.py`, and speaks as that does:

    python jax_step.py '{"model": "resnet20", "task": "classification", "fields": {}, "size": 32,
                         "classes": 10, "batch_size": 128, "dtype": "float32", "seconds": 4,
                         "objects": [], "backend": "auto", "keep": false}'

`fields`: of the network, in place of its own. `objects`: of each image of a detector, see
`cases.objects`. `keep`: whether pages stay with the process, as they do for every experiment.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import models
from experiments.benchmark.rounds import answer
from models import backends
from models.backends import Backend
from train.memory import keep_pages
from train.tasks.detection.losses import loss_of
from train.tasks.detection.task import detection

Loss = Callable[[dict[str, Any], dict[str, jax.Array], jax.Array], tuple[jax.Array, Any]]
"""(variables, batch, key) -> (loss, updated collections)."""
RATES = {"classification": 0.1, "segmentation": 0.1, "detection": 1e-3, "sequence": 0.01}
"""Learning rate of a task's steps."""


def training_step(spec, backend: Backend):
    """(step, state): forward, loss, backward, SGD with momentum, on one fixed batch."""
    own = {name: fixed(value) for name, value in spec["fields"].items()}
    fields = {"num_classes": spec["classes"], "dtype": spec["dtype"]} | backend.fields | own
    network = models.create(spec["model"], **fields)
    rate = RATES[spec["task"]]
    optimizer = optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(rate, momentum=0.9))
    rng = np.random.default_rng(0)
    examples = (spec["batch_size"], spec["size"])
    shape = (*examples, 1) if spec["task"] == "sequence" else (*examples, spec["size"], 3)
    if spec["task"] == "detection":
        loss, batch = detector_loss(network), objects(rng, shape, spec["objects"])
    else:
        pixels = spec["task"] == "segmentation"
        loss, batch = cross_entropy(network), labelled(rng, shape, spec["classes"], pixels)

    @jax.jit
    def start(key):
        variables = network.init(key, seen(batch)[:1].astype(jnp.float32), train=False)
        return {**variables, "optimizer": optimizer.init(variables["params"]), "step": 0}

    def update(state, batch):
        def of(params):
            variables = {**state, "params": params}
            del variables["optimizer"], variables["step"]
            return loss(variables, batch, jax.random.fold_in(jax.random.key(0), state["step"]))

        grads, updated = jax.grad(of, has_aux=True)(state["params"])
        updates, moved = optimizer.update(grads, state["optimizer"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        return {"params": params, **updated, "optimizer": moved, "step": state["step"] + 1}

    compiled = jax.jit(update, donate_argnums=0)
    return lambda state: compiled(state, batch), start(jax.random.key(0))


def seen(batch):
    """What a network reads."""
    return batch["image"] if "image" in batch else batch["signal"]


def fixed(value):
    """A field of a network as it is written in Python: JSON has lists for tuples."""
    return tuple(map(fixed, value)) if isinstance(value, list) else value


def cross_entropy(network) -> Loss:
    """Of a classifier of images or signals, or of every pixel of a segmenter."""

    def loss(variables, batch, key):
        del key
        logits, updated = network.apply(variables, seen(batch), train=True, mutable=["batch_stats"])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
        return losses.mean(), updated

    return loss


def detector_loss(network) -> Loss:
    """That of the detector's task: its paper's."""
    task = detection(
        network, loss=loss_of(network), num_classes=10, mean=(127.5,) * 3, std=(127.5,) * 3
    )

    def loss(variables, batch, key):
        value, aux = task.loss(variables, batch, key)
        return value, aux.collections

    return loss


def labelled(rng, shape, classes, pixels) -> dict[str, jax.Array]:
    """Images (B, H, W, 3) or signals (B, L, 1) of noise, normalised; each or each pixel with a
    class.
    """
    of = shape[:3] if pixels else shape[:1]
    return {
        "image" if len(shape) == 4 else "signal": jnp.asarray(rng.normal(size=shape), jnp.float32),
        "label": jnp.asarray(rng.integers(0, classes, of)),
    }


def objects(rng, shape, found) -> dict[str, jax.Array]:
    """Images (B, H, W, 3) of noise, 0..255, each with objects: a batch of a detector's task."""
    rows = np.asarray(found, np.float32)
    return {
        "image": jnp.asarray(rng.integers(0, 256, shape), jnp.uint8),
        "boxes": jnp.asarray(rows[..., :4]),
        "box_label": jnp.asarray(rows[..., 4], jnp.int32),
        "box_valid": jnp.ones(rows.shape[:2], bool),
        "valid": jnp.ones(rows.shape[:1], bool),
    }


def start(spec):
    """See `rounds.answer`."""
    if spec["keep"]:
        keep_pages()
    backend = backends.choose(spec["backend"], jax.devices()[:1])
    update, state = training_step(spec, backend)

    def step():
        nonlocal state
        state = update(state)

    facts = {"version": f"jax {jax.__version__}", "backend": backend.name}
    return facts, step, lambda: jax.block_until_ready(state)


if __name__ == "__main__":
    answer(start)
