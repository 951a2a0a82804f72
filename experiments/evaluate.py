"""How good a trained network is on another split or another set: the page of a run, once more.

    python experiments/evaluate.py RUN                        its test split, as it was judged
    python experiments/evaluate.py RUN --split validation
    python experiments/evaluate.py RUN --data folder:OTHER    or where the data of RUN have moved to
    python experiments/evaluate.py RUN --coco-json found.json     for COCO's tools
    python experiments/evaluate.py RUN --tta                  of mirror images too, their mean
    python experiments/evaluate.py STUDY                      the mean of what its seeds predict
    python experiments/evaluate.py RUN RUN --out DIR          the same of any runs

RUN may be RUN/checkpoints/STEP, one checkpoint of a run; several are averaged as runs are. Classes
are matched by name. The page, `summary.json` and `predictions.csv` go to
RUN/evaluations/<data>-<split>/; what the run has left stays as it is.
"""

import dataclasses
import hashlib
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

if __name__ == "__main__":  # what it imports stands beside it, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from train.stop import end_quietly

    end_quietly()  # before the other imports, which take seconds

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress

from train import cli, workdir
from train.assess import finite
from train.averaged import averaged, mirrored, named, of_checkpoint
from train.cli import at_home
from train.data.source import Source, notes
from train.experiment import positive
from train.legible import legible
from train.opened import opened
from train.refusal import Refused
from train.remeasure import measure, remeasured
from train.report.coco_json import refuse_no_coco, write_coco_json
from train.report.page import write_report
from train.report.predictions import write_predictions
from train.results import folder
from train.stop import Interrupted, Stop, Stopped
from train.tasks.task import Summary
from train.terminal import Terminal

EVALUATIONS = "evaluations"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is measured.

    Attributes:
        run: the directory of a run, or of several seeds; or a checkpoint in that of a run.
        others: more runs, or checkpoints, of the same classes: the mean of all predictions is
            measured. They must bring images to the same size in the same way.
        data: a set as the run's experiment takes it, "folder:PATH" for one; "" is the run's own.
        outside: whether names in the files of "coco:PATH" and "voc:PATH" may lead out of PATH; as
            the run has it by default.
        split: of the set. The validation split is the run's own cut where the set has none.
        step: whose checkpoint; by default the one that the run's test split was judged by.
        tta: whether predictions are the mean of those of each image and of its mirror image, left
            for right ("test-time augmentation"); of classes and masks.
        out: where the page and the summary go; by default below the run. `others` need it.
        coco_json: a file for what a detector found in a set in COCO's format, as COCO's tools read
            it, with the ids of the set's images and categories.
        devices: how many to use; as many as the run by default.
        backend: who computes convolutions and batch normalisation; the run's own by default.
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    others: Annotated[
        tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="[RUN ...]")
    ] = ()
    data: str = ""
    outside: bool = False
    split: Literal["test", "validation", "train"] = "test"
    step: int | None = None
    tta: bool = False
    out: Path | None = None
    coco_json: Path | None = None
    devices: int | None = None
    backend: Literal["", "auto", "onednn", "jax", "xla"] = ""

    def __post_init__(self) -> None:
        if self.devices is not None:
            positive(self, "devices")
        if self.others and self.out is None:
            raise Refused("out: name where the result of several runs goes")


def place(config: Config, path: Path, data: str, step: int | None) -> Path:
    """Where the result goes: `config.out`, else a directory of its own in that of the run.

    Args:
        config: what is measured.
        path: the directory of the run, or of several seeds.
        data: name of the set.
        step: of the weights, where it was asked for.

    Raises:
        Refused: it can't be written, or is that of a run, which keeps its own report.
    """
    found = None if config.out is None else at_home(config.out)
    if found is None:
        name = f"{workdir.slug(data)}-{config.split}"
        name += "" if step is None else f"-step-{step}"
        name += "-mirrored" * config.tta
        found = path / EVALUATIONS / name
        if (workdir.read(found, workdir.SUMMARY) or {}).get("data", data) != data:
            digest = hashlib.sha256(os.fsencode(data)).hexdigest()[:8]
            found = found.with_name(f"{name}-{digest}")  # two sets of one name
    if (found / workdir.CONFIG).exists():
        raise Refused(f"out={str(found)!r} holds a run, which keeps its own report")
    workdir.make(found)
    return found


