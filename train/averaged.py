"""Averaged: several runs, or checkpoints of one, read as one; a run that sees mirror images too.

What is made here is an `Opened` like any other: it predicts, is measured, is exported.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from train import workdir
from train.data.source import is_signals
from train.opened import Opened
from train.predict import channels_of, host_of, kind_of, refuse_different
from train.refusal import Refused
from train.tasks import several

CHECKPOINTS = "checkpoints"


class Named(NamedTuple):
    """A run that a path names.

    Attributes:
        path: its directory.
        step: of the checkpoint that is named with it; None: the one that the run was judged by.
    """

    path: Path
    step: int | None = None


def named(path: Path) -> list[Named]:
    """The runs that a path names: one, or of a directory of several seeds each of them.

    RUN/checkpoints/STEP names one checkpoint of a run. What is no run is named as it is.
    """
    if (run := of_checkpoint(path)) is not None:
        return [Named(run, int(path.name))]
    seeds = (workdir.read(path, workdir.CONFIG) or {}).get("seeds") or []
    return [Named(path / f"seed_{seed}") for seed in seeds] or [Named(path)]


def names_run(path: Path) -> bool:
    """Whether a path names a run, several, or a checkpoint of one."""
    return (path / workdir.CONFIG).is_file() or of_checkpoint(path) is not None


def of_checkpoint(path: Path) -> Path | None:
    """The run that a path is a checkpoint of, as long as it is one; else None."""
    run = path.parent.parent
    found = path.parent.name == CHECKPOINTS and path.name.isdecimal()
    return run if found and (run / workdir.CONFIG).is_file() else None


def averaged(runs: Sequence[Opened]) -> Opened:
    """Runs that see the same batch as one, whose predictions are the mean of theirs.

    Its variables are a dict of those of each run: "0", "1", …; `each` is these runs. The rest is
    the first one's.

    Raises:
        Refused: there is none; they differ in their classes, or in what evaluation brings images
            to; or their predictions have no mean.
    """
    refuse_different(runs)
    first, *others = runs
    if not others:
        return first
    kind_of(first, *others)
    for run in others:
        for what, here, there in zip(
            ("shape of inputs", "host stage"), seen(first), seen(run), strict=True
        ):
            if here != there:
                raise Refused(
                    f"run={str(run.config.workdir)!r} has another {what} than "
                    f"{str(first.config.workdir)!r}, {there} and {here}: measure each alone"
                )
    task = several.ensemble([run.parts.task for run in runs])
    variables = {str(number): run.variables for number, run in enumerate(runs)}
    parts = first.parts._replace(task=task)
    return first._replace(parts=parts, variables=variables, each=tuple(runs))


def seen(run: Opened) -> tuple[object, object]:
    """What a run's evaluation gives to its network: shape and capacities, and by which stage."""
    about = run.about
    if is_signals(about):
        return (about.shape, about.ragged), None
    host = host_of(run)
    return (host.shapes[0], channels_of(run), run.parts.given), host.stage


def mirrored(run: Opened) -> Opened:
    """The run, its predictions the mean of those of an image and of its mirror image.

    Raises:
        Refused: its data have none, or their mirror images are of other classes, or nobody has
            judged whether they are and it was not trained on any; or predictions have no mean.
    """
    name, about = f"tta=True: run={str(run.config.workdir)!r}", run.about
    if is_signals(about):
        raise Refused(f"{name} is of signals, which have no mirror image")
    if about.mirror is False:
        raise Refused(f"{name}: a mirror image of {about.name} may be of another class")
    if about.mirror is None and not trained_on_mirrored(run):
        raise Refused(
            f"{name} was not trained on mirror images, and whether those of {about.name} keep "
            "their class is not known"
        )
    try:
        task = several.mirrored(run.parts.task)
    except ValueError as error:
        raise Refused(f"{name}, a {run.config.model}: {error}") from None
    return run._replace(parts=run.parts._replace(task=task))


def trained_on_mirrored(run: Opened) -> bool:
    """Whether its recipe says so."""
    mirrors = getattr(run.config, "mirrors", None)
    return mirrors is not None and mirrors(run.about)
