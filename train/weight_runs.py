"""Runs that another one starts from, and what its network must be for that."""

import contextlib
import os
from pathlib import Path
from typing import Any, NamedTuple

import models
from train import workdir
from train.data.source import About
from train.finetune import Weights, backbone_of
from train.opened import experiment, opened
from train.refusal import Failed, Refused


class Earlier(NamedTuple):
    """A run as another one sees it that starts from it: `Opened` without its weights."""

    experiment: str
    config: Any
    about: About


def of_run(model: str, path: str) -> Weights:
    """Those that the test split of a run was judged by, or its best so far.

    Raises:
        Refused: as `run_at`; or it has no sound checkpoint.
    """
    earlier = run_at(model, path)
    try:
        run = opened(path)
    except (Refused, Failed) as error:
        raise Refused(f"init_from={path!r}: {error}") from error
    variables, variant = run.variables, models.variant(model)
    if variant.converted is not None and run.config.model == variant.classifier:
        variables = variables | {"params": variant.converted(variables["params"])}
    return Weights(
        variables,
        {
            "workdir": os.path.abspath(path),
            "experiment": earlier.experiment,
            "model": run.config.model,
            "data": run.config.data,
            "step": run.step,
        },
        classes=outputs(run.config.model, run.about),
        said=[f"Starts from the weights of step {run.step} of the run in {path}."],
    )


def run_at(model: str, path: str) -> Earlier:
    """The run in a directory, for `model` to start from.

    Raises:
        Refused: there is none, or there are several, or it is of a network of another backbone.
    """
    where = Path(path)
    if workdir.read(where, workdir.CONFIG) is None:
        raise Refused(f"init_from={path!r} {no_run(where)}")
    try:
        module = experiment(where)
        config: Any = workdir.read_config(where, module.__name__, module.Config)
        about = workdir.decoded(where, workdir.ABOUT, About)
    except Refused as error:
        raise Refused(f"init_from={path!r}: {error}") from None
    if config.seeds:
        several = ", ".join(f"seed_{seed}" for seed in config.seeds[:4])
        raise Refused(f"init_from={path!r} holds several runs: take one of them, such as {several}")
    if about is None:
        raise Refused(f"init_from={path!r} {no_run(where)}")
    if not hasattr(config, "statistics") or config.model not in models.names():
        raise Refused(
            f"init_from={path!r} is a run of {module.__name__}, whose network {config.model!r} is "
            "none of models.names()"
        )
    if backbone_of(config.model) != backbone_of(model):
        raise Refused(f"init_from={path!r} is a run of {config.model}, not of {model}'s backbone")
    return Earlier(module.__name__, config, about)


def asked_by_run(model: str, earlier: Earlier) -> dict[str, Any]:
    """What the weights of a run ask of `model`, as `train.weight_files.asked_by_file`."""
    config = earlier.config
    found: dict[str, Any] = {}
    if getattr(config, "norm_epsilon", None) is not None:
        found |= {"norm_epsilon": config.norm_epsilon, "frozen_norm": config.frozen_norm}
    if config.model == model and getattr(config, "anchors", ()):
        found["anchors"] = config.anchors
    return found


def no_run(path: Path) -> str:
    """Of a directory that is no run, what it holds instead, in words."""
    runs: list[str] = []
    with contextlib.suppress(OSError):
        for below in ("*", "*/*"):  # such as runs/classify, or runs
            found = path.glob(f"{below}/{workdir.CONFIG}")
            runs = runs or sorted(str(file.parent.relative_to(path)) for file in found)
    if runs:
        more = f" and {len(runs) - 4} more" if len(runs) > 4 else ""
        several = f"{len(runs)} runs" if len(runs) > 1 else "a run"
        return f"is no run, it holds {several}: take one of them, {', '.join(runs[:4])}{more}"
    for above in path.absolute().parents:
        if (above / workdir.CONFIG).is_file() and (above / workdir.ABOUT).is_file():
            return f"holds no run, but lies in one: {str(above)!r}"
    return f"holds no run: it has no {workdir.CONFIG} and {workdir.ABOUT}"


def outputs(model: str, about: About) -> tuple[str, ...]:
    """Names of the classes of a network's logits."""
    return about.mask_classes if model in models.names("segmentation") else about.classes