def refuse_no_detections(source: Source, path: Path) -> None:
    """Refuse COCO's file before anything is measured.

    Raises:
        Refused: the run is no detector's, the set's images have no ids, or the file's folder can't
            be made.
    """
    try:
        annotated: tuple[str, ...] = tuple(source.truth(0))
    except Refused:  # an example that can't be read
        annotated = ("boxes",)
    if "boxes" not in annotated:
        raise Refused(f"coco_json={str(path)!r}: what the run predicts are no detections")
    refuse_no_coco(source)
    folder(at_home(path).parent, "coco_json")


def main(config: Config) -> Summary:
    """Measure, and leave a page and a summary.

    Raises:
        Refused: the request can't be met.
        Stopped: by a signal; nothing is written.
    """
    path = at_home(config.run)
    path = of_checkpoint(path) or path
    those = [one for given in (config.run, *config.others) for one in named(at_home(given))]
    if config.step is not None and (twice := [one for one in those if one.step is not None]):
        checkpoint = f"the checkpoint of step {twice[0].step} in {str(twice[0].path)!r}"
        raise Refused(f"step={config.step}: {checkpoint} is named, which has its own")
    steps = [config.step if one.step is None else one.step for one in those]
    runs = [
        opened(one.path, step=step, backend=config.backend or None)
        for one, step in zip(those, steps, strict=True)
    ]
    terminal = Terminal(Console(), 0)
    for one in runs:
        terminal.say(
            f"{one.config.model} on {one.config.data}, step {one.step}: {one.config.workdir}"
        )
    run = averaged([mirrored(one) for one in runs] if config.tta else runs)
    what = remeasured(run, config.data, config.split, outside=config.outside)
    recipe, source = what.recipe, what.source
    if config.coco_json is not None:
        refuse_no_detections(source, config.coco_json)
    part = f"The {config.split} split" if source.about.split != "whole" else "All examples"
    by = f"the weights of step {run.step}" if len(runs) == 1 else f"the mean of {len(runs)} runs"
    by += ", of each image and its mirror image" * config.tta
    lead = f"{part} of {recipe.data}, by {by}."
    began = ((workdir.read(path, workdir.PROVENANCE) or {}).get("data") or {}).get(config.split)
    if what.own and began not in (None, source.fingerprint):
        lead += " It is not as it was when the run began."
    terminal.say(lead)
    if not what.own:  # of its own data the run has said it
        splits = [one for one in what.data if one is not None]
        for line in dict.fromkeys(line for one in splits for line in notes(one)):
            terminal.say(legible(line))
    out = place(config, path, recipe.data, steps[0])
    live = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn())
    with (
        Progress(*columns, console=live, transient=True, disable=not live.is_terminal) as bar,
        Stop() as stop,
    ):
        batches = bar.add_task("", total=-(-len(source) // recipe.batch_size))

        def stopping() -> bool:
            bar.advance(batches)
            return stop()

        try:
            summary = measure(what, devices=config.devices, stopping=stopping)
        except Interrupted:
            assert stop.signal is not None
            raise Stopped(stop.signal) from None
    found = {
        "run": str(path),
        "experiment": run.module.__name__,
        "data": recipe.data,
        "split": config.split,
        "model": recipe.model,
        **(
            {"runs": [f"{one.config.workdir}, step {one.step}" for one in runs]}
            if len(runs) > 1
            else {"evaluated_step": run.step}
        ),
        **({"tta": True} if config.tta else {}),
        **{f"{config.split}/{name}": finite(one) for name, one in summary.scalars.items()},
    }
    workdir.write(out / workdir.SUMMARY, found)
    write_predictions(out, summary, source)
    if config.coco_json is not None:
        write_coco_json(at_home(config.coco_json), summary, source)
    page = write_report(
        path,
        f"{recipe.model} on {recipe.data}",
        summary,
        source.about,
        source,
        run.parts.report,
        lead=lead,
        say=terminal.say,
        into=out,
    )
    terminal.evaluation(run.step, config.split, summary.scalars)
    terminal.say(f"  {page}")
    if config.coco_json is not None:
        terminal.say(f"  {at_home(config.coco_json)}")
    return summary


if __name__ == "__main__":
    sys.exit(cli.command(Config, main, __doc__))
