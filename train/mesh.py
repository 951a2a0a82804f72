"""The mesh: which devices hold which part of a batch, and how a step is mapped over seeds."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from train import processes
from train.tasks.task import Measured


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


def places(seeds: int, devices: int) -> int:
    """Size of the `seed` axis for so many seeds: 1 where they have no place of their own.

    Where there are more devices than seeds, each has its part of them, which must be the same for
    all; else several seeds share a device, the same number on each, and some may stay idle.
    """
    if devices % seeds == 0:
        return seeds
    return max(n for n in range(1, min(seeds, devices) + 1) if seeds % n == 0)


def replicated(mesh: Mesh) -> NamedSharding:
    """The same on every device."""
    return NamedSharding(mesh, PartitionSpec())


def over_seeds(
    function: Callable[..., Any], mesh: Mesh, in_axes: tuple[int | None, ...]
) -> Callable[..., Any]:
    """`function` of one run, as a function of N runs: seeds by `vmap`, and over the `seed` axis.

    Args:
        function: of one run.
        mesh: its `seed` axis divides N; where its `data` axis is larger than 1, it equals N.
        in_axes: an argument each: 0 where its leaves have a leading seed axis, None where they
            have none. Every output has one.
    """
    mapped = jax.vmap(function, in_axes)
    if mesh.shape["seed"] == 1:
        return mapped
    specs = tuple(PartitionSpec() if axis is None else PartitionSpec("seed") for axis in in_axes)
    return jax.shard_map(
        mapped,
        mesh=mesh,
        in_specs=specs,
        out_specs=PartitionSpec("seed"),
        axis_names={"seed"},
        check_vma=False,
    )


def shard_batch(mesh: Mesh, batch: Any) -> Any:
    """`batch` with the leading axis of every leaf constrained to the mesh's `data` axis.

    For traced code: without it, jit silently replicates a gathered batch. Inside
    `jax.shard_map(axis_names={"seed"})` the mesh of the context, where `seed` is manual, takes the
    place of `mesh`.
    """
    context = jax.sharding.get_abstract_mesh()
    sharding = NamedSharding(mesh if context.empty else context, PartitionSpec("data"))
    return jax.lax.with_sharding_constraint(batch, jax.tree.map(lambda _: sharding, batch))


def compiled_step(step: Callable[..., Any], mesh: Mesh, seeds: int | None = None) -> Any:
    """`step(state, data, payload)`, jitted, its state donated; for N seeds at once if `seeds`.

    Raises:
        ValueError: the seeds do not divide over the mesh. Where `data` is larger than 1, each seed
            needs its own place on the `seed` axis: XLA would gather the batch under `vmap`.
    """
    check_seeds(mesh, seeds)
    if seeds is not None:
        step = over_seeds(step, mesh, (0, None, 0))
    return jax.jit(step, donate_argnums=0, out_shardings=per_seed(mesh, seeds))


def compiled_evaluation(measure: Callable[..., Any], mesh: Mesh, seeds: int | None = None) -> Any:
    """`measure(variables, data, payload)`, jitted; its payloads have no seed axis.

    Of several processes, each gets the sums, and the rows of its own devices of all else.
    """
    check_seeds(mesh, seeds)
    if seeds is not None:
        measure = over_seeds(measure, mesh, (0, None, None))
    if not processes.several():
        return jax.jit(measure)
    rows = NamedSharding(mesh, PartitionSpec("data"))
    every: Any = replicated(mesh)
    return jax.jit(measure, out_shardings=(Measured(every, cast(Any, rows)), rows, rows))


BRIEF = {"xla_backend_optimization_level": 1}
"""Of a program that runs once on a CPU: drawing the parameters of a network took LLVM ten times as
long as all else, and at this level a fifth of that, for the same bits."""


def compiled_initial(initial: Callable[[Any], Any], mesh: Mesh, seeds: int | None = None) -> Any:
    """`initial(seed)`, jitted, on the mesh; for an array of N seeds if `seeds`."""
    check_seeds(mesh, seeds)
    if seeds is not None:
        initial = over_seeds(initial, mesh, (0,))
    cpu = mesh.devices.flat[0].platform == "cpu"
    return jax.jit(
        initial, out_shardings=per_seed(mesh, seeds), compiler_options=BRIEF if cpu else None
    )


def per_seed(mesh: Mesh, seeds: int | None) -> NamedSharding:
    """How state and sums lie: the same on every device, or a seed's on its place."""
    return replicated(mesh) if seeds is None else NamedSharding(mesh, PartitionSpec("seed"))


def check_seeds(mesh: Mesh, seeds: int | None) -> None:
    """See `compiled_step`."""
    places, data = mesh.shape["seed"], mesh.shape["data"]
    if seeds is None:
        if places > 1:
            raise ValueError(f"a plain run on a mesh with {places} places for seeds")
    elif seeds % places or (data > 1 and seeds != places):
        raise ValueError(f"{seeds} seeds on a mesh of seed={places}, data={data}")
