"""Evaluation: a split measured exactly, batch by batch, its sums added on the host."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from train import processes
from train.data.gaps import share
from train.data.loader import Loader
from train.data.source import Source
from train.progress import compiling
from train.stop import Interrupted
from train.tasks.task import Summary, Sums, Task


def evaluation_step(task: Task, loader: Loader) -> Callable[[dict, Any, Any], tuple]:
    """`measure(variables, data, payload) -> (Measured, index, valid)`, pure."""

    def measure(variables: dict, data: Any, payload: Any):
        batch = loader.device(data, payload, 0, jax.random.key(0))
        return task.measure(variables, batch), batch["index"], batch["valid"]

    return measure


def add(total: Sums, sums: Sums) -> Sums:
    """Sums of two batches, on the host: counts in int64, ratios in float64; {} is nothing yet."""
    wide = jax.tree.map(widen, sums)
    return jax.tree.map(np.add, total, wide) if total else wide


def widen(x: Any) -> np.ndarray:
    """An integer or boolean as int64, a floating number as float64."""
    x = np.asarray(x)
    return x.astype(np.int64 if x.dtype.kind in "iub" else np.float64)


def evaluate(
    measure: Callable[[dict, Any, Any], tuple],
    task: Task,
    loader: Loader,
    source: Source,
    variables: dict,
    *,
    seeds: int | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> list[Summary]:
    """Measure a whole split, reading and computing ahead of what is scored on the host.

    Args:
        measure: `evaluation_step`, compiled.
        task: that it measures.
        loader: of the split, in its order.
        source: of the split; its annotations score the records.
        variables: of the network; with a leading axis if `seeds`.
        seeds: N, for a run of N seeds at once; None for a plain run.
        stopping: asked once a batch whether to give up.

    Returns:
        One summary a seed; one for a plain run. Where examples may be unreadable, the scalar
        `unreadable` says how many are; with those measured they make up the split.

    Raises:
        Interrupted: `stopping()` said so.
        RuntimeError: the examples measured, and those that can't be read, are not the split.
    """
    runs = 1 if seeds is None else seeds
    sums: list[Sums] = [{} for _ in range(runs)]
    scored: list[Sums] = [{} for _ in range(runs)]
    kept: list[list[Any]] = [[] for _ in range(runs)]
    seen: list[np.ndarray] = []

    def take(out: tuple) -> None:
        out = jax.tree.map(here, out) if processes.several() else jax.device_get(out)
        if seeds is None:
            out = jax.tree.map(lambda x: np.asarray(x)[None], out)
        (batch, records), (index, *_), (valid, *_) = out
        seen.append(index[valid])
        for run in range(runs):
            sums[run] = add(sums[run], jax.tree.map(lambda x, run=run: x[run], batch))
        if task.score is None:
            return
        for row in np.flatnonzero(valid):
            truth = source.truth(int(index[row]))
            for run in range(runs):
                record = {name: values[run][row] for name, values in records.items()}
                own, keep = task.score(record, truth)
                scored[run] = add(scored[run], own)
                kept[run].append(keep)

    payloads, ahead = loader.payloads(0), None
    try:
        for payload in payloads:
            # The device computes this batch while the host takes the one before. That one has
            # ended: two programs at once on several CPU devices may wait for each other for ever.
            before = jax.block_until_ready(ahead)
            if stopping():
                raise Interrupted
            with compiling("the evaluation", before is None):
                ahead = measure(variables, loader.data, payload)
            processes.HERE.gave()
            if before is not None:
                take(before)
        if ahead is not None:
            take(ahead)
    finally:
        payloads.close()
    if processes.several():
        seen, scored, kept = of_all(seen, scored, kept, loader)
    gaps = None if loader.gaps is None else [*loader.gaps.found]
    check_whole(seen, gaps or [], len(source), source.about.split)
    summaries = [
        task.summarise({**one, **own}, keep)
        for one, own, keep in zip(sums, scored, kept, strict=True)
    ]
    if gaps is None:
        return summaries
    return [
        one._replace(scalars={**one.scalars, "unreadable": float(len(gaps))}) for one in summaries
    ]


def here(x: jax.Array) -> np.ndarray:
    """An array of several processes on the host: the rows of this one, or all where all have it."""
    if x.is_fully_replicated:
        return np.asarray(x)
    parts = {shard.index[0].start or 0: shard.data for shard in x.addressable_shards}
    return np.concatenate([np.asarray(parts[start]) for start in sorted(parts)])


def of_all(
    seen: list[np.ndarray], scored: list[Sums], kept: list[list[Any]], loader: Loader
) -> tuple[list[np.ndarray], list[Sums], list[list[Any]]]:
    """What all processes have seen, scored and kept, in the order of the source; and gaps found."""
    share(loader.gaps)
    every = processes.gathered("what was measured", (seen, scored, kept))
    indices = np.concatenate([part for own, *_ in every for part in own])
    places = np.argsort(indices)
    totals: list[Sums] = [{} for _ in scored]
    keeps: list[list[Any]] = []
    for run in range(len(scored)):
        for _, sums, _ in every:
            totals[run] = add(totals[run], sums[run]) if sums[run] else totals[run]
        flat = [keep for *_, each in every for keep in each[run]]
        keeps.append([flat[place] for place in places] if flat else [])
    return [indices[places]], totals, keeps


def check_whole(seen: list[np.ndarray], gaps: Sequence[int], length: int, split: str) -> None:
    """Every example of the split was measured once, in its order, or can't be read."""
    index = np.concatenate(seen) if seen else np.zeros(0, np.int64)
    if not np.array_equal(index, np.setdiff1d(np.arange(length), gaps)):
        raise RuntimeError(
            f"measured {len(index)} examples of {split}, not its {length}"
            + (f" without {len(gaps)} that can't be read" if gaps else "")
        )
