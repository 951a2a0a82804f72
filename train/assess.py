"""Assessment: a whole split measured, and what a summary of it becomes on the disk."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jax.sharding import Mesh

from train.data.loader import Loader
from train.data.order import once
from train.data.source import Source
from train.evaluate import evaluate, evaluation_step
from train.experiment import Parts
from train.mesh import compiled_evaluation
from train.tasks.task import Summary

Assess = Callable[..., Summary]
"""(variables, stopping=…) -> the summary of a whole split; see `train.evaluate.evaluate`."""


def assess(
    parts: Parts, load: Callable[..., Loader], mesh: Mesh, split: str, source: Source
) -> Assess:
    """What measures a split in its order, without augmentation; compiled once."""
    loader = load(split, source, order=once)
    measure = compiled_evaluation(evaluation_step(parts.task, loader), mesh)

    def of(variables: dict[str, Any], stopping: Callable[[], bool] = lambda: False) -> Summary:
        (summary,) = evaluate(measure, parts.task, loader, source, variables, stopping=stopping)
        return summary

    return of


def outcome(experiment: str, config: Any, at: int, summary: Summary) -> dict[str, Any]:
    """What `summary.json` says."""
    return {
        "experiment": experiment,
        "data": config.data,
        "model": config.model,
        "seed": config.seed,
        "steps": config.steps,
        "examples": config.steps * config.batch_size,
        "evaluated_step": at,
        **{f"test/{name}": finite(value) for name, value in summary.scalars.items()},
    }


def finite(value: Any) -> float | int | None:
    """A Python number; None of what is not finite: JSON has no NaN."""
    number = None if value is None else np.asarray(value).item()
    return number if number is not None and math.isfinite(number) else None
