"""Runs of a real experiment, one after the other, by one process or by each of two.

python tests/making/several.py FOLDER DTYPE EXPERIMENT RUNS --data …

RUNS is JSON: [name, of which run its first half is or null, options]. What is changed and what is
left is as in `elastic`.
"""

import contextlib
import importlib
import json
import sys
from pathlib import Path

import jax
import numpy as np
from elastic import BATCH, HALF, STEPS, halved, in_dtype, logging_indices

import train.run
from train import cli, processes
from train.seal import flat


def keeping_the_state():
    """From here on, a run also leaves the values of its last state."""
    judge = train.run.judge

    def keeping(prepared, here, state):
        leaves = {name: jax.device_get(leaf) for name, leaf in flat(state).items()}
        if processes.first():
            np.savez(here.path / "state.npz", **leaves)
        return judge(prepared, here, state)

    train.run.judge = keeping


def main(folder, dtype, experiment, runs, *asked):
    """All of them; what they print goes to a file each."""
    name = f"experiments.{experiment}"
    folder, runs = Path(folder), json.loads(runs)
    in_dtype(dtype)
    logging_indices(importlib.import_module(name))
    keeping_the_state()
    recipe = [
        *asked, "--steps", STEPS, "--batch-size", BATCH, "--save-every", HALF, "--evaluate-every",
        STEPS, "--validation", 0, "--log-every", 1, "--warmup-steps", 5, "--backend", "jax",
    ]  # fmt: skip
    for where, of, more in runs:
        path = folder / where
        if processes.first():
            path.mkdir(exist_ok=True) if of is None else halved(folder / of, path)
        processes.gathered("the directory is there")
        arguments = [*(recipe if of is None else []), *more, "--workdir", path]
        with contextlib.ExitStack() as said:
            if processes.first():
                file = said.enter_context((path / "said.txt").open("w"))
                said.enter_context(contextlib.redirect_stdout(file))
            assert cli.command_line(name, [*map(str, arguments)]) == 0


if __name__ == "__main__":
    main(*sys.argv[1:])
