"""Gradient norm by layer at initialisation: plain and residual, with and without BatchNorm.

python experiments/gradient_norms.py --workdir runs/gradient_norms
python experiments/gradient_norms.py --workdir DIR --depths 20 --data fashion_mnist

A shortcut is said to keep the gradient from vanishing; He et al. 2015 (section 4.1) say that
BatchNorm does so already, and that plain networks fail for another reason. Here it is measured: the
norm of the loss's gradient with respect to each layer's kernel, before the first step, of the
networks and the loss of `ablation_nets.py`, on one batch, each seed with weights of its own.
"""

import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if __name__ == "__main__":  # what it imports stands beside it, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from train.stop import end_quietly

    end_quietly()  # before the other imports, which take seconds

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from experiments import ablation_nets
from models.inspect.layers import layer_table
from train.cli import at_home, command
from train.data.source import Source
from train.data.statistics import measured
from train.data.subset import read
from train.experiment import Parts, positive
from train.files import write
from train.legible import legible
from train.refusal import Refused
from train.report.figures import COLOURS, light, png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NETWORKS: dict[str, dict[str, Any]] = {
    "plain": {"shortcut": "none", "norm": "none"},
    "plain, BatchNorm": {"shortcut": "none"},
    "residual": {"shortcut": "A", "norm": "none"},
    "residual, BatchNorm": {"shortcut": "A"},
}
"""Name -> fields of `ablation_nets.Config`: with and without either."""
DEPTHS = {20: "resnet20", 32: "resnet32", 44: "resnet44", 56: "resnet56", 110: "resnet110"}
STYLES = (("--", "x"), ("-", "x"), ("--", "o"), ("-", "o"))


@dataclass(frozen=True, kw_only=True)
class Config:
    """What is measured.

    Attributes:
        workdir: where `gradient_norms.csv`, `.md` and `.png` go.
        data: any set that `ablation_nets.py` takes; "auto" is Fashion-MNIST where it is prepared,
            else the embedded digits.
        depths: layers of the networks, of 20, 32, 44, 56 and 110.
        batch_size: examples, the first ones of the training split.
        seeds: how many, from 0 on.
    """

    workdir: Path
    data: str = "auto"
    depths: tuple[int, ...] = (20, 110)
    batch_size: int = 64
    seeds: int = 3

    def __post_init__(self) -> None:
        positive(self, "batch_size", "seeds")
        for depth in self.depths:
            if depth not in DEPTHS:
                names = ", ".join(map(str, DEPTHS))
                raise Refused(f"depths={self.depths}: there are networks of {names} layers")


class Norms(NamedTuple):
    """Of one network.

    Attributes:
        network: its name in `NETWORKS`.
        depth: layers with weights.
        layers: their paths, from the image on; the head is the last.
        norms: (seeds, layers) float64, of the gradient of the mean loss of a batch.
    """

    network: str
    depth: int
    layers: tuple[str, ...]
    norms: np.ndarray

    @property
    def middle(self) -> np.ndarray:
        """(layers,): the geometric mean over the seeds."""
        return np.asarray(np.exp(np.log(self.norms).mean(0)))

    @property
    def ratio(self) -> float:
        """The first convolution's norm over the last one's."""
        return float(self.middle[0] / self.middle[-2])


def gradient_norms(parts: Parts, batch: dict[str, jax.Array], seed: int) -> dict[str, float]:
    """Path of each layer, from the image on -> norm of the gradient of its kernel, one seed.

    One operation after another: a hundred layers are compiled for much longer than they run once.

    Args:
        parts: of an experiment of classification.
        batch: of training examples.
        seed: of the weights.
    """
    inputs = parts.task.inputs(batch)
    layers = [row.path for row in layer_table(parts.network, inputs) if row.multi_adds]
    variables = dict(parts.network.init(jax.random.key(seed), inputs, train=False))
    params = variables.pop("params")

    def loss(params: Any) -> jax.Array:
        return parts.task.loss({"params": params, **variables}, batch, jax.random.key(0))[0]

    grads = jax.grad(loss)(params)
    found = {}
    for path in layers:
        leaf = grads
        for name in path.split("/"):
            leaf = leaf[name]
        found[path] = float(jnp.linalg.norm(leaf["kernel"]))
    return found


