"""Runs of a real experiment on several numbers of devices, stopped and gone on with on others.

python tests/making/elastic.py FOLDER DTYPE EXPERIMENT --data …

For `tests/faults/test_elastic.py`: one process makes all runs of a task, each by the experiment's
own command line. Three things are another than a user's: the network is of DTYPE, parameters too;
the indices of each batch's examples are logged beside its loss; and at the end nothing is measured,
but the values of the last state are left in `state.npz`, beside what every run leaves. FOLDER has a
folder a run then.
"""

import contextlib
import importlib
import json
import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import train.run
from train import cli
from train.seal import flat
from train.tasks.task import Ratio
from train.trained import Trained

STEPS, HALF, BATCH = 20, 10, 8
BASE, DIGITS = 32, 4
"""Indices below BASE are logged DIGITS to a number, exact in float32: each name costs a figure."""
WHOLE = {"four": 4, "one": 1}
"""Runs that nothing stops: name -> devices."""
RESUMED = {
    "four to one": ("four", 1),
    "four to two": ("four", 2),
    "four to four": ("four", 4),
    "one to four": ("one", 4),
}
"""Name -> of which run the first half is, and on how many devices the second."""


def in_dtype(dtype):
    """From here on, networks of recipes have this type."""
    before = Trained.of_network.fget
    fields = {"dtype": dtype, "param_dtype": dtype}
    Trained.of_network = property(lambda config: {**before(config), **fields})


def logging_indices(module):
    """From here on, what the experiment builds logs which examples its batches have."""
    build = module.build

    def building(*args, **how):
        parts = build(*args, **how)
        loss = parts.task.loss

        def with_indices(variables, batch, key):
            total, aux = loss(variables, batch, key)
            one = jnp.ones((), jnp.float32)
            packed = batch["index"].reshape(-1, DIGITS) @ BASE ** jnp.arange(DIGITS)
            places = {f"indices_{k}": Ratio(packed[k] * one, one) for k in range(len(packed))}
            return total, aux._replace(sums={**aux.sums, **places})

        return parts._replace(task=parts.task._replace(loss=with_indices))

    module.build = building


def keeping_the_state():
    """From here on, a run leaves the values of its last state in place of what it measures."""

    def judge(prepared, here, state):
        leaves = {name: jax.device_get(leaf) for name, leaf in flat(state).items()}
        np.savez(here.path / "state.npz", **leaves)

    train.run.judge = judge


def halved(path, other):
    """A copy of a run as it was at half of its steps."""
    shutil.copytree(path, other)
    shutil.rmtree(other / "checkpoints" / str(STEPS))
    (other / "state.npz").unlink()


def main(folder, dtype, experiment, *asked):
    """All runs; what they print goes to a file each."""
    name = f"experiments.{experiment}"
    module = importlib.import_module(name)
    in_dtype(dtype)
    logging_indices(module)
    keeping_the_state()
    recipe = [
        *asked, "--steps", STEPS, "--batch-size", BATCH, "--save-every", HALF, "--evaluate-every",
        STEPS, "--validation", 0, "--log-every", 1, "--warmup-steps", 5,
    ]  # fmt: skip
    codes = {}

    def run(where, *arguments):
        path = Path(folder) / where
        path.mkdir(exist_ok=True)
        with (path / "said.txt").open("w") as file, contextlib.redirect_stdout(file):
            arguments = [*arguments, "--workdir", path]
            codes[where] = cli.command_line(name, [*map(str, arguments)])

    for where, devices in WHOLE.items():
        run(where, *recipe, "--devices", devices, "--backend", "jax")
    for where, (of, devices) in RESUMED.items():
        halved(Path(folder) / of, Path(folder) / where)
        run(where, "--devices", devices)
    (Path(folder) / "codes.json").write_text(json.dumps(codes))


if __name__ == "__main__":
    main(*sys.argv[1:])
