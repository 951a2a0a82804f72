"""What `forecast.py` finds: networks and baselines on the test part; who wins."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
import rich.box
import rich.table
from rich.console import Console

from experiments.forecast_baselines import autoregression, seasonal_naive, windows_of
from experiments.forecast_series import KNOWN, Series, series
from train import workdir as directory
from train.assess import finite
from train.data.named import Splits
from train.files import WriteFailed, cause, write
from train.metrics.quantities import readable
from train.metrics.regression import Residuals, mae, mase, r2, residuals, rmse
from train.metrics.spread import spread
from train.opened import opened
from train.report.figures import COLOURS, light, png
from train.terminal import Terminal
from train.workdir import SUMMARY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAIVE, LINEAR = "seasonal naive", "linear autoregression"
FIGURES = ("mase", "mae", "rmse", "r2")
SHOWN = 3
"""Forecasts that are drawn."""


class Found(NamedTuple):
    """Of one study.

    Attributes:
        data: of the series.
        model: the network.
        ridge: the autoregression's penalty.
        scores: who forecasts -> a figure of `FIGURES` -> its value, of the network one a seed.
        by_step: who -> MASE of each step ahead, of the network the mean over seeds.
        winner: who has the least MASE, of the network the mean over seeds.
        drawn: for the figure, see `Drawn`.
    """

    data: str
    model: str
    ridge: float
    scores: dict[str, dict[str, list[float]]]
    by_step: dict[str, np.ndarray]
    winner: str
    drawn: "Drawn"


class Drawn(NamedTuple):
    """Some forecasts of the test part.

    Attributes:
        steps: of the whole series.
        begin: where the test part begins.
        at: the first step that each forecasts.
        forecasts: who -> (runs, forecasts, ahead).
    """

    steps: Series
    begin: int
    at: Sequence[int]
    forecasts: dict[str, np.ndarray]


def found(config: Any, data: Splits, runs: Sequence[Path]) -> Found:
    """Everything on the windows of the test part.

    Args:
        config: of the study.
        data: its windows.
        runs: directories of finished runs; one that diverged has no forecasts.
    """
    past, truth = windows_of(data.test)
    linear, ridge = autoregression(data.train, data.validation, relative=config.relative)
    forecasts = {
        config.model: [network_forecasts(path, past) for path in runs if (path / SUMMARY).exists()],
        NAIVE: [seasonal_naive(config.season, config.ahead)(past)],
        LINEAR: [linear(past)],
    }
    sums = {who: [residuals(one, truth) for one in each] for who, each in forecasts.items()}
    scores = {
        who: {name: [figure(name, one, config.scale) for one in each] for name in FIGURES}
        for who, each in sums.items()
    }
    by_step = {
        who: np.mean([mase(one, config.scale) for one in each], axis=0)
        for who, each in sums.items()
    }
    means = {who: float(np.mean(score["mase"])) for who, score in scores.items()}
    # Nobody wins by an error that is no number: it would be the least of all.
    winner = min(means, key=lambda who: means[who] if math.isfinite(means[who]) else math.inf)
    steps = series(config.data)
    starts = data.test.starts + config.past  # type: ignore[attr-defined]
    some = np.linspace(0, len(starts) - 1, SHOWN).round().astype(int)
    drawn = Drawn(
        steps,
        len(steps.values) - len(data.test.series),  # type: ignore[attr-defined]
        [int(starts[i]) for i in some],
        {who: np.stack(each)[:, some] for who, each in forecasts.items()},
    )
    return Found(config.data, config.model, ridge, scores, by_step, winner, drawn)


def figure(name: str, sums: Residuals, scale: float) -> float:
    """One of `FIGURES`, the mean over the steps ahead."""
    if name == "mase":
        return float(mase(sums, scale).mean())
    return float({"mae": mae, "rmse": rmse, "r2": r2}[name](sums).mean())


def network_forecasts(path: Path, past: np.ndarray) -> np.ndarray:
    """(N, past) -> (N, ahead) by the weights that a run was judged by."""
    run = opened(path)
    task = run.parts.task

    @jax.jit
    def forecast(variables: dict[str, Any], signal: jax.Array) -> jax.Array:
        return task.predict(variables, task.inputs({"signal": signal}))["target"]

    return np.asarray(forecast(run.variables, past[..., None].astype(np.float32)), np.float64)


def verdict(found: Found) -> str:
    """Who wins, in a sentence."""
    means = {who: float(np.mean(scores["mase"])) for who, scores in found.scores.items()}
    best = min((who for who in means if who != found.model), key=lambda who: means[who])
    own, other = f"MASE {means[found.model]:.3f}", f"MASE {means[best]:.3f}"
    if found.winner == found.model:
        return f"{found.model} wins: {own}, the best baseline, {best}, {other}."
    return f"A baseline wins: {best}, {other}; {found.model} has {own}."


def lines(found: Found) -> list[tuple[str, ...]]:
    """The table's lines below its head: who, and `FIGURES`."""
    return [
        (who, *(around(scores[name]) for name in FIGURES)) for who, scores in found.scores.items()
    ]