def batch_of(source: Source, size: int) -> dict[str, jax.Array]:
    """The first examples, as a training step is given them without augmentation."""
    examples = read(source, range(min(size, len(source))))
    found = {key: jnp.stack([one[key] for one in examples]) for key in ("image", "label")}
    return found | {"valid": jnp.ones(len(examples), bool)}


def measure(config: Config) -> list[Norms]:
    """Every network at every depth."""
    recipe = ablation_nets.recipe(config.data)
    source = ablation_nets.splits(recipe).train
    about, batch = measured(source), batch_of(source, config.batch_size)
    found = []
    for depth in config.depths:
        for network, fields in NETWORKS.items():
            own = replace(recipe, model=DEPTHS[depth], **fields)
            parts = ablation_nets.build(own, about)
            each = [gradient_norms(parts, batch, seed) for seed in range(config.seeds)]
            norms = np.array([[*one.values()] for one in each], np.float64)
            found.append(Norms(network, depth, tuple(each[0]), norms))
    return found


def draw(found: Sequence[Norms]) -> "Figure":
    """A panel a depth: the norm over the layers, each seed's too."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    depths = list(dict.fromkeys(one.depth for one in found))
    drawn = Figure(figsize=(1.5 + 4.2 * len(depths), 4.4), layout="constrained")
    for axes, depth in zip(drawn.subplots(1, len(depths), squeeze=False)[0], depths, strict=True):
        for one in (one for one in found if one.depth == depth):
            number = [*NETWORKS].index(one.network)
            line, marker = STYLES[number]
            how = {"color": COLOURS[number], "linestyle": line}
            x = np.arange(1, len(one.layers) + 1)
            axes.plot(x, one.norms.T, linewidth=0.5, alpha=0.5, **how)
            every = max(1, len(x) // 10)
            axes.plot(x, one.middle, label=one.network, marker=marker, markevery=every, ms=4, **how)
        axes.set(title=f"{depth} layers", yscale="log", xlabel="layer, from the image on")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        light(axes)
    drawn.axes[0].set_ylabel("gradient norm of the layer's kernel")
    handles, names = drawn.axes[0].get_legend_handles_labels()
    columns = 4 if len(depths) > 1 else 2
    drawn.legend(handles, names, loc="outside upper center", ncols=columns, frameon=False)
    return drawn


HEADINGS = (
    "layers",
    "network",
    "first",
    "middle",
    "last",
    "head",
    "first / last",
    "largest / least",
)


def rows(found: Sequence[Norms]) -> list[tuple[str, ...]]:
    """Under `HEADINGS`: first and last of the convolutions."""
    made = []
    for one in found:
        convolutions = one.middle[:-1]
        places = (0, len(convolutions) // 2, -1)
        values = [*convolutions[list(places)], one.middle[-1], one.ratio]
        spread = convolutions.max() / convolutions.min()
        made.append((str(one.depth), one.network, *(f"{value:.3g}" for value in (*values, spread))))
    return made


def as_csv(found: Sequence[Norms]) -> str:
    """A line a layer and seed."""
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(["depth", "network", "layer", "path", "seed", "norm"])
    for one in found:
        for seed, norms in enumerate(one.norms):
            for number, (path, norm) in enumerate(zip(one.layers, norms, strict=True), 1):
                lines.writerow([one.depth, one.network, number, path, seed, f"{norm:.6g}"])
    return out.getvalue()


def as_markdown(found: Sequence[Norms]) -> str:
    """The table."""
    lines = [HEADINGS, ("---",) * len(HEADINGS), *rows(found)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main(config: Config) -> list[Norms]:
    """Measure, print, write and draw."""
    path = at_home(config.workdir)
    found = measure(config)
    table = Table(*HEADINGS, title="Gradient norm of a layer's kernel, geometric mean of the seeds")
    for row in rows(found):
        table.add_row(*row)
    Console(width=110).print(table)
    path.mkdir(parents=True, exist_ok=True)
    write(path / "gradient_norms.csv", as_csv(found))
    write(path / "gradient_norms.md", as_markdown(found))
    write(path / "gradient_norms.png", png(partial(draw, found)))
    print(legible(str(path / "gradient_norms.png")))
    return found


if __name__ == "__main__":
    sys.exit(command(Config, main, (__doc__ or "").partition("\n\n")[0]))
