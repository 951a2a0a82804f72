"""The mesh: which devices hold which part of a batch, and how a step is mapped over seeds."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def make_mesh(devices: Sequence[jax.Device] | None = None, *, seeds: int = 1) -> Mesh:
    """A mesh with axes `seed` and `data`; every device not taken by `seeds` goes to `data`.

    Args:
        devices: those to use; all by default.
        seeds: size of the `seed` axis.

    Raises:
        ValueError: the number of devices is not a multiple of `seeds`.
    """
    devices = jax.devices() if devices is None else list(devices)
    if seeds < 1 or len(devices) % seeds:
        raise ValueError(f"seeds={seeds} does not divide the {len(devices)} devices")
    return jax.make_mesh(
        (seeds, len(devices) // seeds),
        ("seed", "data"),
        axis_types=(AxisType.Auto, AxisType.Auto),
        devices=devices,
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """The same on every device."""
    return NamedSharding(mesh, PartitionSpec())
