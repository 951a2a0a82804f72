"""Loader: the two halves of an input pipeline, left and right of the host's wall."""

from collections.abc import Hashable, Iterator
from typing import Any, Protocol

import jax
from jax.sharding import Mesh

from train.data.batch import Batch
from train.data.gaps import Gaps
from train.refusal import Failed


class LoaderFailed(Failed):
    """No further batch can be had, by no fault of an example: a process that reads them has ended.

    One line, which says what happened. The state of the step is whole, and can be saved.
    """


class Payloads(Iterator[Any], Protocol):
    """What crosses from the host, one item a step, read ahead, already on the mesh.

    `next` raises `Refused` where an example can't be had, and `LoaderFailed`.
    """

    def close(self) -> None: ...


class Loader(Protocol):
    """A batch is a pure function of (seed, step): `device(data, payloads(step), seed, key)`.

    In a run of N seeds every leaf of a training payload has a leading axis N, and `device` is
    mapped over it; `data` never has one.
    """

    batch_size: int
    length: int
    """Examples in the source: `batch_size * step / length` is the epoch."""
    data: Any
    """Pytree of device arrays that is an argument of the compiled step; {} if nothing stays."""

    mesh: Mesh
    """The devices."""

    payload: Any
    """Pytree of `jax.ShapeDtypeStruct`: the first step's, known before a payload is made."""

    gaps: Gaps | None
    """Examples found unreadable as payloads were made; None where one is an error."""

    def payloads(self, start: int) -> Payloads:
        """From step `start` on; without end in training, to the end of the split in evaluation."""
        ...

    def device(self, data: Any, payload: Any, seed: jax.Array | int, key: jax.Array) -> Batch:
        """Pure, traced inside the step: gather, augment, and divide every leaf over the mesh."""
        ...

    def with_seed(self, seed: int) -> "Loader":
        """Of a run with another seed, the same data in another order."""
        ...

    def shape(self, step: int) -> Hashable:
        """Which of the declared input shapes a step has; one compilation a shape."""
        ...
