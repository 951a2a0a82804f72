"""Pipeline: what both loaders share, which is all but how the examples reach the device."""

import copy
from collections.abc import Hashable, Mapping, Sequence
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from train.augment.kinds import Shape
from train.data.batch import KEYS, Batch, Transform
from train.data.example import Shaper
from train.data.gaps import Gaps
from train.data.host import Host
from train.data.order import Order, position
from train.data.ragged import Capacity
from train.data.source import Source
from train.data.typed import name
from train.mesh import shard_batch, shares
from train.refusal import Refused, refuse_indivisible

ADDED = {key: ((), KEYS[key].dtype) for key in ("index", "valid", "epoch", "replaced")}
"""Key -> (shape, type) an example, of what is added to those that the source gives."""


class Pipeline:
    """Checks the request once, knows each step's place, and ends every batch alike."""

    def __init__(
        self,
        source: Source,
        *,
        mesh: Mesh,
        batch_size: int,
        order: Order,
        transform: Transform | None,
        seed: int | Sequence[int],
        capacity: Capacity | None,
        host: Host | None,
        gaps: Gaps | None,
    ):
        """See the loaders.

        Raises:
            Refused: names the field and the value.
        """
        if batch_size < 1:
            raise Refused(f"batch_size={batch_size} is not positive")
        self.length = len(source)
        self.batch_size = batch_size
        self.steps = order.steps(batch_size, self.length)
        self.gaps = gaps
        self.host = host
        self.examples = Shaper(source, capacity, host, gaps, cut=self.steps is not None)
        self.note(self.examples.gaps)
        self.mesh = mesh
        self.order = order
        self.transform = transform
        self.seeds = (seed,) if isinstance(seed, int) else tuple(seed)
        # An order that ends is the same for all seeds: one batch serves them.
        self.axes = () if isinstance(seed, int) or self.steps is not None else ("seed",)
        """Names of the axes that a payload's leaves have before B."""
        self.lead = (len(self.seeds),) if self.axes else ()
        """Sizes of these axes."""
        devices = shares(mesh)
        if self.steps is None and batch_size > self.length:
            raise Refused(f"batch_size={batch_size} is larger than the data ({self.length})")
        refuse_indivisible(batch_size, devices)
        if not self.seeds or (self.axes and len(self.seeds) % mesh.shape["seed"]):
            raise Refused(
                f"seed={seed} does not divide over the mesh's {mesh.shape['seed']} for seeds"
            )

    def note(self, found: Mapping[int, str]) -> None:
        """Examples that can't be read, to the one who keeps account of them.

        Raises:
            Refused: in training, too many of them.
        """
        if self.gaps is not None and found:
            self.examples.gaps.update(found)  # worker processes have found them for themselves
            self.gaps.add(found)
            if self.steps is None:
                self.gaps.check(self.length, name(self.examples.source))

    def with_seed(self, seed: int) -> Self:
        """The same loader of another run; data and `device`, which reads no seed, are shared."""
        other = copy.copy(self)
        other.seeds = (seed,)
        return other

    def place(self, step: int) -> tuple[int, int]:
        """(epoch, slot) of the first example of a step."""
        return position(step, self.batch_size, self.length)

    def sharding(self, *axes: str | tuple[str, ...]) -> NamedSharding:
        """Of a payload's leaf: the seed axis where it has one, then `axes`."""
        return NamedSharding(self.mesh, PartitionSpec(*self.axes, *axes))

    def image_shape(self, step: int) -> Shape | None:
        """To which the host brings a step's images; None where it doesn't."""
        return None if self.host is None else self.host.shape(step)

    def shape(self, step: int) -> Hashable:
        """Of the images, where the host brings them to one; each compiles once."""
        return (self.batch_size, self.image_shape(step))

    @property
    def decoded(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Of a step's batch before `augmented`, of one run: as `Streaming` has it cross."""
        keys = {**ADDED, **self.examples.first(self.image_shape(0))}
        return {
            key: jax.ShapeDtypeStruct((self.batch_size, *shape), dtype)
            for key, (shape, dtype) in keys.items()
        }

    def finish(self, batch: Batch, key: jax.Array) -> Batch:
        """`augmented`, and every leaf constrained to the mesh; traced."""
        return shard_batch(self.mesh, self.augmented(batch, key))

    def augmented(self, batch: Batch, key: jax.Array) -> Batch:
        """What the loader adds, then the transform; traced."""
        size = self.batch_size
        if "image" in batch and "matrix" not in batch:  # else the host has moved the image
            extent = jnp.stack([jnp.full(size, n, np.int32) for n in batch["image"].shape[1:3]], 1)
            eye = jnp.broadcast_to(jnp.eye(3, dtype=np.float32), (size, 3, 3))
            batch = dict(batch, matrix=eye, size=extent)
        if self.transform is not None:
            batch = self.transform(key, batch)
        return batch
