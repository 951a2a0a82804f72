"""Assessment: the validation split ranks the weights, the test split judges the best."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from train.checkpoints import Checkpoints, Damaged
from train.data.loader import Loader
from train.data.order import once
from train.data.source import Source
from train.evaluate import evaluate, evaluation_step
from train.experiment import Parts
from train.logs import Logs, read_metrics
from train.loop import host_step
from train.mesh import compiled_evaluation
from train.state import State
from train.tasks.task import Summary

Assess = Callable[[dict[str, Any]], Summary]


def assess(
    parts: Parts, load: Callable[..., Loader], mesh: Mesh, part: str, source: Source
) -> Assess:
    """variables -> the summary of a whole split, in its order, without augmentation."""
    loader = load(part, source, order=once)
    measure = compiled_evaluation(evaluation_step(parts.task, loader), mesh)

    def of(variables: dict[str, Any]) -> Summary:
        (summary,) = evaluate(measure, parts.task, loader, source, variables)
        return summary

    return of


def validation(
    parts: Parts,
    load: Callable[..., Loader],
    mesh: Mesh,
    source: Source | None,
    rank: str,
    logs: Logs,
) -> Callable[[int, State], float | None]:
    """What the loop calls to rank a checkpoint; without a validation split nothing is ranked."""
    if source is None:
        return lambda step, state: None
    summary_of = assess(parts, load, mesh, "validation", source)

    def of(step: int, state: State) -> float:
        scalars = summary_of(state.evaluated).scalars
        logs.evaluation(step, "validation", scalars)
        return scalars[rank]

    return of


def assess_best(
    parts: Parts,
    load: Callable[..., Loader],
    mesh: Mesh,
    source: Source,
    checkpoints: Checkpoints,
    state: State,
    logs: Logs,
    path: Path,
) -> tuple[Summary, int]:
    """The summary of the test split at the best checkpoint, and its step.

    Where none is ranked the weights are those of `state`, which is the last.
    """
    last, best = host_step(state), checkpoints.best()
    at, variables = last, state.evaluated
    if best is not None and best != last:
        try:
            at, variables = best, checkpoints.restore_variables(variables, step=best)
        except Damaged as error:
            logs.say(f"{error}. The last weights stand in for the best.")
    summary = assess(parts, load, mesh, "test", source)(variables)
    # By its part in the run: a set without a test split is tested on what it calls validation.
    if not any(line.get("split") == "test" and line["step"] == at for line in read_metrics(path)):
        logs.evaluation(at, "test", summary.scalars)
    return summary, at


def outcome(experiment: str, config: Any, at: int, summary: Summary) -> dict[str, Any]:
    """What `summary.json` says."""
    return {
        "experiment": experiment,
        "data": config.data,
        "model": config.model,
        "seed": config.seed,
        "steps": config.steps,
        "images": config.steps * config.batch_size,
        "evaluated_step": at,
        **{f"test/{name}": finite(value) for name, value in summary.scalars.items()},
    }


def finite(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None
