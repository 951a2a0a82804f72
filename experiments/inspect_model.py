"""Inside a network: layer table, first kernels, feature maps, Grad-CAM and receptive field.

    python experiments/inspect_model.py RUN                         examples of its test split
    python experiments/inspect_model.py RUN photo.jpg photos/
    python experiments/inspect_model.py --model resnet50 --size 224 photo.jpg
    python experiments/inspect_model.py --model resnet50 --init-from resnet50.safetensors photo.jpg

RUN is the directory of a run of any task. The table is printed; the pictures go to RUN/inspect/, or
to inspect-MODEL/. What a network has nothing of is said, and the rest is drawn.
"""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

if __name__ == "__main__":  # what it imports stands beside it, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from train.stop import end_quietly

    end_quietly()  # before the other imports, which take seconds

import jax
import tyro
from rich.console import Console

from experiments.predict import asked
from experiments.untrained import untrained, usual
from models.backends import XLA
from models.inspect.errors import Lacking, UnknownPrimitive
from models.inspect.feature_maps import check_name, map_shapes
from models.inspect.layers import layer_table, rendered
from train import cli, neighbours, results
from train.examples import Examples, of_files, of_split
from train.experiment import positive
from train.first import first
from train.legible import legible
from train.opened import Opened, opened
from train.refusal import Refused
from train.report.inside import DRAWN, Inside
from train.terminal import Terminal


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is looked at.

    Attributes:
        paths: a run, unless a model is named; then pictures, folders, patterns, or signals.
        model: in place of a run: a network of `models.names()`, with random weights.
        init_from: weights for this model, as the `init_from` of an experiment takes them.
        size: for this model: height and width of its images, or steps of its series; 0 takes 224,
            or 1024 steps.
        layer: whose map Grad-CAM weighs, by its path; the last map by default.
        examples: how many of the test split are looked at, where no files are named.
        step: whose checkpoint; by default the one that the run's test split was judged by.
        out: a folder for the pictures.
    """

    paths: Annotated[
        tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="RUN [INPUT ...]")
    ] = ()
    model: str = ""
    init_from: str = ""
    size: int = 0
    layer: str = ""
    examples: int = 8
    step: int | None = None
    out: Path | None = None

    def __post_init__(self) -> None:
        positive(self, "examples")
        if self.size < 0:
            raise Refused(f"size={self.size} must not be below 0")
        for name in ("init_from", "size"):
            if getattr(self, name) and not self.model:
                raise Refused(
                    f"{name}={getattr(self, name)!r} belongs to a --model; a run has its own"
                )
        if self.model and self.step is not None:
            raise Refused(f"step={self.step} belongs to a run; model={self.model!r} has none")


def shown(config: Config, run: Opened, out: Path, say: Callable[[str], None]) -> Examples:
    """What the network is shown: the files that are named, else of the run's test split.

    Raises:
        Refused: there are no such files, or the run's data are not there.
    """
    if inputs := config.paths if config.model else config.paths[1:]:
        given = asked(inputs, [out], run.about)
        items, names = given.items[: config.examples], given.names[: config.examples]
        if len(given.items) > len(items):
            say(f"Of {len(given.items)} files the first {len(items)}; --examples takes more.")
        return of_files(run, items, names)
    return of_files(run, *usual(run)) if config.model else of_split(run, config.examples)


def inside(config: Config, out: Path, say: Callable[[str], None]) -> Inside:
    """The network and what it is shown.

    Raises:
        Refused: there is no such run, model, layer or file.
    """
    if config.model:
        run, what = untrained(config.model, config.init_from, config.size), "random weights"
    else:
        # By XLA's own operations: a receptive field is read from them.
        run, what = opened(config.paths[0], step=config.step, backend=XLA.name), "before training"
        say(f"{run.config.model} on {run.config.data}, step {run.step}: {run.config.workdir}")
    examples = shown(config, run, out, say)
    weights: dict[str, Any] = {} if config.model else {f"step {run.step}": run.variables}
    try:
        start, lines = first(run.parts, run.parts.task.inputs(examples.batch), run.config.seed)
        weights = {"trained weights" if config.init_from else what: start, **weights}
        if config.model:
            for line in lines or [f"{config.model} with random weights"]:
                say(line)
    except Refused as error:
        if config.model:
            raise
        say(f"Not drawn is the receptive field before training: {error}")
    except ValueError as error:  # the network does not take such inputs
        of = f"model={config.model!r}" if config.model else f"run={config.paths[0]!r}"
        raise Refused(f"{of}: {error}") from None
    say(f"Looks at {', '.join(map(str, examples.names))}.")
    found = Inside(run.parts.network, weights, examples, run.about, config.layer)
    if config.layer:
        try:
            check_name(run.parts.network, map_shapes(*found.called, **examples.how), config.layer)
        except ValueError as error:
            raise Refused(str(error)) from None
    return found


def main(config: Config) -> None:
    """Print the table, draw and write.

    Raises:
        Refused: the request can't be met.
    """
    if not (config.model or config.paths):
        raise Refused("neither a run nor a --model is named, see --help")
    console = Console()
    say = Terminal(console, 0).say
    usually = Path(f"inspect-{config.model}") if config.model else Path(config.paths[0]) / "inspect"
    out = cli.at_home(usually if config.out is None else config.out)
    if neighbours.holds_run(out):
        raise Refused(f"out={str(out)!r} holds a run, which keeps its own files")
    found = inside(config, out, lambda line: say(legible(line)))
    shapes = [jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype) for x in found.examples.inputs]
    if not console.is_terminal:
        console.width = 200
    console.print(rendered(layer_table(found.network, *shapes), "One example"))
    for name, draw in DRAWN.items():
        try:
            for file, picture in draw(found):
                results.save(picture, out / f"{file}.png")
                say(legible(f"  {out / file}.png"))
        except (Lacking, UnknownPrimitive) as error:
            say(legible(f"No {name}: {error}"))


if __name__ == "__main__":
    sys.exit(cli.command(Config, main, __doc__))
