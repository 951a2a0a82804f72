"""What an ablation found: a table, its lines as CSV, every seed as a point, a page."""

import csv
import io
import math
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from train.ablation import BASELINE, Row
from train.files import write
from train.legible import legible
from train.metrics.paired import (
    LEVEL,
    Interval,
    Paired,
    holm,
    interval,
    paired,
    smallest_effect,
)
from train.metrics.quantities import SHARE, quantity
from train.metrics.spread import Spread, spread
from train.report.figures import COLOURS, light, png
from train.report.markup import figure, number, render, written
from train.report.page import REPORT
from train.sweep import Outcome
from train.terminal import duration

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CSV, MARKDOWN, FIGURE = "ablation.csv", "ablation.md", "ablation.png"
SIGNIFICANT = 0.05
"""Below it, a p-value that is adjusted for the others of its table is an effect."""

VARIES = (
    "Initialisation, order and augmentation vary with the seed, and rows are paired by it. The "
    "validation cut does not: where a part of the training split ranks checkpoints, it is the same "
    "for every seed, so that what it contributes to the spread is not in it."
)
"""The limit that is said of every table."""


class Line(NamedTuple):
    """One row of the table."""

    row: Row
    outcome: Outcome | None
    """None while the trial has not ended."""
    values: list[float | None]
    """One a seed; None for a seed that diverged, or has not run."""
    spread: Spread
    interval: Interval | None
    """Of the mean, 95 %."""
    paired: Paired | None
    """To the baseline of its group; None for a baseline."""
    adjusted: float | None
    """Its p-value by Holm's procedure, over the table."""


def lines(
    rows: Sequence[Row],
    outcomes: Sequence[Outcome | None],
    values: Sequence[Sequence[float | None]],
) -> list[Line]:
    """The table, computed.

    Args:
        rows: of the ablation.
        outcomes: one a row.
        values: one list a row, one value a seed, in one order.
    """
    baselines = {row.group: mine for row, mine in zip(rows, values, strict=True) if row.baseline}
    pairs = [
        None if row.baseline else paired(mine, baselines[row.group])
        for row, mine in zip(rows, values, strict=True)
    ]
    adjusted = holm([None if pair is None else pair.p for pair in pairs])
    return [
        Line(row, outcome, [*mine], spread(mine), interval(finite(mine)), pair, p)
        for row, outcome, mine, pair, p in zip(rows, outcomes, values, pairs, adjusted, strict=True)
    ]


def finite(values: Sequence[float | None]) -> list[float]:
    """Those that are there."""
    return [value for value in values if value is not None and math.isfinite(value)]


