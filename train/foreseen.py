"""Foreseen: what is known of the trials of a sweep before anything runs, and refused if it is bad.

Nothing is written, nothing is compiled.
"""

import dataclasses
import gc
import math
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import jax

from train import workdir
from train.ablation import Trial
from train.alike import Made, made_by, same_run
from train.prepared import Prepared, prepare
from train.refusal import Refused
from train.scalars import refuse_unmeasured
from train.sweep import Checked, said


def check_all(
    module: ModuleType,
    todo: Sequence[tuple[Trial, Path | None]],
    metric: str = "",
) -> dict[str, Checked]:
    """Read the data and build the network of each trial.

    Args:
        module: the experiment's.
        todo: what is to run, and its directory, which may hold a part of it; None for a new one.
        metric: the scalar that is compared; "" is the one that ranks.

    Returns:
        Folder of a trial -> what is known of it.

    Raises:
        Refused: one can't run, has no such scalar, or comes to the same run as another; names its
            row.
    """
    found: dict[str, Checked] = {}
    made: dict[str, Made] = {}
    for trial, path in todo:
        name = trial.row.name
        prepared = check(module, trial, path)
        try:
            if metric:
                refuse_unmeasured(prepared, metric)
        except Refused as refused:
            raise Refused(f"{name!r}: {refused}") from None
        own = made_by(prepared)
        for other, earlier in made.items():
            if same_run(earlier, own):
                raise Refused(f"{name!r} is the same recipe as {other!r}: it builds the same")
        made[name], found[trial.folder] = own, known(prepared)
        del prepared
        gc.collect()  # the set on the device: the next trial has its own
    return found


def check(module: ModuleType, trial: Trial, path: Path | None) -> Prepared:
    """Read the data and build the network of one trial.

    Raises:
        Refused: it can't run; names its row.
    """
    config, earlier = trial.config, None
    try:
        if path is not None:
            earlier = workdir.read_config(path, module.__name__, module.Config)
        if earlier is not None:
            config = dataclasses.replace(config, workdir=path)
        return prepare(module, config.remembering(earlier))
    except Exception as error:
        raise Refused(f"{trial.row.name!r}: {said(error)}") from None


def known(prepared: Prepared) -> Checked:
    """What is kept of a trial that can run."""
    params = prepared.shapes().params
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    return Checked(count, prepared.parts.rank)
