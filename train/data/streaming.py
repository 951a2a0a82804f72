"""Streaming: batches are decoded on the host, ahead of use, and cross to the device whole."""

import contextlib
import dataclasses
import signal
import sys
from collections.abc import Generator, Sequence
from typing import Any

import grain
import jax
import numpy as np
from absl import flags
from jax.sharding import Mesh, NamedSharding

from train.data.batch import Batch, Transform
from train.data.example import Shaper
from train.data.order import Order, position, shuffled
from train.data.pipeline import Pipeline
from train.data.source import Source
from train.refusal import Refused

AHEAD = 2
"""Batches that wait on the mesh, and for each worker process on the host."""


class Streaming(Pipeline):
    """A loader whose payload is the decoded batch; the same examples as `Resident`."""

    def __init__(
        self,
        source: Source,
        *,
        mesh: Mesh,
        batch_size: int,
        order: Order = shuffled,
        transform: Transform | None = None,
        seed: int | Sequence[int] = 0,
        capacity: int | None = None,
        workers: int = 0,
        threads: int = 2,
    ):
        """Reads example 0; the others as their steps come.

        Args:
            source: images of one shape; with `workers`, it must pickle.
            mesh: its `data` axis divides `batch_size`.
            batch_size: examples a step, over all devices.
            order: `shuffled` to train, `once` to evaluate.
            transform: (key, batch) -> batch, traced: augmentation.
            seed: that of the run, or of each of N runs at once: then training payloads have a
                leading axis N, and `device` is mapped over it.
            capacity: rows of boxes in a batch; None where the source has none.
            workers: processes that decode; 0: this one does.
            threads: that decode, a batch each, in every such process.

        Raises:
            Refused: what cannot be; names it and its value. An example that cannot be used is
                refused when its batch is taken.
        """
        super().__init__(
            source,
            mesh=mesh,
            batch_size=batch_size,
            order=order,
            transform=transform,
            seed=seed,
            capacity=capacity,
        )
        for field, value in (("workers", workers), ("threads", threads)):
            if value < 0:
                raise Refused(f"{field}={value} is negative")
        self.data: dict[str, jax.Array] = {}
        extent = (*self.lead, batch_size)
        kinds = {**self.examples.first, "index": ((), np.int32), "valid": ((), np.bool_)}
        self.payload = {
            key: jax.ShapeDtypeStruct((*extent, *shape), dtype)
            for key, (shape, dtype) in kinds.items()
        }
        self.workers = workers
        self.threads = threads

    def payloads(self, start: int) -> Generator[Any, None, None]:
        """From step `start` on: decoded batches, with a leading axis N in a run of N seeds."""
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain's workers read flags
        sharding = self.sharding("data")
        extent = (*self.lead, self.batch_size)
        local = _local(sharding, extent)
        seeds = np.array(self.seeds)[local[0]] if self.axes else np.array(self.seeds[0])
        last = sys.maxsize if self.steps is None else self.steps
        decoded = _Decoded(
            self.examples, self.order, self.batch_size, seeds, local[-1], range(start, last)
        )
        reading = grain.ReadOptions(num_threads=self.threads, prefetch_buffer_size=self.threads)
        batches = grain.MapDataset.source(decoded).to_iter_dataset(reading)
        if self.workers:
            batches = batches.mp_prefetch(
                grain.MultiprocessingOptions(
                    num_workers=self.workers, per_worker_buffer_size=AHEAD
                ),
                worker_init_fn=_leave_ctrl_c_to_the_parent,
            )
        placed = batches.map(
            lambda batch: {
                k: jax.make_array_from_process_local_data(
                    sharding, v, (*extent, *v.shape[len(extent) :])
                )
                for k, v in batch.items()
            }
        )
        ahead = grain.experimental.ThreadPrefetchIterDataset(placed, prefetch_buffer_size=AHEAD)
        with contextlib.closing(iter(ahead)) as payloads:
            yield from payloads

    def device(self, data: Any, payload: Any, seed: jax.Array | int, key: jax.Array) -> Batch:
        """The batch in `payload`, traced: augment, shard.

        Args:
            data: this loader's, empty.
            payload: of one seed.
            seed: not needed: the host has followed it.
            key: of the step, for `transform`.
        """
        batch = dict(payload)
        return self.finish(batch, batch.pop("index"), batch.pop("valid"), key)


@dataclasses.dataclass(frozen=True)
class _Decoded:
    """Step -> the rows of its batch that this process feeds, as a source for Grain; pickles."""

    examples: Shaper
    order: Order
    batch_size: int
    seeds: np.ndarray
    """(N,), or () where the batch has no seed axis."""
    rows: np.ndarray
    steps: range

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        size, length = self.batch_size, len(self.examples.source)
        place = position(self.steps[i], size, length)
        index, valid = self.order.examples(self.seeds[..., None], *place, size, length)
        batch = {"index": index[..., self.rows], "valid": valid[..., self.rows]}
        extent = batch["index"].shape
        for key, (shape, dtype) in self.examples.first.items():
            batch[key] = np.empty((*extent, *shape), dtype)
        examples = self.examples.take(batch["index"].ravel().tolist())
        for where, example in zip(np.ndindex(extent), examples, strict=True):
            for key, value in example.items():
                batch[key][where] = value
        return batch


def _leave_ctrl_c_to_the_parent(worker: int, workers: int) -> None:
    """A terminal sends Ctrl-C to every process; the training process ends the workers itself."""
    del worker, workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _local(sharding: NamedSharding, extent: tuple[int, ...]) -> list[np.ndarray]:
    """For each axis of `extent`, the indices that the devices of this process hold."""
    held = [index for index in sharding.addressable_devices_indices_map(extent).values() if index]
    return [
        np.unique([np.arange(n)[index[axis]] for index in held]) for axis, n in enumerate(extent)
    ]
