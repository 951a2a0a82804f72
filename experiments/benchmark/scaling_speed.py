"""A process of `experiments.benchmark --what scaling`: a run's own training step on N devices.

It answers as `rounds.answer` says:

    python scaling_speed.py '{"model": "resnet20", "fields": {}, "size": 32, "classes": 10,
                              "batch_size": 256, "dtype": "float32", "backend": "auto",
                              "devices": 4, "fsdp": 2, "seconds": 4}'

`fields`: of the network, in place of its own. `batch_size` is of all devices together.
"""

import json
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import models
from experiments.benchmark.collectives import collectives, summed
from experiments.benchmark.jax_step import fixed
from experiments.benchmark.rounds import answer
from models import backends
from train import optim
from train.data.arrays import Arrays
from train.data.resident import Resident
from train.data.source import About
from train.in_flight import InFlight
from train.memory import keep_pages
from train.mesh import compiled_initial, compiled_step, make_mesh
from train.sharded import held, whole
from train.state import initial
from train.step import training_step
from train.tasks.classification import classification

BATCHES = 2
"""Of pictures that are on the devices."""
MEAN, STD = (120.0,) * 3, (60.0,) * 3


def pictures(spec: dict[str, Any]) -> Arrays:
    """Random bytes: what a step costs does not hang on what it sees."""
    rng = np.random.default_rng(0)
    count, size, classes = BATCHES * spec["batch_size"], spec["size"], spec["classes"]
    images = rng.integers(0, 256, (count, size, size, 3), np.uint8)
    names = tuple(map(str, range(classes)))
    about = About("bytes", "train", names, True, (size, size, 3), MEAN, STD)
    return Arrays({"image": images, "label": rng.integers(0, classes, count)}, about)


def training(spec: dict[str, Any]) -> tuple[Any, Any, Resident, str]:
    """(state, step, loader, name of the backend): as a run has them, with SGD and momentum."""
    devices = jax.devices()
    if len(devices) < spec["devices"]:
        raise ValueError(f"there are {len(devices)} devices")
    devices = devices[: spec["devices"]]
    # On one CPU device another backend is faster, and the comparison would be of the two.
    name = "jax" if spec["backend"] == "auto" and devices[0].platform == "cpu" else spec["backend"]
    backend = backends.choose(name, devices)
    own = {name: fixed(value) for name, value in spec["fields"].items()}
    fields = {"num_classes": spec["classes"], "dtype": spec["dtype"]} | backend.fields | own
    network = models.create(spec["model"], **fields)
    mesh = make_mesh(devices, fsdp=spec["fsdp"])
    loader = Resident(pictures(spec), mesh=mesh, batch_size=spec["batch_size"])
    task = classification(network, num_classes=spec["classes"], mean=MEAN, std=STD)
    task = task._replace(loss=whole(task.loss, mesh))

    def optimizer(hyper):
        rate = optim.scale_by_rate(optim.cosine(10**6), hyper["learning_rate"])
        return optim.sgd(rate, weight_decay=1e-4, momentum=0.9)

    def init(key):
        seen = jnp.zeros((1, spec["size"], spec["size"], 3))
        return dict(network.init(key, seen, train=False))

    start = compiled_initial(
        lambda seed: initial(init, optimizer, {"learning_rate": 0.01}, seed), mesh
    )
    state = start(jnp.uint32(0))
    step = compiled_step(training_step(task, optimizer, loader), mesh, state=state)
    return state, step, loader, backend.name


def size(tree: Any) -> int:
    """Bytes of all arrays."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def start(spec):
    """See `rounds.answer`."""
    keep_pages()
    state, step, loader, backend = training(spec)
    payloads = loader.payloads(0)
    compiled = step.lower(state, loader.data, next(payloads)).compile()
    found = collectives(compiled.as_text())
    facts = {
        "platform": jax.devices()[0].platform,
        "kind": jax.devices()[0].device_kind,
        "backend": backend,
        "parameters": size(state.params),
        "statistics": size(state.collections),
        "held": held(state),
        "exchanged": summed(found, spec["devices"]),
        "certain": all(one.certain for one in found),
    }

    flight = InFlight()

    def once():
        nonlocal state
        state, sums = compiled(state, loader.data, next(payloads))
        flight.push(sums)

    return facts, once, lambda: jax.block_until_ready(state)


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", json.loads(sys.argv[1])["devices"])
    answer(start)
