"""What trained networks say of pictures: classes with scores, masks, or boxes around objects.

Of signals too: classes with scores, or numbers, such as the next steps.

    python experiments/predict.py RUN photo.jpg photos/ "more/*.png"
    python experiments/predict.py RUN photos/ --out predictions.csv --top 1
    python experiments/predict.py RUN photos/ --pictures painted/ --masks masks/
    python experiments/predict.py RUN RUN RUN photos/                     their average
    python experiments/predict.py RUN photos/ --tta          and of the pictures' mirror images
    python experiments/predict.py RUN bell.wav sounds/ series.csv series.npz

RUN is the directory of a run, or one with a run for each of several seeds, which are averaged, or
RUN/checkpoints/STEP, one checkpoint of a run; detections are those of one run.
Every picture is brought to what the run's evaluation saw. A line of a CSV file is a series, and so
is a row of an .npz file; a label in it is left out. A file that can't be read is named, the others
are told, and the exit code is then 1.
"""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

if __name__ == "__main__":  # what it imports stands beside it, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from train.stop import end_quietly

    end_quietly()  # before the other imports, which take seconds

import numpy as np
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from train import cli, neighbours, results, workdir
from train.averaged import Named, mirrored, named, names_run
from train.data.decode import at_most, picture
from train.data.finding import find
from train.data.given import Broken, Row, is_signal_file, rows, values_of
from train.data.source import About, extent_said, is_signals
from train.experiment import nonnegative, positive
from train.legible import legible
from train.opened import Opened, opened
from train.predict import kind_of, predictions, refuse_different
from train.refusal import Failed, Refused, choose
from train.shown import Shown
from train.stop import Stop, Stopped
from train.terminal import Terminal

METAVAR = "RUN [RUN ...] INPUT [INPUT ...]"
COLUMNS = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is predicted.

    Attributes:
        paths: one or more runs, then pictures, folders with all that is below them, or patterns;
            for a run of signals WAV, CSV or .npz files.
        out: a file with a line a picture, .csv or .jsonl; of a detector, a line a detection in CSV.
        pictures: a folder for PNGs: the mask or the boxes over the picture, or the picture, or the
            waveform, with its class.
        masks: a folder for masks alone, PNGs of the picture's size with the classes in a palette.
        top: classes, or detections, that a line on the terminal names.
        tta: whether predictions are the mean of those of each picture and of its mirror image, left
            for right ("test-time augmentation"); of classes and masks.
        batch_size: pictures at a time; 0 takes as many as the run did.
        backend: who computes convolutions and batch normalisation, see `models.backends`.
    """

    paths: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar=METAVAR)]
    out: Path | None = None
    pictures: Path | None = None
    masks: Path | None = None
    top: int = 3
    tta: bool = False
    batch_size: int = 0
    backend: Literal["auto", "onednn", "jax", "xla"] = "auto"

    def __post_init__(self) -> None:
        positive(self, "top")
        nonnegative(self, "batch_size")
        for name in ("out", "pictures", "masks"):
            if (path := getattr(self, name)) is not None:
                object.__setattr__(self, name, cli.at_home(path))
        if self.out is not None:
            choose("out ending", self.out.suffix.lower(), results.ENDINGS)


def runs_and_inputs(paths: Sequence[str]) -> tuple[list[Named], list[str]]:
    """The runs, which come first, and the rest; of several seeds one each."""
    count = next((i for i, p in enumerate(paths) if not names_run(cli.at_home(p))), len(paths))
    if not count:
        if not paths:
            raise Refused("no run is named: it comes first, see --help")
        try:
            neighbours.refuse_no_run(cli.at_home(paths[0]))
        except Refused as error:
            raise Refused(f"{error} (a run comes first, then pictures)") from None
    found = [one for path in paths[:count] for one in named(cli.at_home(path))]
    return found, [*paths[count:]]


def outputs(config: Config, files: Sequence[Path], kind: Shown) -> dict[str, list[Path]]:
    """Option -> where each file's PNG goes; none is written over a picture that was given."""
    folders = {"pictures": config.pictures, "masks": config.masks}
    asked = {option: folder for option, folder in folders.items() if folder is not None}
    if "masks" in asked and kind.mask is None:
        raise Refused(f"masks={str(config.masks)!r}: what the run predicts are no masks")
    if len({os.path.realpath(folder) for folder in asked.values()}) < len(asked):
        raise Refused(f"masks={str(config.masks)!r} is the folder of the pictures; name another")
    names, given = results.names(files), {os.path.realpath(file) for file in files}
    found = {option: [folder / name for name in names] for option, folder in asked.items()}
    for option, paths in found.items():
        if taken := [path for path in paths if os.path.realpath(path) in given]:
            raise Refused(f"{option}={str(asked[option])!r} would write over {str(taken[0])!r}")
    return found


