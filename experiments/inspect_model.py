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
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

if __name__ == "__main__":  # what it imports stands beside it, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from train.stop import end_quietly

    end_quietly()  # before the other imports, which take seconds

import jax
import numpy as np
import tyro
from PIL import Image
from rich.console import Console

from experiments.predict import asked
from experiments.untrained import untrained, usual
from models.inspect.feature_maps import feature_maps, program, stages
from models.inspect.grad_cam import grad_cam
from models.inspect.kernels import first_kernels
from models.inspect.layers import layer_table, rendered
from train import cli, neighbours, results
from train.examples import Examples, of_files, of_split
from train.experiment import positive
from train.first import first
from train.legible import legible
from train.opened import Opened, opened
from train.refusal import Refused
from train.report.grad_cam import Seen, drawn_pairs, drawn_signals
from train.report.kernels import drawn_kernels, under
from train.report.maps import drawn_maps, drawn_series
from train.terminal import Terminal

MAPPED = 4
"""Examples whose feature maps are drawn."""


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
        backend: who computes convolutions and batch normalisation, see `models.backends`.
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
    backend: Literal["auto", "onednn", "jax", "xla"] = "auto"

    def __post_init__(self) -> None:
        positive(self, "examples")
        for name in ("init_from", "size"):
            if getattr(self, name) and not self.model:
                raise Refused(
                    f"{name}={getattr(self, name)!r} belongs to a --model; a run has its own"
                )
        if self.model and self.step is not None:
            raise Refused(f"step={self.step} belongs to a run; model={self.model!r} has none")


class Looked(NamedTuple):
    """What is looked at, and by what."""

    run: Opened
    examples: Examples
    layer: str

    @property
    def called(self) -> tuple[Any, ...]:
        """Network and variables, and the arguments of the network's call."""
        return (self.run.parts.network, self.run.variables, *self.examples.inputs)

    @property
    def signals(self) -> list[np.ndarray]:
        """(L, C) each, as the network sees them, without padding."""
        values = np.asarray(self.examples.inputs[0], np.float32)
        length = self.examples.how["length"]
        ends = [values.shape[1]] * len(values) if length is None else np.asarray(length).tolist()
        return [one[:end] for one, end in zip(values, ends, strict=True)]


Pictures = Iterator[tuple[str, Image.Image]]
"""Name of a file, without its ending, and what goes there."""


def kernels(looked: Looked) -> Pictures:
    """Of the first layer."""
    yield "kernels", drawn_kernels(*first_kernels(*looked.called, **looked.examples.how))


def maps(looked: Looked) -> Pictures:
    """A picture a stage."""
    examples = looked.examples
    names = stages(program(*looked.called, **examples.how))
    if not names:
        raise ValueError(f"{type(looked.run.parts.network).__name__} has none")
    found = feature_maps(*looked.called, names=[*names.values()], **examples.how)
    for stage, name in names.items():
        each = np.asarray(found[name][:MAPPED], np.float32)
        size = "x".join(map(str, each.shape[1:-1]))
        words = f"{name}: {each.shape[-1]} channels of {size}"
        if examples.pixels is not None:
            yield f"maps_{stage}", drawn_maps(words, each, examples.pixels[:MAPPED])
            continue
        shown, whole = looked.signals[:MAPPED], examples.inputs[0].shape[1]
        ends = [-(-len(one) * each.shape[1] // whole) for one in shown]
        cropped = [one[:end] for one, end in zip(each, ends, strict=True)]
        yield f"maps_{stage}", drawn_series(words, cropped, shown, looked.run.about.rate)


def cam(looked: Looked) -> Pictures:
    """Where the class of each example shows."""
    examples, about = looked.examples, looked.run.about
    if not about.classes:
        raise ValueError("what the network yields are no logits of classes")
    found = grad_cam(*looked.called[:3], layer=looked.layer, **examples.how)
    shares = np.asarray(jax.nn.softmax(found.logits))
    said, truth = np.asarray(found.labels), examples.batch.get("label")
    seen = []
    for row, name in enumerate(examples.names):
        words = f"{about.classes[said[row]]} {shares[row, said[row]]:.2f}"
        right = None if truth is None else bool(truth[row] == said[row])
        words += f", is {about.classes[truth[row]]}" if right is False else ""
        values = looked.signals[row] if examples.pixels is None else examples.pixels[row]
        heat = np.asarray(found.heat[row])[: len(values)]
        seen.append(Seen(values, heat, Path(name).name, words, right))
    title = f"Grad-CAM by {found.layer}, for the class that the network says"
    draw = partial(drawn_signals, rate=about.rate) if examples.pixels is None else drawn_pairs
    yield "grad_cam", under([title], draw(seen))


DRAWN: dict[str, Callable[[Looked], Pictures]] = {
    "first kernels": kernels,
    "feature maps": maps,
    "Grad-CAM": cam,
}
"""What is drawn -> how."""


def looked_at(config: Config, out: Path, say: Callable[[str], None]) -> Looked:
    """The network and what it is shown.

    Raises:
        Refused: there is no such run, model or file.
    """
    if config.model:
        run, inputs = (
            untrained(config.model, config.init_from, config.size, config.backend),
            config.paths,
        )
    else:
        run = opened(config.paths[0], step=config.step, backend=config.backend)
        inputs = config.paths[1:]
        say(f"{run.config.model} on {run.config.data}, step {run.step}: {run.config.workdir}")
    if inputs:
        given = asked(inputs, [out], run.about)
        items, names = given.items[: config.examples], given.names[: config.examples]
        if len(given.items) > len(items):
            say(f"Of {len(given.items)} files the first {len(items)}; --examples takes more.")
        examples = of_files(run, items, names)
    elif config.model:
        examples = of_files(run, *usual(run))
    else:
        examples = of_split(run, config.examples)
    if config.model:
        variables, lines = first(run.parts, run.parts.task.inputs(examples.batch), 0)
        run = run._replace(variables=variables)
        for line in lines or [
            f"{config.model} with random weights, on {', '.join(examples.names)}"
        ]:
            say(line)
    return Looked(run, examples, config.layer)


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
    looked = looked_at(config, out, lambda line: say(legible(line)))
    one = [jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype) for x in looked.examples.inputs]
    if not console.is_terminal:
        console.width = 200
    console.print(rendered(layer_table(looked.run.parts.network, *one), "One example"))
    for name, draw in DRAWN.items():
        try:
            for file, picture in draw(looked):
                results.save(picture, out / f"{file}.png")
                say(f"  {out / file}.png")
        except ValueError as error:  # what a network has nothing of
            if isinstance(error, Refused):
                raise
            say(legible(f"No {name}: {error}"))


if __name__ == "__main__":
    sys.exit(cli.command(Config, main, __doc__))
