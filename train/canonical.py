"""Canonical: a recipe's training step as a program that no machine has changed, and its digest.

For one device, by the plain backend, of a batch that is given, so that another number of devices,
another backend, loader or seed is no change. What is changed by is code and recipe, what was
measured of the data, and JAX, which other versions turn into other programs.
"""

import copy
import hashlib
from typing import Any

import jax
import jax.numpy as jnp

from models.backends import XLA
from train.data.batch import Batch
from train.experiment import Parts
from train.prepared import Prepared, starting
from train.step import training_step

PLATFORM = "cpu"
"""What it is lowered for, wherever it runs: platforms have some operations of their own."""


class Given:
    """A loader of which only the traced half is wanted: its payload is the decoded batch."""

    def __init__(self, loader: Any, parts: Parts):
        """Of one that trains, with the augmentation of `parts`."""
        self.data: dict[str, jax.Array] = {}
        self.payload = loader.decoded
        self._pipeline = copy.copy(loader)
        self._pipeline.transform = parts.transform

    def device(self, data: Any, payload: Any, seed: jax.Array | int, key: jax.Array) -> Batch:
        """The batch in `payload`, augmented; it lies on one device."""
        return self._pipeline.augmented(dict(payload), key)


def digest(prepared: Prepared) -> str | None:
    """SHA-256 of the text of a step of training, as StableHLO without locations.

    It is traced and lowered, not compiled. The text has no address, no path and nothing that hangs
    on the order of a hash: the same code gives the same text in every process.

    Returns:
        None where it can't be traced: the step itself will say why, if it is ever taken (some runs
        take none).
    """
    try:
        return hashlib.sha256(text(prepared).encode()).hexdigest()
    except Exception:
        return None


def text(prepared: Prepared) -> str:
    """What `digest` is of."""
    parts = prepared.module.build(
        prepared.config, prepared.about, conv=XLA.conv_general_dilated, norm=XLA.norm
    )
    loader: Any = Given(prepared.loader, parts)
    state = jax.eval_shape(starting(parts, loader), jnp.uint32(0))
    step = training_step(
        parts.task, parts.optimizer, loader, gradient=parts.gradient, average=parts.average
    )
    traced = jax.jit(step).trace(state, loader.data, loader.payload)
    return traced.lower(lowering_platforms=(PLATFORM,)).as_text()
