"""R-CNN's stages (Girshick et al. 2014, section 2.3), a run each in one directory.

`softmax` fine-tunes the network on regions; `svm` classifies by linear SVMs on its features; and
`boxes` also moves regions by regressors.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from experiments.detect_stages_findings import compared, timed
from experiments.detect_stages_fitting import BEFORE, fitted, source_of
from train import workdir as directory
from train.opened import opened
from train.place import place
from train.prepared import prepare
from train.progress import working
from train.refusal import Refused
from train.run import complete, run
from train.study import DIVERGED, Diverged, refuse_at_once, scalars_of, study, together
from train.tasks.task import Summary

ALL = "all"
FORMS: dict[str, dict[str, bool]] = {
    "softmax": {"svm": False, "regressed": False},
    "svm": {"svm": True, "regressed": False},
    "boxes": {"svm": True, "regressed": True},
}
"""Stage, in order -> fields of its network."""


def main(module: ModuleType, config: Any) -> Summary:
    """All stages, or the one that `config.stage` names; all of them also with several seeds.

    Args:
        module: the experiment's.
        config: its `Config`.

    Returns:
        Of all stages, the scalars of each, with its name behind theirs: "map50 (svm)".
    """
    if config.stage == "softmax":
        return run(module, config)
    if config.stage != ALL:
        return one(module, config)
    path = config.workdir
    config = config.remembering(
        None if path is None else directory.read_config(path, module.__name__, module.Config)
    )
    refuse_at_once(config)
    with place(module, config) as claim:
        # What is refused is refused before a directory is made, which would hold on to the config.
        first = prepare(module, replace(config, stage="softmax"))
        config = replace(first.config, stage=ALL)
        if not config.seeds:
            return whole(module, config, claim())
        with study(module, config, claim()) as runs:
            each = {seed: config.of_seed(seed) for seed in config.seeds}
            found = {
                seed: runs.run(f"seed_{seed}", its, partial(one_seed, module, its))
                for seed, its in each.items()
            }
            return together(runs, config, found)


def one_seed(module: ModuleType, config: Any, path: Path) -> None:
    """All stages of one of several seeds."""
    try:
        whole(module, replace(config, workdir=path), path)
    except Diverged as error:
        directory.write(path / DIVERGED, {"error": str(error)})
        raise


def whole(module: ModuleType, config: Any, path: Path) -> Summary:
    """All stages of one seed, and what they come to: `summary.json` and a page.

    Raises:
        Diverged: the fine-tuning did.
    """
    found: dict[str, dict[str, Any]] = {}
    with study(module, config, path) as runs:
        for stage in FORMS:
            make = partial(staged, module, of_stage(config, stage))
            found[stage] = runs.run(stage, of_stage(config, stage), make)
            if "error" in found[stage]:
                raise Diverged(f"{path}: no SVMs are fitted, since {stage} diverged")
        with working("timing predictions"):
            seconds = timed(prepare(module, of_stage(config, "boxes")), opened(path / "boxes"))
    return compared(runs, config, {name: scalars_of(each) for name, each in found.items()}, seconds)


def of_stage(config: Any, stage: str) -> Any:
    """The recipe of one stage; where nothing moves step by step there is nothing to average."""
    return replace(config, stage=stage, ema=config.ema if stage not in BEFORE else 0.0)


def staged(module: ModuleType, config: Any, path: Path) -> None:
    """One stage, in a directory that the caller has locked."""
    prepared = prepare(module, replace(config, workdir=path))
    if config.stage in BEFORE:
        fitted(prepared, path)
    else:
        complete(prepared, path)


def one(module: ModuleType, config: Any) -> Summary:
    """A stage behind the first by itself, in a directory beside that of the one before.

    Raises:
        Refused: there is none, or it is not finished, or of another recipe.
    """
    if config.seeds:
        raise Refused(f"seeds={config.seeds}: stage={config.stage!r} goes on from a single run")
    if config.workdir is None:
        raise Refused(
            f"stage={config.stage!r} goes on from a run of the stage {BEFORE[config.stage]!r}: "
            f"workdir names a directory beside it"
        )
    config = of_stage(config, config.stage)
    config = config.remembering(
        directory.read_config(config.workdir, module.__name__, module.Config)
    )
    with place(module, config) as claim:
        prepared = prepare(module, config)
        source_of(prepared, config.workdir)
        return fitted(prepared, claim())
