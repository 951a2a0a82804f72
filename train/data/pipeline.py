"""Pipeline: what both loaders share, which is all but how the examples reach the device."""

from collections.abc import Hashable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from train.data.batch import Batch, Transform
from train.data.example import Shaper
from train.data.order import Order, position
from train.data.source import Source
from train.mesh import shard_batch
from train.refusal import Refused


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
        capacity: int | None,
    ):
        """See the loaders.

        Raises:
            Refused: names the field and the value.
        """
        if batch_size < 1:
            raise Refused(f"batch_size={batch_size} is not positive")
        self.examples = Shaper(source, capacity)
        self.length = len(source)
        self.batch_size = batch_size
        self.steps = order.steps(batch_size, self.length)
        self.mesh = mesh
        self.order = order
        self.transform = transform
        self.seeds = (seed,) if isinstance(seed, int) else tuple(seed)
        # An order that ends is the same for all seeds: one batch serves them.
        self.axes = () if isinstance(seed, int) or self.steps is not None else ("seed",)
        """Names of the axes that a payload's leaves have before B."""
        self.lead = (len(self.seeds),) if self.axes else ()
        """Sizes of these axes."""
        devices = mesh.shape["data"]
        if self.steps is None and batch_size > self.length:
            raise Refused(f"batch_size={batch_size} is larger than the data ({self.length})")
        if batch_size % devices:
            raise Refused(f"batch_size={batch_size} does not divide over {devices} devices")
        if not self.seeds or (self.axes and len(self.seeds) % mesh.shape["seed"]):
            raise Refused(
                f"seed={seed} does not divide over the mesh's {mesh.shape['seed']} for seeds"
            )

    def place(self, step: int) -> tuple[int, int]:
        """(epoch, slot) of the first example of a step."""
        return position(step, self.batch_size, self.length)

    def sharding(self, *axes: str) -> NamedSharding:
        """Of a payload's leaf: the seed axis where it has one, then `axes`."""
        return NamedSharding(self.mesh, PartitionSpec(*self.axes, *axes))

    def shape(self, step: int) -> Hashable:
        """One shape, so one compilation."""
        return self.batch_size

    def finish(self, batch: Batch, index: jax.Array, valid: jax.Array, key: jax.Array) -> Batch:
        """What the loader adds, then the transform, then the constraint to `data`; traced."""
        size = self.batch_size
        batch = dict(batch, index=index, valid=valid)
        if "image" in batch:
            batch["matrix"] = jnp.broadcast_to(jnp.eye(3, dtype=np.float32), (size, 3, 3))
            extent = jnp.stack([jnp.full(size, n, np.int32) for n in batch["image"].shape[1:3]], 1)
            batch["size"] = extent
        if self.transform is not None:
            batch = self.transform(key, batch)
        return shard_batch(self.mesh, batch)