def around(values: Sequence[float]) -> str:
    """Of several seeds the mean and the standard deviation."""
    made = spread(values)
    return f"{made.mean:.3f}" + ("" if made.std is None else f" ± {made.std:.3f}")


def head(found: Found) -> tuple[str, ...]:
    """The table's."""
    unit = KNOWN[found.data].unit
    return (KNOWN[found.data].words, "MASE", f"MAE, {unit}", f"RMSE, {unit}", "R²")


def markdown(found: Found) -> str:
    """The table, and who wins."""
    top = head(found)
    rule = ("---", *["---:"] * (len(top) - 1))
    rows = "".join(f"| {' | '.join(line)} |\n" for line in (top, rule, *lines(found)))
    return f"{rows}\n{verdict(found)}\n"


def printable(found: Found) -> rich.table.Table:
    """For a terminal."""
    known = KNOWN[found.data]
    title = f"{known.words}; MAE and RMSE in {known.unit}\nmean over the test part and steps ahead"
    made = rich.table.Table(title=title, box=rich.box.SIMPLE_HEAD)
    made.pad_edge, made.padding = False, (0, 2, 0, 0)  # so that it fits into 80 columns
    made.add_column(overflow="fold", min_width=len(LINEAR.partition(" ")[2]))
    for name in FIGURES:
        made.add_column(readable(name), justify="right", no_wrap=True)
    for line in lines(found):
        made.add_row(*line)
    return made


def leave(found: Found, path: Path) -> None:
    """Write `forecasts.json`, `forecasts.md` and `forecasts.png`; say the table and who wins."""
    terminal = Terminal(Console(markup=False, emoji=False), 0)
    directory.write(
        path / "forecasts.json",
        {
            "data": found.data,
            "winner": found.winner,
            "ridge": found.ridge,
            "test": {
                who: {name: [finite(one) for one in values] for name, values in scores.items()}
                for who, scores in found.scores.items()
            },
        },
    )
    write(path / "forecasts.md", markdown(found))
    try:
        write(path / "forecasts.png", png(partial(draw, found)))
    except WriteFailed:
        raise
    except Exception as error:  # the figure is no reason to lose what was measured
        terminal.say(f"The figure could not be drawn: {cause(error)}.")
    terminal.show(printable(found))
    terminal.say(verdict(found))
    terminal.say(f"  {path}/forecasts.png, forecasts.md, forecasts.json")


def draw(found: Found) -> "Figure":
    """Some forecasts over the test part, and MASE over the steps ahead."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(11, 6.4), layout="constrained")
    above, below = drawn.subplots(2, 1, height_ratios=(3, 2))
    colours = dict(zip(found.scores, COLOURS, strict=False))
    _series(above, found, colours)
    for who, values in found.by_step.items():
        below.plot(np.arange(1, len(values) + 1), values, color=colours[who], label=who)
    below.axhline(1, color="#888888", linewidth=1, linestyle=":")
    below.set(xlabel="steps ahead", ylabel="MASE", ylim=(0, None))
    below.set_title("How far off, by the distance of the step that is forecast", fontsize=10)
    for axes in (above, below):
        light(axes)
    handles, names = above.get_legend_handles_labels()
    drawn.legend(handles, names, loc="outside upper center", ncols=4, frameon=False)
    return drawn


def _series(axes: "Axes", found: Found, colours: Mapping[str, str]) -> None:
    """The end of the series, and each forecast, of several seeds the mean within their range."""
    (values, years), begin, at, forecasts = found.drawn
    known = KNOWN[found.data]
    axes.plot(years[begin:], values[begin:], color="#444444", linewidth=1, label="truth")
    for who, runs in forecasts.items():
        for k, first in enumerate(at):
            when = years[first : first + runs.shape[-1]]
            middle = runs[:, k].mean(0)
            axes.plot(when, middle, color=colours[who], linewidth=1.6, label=None if k else who)
            if len(runs) > 1:
                axes.fill_between(
                    when, runs[:, k].min(0), runs[:, k].max(0), color=colours[who], alpha=0.25
                )
    for first in at:
        axes.axvline(years[first], color="#888888", linewidth=0.8, linestyle=":")
    axes.set(ylabel=known.unit)
    axes.set_title(f"{known.words}: the test part, and {len(at)} forecasts of it", fontsize=10)
