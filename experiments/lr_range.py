"""Which learning rates a recipe can take: the range test of Smith (2017, arXiv:1506.01186).

python experiments/lr_range.py resnet_cifar --data digits --out runs/lr_range
python experiments/lr_range.py classify --data fashion_mnist --optimizer adamw --updates 400

From the first weights the rate grows exponentially with every update, from --lowest to --highest,
and the test ends where training diverges. It writes lr_range.csv and lr_range.png, and says where
the smoothed loss falls fastest and the last rate before it is lost again. A peak rate lies between
the two, nearer to the second where the recipe warms up. Some 200 updates; nothing is kept of them.
"""

import argparse
import csv
import dataclasses
import io
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":  # what it imports stands beside it, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from train.stop import end_quietly

    end_quietly()  # before the other imports, which take seconds

from experiments.by_name import named, refuse_several
from train import cli
from train.files import write
from train.prepared import prepare
from train.rate_range import LONG, Found, Tried, read, tried
from train.refusal import Refused
from train.report.figures import COLOURS, light, png
from train.results import folder

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """What is tested.

    Attributes:
        experiment: its name.
        options: of its command line.
        lowest, highest: rates of the first and the last update.
        updates: how many.
        out: a folder.
    """

    experiment: str
    options: tuple[str, ...] = ()
    lowest: float = 1e-6
    highest: float = 10.0
    updates: int = 200
    out: Path = Path("runs/lr_range")

    def __post_init__(self) -> None:
        if not 0 < self.lowest < self.highest < float("inf"):
            raise Refused(f"lowest={self.lowest} and highest={self.highest} are no range of rates")
        if self.updates < 10:
            raise Refused(f"updates={self.updates} must be at least 10")


def parsed(argv: Sequence[str]) -> Asked:
    """What the arguments ask for; all that is not ours is the experiment's.

    Raises:
        Refused: they can't be understood.
    """
    made = argparse.ArgumentParser(
        usage="lr_range.py EXPERIMENT [options] [options of the experiment]",
        description=(__doc__ or "").partition("\n\n")[0],
        allow_abbrev=False,
        exit_on_error=False,
    )
    made.add_argument("--lowest", type=float, default=Asked.lowest, help="rate of the first update")
    made.add_argument("--highest", type=float, default=Asked.highest, help="rate of the last")
    made.add_argument("--updates", type=int, default=Asked.updates, help="how many")
    made.add_argument("--out", type=cli.at_home, default=Asked.out, help="a folder")
    words = [*argv]
    experiment = words.pop(0) if words and not words[0].startswith("-") else ""
    try:
        found, others = made.parse_known_args(words)
    except argparse.ArgumentError as error:
        raise Refused(str(error)) from None
    if not experiment:
        raise Refused("no experiment is named: lr_range.py EXPERIMENT …, see --help")
    return Asked(experiment=experiment, options=tuple(others), **vars(found))


def constant(config: Any) -> Any:
    """The recipe with its rate at the peak from the first update on, however long the test takes.

    Raises:
        Refused: it goes on with a run, or is one of several seeds.
    """
    if config.workdir is not None or config.seeds:
        raise Refused("workdir and seeds: the test begins anew, with one --seed, and keeps no run")
    warm = {"warmup_steps": 0} if hasattr(config, "warmup_steps") else {}
    return dataclasses.replace(config, steps=LONG, epochs=None, **warm)


def main(asked: Asked) -> Found:
    """Test, write and say.

    Raises:
        Refused: there is no such recipe, or it diverges from the first rates on.
    """
    module = named(asked.experiment)
    config = cli.configure(module, asked.options)
    refuse_several(module, config)
    prepared = prepare(module, constant(config).remembering(None))
    folder(asked.out, "out")
    print(f"{config.model} on {config.data}: {asked.updates} updates from the first weights")
    tested = tried(
        prepared,
        lowest=asked.lowest,
        highest=asked.highest,
        updates=asked.updates,
        seed=config.seed,
    )
    found = read(tested)
    write(asked.out / "lr_range.csv", table(tested, found))
    title = f"{config.model} on {config.data}"
    write(asked.out / "lr_range.png", png(partial(draw, tested, found, title)))
    for line in said(tested, found):
        print(line)
    print(f"  {asked.out}/lr_range.png, lr_range.csv")
    return found


def said(tested: Tried, found: Found) -> list[str]:
    """The rates, in words."""
    least = f"The smoothed loss is least at the rate {found.least:.2g}"
    falls = "" if found.steepest is None else f"; it falls fastest at {found.steepest:.2g}"
    end = (
        f"Up to {tested.rates[-1]:.2g} it is not lost again: try a higher --highest."
        if found.last is None
        else f"The last rate before it is lost again is {found.last:.2g}."
    )
    return [f"{least}{falls}.", end]


def table(tested: Tried, found: Found) -> str:
    """A line an update."""
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(["update", "learning_rate", "loss", "smoothed"])
    for number, row in enumerate(zip(tested.rates, tested.losses, found.smoothed, strict=True), 1):
        lines.writerow([number, *("" if value != value else repr(float(value)) for value in row)])
    return out.getvalue()


def draw(tested: Tried, found: Found, title: str) -> "Figure":
    """Loss over the rate, and the rates that are named."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = made.subplots()
    axes.plot(tested.rates, tested.losses, ".", color="#999999", markersize=3, label="a batch")
    axes.plot(tested.rates, found.smoothed, color=COLOURS[0], linewidth=1.6, label="smoothed")
    named_rates = {"falls fastest": found.steepest, "last before it is lost": found.last}
    for number, (words, rate) in enumerate(named_rates.items(), 1):
        if rate is not None:
            line = ("--", ":")[number - 1]
            axes.axvline(rate, color=COLOURS[number], linestyle=line, label=f"{words}: {rate:.2g}")
    axes.set_xscale("log")
    finite = found.smoothed[found.smoothed == found.smoothed]
    least, most = float(finite.min()), float(max(finite[0], finite.min()))
    room = max(most - least, 1e-6 + abs(most) * 0.1)
    axes.set_ylim(least - 0.3 * room, most + 0.6 * room)
    axes.set_xlabel("learning rate", fontsize=9)
    axes.set_ylabel("training loss", fontsize=9)
    axes.set_title(title, fontsize=10, parse_math=False)
    light(axes)
    axes.legend(fontsize=8, frameon=False)
    return made


if __name__ == "__main__":
    sys.exit(cli.exit_code(lambda: main(parsed(sys.argv[1:]))))
