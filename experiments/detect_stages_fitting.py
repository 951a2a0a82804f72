"""A stage of R-CNN that descends no gradient: SVMs or regressors on the features of the one before.

Girshick et al. 2014, section 2.3 and appendix C. The weights are the evaluated ones of the run in
the directory beside; what is fitted is added to them as the collection `svm`.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from train import workdir as directory
from train.data.loader import Loader
from train.data.order import once
from train.experiment import RUNTIME
from train.mesh import replicated
from train.opened import opened
from train.prepared import Prepared, loaders
from train.progress import working
from train.refusal import Refused
from train.run import judge, train
from train.session import Session, session
from train.state import State
from train.stop import Stopped
from train.tasks.detection.rcnn_stages import collect, machines, regressors
from train.tasks.detection.truth import truth
from train.tasks.task import Summary

BEFORE = {"svm": "softmax", "boxes": "svm"}
"""Stage -> the one that it goes on from."""
FEATURES = "features.float32"
"""File of the features of all regions, while something is fitted to them."""


def source_of(prepared: Prepared, path: Path) -> Path:
    """The directory of the run that a stage goes on from.

    Raises:
        Refused: there is none, or it is not finished, or of another recipe.
    """
    config, module = prepared.config, prepared.module
    before = BEFORE[config.stage]
    there = path.absolute().parent / before
    if directory.read(there, directory.SUMMARY) is None:
        raise Refused(f"stage={config.stage!r}: {str(there)!r} holds no finished run")
    earlier: Any = directory.read_config(there, module.__name__, module.Config)
    its = replace(config, stage=before, ema=earlier.ema, data=earlier.data)
    directory.refuse_changes(there, earlier, its, RUNTIME)
    return there


def fitted(prepared: Prepared, path: Path) -> Summary:
    """A stage that descends no gradient, in a directory that the caller has locked.

    Its only checkpoint is made at the last step of the recipe; a run that has it is not fitted
    again.
    """
    before = source_of(prepared, path)
    with session(prepared, path, began=time.monotonic()) as here:
        state = here.state
        if here.checkpoints.latest() is None:
            state = filled(prepared, here, before)
            here.go_on()
            here.checkpoints.save(prepared.config.steps, state, state.evaluated)
        # Nothing is left to train: the validation split is measured.
        state = train(prepared, replace(here, state=state))
        summary = judge(prepared, here, state)
        if here.stop.signal is not None:
            raise Stopped(here.stop.signal)
        return summary


def filled(prepared: Prepared, here: Session, before: Path) -> State:
    """The first state with the weights of the stage before, and what is fitted to its features."""
    config, earlier = prepared.config, opened(before, backend=None)
    network: Any = earlier.parts.network
    variables = jax.device_put(earlier.variables, replicated(prepared.mesh))
    here.logs.say(f"Reads all regions of {len(prepared.data.train):,} images, by {before}.")
    file = here.path / FEATURES
    try:
        batches = regions_of(prepared, here.go_on)
        found = collect(network, variables, batches, file)
        here.logs.say(f"{len(found.features):,} regions; {len(found.labels):,} to regress from.")
        own = machines(found, seed=config.seed) if config.stage == "svm" else regressors(found)
    finally:
        with contextlib.suppress(OSError):
            file.unlink()
    made = {**variables, "svm": {**variables.get("svm", {}), **own}}
    state = here.state

    def like(leaf: jax.Array, value: Any) -> jax.Array:
        return jax.device_put(jnp.asarray(value, leaf.dtype), leaf.sharding)

    mine = jax.tree.map(like, state.variables, made)
    return state.replace(
        step=like(state.step, config.steps),
        params=mine.pop("params"),
        collections=mine,
    )


def regions_of(prepared: Prepared, between: Callable[[], None]) -> Iterator[Any]:
    """(images, truth, proposals, proposal_valid), batch by batch, of all that train, as is.

    Args:
        prepared: the stage.
        between: called between two batches.
    """
    loader, task = plain_loader(prepared), prepared.parts.task

    @jax.jit
    def batch_of(data: Any, payload: Any) -> Any:
        batch = loader.device(data, payload, 0, jax.random.key(0))
        images, *proposals = task.inputs(batch)
        return images, truth(batch), *proposals

    payloads = loader.payloads(0)
    total = -(-len(prepared.data.train) // loader.batch_size)
    try:
        with working("reading regions", total) as advance:
            for payload in payloads:
                between()
                # As in evaluation, one program at a time on several CPU devices.
                yield jax.block_until_ready(batch_of(loader.data, payload))
                advance(1)
    finally:
        payloads.close()


def plain_loader(prepared: Prepared) -> Loader:
    """Of the training examples in their order, as those of tests are brought to their size."""
    parts = prepared.parts
    if parts.host is not None:
        parts = parts._replace(host=(parts.host[1],) * 2)
    load = loaders(prepared.config, prepared.mesh, prepared.data, parts, prepared.gaps)
    return load("train", prepared.data.train, order=once)
