"""The mesh: which devices hold which part of a batch, and how a step is mapped over seeds."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from train import processes
from train.sharded import FSDP, sharded, whole
from train.tasks.task import Measured


def make_mesh(
    devices: Sequence[jax.Device] | None = None, *, seeds: int = 1, fsdp: int = 1
) -> Mesh:
    """A mesh with axes `seed` and `data`, and `fsdp` where it is above 1.

    Every device not taken by the others goes to `data`. Those that share the parameters are next to
    each other in `devices`: on one machine, as far as they go.

    Args:
        devices: those to use; all by default.
        seeds: size of the `seed` axis.
        fsdp: how many devices share the parameters and what the optimiser keeps of them.

    Raises:
        ValueError: the number of devices is not a multiple of `seeds` or of `fsdp`, or both are
            above 1.
    """
    devices = jax.devices() if devices is None else list(devices)
    for name, size in (("seeds", seeds), ("fsdp", fsdp)):
        if size < 1 or len(devices) % size:
            raise ValueError(f"{name}={size} does not divide the {len(devices)} devices")
    if seeds > 1 and fsdp > 1:
        raise ValueError(f"seeds={seeds} and fsdp={fsdp}: one of them")
    sizes = {"seed": seeds, "data": len(devices) // (seeds * fsdp)} | (
        {FSDP: fsdp} if fsdp > 1 else {}
    )
    return arranged(devices, sizes)


def arranged(devices: Sequence[jax.Device], sizes: dict[str, int]) -> Mesh:
    """A mesh of these axes, over the devices in their order; on one TPU slice as JAX arranges them.

    `jax.make_mesh` takes the machines of GPUs for slices, and refuses several.
    """
    types = (AxisType.Auto,) * len(sizes)
    if devices[0].platform == "tpu" and len({getattr(d, "slice_index", 0) for d in devices}) == 1:
        return jax.make_mesh((*sizes.values(),), (*sizes,), axis_types=types, devices=devices)
    table = np.asarray(devices, object).reshape([*sizes.values()])
    return Mesh(table, (*sizes,), axis_types=types)


def connect(mesh: Mesh) -> None:
    """Have the devices of several processes exchange a number along each axis, and all of them.

    The first time that a group of CPUs does so each waits for the others for 30 s alone, and later
    some may still compile, or read.
    """
    axes = [name for name, size in mesh.shape.items() if size > 1]
    every = PartitionSpec(mesh.axis_names)
    ones = jax.make_array_from_callback(
        (mesh.devices.size,), NamedSharding(mesh, every), lambda index: np.ones(1, np.float32)
    )
    for group in (*axes, tuple(mesh.axis_names)):
        total = jax.shard_map(
            lambda x, group=group: jax.lax.psum(x, group),
            mesh=mesh,
            in_specs=every,
            out_specs=every,
            check_vma=False,
        )
        jax.block_until_ready(jax.jit(total)(ones))


def batch_axes(mesh: Mesh | AbstractMesh) -> str | tuple[str, ...]:
    """Of the axis of a batch, what its `PartitionSpec` names: every device has its own examples."""
    return ("data", FSDP) if FSDP in mesh.shape else "data"


def shares(mesh: Mesh) -> int:
    """Into how many a batch is divided."""
    return mesh.shape["data"] * mesh.shape.get(FSDP, 1)


def replicated(mesh: Mesh) -> NamedSharding:
    """The same on every device."""
    return NamedSharding(mesh, PartitionSpec())


def places(seeds: int, devices: int) -> int:
    """Size of the `seed` axis for so many seeds: 1 where they have no place of their own.

    Where there are more devices than seeds, each has its part of them, which must be the same for
    all; else several seeds share a device, the same number on each, and some may stay idle.
    """
    if devices % seeds == 0:
        return seeds
    return max(n for n in range(1, min(seeds, devices) + 1) if seeds % n == 0)


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
    """`batch` with the leading axis of every leaf divided over the mesh, see `batch_axes`.

    For traced code: without it, jit silently replicates a gathered batch. Inside
    `jax.shard_map(axis_names={"seed"})` the mesh of the context, where `seed` is manual, takes the
    place of `mesh`.
    """
    context = jax.sharding.get_abstract_mesh()
    there = mesh if context.empty else context
    sharding = NamedSharding(there, PartitionSpec(batch_axes(there)))
    return jax.lax.with_sharding_constraint(batch, jax.tree.map(lambda _: sharding, batch))


def compiled_step(
    step: Callable[..., Any], mesh: Mesh, seeds: int | None = None, *, state: Any = None
) -> Any:
    """`step(state, data, payload)`, jitted, its state donated; for N seeds at once if `seeds`.

    Args:
        step: returns the new state and its sums.
        mesh: the devices.
        seeds: N, or None for a plain run.
        state: shapes of the state of a plain run, which then lies as `sharded` says. A mesh with an
            axis `fsdp` needs them.

    Raises:
        ValueError: the seeds do not divide over the mesh. Where `data` is larger than 1, each seed
            needs its own place on the `seed` axis: XLA would gather the batch under `vmap`.
    """
    check_seeds(mesh, seeds)
    if state is None and FSDP in mesh.shape:
        raise ValueError(f"state=None on a mesh of fsdp={mesh.shape[FSDP]}: it may be sharded")
    if seeds is not None:
        step = over_seeds(step, mesh, (0, None, 0))
    where = per_seed(mesh, seeds)
    out = where if state is None else (sharded(state, mesh), where)
    return jax.jit(step, donate_argnums=0, out_shardings=out)


def compiled_evaluation(measure: Callable[..., Any], mesh: Mesh, seeds: int | None = None) -> Any:
    """`measure(variables, data, payload)`, jitted; its payloads have no seed axis.

    Variables that are sharded are gathered in it. Of several processes, each gets the sums, and the
    rows of its own devices of all else.
    """
    check_seeds(mesh, seeds)
    if seeds is not None:
        measure = over_seeds(measure, mesh, (0, None, None))
    measure = whole(measure, mesh)
    if not processes.several():
        return jax.jit(measure)
    rows = NamedSharding(mesh, PartitionSpec(batch_axes(mesh)))
    every: Any = replicated(mesh)
    return jax.jit(measure, out_shardings=(Measured(every, cast(Any, rows)), rows, rows))


BRIEF = {"xla_backend_optimization_level": 1}
"""Of a program that runs once on a CPU: drawing the parameters of a network took LLVM ten times as
long as all else, and at this level a fifth of that, for the same bits."""


def compiled_initial(initial: Callable[[Any], Any], mesh: Mesh, seeds: int | None = None) -> Any:
    """`initial(seed)`, jitted, on the mesh; for an array of N seeds if `seeds`.

    What is sharded is made so: no device ever holds all of it.
    """
    check_seeds(mesh, seeds)
    out: Any = per_seed(mesh, seeds)
    if seeds is not None:
        initial = over_seeds(initial, mesh, (0,))
    elif FSDP in mesh.shape:
        out = sharded(jax.eval_shape(initial, jnp.uint32(0)), mesh)
    cpu = mesh.devices.flat[0].platform == "cpu"
    return jax.jit(initial, out_shardings=out, compiler_options=BRIEF if cpu else None)


def per_seed(mesh: Mesh, seeds: int | None) -> NamedSharding:
    """How state and sums lie: the same on every device, or a seed's on its place."""
    return replicated(mesh) if seeds is None else NamedSharding(mesh, PartitionSpec("seed"))


def check_seeds(mesh: Mesh, seeds: int | None) -> None:
    """See `compiled_step`."""
    places, data = mesh.shape["seed"], mesh.shape["data"]
    if seeds is None:
        if places > 1:
            raise ValueError(f"a plain run on a mesh with {places} places for seeds")
    elif FSDP in mesh.shape:
        raise ValueError(f"{seeds} seeds on a mesh of fsdp={mesh.shape[FSDP]}")
    elif seeds % places or (data > 1 and seeds != places):
        raise ValueError(f"{seeds} seeds on a mesh of seed={places}, data={data}")