class Ablated(NamedTuple):
    """A table and what is said of it."""

    title: str
    metric: str
    seeds: tuple[int, ...]
    lines: list[Line]
    facts: dict[str, str]
    """What all rows have in common: data, steps, …"""
    follows: Mapping[str, Mapping[str, Any]]
    """Name of a row -> fields that its recipe has otherwise, beside those that it names."""
    commands: Mapping[str, Sequence[str]]
    """Name of a row -> the command that makes it by itself."""
    pages: Mapping[str, str] = MappingProxyType({})
    """Name of a row -> path of its own page from that of the ablation on; of none without one."""

    @property
    def share(self) -> bool:
        """Whether values are read in per cent."""
        return quantity(self.metric).unit == SHARE

    def amount(self, value: float | None, *, signed: bool = False) -> str:
        """A value or a difference, without its unit."""
        if value is None or not math.isfinite(value):
            return "–"
        sign = "+" if signed else ""
        return f"{100 * value:{sign}.2f}" if self.share else f"{value:{sign}.4g}"

    def between(self, found: Interval | None, *, signed: bool = False) -> str:
        """An interval."""
        if found is None:
            return "–"
        return " to ".join(self.amount(end, signed=signed) for end in found)

    def verdict(self, line: Line) -> str:
        """What the data say of a row."""
        if line.outcome is None:
            return "not run yet"
        if line.outcome.error:
            return f"failed: {line.outcome.error}"
        if line.outcome.state == "stopped":
            return "stopped, not at its end"
        if line.paired is None:
            return "" if line.row.change == BASELINE else "the baseline"
        found = line.paired
        if not line.spread.n:
            return "no value in any seed"
        if not found.n:
            return self.without_pairs(line)
        if found.n < 2:
            return "one seed: no test"
        if found.std == 0:
            same = found.difference == 0 or found.p == 1
            return "the same in every seed" if same else "one difference in every seed: no test"
        if line.adjusted is not None and line.adjusted < SIGNIFICANT:
            better = quantity(self.metric).better * found.difference
            if not better:
                return "higher" if found.difference > 0 else "lower"
            return "better" if better > 0 else "worse"
        return f"no effect found (one of {self.amount(self.detectable(line))} would be)"

    def without_pairs(self, line: Line) -> str:
        """Why a row that has values is not compared."""
        base = next(o for o in self.lines if o.row.baseline and o.row.group == line.row.group)
        if base.spread.n:
            return "no seed in common with the baseline"
        ended = base.outcome is not None and base.outcome.state != "stopped"
        return f"the baseline has no result{'' if ended else ' yet'}"

    def detectable(self, line: Line) -> float | None:
        """The smallest effect that a row's seeds would find in this table, in 80 % of cases.

        At the 5 % shared out over the comparisons, which Holm's procedure grants each of them:
        less than that of one comparison by itself would be missed here.
        """
        if line.paired is None or line.paired.std is None:
            return None
        level = 1 - SIGNIFICANT / max(self.comparisons, 1)
        return line.paired.std * smallest_effect(line.paired.n, level=level)

    @property
    def comparisons(self) -> int:
        """That have a p-value: what it is adjusted for."""
        return sum(line.paired is not None and line.paired.p is not None for line in self.lines)

    @property
    def tested(self) -> str:
        """How differences are tested."""
        several, test = self.comparisons, "p is of a paired two-sided t test"
        if not several:
            return "none of them can be tested"
        if several == 1:
            return f"{test}, the only one of this table, so that there is nothing to adjust"
        return f"{test}, adjusted by Holm's procedure over the {several} comparisons of this table"

    @property
    def unit(self) -> str:
        """Of values."""
        return ", %" if self.share else ""

    @property
    def notes(self) -> list[str]:
        """What no reader may miss, a paragraph each."""
        several = self.comparisons
        points = "percentage points" if self.share else "the metric's unit"
        told = [
            f"Shown is the {quantity(self.metric).words} of the test split: mean ± standard "
            f"deviation (n − 1) over the seeds {', '.join(map(str, self.seeds))}. Intervals are "
            f"Student's, {100 * LEVEL:.0f} %, not adjusted. Differences are to the baseline, seed "
            f"by seed, in {points}; {self.tested}.",
            VARIES,
        ]
        if several:
            told.append(
                "“No effect found” is a result and no proof that there is none. Beside it stands "
                "the smallest effect that so many seeds would have found in this table: in 80 % of "
                f"cases, two-sided at 5 %{f' / {several}' if several > 1 else ''}, with the spread "
                "of differences that was measured."
            )
        for line in self.lines:
            if line.outcome is not None and 0 < line.spread.n < (every := len(self.seeds)):
                told.append(
                    f"{legible(line.row.name)} has a value of {line.spread.n} of {every} seeds: "
                    "what is said of it is said of these alone. Seeds that diverged are not left "
                    "out by chance."
                )
        if any(line.outcome is not None and line.outcome.error for line in self.lines):
            told.append("A row that failed has its error; the others ran on.")
        for name, fields in self.follows.items():
            if fields:
                also = ", ".join(f"{field}={value}" for field, value in fields.items())
                told.append(f"With {name} the recipe also has {also}.")
        return told


def write_ablation(path: Path, found: Ablated) -> None:
    """`ablation.csv` and `ablation.md`, whole or not at all.

    Raises:
        WriteFailed: one can't be written.
    """
    write(path / CSV, csv_of(found))
    write(path / MARKDOWN, markdown(found))


def write_shown(path: Path, found: Ablated) -> Path:
    """`ablation.png`, and the page with the same figure in it.

    Raises:
        WriteFailed: one can't be written.
    """
    write(path / FIGURE, png(partial(draw, found)))
    page = render(
        "ablation.html",
        title=found.title,
        facts=render("facts.html", rows=[*found.facts.items()]),
        heads=heads(found),
        rows=[
            (quote(found.pages.get(line.row.name, "")), *cells(found, line)) for line in found.lines
        ],
        notes=found.notes,
        figure=figure(partial(draw, found), f"{found.title}: every seed"),
        commands=[shlex.join(words) for words in found.commands.values()],
    )
    write(path / REPORT, written(page))
    return path / REPORT


def heads(found: Ablated) -> list[str]:
    """Of the table's columns."""
    metric = quantity(found.metric).words + found.unit
    return [
        *("row", metric, "95 %", "difference", "95 %", "p (Holm)", "what the data say"),
        *("seeds", "parameters", "time"),
    ]


def cells(found: Ablated, line: Line) -> list[str]:
    """Of a line, in the order of the heads."""
    deviation = line.spread.std
    mean = found.amount(line.spread.mean if line.spread.n else None)
    pair, outcome, every = line.paired, line.outcome, len(found.seeds)
    return [
        legible(line.row.name),
        mean if deviation is None else f"{mean} ± {found.amount(deviation)}",
        found.between(line.interval),
        "" if pair is None else found.amount(pair.difference, signed=True),
        "" if pair is None else found.between(pair.interval, signed=True),
        "" if pair is None else probability(line.adjusted),
        legible(found.verdict(line)),
        f"{line.spread.n}" if line.spread.n == every else f"{line.spread.n} of {every}",
        "–" if outcome is None else number(outcome.parameters),
        "–" if outcome is None else duration(outcome.seconds),
    ]


