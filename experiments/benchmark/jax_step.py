"""This project's side of `experiments.benchmark --what step`: one network, one step, timed.

A process of its own runs this file, as another runs `torch_step.py`, and speaks as that does:

    python jax_step.py '{"model": "resnet20", "fields": {}, "pixels": false, "size": 32,
                         "classes": 10, "batch_size": 128, "dtype": "float32", "seconds": 4,
                         "backend": "auto", "keep": false}'

`fields`: of the network, in place of its own. `pixels`: whether each pixel has a label. `keep`:
whether pages stay with the process, as they do for every experiment.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import models
from experiments.benchmark.rounds import answer
from models import backends
from models.backends import Backend
from train.memory import keep_pages


def training_step(spec, backend: Backend):
    """(step, state): forward, cross-entropy, backward, SGD with momentum, on one fixed batch."""
    own = {k: tuple(v) if isinstance(v, list) else v for k, v in spec["fields"].items()}
    fields = {"num_classes": spec["classes"], "dtype": spec["dtype"]} | backend.fields | own
    network = models.create(spec["model"], **fields)
    optimizer = optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(0.1, momentum=0.9))
    rng = np.random.default_rng(0)
    shape = (spec["batch_size"], spec["size"], spec["size"], 3)
    images = jnp.asarray(rng.normal(size=shape), jnp.float32)
    labelled = shape[:3] if spec["pixels"] else shape[:1]
    labels = jnp.asarray(rng.integers(0, spec["classes"], labelled))

    @jax.jit
    def start(key):
        variables = network.init(key, images[:1], train=False)
        return {**variables, "optimizer": optimizer.init(variables["params"])}

    def update(state, images, labels):
        def loss(params):
            variables = {"params": params, "batch_stats": state["batch_stats"]}
            logits, updated = network.apply(variables, images, train=True, mutable=["batch_stats"])
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), updated["batch_stats"]

        grads, statistics = jax.grad(loss, has_aux=True)(state["params"])
        updates, moved = optimizer.update(grads, state["optimizer"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        return {"params": params, "batch_stats": statistics, "optimizer": moved}

    compiled = jax.jit(update, donate_argnums=0)
    return lambda state: compiled(state, images, labels), start(jax.random.key(0))


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
