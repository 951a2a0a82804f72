"""A TCN forecasts a real series, beside the season before and a linear autoregression.

python experiments/forecast.py                    CO2 at Mauna Loa, weekly, a year ahead
python experiments/forecast.py --data elnino      sea surface temperature; sunspots
python experiments/forecast.py --model tcn        any 1-D network of models.names()
python experiments/forecast.py --workdir DIR      goes on with a study that was stopped

The series come with statsmodels (`pip install 'svertka[forecast]'`). The last fifth of the steps is
tested on, the fifth before it is chosen on; MASE counts in the seasonal-naive error of the part
that trains. Five seeds; who wins on the test part, network or baseline, is said.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, Self

if __name__ == "__main__":  # what it imports stands beside it, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from train.stop import end_quietly

    end_quietly()  # before the other imports, which take seconds

import flax.linen as nn
import jax
from jax import lax
from tyro.conf import Fixed, Suppress

import models
from experiments import forecast_findings as findings
from experiments.forecast_series import KNOWN, series
from models.layers.norm import BatchNorm
from models.sequence.lengths import last_step
from train import cli, optim
from train import workdir as directory
from train.data.named import Splits
from train.data.source import About
from train.data.windows import windows
from train.experiment import Parts, choice, decided, fraction, nonnegative, positive
from train.metrics.regression import seasonal_error
from train.network import network_of, refuse_other_network
from train.place import place
from train.prepared import prepare
from train.refusal import Refused, choose
from train.report.regression import regression_part
from train.run import complete
from train.study import within
from train.tasks.inputs import first_variables
from train.tasks.regression import regression
from train.tasks.residual_losses import absolute, huber, squared
from train.tasks.task import Summary
from train.trained import Trained, descent

NAME = f"experiments.{Path(__file__).stem}"

LOSSES = {"squared": squared, "absolute": absolute, "huber": huber(1.0)}


@dataclass(frozen=True, kw_only=True)
class Config(Trained):
    """The recipe.

    Attributes:
        data: "co2", "elnino" or "sunspots".
        model: any 1-D network of `models.names("sequence")`.
        past: steps that are seen.
        ahead: steps after them that are forecast, all at once.
        season: steps of a season: of the baseline, and of the error that MASE counts in.
        relative: whether values count from the last one seen: the network sees and forecasts how
            far the series is from there; else how far from its mean.
        loss: of standardised residuals: "squared", "absolute" or "huber", from 1 on linear.
        learning_rate: at its peak; from there half a cosine takes it to 0.
        weight_decay: of kernels, times the rate (AdamW).
        validation: share of the steps that ranks checkpoints; those before the test's.
        test: share of the steps that is tested on, the last ones.
        scale: the seasonal-naive error of the part that trains, in the unit of the series.
    """

    data: str = "co2"
    model: str = "tcn_small"
    past: int = 104
    ahead: int = 52
    season: int = 52
    relative: bool = True
    loss: Literal["squared", "absolute", "huber"] = "squared"
    steps: int | None = 1500
    batch_size: int | None = 64
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    warmup_steps: int | None = 50
    ema: float = 0.99
    evaluate_every: int | None = 100
    validation: float = 0.2
    test: float = 0.2
    scale: Annotated[float, Fixed, Suppress] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        choice(self, "data", KNOWN)
        choice(self, "loss", LOSSES)
        refuse_other_network(self.model, "sequence")
        positive(self, "past", "ahead", "season")
        nonnegative(self, "scale")
        fraction(self, "test")
        if self.season > self.past:
            raise Refused(f"season={self.season} is longer than past={self.past}, which is seen")

    def known(self) -> dict[str, Sequence[str]]:
        """All series and 1-D networks."""
        return {"data": [*KNOWN], "model": models.names("sequence")}

    def remembering(self, earlier: Self | None) -> Self:
        """The recipe with `scale`, as the run that goes on has it, or found anew."""
        if earlier is not None:
            return replace(self, scale=earlier.scale)
        train = splits(self).train.series  # type: ignore[attr-defined]
        if len(train) <= self.season:
            raise Refused(f"season={self.season}, but {len(train)} steps train")
        scale = float(seasonal_error(train[:, 0], self.season))
        if not 0 < scale < math.inf:
            raise Refused(f"season={self.season}: what trains repeats itself, and MASE has no unit")
        return replace(self, scale=scale)


def recipe(data: str = "auto") -> Config:
    """The recipe for a series."""
    data = "co2" if data == "auto" else data
    choose("data", data, KNOWN)
    known = KNOWN[data]
    return Config(
        data=data,
        season=known.season,
        past=known.past,
        ahead=known.ahead,
        seeds=(0, 1, 2, 3, 4),
        log_every=50,
    )


def splits(config: Config) -> Splits:
    """Windows of the series, divided by time."""
    return windows(
        series(config.data).values,
        config.past,
        config.ahead,
        validation=config.validation,
        test=config.test,
        name=config.data,
    )


class FromLast(nn.Module):
    """A network of changes: what it sees, and what it says, is counted from the last step.

    (B, L, C) -> (B, num_classes) of the first channel

    Attributes:
        network: of the changes.
        unit: they are divided by it, and what the network says is multiplied.
    """

    network: nn.Module
    unit: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, length: jax.Array | None = None) -> jax.Array:
        last = last_step(x, length)
        seen = (x - last[:, None]) / self.unit
        change = self.network(seen, train=train, length=length)  # type: ignore[operator]
        return change * self.unit + last[:, :1].astype(change.dtype)


def build(config: Config, about: About, *, conv=lax.conv_general_dilated, norm=BatchNorm) -> Parts:
    """Network, task and optimiser; needs no data."""
    mean, std = config.statistics(about)
    network = network_of(config, len(about.targets), conv=conv, norm=norm)
    if config.relative:
        network = FromLast(network, config.scale / std[0] or 1.0)
    task = regression(
        network,
        targets=about.targets,
        mean=mean,
        std=std,
        residual_loss=LOSSES[config.loss],
        target_mean=mean[0],
        target_std=std[0],
        scale=config.scale or None,
    )
    return Parts(
        network=network,
        task=task,
        transform=None,
        rank="-mae",
        report=[regression_part],
        init=partial(first_variables, network),
        **descent(config, optim.adamw, optim.cosine(decided(config.steps))),
    )


def main(config: Config) -> Summary:
    """Train, then hold every seed against the baselines on the test part.

    Returns:
        The summary of the run, or of several seeds; `tables["forecasts"]`: the findings.
    """
    this, path = sys.modules[__name__], config.workdir
    earlier = None if path is None else directory.read_config(path, NAME, Config)
    config = config.remembering(earlier)
    with place(this, config) as claim:
        prepared = prepare(this, config)
        path = claim()
        if config.seeds:
            summary = within(prepared, path, one=complete)
            runs = [path / f"seed_{seed}" for seed in config.seeds]
        else:
            summary, runs = complete(prepared, path), [path]
        found = findings.found(prepared.config, prepared.data, runs)
        findings.leave(found, path)
    return Summary(summary.scalars, {**summary.tables, "forecasts": found})


if __name__ == "__main__":
    sys.exit(cli.command_line(NAME))