def probability(p: float | None) -> str:
    """0.023; of less than a thousandth no more than that."""
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def markdown(found: Ablated) -> str:
    """`ablation.md`."""
    head = heads(found)
    rule = ["---", *["---:"] * 5, "---", *["---:"] * 3]
    table = [head, rule, *(cells(found, line) for line in found.lines)]
    text = [f"# {legible(found.title)}", ""]
    if found.facts:
        text += ["; ".join(f"{name}: {value}" for name, value in found.facts.items()) + ".", ""]
    text += ["| " + " | ".join(one.replace("|", r"\|") for one in row) + " |" for row in table]
    for note in found.notes:
        text += ["", *textwrap.wrap(note, 120, break_on_hyphens=False, break_long_words=False)]
    text += ["", "Each row by itself:", "", "```"]
    text += [legible(shlex.join(words)) for words in found.commands.values()]
    return "\n".join([*text, "```", ""])


def csv_of(found: Ablated) -> str:
    """`ablation.csv`: numbers as they were measured, a column a seed."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(
        [
            *("row", "group", "change", "baseline", "state", "error", "metric", "n", "mean", "std"),
            *("mean_low", "mean_high", "difference", "pairs", "difference_std", "difference_low"),
            *("difference_high", "p", "p_holm", "detectable", "parameters", "seconds"),
            *(f"seed_{seed}" for seed in found.seeds),
        ]
    )
    for line in found.lines:
        if line.outcome is None:
            continue
        pair = line.paired or Paired(math.nan, 0)
        table.writerow(
            [
                *(legible(text) for text in (line.row.name, line.row.group, line.row.change)),
                *(line.row.baseline, line.outcome.state, legible(line.outcome.error)),
                *(found.metric, line.spread.n, there(line.spread.mean), there(line.spread.std)),
                *(line.interval or ("", "")),
                *(there(pair.difference), "" if line.paired is None else pair.n, there(pair.std)),
                *(pair.interval or ("", "")),
                *(there(pair.p), there(line.adjusted), there(found.detectable(line))),
                *(line.outcome.parameters, line.outcome.seconds),
                *(there(value) for value in line.values),
            ]
        )
    return out.getvalue()


def there(value: float | None) -> float | str:
    """A number; "" of what is none."""
    return "" if value is None or not math.isfinite(value) else value


def draw(found: Ablated) -> "Figure":
    """Left every value, right every difference: points, their mean, and its 95 % interval."""
    from matplotlib.figure import Figure

    count = len(found.lines)
    drawn = Figure(figsize=(9.5, 1.1 + 0.38 * max(count, 2)), layout="constrained")
    values, differences = drawn.subplots(1, 2, sharey=True)
    scale = 100.0 if found.share else 1.0
    base: dict[str, list[float | None]] = {}
    for place, line in enumerate(found.lines):
        if line.row.baseline:
            base[line.row.group] = line.values
        colour = "#555555" if line.row.baseline else COLOURS[0]
        mark(values, place, line.values, line.interval, scale, colour)
        if line.outcome is not None and line.outcome.error:
            at = (0.02, place)
            values.annotate(
                "failed", at, xycoords=("axes fraction", "data"), fontsize=8, color="#B00020",
                va="center",
            )  # fmt: skip
        if line.paired is not None:
            pairs = zip(line.values, base[line.row.group], strict=True)
            less = [None if a is None or b is None else a - b for a, b in pairs]
            mark(differences, place, less, line.paired.interval, scale, colour)
    differences.tick_params(axis="y", length=0)
    differences.axvline(0, color="#888888", linewidth=1)
    words = quantity(found.metric).words + found.unit
    apart = "difference to the baseline" + (", percentage points" if found.share else "")
    for axes, title in ((values, words), (differences, apart)):
        axes.set_title(title, fontsize=9, parse_math=False)
        light(axes)
    labels = ["\n".join(textwrap.wrap(legible(one.row.name), 42)) for one in found.lines]
    values.set_yticks(range(count), labels, fontsize=8, parse_math=False)
    values.set_ylim(count - 0.5, -0.5)
    return drawn


def mark(
    axes: "Axes",
    place: int,
    values: Sequence[float | None],
    reach: Interval | None,
    scale: float,
    colour: str,
) -> None:
    """A row: its points, its mean as a stroke, the interval of the mean as a bar."""
    there = [scale * value for value in finite(values)]
    if reach is not None:
        ends = [scale * end for end in reach]
        axes.plot(ends, [place, place], color=colour, linewidth=6, alpha=0.2, solid_capstyle="butt")
    if there:
        mean = sum(there) / len(there)
        axes.plot([mean], [place], marker="|", markersize=15, color=colour, linestyle="none")
    axes.plot(
        there, [place] * len(there), marker="o", markersize=4.5, linestyle="none", color=colour,
        alpha=0.75,
    )  # fmt: skip
