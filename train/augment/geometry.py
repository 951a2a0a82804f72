"""Geometric stages: where pixels go."""

import jax
import jax.numpy as jnp

from train.augment.kinds import Geometric
from train.data.batch import Batch


def pad_and_crop(pad: int) -> Geometric:
    """`pad` pixels on each side, then a crop of the original size (He et al. 2015, section 4.2).

    All (2 pad + 1)^2 places are equally likely. The padding's colour is `chain`'s `fill`.

    Raises:
        ValueError: `pad` is negative.
    """
    if pad < 0:
        raise ValueError(f"pad={pad} is negative")

    def draw(key: jax.Array, batch: Batch) -> jax.Array:
        size = batch["image"].shape[0]
        shift = jax.random.randint(key, (size, 2), -pad, pad + 1, jnp.int32).astype(jnp.float32)
        identity = jnp.broadcast_to(jnp.eye(3, dtype=jnp.float32), (size, 3, 3))
        return identity.at[:, :2, 2].set(shift)

    return Geometric(draw)


def flip() -> Geometric:
    """The mirror image, left for right, of every other example on average."""

    def draw(key: jax.Array, batch: Batch) -> jax.Array:
        size, _, width, _ = batch["image"].shape
        mirror = jnp.array([[-1, 0, width], [0, 1, 0], [0, 0, 1]], jnp.float32)
        heads = jax.random.bernoulli(key, jnp.float32(0.5), (size, 1, 1))
        return jnp.where(heads, mirror[None], jnp.eye(3, dtype=jnp.float32)[None])

    return Geometric(draw)
