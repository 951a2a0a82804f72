"""Resident: the whole set lives on the device, and a batch is gathered inside the step."""

import copy
from collections.abc import Generator, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from train import processes
from train.data.batch import Batch, Transform
from train.data.example import Place, Shaper
from train.data.gaps import Gaps
from train.data.host import Host
from train.data.order import Order, shuffled
from train.data.pipeline import Pipeline
from train.data.ragged import Capacity
from train.data.source import Source
from train.data.typed import name
from train.mesh import replicated
from train.progress import working
from train.refusal import Refused

TOGETHER = 1024
"""Examples asked of the source at once: many read several faster than one by one."""

STAND_IN = "stand_in"
"""Key of `data` where examples can't be read: (N,) int32, what is read in place of each."""


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
        capacity: Capacity | None = None,
        host: Host | None = None,
        gaps: Gaps | None = None,
    ):
        """Reads every example once.

        Args:
            source: examples of one shape, but for ragged keys, or images of any with `host`.
            mesh: its devices divide `batch_size`; the places of its `seed` axis don't count.
            batch_size: examples a step, over all devices.
            order: `shuffled` to train, `once` to evaluate.
            transform: (key, batch) -> batch, traced: augmentation.
            seed: that of the run, or of each of N runs at once: then training payloads have a
                leading axis N, and `device` is mapped over it.
            capacity: rows or steps in a batch of each ragged key, {"boxes": 64}; None where the
                source has none. In training an example that has more is refused; in evaluation
                boxes and proposals beyond it are cut, since scores go by the source's `truth`.
            host: brings images to a shape as they are read: one that draws nothing, and one shape.
            gaps: where examples that can't be read are noted; None: the first one is refused.

        Raises:
            Refused: what cannot be, or an example that cannot be used; names it and its value.
        """
        if host is not None and (host.stage.random or len(host.shapes) > 1):
            what = f"{len(host.shapes)} shapes" if len(host.shapes) > 1 else f"{host.stage}"
            raise Refused(
                f"loader='resident' keeps each image once, and {what} makes another of it every "
                "time: loader='streaming' does that"
            )
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
        self.payload = (jax.ShapeDtypeStruct(self.lead, np.uint32),) * 2
        arrays = _load(self.examples, self.length)
        for found in processes.gathered("what can't be read", self.examples.gaps):
            self.examples.gaps.update(found)
        self.note(self.examples.gaps)
        if self.examples.gaps:
            for each in arrays.values():  # what one process can read, and another can't
                each[[*self.examples.gaps]] = 0
            arrays[STAND_IN] = self._stand_ins()
        self.data = jax.make_array_from_process_local_data(replicated(mesh), arrays)

    def of_runs(self, count: int, mesh: Mesh) -> Self:
        """The same loader of so many runs at once, on another mesh; data are shared."""
        other = copy.copy(self)
        other.mesh, other.axes, other.lead = mesh, ("seed",), (count,)
        other.payload = (jax.ShapeDtypeStruct(other.lead, np.uint32),) * 2
        other.data = jax.device_put(self.data, replicated(mesh))
        return other

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
        places = self.order.examples(seed, epoch, slot, self.batch_size, self.length)
        index, valid = places.index, places.valid
        data = dict(data)
        if STAND_IN in data:
            index = data.pop(STAND_IN).at[index].get(mode="promise_in_bounds")
        replaced = index != places.index
        if self.steps is not None:  # in evaluation nothing stands in
            index, valid, replaced = places.index, valid & ~replaced, jnp.zeros_like(replaced)
        batch = {k: v.at[index].get(mode="promise_in_bounds") for k, v in data.items()}
        added = {"index": index, "valid": valid, "epoch": places.epoch, "replaced": replaced}
        return self.finish({**batch, **added}, key)

    def _stand_ins(self) -> np.ndarray:
        """(N,) int32: the next index that can be read; in evaluation -1 where one can't."""
        stand_ins = np.arange(self.length, dtype=np.int32)
        for i in self.examples.gaps:
            stand_ins[i] = -1 if self.steps is not None else self.examples.stand_in(i)
        return stand_ins


def _load(examples: Shaper, length: int) -> dict[str, np.ndarray]:
    """Key -> (N, ...); zeros where an example can't be read."""
    shape = None if examples.host is None else examples.host.shapes[0]
    arrays = {
        key: np.zeros((length, *extent), dtype)
        for key, (extent, dtype) in examples.first(shape).items()
    }
    with working(f"reading {name(examples.source)} into memory", length) as advance:
        for start in range(0, length, TOGETHER):
            rows = range(start, min(start + TOGETHER, length))
            places = [Place(i) for i in rows]
            for i, taken in zip(rows, examples.take(places, shape, replace=False), strict=True):
                for key, value in (taken.example or {}).items():
                    arrays[key][i] = value
                advance(1)
    return arrays
