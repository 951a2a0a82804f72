"""What augmentation costs: this project's sides of `experiments.benchmark --what augment`.

A process of its own runs this file for each side, and speaks as `torch_augment.py` does:

    python augment_speed.py '{"side": "augmented", "batch_size": 256, "backend": "auto",
                              "seconds": 4}'

`side`: "augmented", whole training steps of ResNet-20 at 32x32 with the chain in them; "plain", the
same without; "alone", the chain by itself, compiled.
"""

import jax
import jax.numpy as jnp
import numpy as np

import models
from experiments.benchmark.rounds import answer
from models import backends
from train import optim
from train.augment import chain, colour_jitter, cutout, flip, pad_and_crop, rotation
from train.data.arrays import Arrays
from train.data.resident import Resident
from train.data.source import About
from train.memory import keep_pages
from train.mesh import compiled_step, make_mesh
from train.state import initial
from train.step import training_step
from train.tasks.classification import classification

SIZE, CLASSES, EXAMPLES = 32, 10, 1024
MEAN, STD = (120.0,) * 3, (60.0,) * 3
CHAIN = (pad_and_crop(4), flip(), rotation(15), colour_jitter(0.2, 0.2, 0.2, 0.05), cutout(8))


def pictures() -> Arrays:
    """Random bytes: what a chain costs does not hang on what it sees."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (EXAMPLES, SIZE, SIZE, 3), np.uint8)
    about = About("bytes", "train", tuple("0123456789"), True, (SIZE, SIZE, 3), MEAN, STD)
    return Arrays({"image": images, "label": rng.integers(0, CLASSES, EXAMPLES)}, about)


def start(spec):
    """See `rounds.answer`."""
    keep_pages()
    augmented = chain(*CHAIN, fill=MEAN)
    mesh = make_mesh(jax.devices()[:1])
    source = pictures()
    transform = None if spec["side"] == "plain" else augmented
    loader = Resident(source, mesh=mesh, batch_size=spec["batch_size"], transform=transform)
    payloads = loader.payloads(0)
    facts = {"side": spec["side"], "version": f"jax {jax.__version__}"}
    if spec["side"] == "alone":
        images = jnp.asarray(source[0]["image"])[None].repeat(spec["batch_size"], axis=0)
        change = jax.jit(lambda n: augmented(jax.random.key(n), {"image": images})["image"])
        made: list[jax.Array] = []

        def once():
            made[:] = [change(len(made))]

        return facts, once, lambda: jax.block_until_ready(made)

    backend = backends.choose(spec["backend"], jax.devices()[:1])
    network = models.create("resnet20", num_classes=CLASSES, **backend.fields)
    task = classification(network, num_classes=CLASSES, mean=MEAN, std=STD)

    def optimizer(hyper):
        rate = optim.scale_by_rate(optim.cosine(10**6), hyper["learning_rate"])
        return optim.sgd(rate, weight_decay=1e-4, momentum=0.9)

    def init(key):
        return dict(network.init(key, jnp.zeros((1, SIZE, SIZE, 3)), train=False))

    state = jax.jit(lambda: initial(init, optimizer, {"learning_rate": 0.01}, 0))()
    compiled = compiled_step(training_step(task, optimizer, loader), mesh)

    def step():
        nonlocal state
        state, _ = compiled(state, loader.data, next(payloads))

    return facts | {"backend": backend.name}, step, lambda: jax.block_until_ready(state)


if __name__ == "__main__":
    answer(start)
