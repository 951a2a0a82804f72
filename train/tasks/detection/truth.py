"""Truth: which of a batch's boxes are objects to be learnt, and which count for nothing."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Truth(NamedTuple):
    """The objects of a batch, in pixels of its images."""

    boxes: jax.Array
    """(B, N, 4) float32: x0 y0 x1 y1; 0 where a row is neither valid nor ignored."""
    labels: jax.Array
    """(B, N) int32, classes from 0; 0 where a row is neither valid nor ignored."""
    valid: jax.Array
    """(B, N) bool: objects to be learnt: no crowd, not difficult, of some area."""
    ignored: jax.Array
    """(B, N) bool: crowds and difficult objects: what lies there is no background either."""
    counted: jax.Array
    """(B,) bool: the example is valid, whether or not it has an object."""


def truth(batch: dict) -> Truth:
    """The objects of a batch that has `boxes`, `box_label`, `box_valid` and `valid`.

    `box_crowd` and `box_difficult` count as nowhere True where they are absent. A box without an
    area, as zooming out or a file may leave one, is no object.
    """
    boxes, counted = batch["boxes"].astype(jnp.float32), batch["valid"]
    there = batch["box_valid"] & counted[:, None] & jnp.all(boxes[..., 2:] > boxes[..., :2], -1)
    none = jnp.zeros_like(there)
    hard = batch.get("box_crowd", none) | batch.get("box_difficult", none)
    labels = jnp.where(there, batch["box_label"].astype(jnp.int32), 0)
    boxes = jnp.where(there[..., None], boxes, 0)
    return Truth(boxes, labels, there & ~hard, there & hard, counted)
