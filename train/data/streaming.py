"""Streaming: batches are decoded on the host, ahead of use, and cross to the device whole."""

import atexit
import contextlib
import dataclasses
import sys
import weakref
from collections.abc import Generator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from train.data.batch import Batch, Transform
from train.data.example import Place, Shaper
from train.data.gaps import Gaps
from train.data.host import Host
from train.data.order import Order, position, shuffled
from train.data.pipeline import Pipeline
from train.data.ragged import Capacity
from train.data.source import Source
from train.data.workers import Workers
from train.mesh import batch_axes
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
        capacity: Capacity | None = None,
        host: Host | None = None,
        gaps: Gaps | None = None,
        workers: int = 0,
        threads: int = 2,
    ):
        """Reads example 0; the others as their steps come.

        Args:
            source: examples of one shape, but for ragged keys, or images of any with `host`; with
                `workers`, it must pickle.
            mesh: its devices divide `batch_size`; the places of its `seed` axis don't count.
            batch_size: examples a step, over all devices.
            order: `shuffled` to train, `once` to evaluate.
            transform: (key, batch) -> batch, traced: augmentation.
            seed: that of the run, or of each of N runs at once: then training payloads have a
                leading axis N, and `device` is mapped over it.
            capacity: rows or steps in a batch of each ragged key, {"boxes": 64}; None where the
                source has none. In training an example that has more is refused; in evaluation
                boxes and proposals beyond it are cut, since scores go by the source's `truth`.
            host: brings images to the shape of the step, one of those that it declares.
            gaps: where examples that can't be read are noted; None: the first one is refused when
                its batch is taken.
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
            host=host,
            gaps=gaps,
        )
        for field, value in (("workers", workers), ("threads", threads)):
            if value < 0:
                raise Refused(f"{field}={value} is negative")
        self.data: dict[str, jax.Array] = {}
        self.payload = {
            key: jax.ShapeDtypeStruct((*self.lead, *one.shape), one.dtype)
            for key, one in self.decoded.items()
        }
        self.workers = workers
        self.threads = threads

    def payloads(self, start: int) -> Generator[Any, None, None]:
        """From step `start` on: decoded batches, with a leading axis N in a run of N seeds.

        Raises:
            Refused: an example can't be used; from `next`, as what follows.
            LoaderFailed: a worker process has ended, or can't be started.
        """
        payloads = self._payloads(start)
        _OPEN.add(payloads)
        return payloads

    def _payloads(self, start: int) -> Generator[Any, None, None]:
        import grain

        sharding = self.sharding(batch_axes(self.mesh))
        extent = (*self.lead, self.batch_size)
        local = _local(sharding, extent)
        seeds = np.array(self.seeds)[local[0]] if self.axes else np.array(self.seeds[0])
        last = sys.maxsize if self.steps is None else self.steps
        decoded = _Decoded(
            self.examples,
            self.order,
            self.batch_size,
            seeds,
            local[-1],
            range(start, last),
            replace=self.steps is None,
        )
        workers = Workers(decoded, self.workers, max(1, self.threads)) if self.workers else None
        threads, ahead = self.threads, self.threads
        if workers is not None:  # a thread of this process waits for each of theirs
            threads = self.workers * max(1, self.threads)
            ahead = threads + self.workers * AHEAD
        reading = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
        source = grain.MapDataset.source(decoded if workers is None else workers)
        batches = source.to_iter_dataset(reading)

        def place(decoded: tuple[Batch, dict[int, str]]) -> tuple[Batch, dict[int, str]]:
            batch, found = decoded
            return {
                k: jax.make_array_from_process_local_data(
                    sharding, v, (*extent, *v.shape[len(extent) :])
                )
                for k, v in batch.items()
            }, found

        placed = grain.experimental.ThreadPrefetchIterDataset(
            batches.map(place), prefetch_buffer_size=AHEAD
        )
        # The workers end first: the threads wait for them.
        with contextlib.closing(iter(placed)) as payloads, workers or contextlib.nullcontext():
            for payload, found in payloads:
                if workers is not None:
                    workers.check()
                self.note(found)
                yield payload

    def device(self, data: Any, payload: Any, seed: jax.Array | int, key: jax.Array) -> Batch:
        """The batch in `payload`, traced: augment, shard.

        Args:
            data: this loader's, empty.
            payload: of one seed.
            seed: not needed: the host has followed it.
            key: of the step, for `transform`.
        """
        return self.finish(dict(payload), key)


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
    replace: bool
    """Whether another example stands in for one that can't be read."""

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, i: int) -> tuple[dict[str, np.ndarray], dict[int, str]]:
        """The batch, and index -> name and reason of examples that it would have had."""
        size, length = self.batch_size, len(self.examples.source)
        step, host = self.steps[i], self.examples.host
        shape = None if host is None else host.shape(step)
        start = position(step, size, length)
        rows = self.order.examples(self.seeds[..., None], *start, size, length)
        extent = (*self.seeds.shape, len(self.rows))
        seeds, index, valid, epoch, slot = (
            np.array(np.broadcast_to(values, extent))
            for values in (self.seeds[..., None], *(each[..., self.rows] for each in rows))
        )
        places = [
            Place(*map(int, each))
            for each in zip(index.flat, seeds.flat, epoch.flat, slot.flat, strict=True)
        ]
        replaced = np.zeros(extent, bool)
        batch = {"index": index, "valid": valid, "epoch": epoch, "replaced": replaced}
        for key, (sizes, dtype) in self.examples.first(shape).items():
            batch[key] = np.zeros((*extent, *sizes), dtype)
        passed: set[int] = set()
        taken = self.examples.take(places, shape, replace=self.replace)
        for where, one in zip(np.ndindex(extent), taken, strict=True):
            passed.update(one.passed)
            if one.example is None:
                valid[where] = False
                continue
            replaced[where] = bool(one.passed)
            index[where] = one.at
            for key, value in one.example.items():
                batch[key][where] = value
        return batch, self.examples.words(sorted(passed))


_OPEN: weakref.WeakSet[Generator[Any, None, None]] = weakref.WeakSet()
"""Payloads that nobody has closed yet."""


@atexit.register
def _close() -> None:
    """Python would close them when the modules that Grain needs to end its threads are gone."""
    for payloads in list(_OPEN):
        with contextlib.suppress(ValueError):  # another thread is in it
            payloads.close()


def _local(sharding: NamedSharding, extent: tuple[int, ...]) -> list[np.ndarray]:
    """For each axis of `extent`, the indices that the devices of this process hold."""
    held = [index for index in sharding.addressable_devices_indices_map(extent).values() if index]
    return [
        np.unique([np.arange(n)[index[axis]] for index in held]) for axis, n in enumerate(extent)
    ]
