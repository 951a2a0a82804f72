"""Region proposal network (Ren et al. 2015, arXiv:1506.01497, section 3.1)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from models.detection.boxes import clip, decode, large_enough
from models.detection.nms import class_nms

ModuleDef = Callable[..., Any]
Maps = Sequence[jax.Array]

LEAST = 1e-3
"""Pixels that a proposal is wide and high at least, as torchvision's."""


@flax.struct.dataclass
class Regions:
    """What a region proposal network says of every anchor of a batch.

    Attributes:
        objectness: (B, A) logits: whether there is an object.
        deltas: (B, A, 4): where its box lies (`models.detection.boxes.decode`).
        anchors: (A, 4) float32, pixels; in the order (level, y, x, anchor).
        counts: anchors of each level; they sum to A.
    """

    objectness: jax.Array
    deltas: jax.Array
    anchors: jax.Array
    counts: tuple[int, ...] = flax.struct.field(pytree_node=False)


class Proposals(NamedTuple):
    """The P best regions of each image, by falling score; rows that are not valid are 0."""

    boxes: jax.Array
    """(B, P, 4) float32: x0 y0 x1 y1 in pixels, within the picture."""
    scores: jax.Array
    """(B, P) float32, from 0 to 1."""
    valid: jax.Array
    """(B, P) bool."""


class RPNHead(nn.Module):
    """3x3 convolutions with ReLU, shared by all levels; objectness and deltas (section 3.1).

    ((B, h, w, c), …) -> (B, A), (B, A, 4)

    Attributes:
        anchors: of each place, on every level.
        width: channels of the 3x3 convolutions; None for the maps' own.
        depth: how many there are.
        conv: makes all layers; the last ones are at least float32.
    """

    anchors: int
    width: int | None
    depth: int
    conv: ModuleDef

    @nn.compact
    def __call__(self, maps: Maps) -> tuple[jax.Array, jax.Array]:
        width = self.width or maps[0].shape[-1]
        layers = [
            self.conv(width, (3, 3), padding=1, name=f"conv{number}")
            for number in range(1, self.depth + 1)
        ]
        wide = np.promote_types(maps[0].dtype, np.float32)
        last = partial(self.conv, kernel_size=(1, 1), dtype=wide, precision="highest")
        objectness = last(self.anchors, name="objectness")
        deltas = last(self.anchors * 4, name="deltas")
        found: list[tuple[jax.Array, jax.Array]] = []
        for x in maps:
            for layer in layers:
                x = nn.relu(layer(x))
            batch = x.shape[0]
            found.append(
                (objectness(x).reshape(batch, -1), deltas(x).reshape(batch, -1, 4)),
            )
        scores, boxes = zip(*found, strict=True)
        return jnp.concatenate(scores, 1), jnp.concatenate(boxes, 1)


def propose(
    regions: Regions,
    extent: jax.Array,
    *,
    before: int,
    after: int,
    score_threshold: float,
    nms_threshold: float,
) -> Proposals:
    """The regions worth a look: torchvision's `filter_proposals`.

    Of each level the `before` best anchors; of their boxes, clipped to the picture, what
    non-maximum suppression within each level leaves, and of that the `after` best over all levels.
    No gradient passes.

    Args:
        regions: of a batch.
        extent: (B, 4) x0 y0 x1 y1 of the picture in each image.
        before: anchors of each level that suppression sees.
        after: P, the most proposals of an image.
        score_threshold: scores are at least that.
        nms_threshold: a box whose IoU with a better one is above it is left out.
    """
    regions = lax.stop_gradient(regions)
    chosen: list[tuple[jax.Array, jax.Array, jax.Array]] = []
    first = 0
    for level, count in enumerate(regions.counts):
        logits = regions.objectness[:, first : first + count]
        best, at = lax.top_k(logits, min(before, count))
        deltas = jnp.take_along_axis(regions.deltas, (first + at)[..., None], 1)
        boxes = decode(deltas, regions.anchors[first + at])
        chosen.append((boxes, best, jnp.full(at.shape, level, jnp.int32)))
        first += count
    boxes, logits, levels = (jnp.concatenate(each, 1) for each in zip(*chosen, strict=True))
    boxes = clip(boxes.astype(jnp.float32), extent)
    scores = jax.nn.sigmoid(logits.astype(jnp.float32))
    valid = large_enough(boxes, LEAST) & (scores >= score_threshold)
    suppress = partial(class_nms, threshold=nms_threshold, limit=after)
    kept = jax.vmap(suppress)(boxes, scores, levels, valid)
    boxes = jnp.take_along_axis(boxes, kept.indices[..., None], 1)
    scores = jnp.take_along_axis(scores, kept.indices, 1)
    return Proposals(
        jnp.where(kept.valid[..., None], boxes, 0), jnp.where(kept.valid, scores, 0), kept.valid
    )
