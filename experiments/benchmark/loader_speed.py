"""How fast pictures are read: this project's side of `experiments.benchmark --what loader`.

A process of its own runs this file, as another runs `torch_loader.py`, and speaks as that does:

    python loader_speed.py '{"folder": "DIR", "size": 224, "batch_size": 64, "workers": 1,
                             "cores": [0], "seconds": 4}'

Both read the same files, take a random rectangle of each, resize it to the size that is asked, and
have batches of bytes, uint8, ready for a step; both have as many worker processes, and are held to
as many cores.
"""

import io
import json
import os
import pathlib
import sys

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from experiments.benchmark.rounds import answer
from train.data import jpeg
from train.data.folder import folder
from train.data.host import Host, RandomResizedCrop
from train.data.streaming import Streaming
from train.mesh import make_mesh

HEIGHT, WIDTH, KILOBYTES = 375, 500, 110
"""Of ImageNet's usual picture."""
CLASSES = 4
READY = 10
"""Batches that may wait, or be in hand, for each worker and for them all: no more than so many."""


def write_pictures(root: pathlib.Path, count: int, seed: int = 0) -> float:
    """JPEGs of ImageNet's usual size: parts of two photographs, with the noise that fills them.

    Returns:
        Kilobytes of a picture, on average.
    """
    rng = np.random.default_rng(seed)
    photographs = load_sample_images().images
    total = 0
    for i in range(count):
        whole = photographs[i % len(photographs)]
        top = rng.integers(whole.shape[0] - HEIGHT + 1)
        left = rng.integers(whole.shape[1] - WIDTH + 1)
        part = whole[top : top + HEIGHT, left : left + WIDTH].astype(np.float32)
        data = _sized(part, rng.normal(size=part.shape).astype(np.float32))
        path = root / f"class{i % CLASSES}" / f"{i:04}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        total += len(data)
    return total / count / 1000


def _sized(picture: np.ndarray, noise: np.ndarray) -> bytes:
    """A JPEG of about `KILOBYTES`, quality 95: with more noise it is larger."""
    low, high = 0.0, 32.0
    for _ in range(6):
        middle = (low + high) / 2
        file = io.BytesIO()
        pixels = np.clip(picture + middle * noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(file, "JPEG", quality=95)
        low, high = (middle, high) if file.tell() < 1000 * KILOBYTES else (low, middle)
    return file.getvalue()


def start(spec):
    """See `rounds.answer`."""
    loader = Streaming(
        folder(spec["folder"]),
        mesh=make_mesh(),
        batch_size=spec["batch_size"],
        host=Host(RandomResizedCrop(), ((spec["size"], spec["size"]),)),
        workers=spec["workers"],
    )
    payloads = loader.payloads(0)

    def step():
        next(payloads)["image"].block_until_ready()

    return {"decoder": jpeg.DECODER, "workers": spec["workers"]}, step, lambda: None


if __name__ == "__main__":
    spec = json.loads(sys.argv[1])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, spec["cores"])
    answer(start, before=READY + READY * spec["workers"])