def told(runs: Sequence[Opened], others: Sequence[Path]) -> list[str]:
    """What is said before the first picture."""
    said = [
        f"{run.config.model} on {run.config.data}, step {run.step}: {run.config.workdir}"
        for run in runs
    ]
    said += dict.fromkeys(
        f"Every picture is brought to what all of {run.about.name} are: {extent_said(run.about)}."
        for run in runs
        if run.parts.host is None and not is_signals(run.about)
    )
    if others:
        some = ", ".join(path.name for path in others[:4]) + (", …" if len(others) > 4 else "")
        about = runs[0].about
        what = "WAV files" if about.rate else "signals" if is_signals(about) else "pictures"
        said.append(f"Files that are no {what} by their names are left alone: {some}.")
    return said


class Asked(NamedTuple):
    """What is predicted.

    Attributes:
        items: as `train.predict.predictions` takes them.
        names: of each, for people and files.
        paths: what a PNG of each is named after.
        others: files of the folders that do not count.
    """

    items: list[Any]
    names: list[str]
    paths: list[Path]
    others: list[Path]


def asked(inputs: Sequence[str], apart: Sequence[Path], about: About | None) -> Asked:
    """The pictures, or the signals where the run's data are some; None: of a run unknown."""
    if about is None or not is_signals(about):
        files, others = find(inputs, apart)
        return Asked(files, [*map(str, files)], files, others)
    found = find(
        inputs,
        apart,
        lambda _, entry: not entry.folder and is_signal_file(entry.name, about),
        "signal",
    )
    items = [*rows(found.pictures, about)]
    return Asked(
        items,
        [one.name if isinstance(one, Row) else str(path_of(one)) for one in items],
        [path_of(one) for one in items],
        found.others,
    )


def path_of(item: Path | Row | Broken) -> Path:
    """What a PNG of it is named after."""
    return item if isinstance(item, Path) else item.path


def seen(item: Any, at: int, about: About) -> np.ndarray:
    """What is drawn: the pixels of a picture, or the values of a signal."""
    return values_of(item, at, about) if is_signals(about) else picture(item, at)


def main(config: Config) -> None:
    """Predict, print and write.

    Raises:
        Refused: the request can't be met.
        Failed: some of the files can't be read; the others are told.
        Stopped: by a signal; what was told is written.
    """
    those, inputs = runs_and_inputs(config.paths)
    apart = [path for path in (config.pictures, config.masks) if path is not None]
    what = asked(inputs, apart, workdir.decoded(those[0].path, workdir.ABOUT, About))
    runs = [opened(path, step=step, backend=config.backend) for path, step in those]
    refuse_different(runs)
    if config.tta:
        runs = [mirrored(run) for run in runs]
    kind, about = kind_of(*runs), runs[0].about
    pngs, most = outputs(config, what.paths, kind), min(run.config.max_pixels for run in runs)
    console = Console()
    # Its bar must not stand among what is piped on.
    live = console if console.is_terminal else Console(stderr=True)
    say, unread = Terminal(console, 0).say, 0
    for line in told(runs, what.others):
        Terminal(live, 0).say(legible(line))
    if config.tta:
        Terminal(live, 0).say("Every picture is predicted twice: as it is, and mirrored.")
    with (
        contextlib.nullcontext() if config.out is None else results.Lines(config.out) as lines,
        Progress(*COLUMNS, console=live, transient=True, disable=not live.is_terminal) as progress,
        Stop() as stop,
    ):
        for one in progress.track(
            predictions(runs, what.items, config.batch_size or None),
            total=len(what.items),
            description="",
        ):
            if stop.signal is not None:
                raise Stopped(stop.signal)
            name, found = what.names[one.at], one.found
            if found is None:
                unread += 1
                Terminal(live, 0).say(legible(one.why))
                continue
            say(f"{legible(name)}  {legible(kind.words(found, about, config.top))}")
            if lines is not None:
                split = kind.cells if lines.csv else None
                rows = [kind.row(found, about)] if split is None else split(found, about)
                for row in rows:
                    lines.add({"file": name, **row})
            if "pictures" in pngs:
                with at_most(most):
                    image = kind.drawn(seen(what.items[one.at], one.at, about), found, about)
                results.save(image, pngs["pictures"][one.at])
            if "masks" in pngs and kind.mask is not None:
                results.save(kind.mask(found, about), pngs["masks"][one.at])
    for written in filter(None, (config.out, *apart)):
        say(f"  {legible(str(written))}")
    if unread:
        count = len(what.items)
        kind_of_items = "signals" if is_signals(about) else "files"
        raise Failed(f"{unread} of {count} {kind_of_items} can't be read; they are named above")


if __name__ == "__main__":
    sys.exit(cli.command(Config, main, __doc__))
