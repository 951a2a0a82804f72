"""Resident: the whole set lives on the device, and a batch is gathered inside the step."""

from collections.abc import Generator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from train.data.batch import Batch, Transform
from train.data.example import Shaper
from train.data.order import Order, shuffled
from train.data.pipeline import Pipeline
from train.data.source import Source
from train.mesh import replicated

TOGETHER = 1024
"""Examples asked of the source at once: many read several faster than one by one."""


class Resident(Pipeline):
    """A loader whose payload is (epoch, slot), two uint32 scalars.

    `data`, the set itself, is on every device of the mesh and an argument of the compiled step.
    """

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
    ):
        """Reads every example once.

        Args:
            source: images of one shape.
            mesh: its `data` axis divides `batch_size`.
            batch_size: examples a step, over all devices.
            order: `shuffled` to train, `once` to evaluate.
            transform: (key, batch) -> batch, traced: augmentation.
            seed: that of the run, or of each of N runs at once: then training payloads have a
                leading axis N, and `device` is mapped over it.
            capacity: rows of boxes in a batch; None where the source has none.

        Raises:
            Refused: what cannot be, or an example that cannot be used; names it and its value.
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
        place = jax.ShapeDtypeStruct(self.lead, np.uint32)
        self.payload = (place, place)
        arrays = _load(self.examples, self.length)
        self.data = jax.make_array_from_process_local_data(replicated(mesh), arrays)

    def payloads(self, start: int) -> Generator[Any, None, None]:
        """From step `start` on: (epoch, slot), each with a leading axis N in a run of N seeds."""
        sharding = self.sharding()
        step = start
        while self.steps is None or step < self.steps:
            place = tuple(np.full(self.lead, n % 2**32, np.uint32) for n in self.place(step))
            yield jax.make_array_from_process_local_data(sharding, place, self.lead)
            step += 1

    def device(self, data: Any, payload: Any, seed: jax.Array | int, key: jax.Array) -> Batch:
        """The batch at `payload`, traced: order, gather, augment, shard.

        Args:
            data: this loader's.
            payload: (epoch, slot), scalars.
            seed: as given to the constructor.
            key: of the step, for `transform`.
        """
        epoch, slot = payload
        index, valid = self.order.examples(seed, epoch, slot, self.batch_size, self.length)
        batch = {k: v.at[index].get(mode="promise_in_bounds") for k, v in data.items()}
        return self.finish(batch, index, valid, key)


def _load(examples: Shaper, length: int) -> dict[str, np.ndarray]:
    arrays = {
        key: np.empty((length, *shape), dtype) for key, (shape, dtype) in examples.first.items()
    }

    for start in range(0, length, TOGETHER):
        rows = range(start, min(start + TOGETHER, length))
        for i, example in zip(rows, examples.take(rows), strict=True):
            for key, value in example.items():
                arrays[key][i] = value
    return arrays
