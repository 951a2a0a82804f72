"""PyTorch's side of `experiments.benchmark --what loader`: its loader, torchvision's transforms.

Another interpreter runs this file, the one that `--torch-python` names. It needs torch and
torchvision and, of this project, `rounds.py` beside it alone; nothing of this project imports it:

    python torch_loader.py '{"folder": "DIR", "size": 224, "batch_size": 64, "workers": 1,
                             "cores": [0], "seconds": 4}'
"""

import json
import os
import sys

import torch
import torchvision
from rounds import answer
from torchvision import transforms

AHEAD = 2
"""Batches that wait for each worker: torch's default."""


def batches(spec):
    """Batches of bytes without end, an epoch after the other."""
    # Bytes, as this project's: `ToTensor` would make floats of them, which costs more.
    transform = transforms.Compose(
        [transforms.RandomResizedCrop(spec["size"], antialias=True), transforms.PILToTensor()]
    )
    data = torchvision.datasets.ImageFolder(spec["folder"], transform)
    loader = torch.utils.data.DataLoader(
        data,
        spec["batch_size"],
        shuffle=True,
        num_workers=spec["workers"],
        drop_last=True,
        persistent_workers=True,
        prefetch_factor=AHEAD,
    )
    while True:
        yield from loader


def start(spec):
    """See `rounds.answer`."""
    endless = batches(spec)
    facts = {"version": f"torch {torch.__version__}", "workers": spec["workers"]}
    return facts, lambda: next(endless), lambda: None


if __name__ == "__main__":
    spec = json.loads(sys.argv[1])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, spec["cores"])
    answer(start, before=AHEAD * spec["workers"] + 1)
