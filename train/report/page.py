"""The frame of a report: what was trained on what, the numbers, the curves, the provenance."""

import functools
import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from markupsafe import Markup

from train.data.source import About, Source, classes_said, extent_said
from train.files import cause, write
from train.legible import legible
from train.logs import read_metrics
from train.metrics.quantities import ordered, readable
from train.refusal import Refused
from train.report.curves import Chart, charts, draw
from train.report.markup import figure, number, render, score, written
from train.tasks.task import Summary

T = TypeVar("T")

Section = Callable[[Summary, About, Source], Markup]
"""What a task adds to the page: one or more `<section>`s."""

REPORT = "report.html"


def write_report(
    workdir: str | os.PathLike,
    title: str,
    summary: Summary | None,
    about: About,
    source: Source,
    sections: Sequence[Section],
    *,
    lead: str = "",
    say: Callable[[str], None] = print,
    into: str | os.PathLike | None = None,
) -> pathlib.Path:
    """Writes `report.html`, one file that needs no other, no network and no script.

    A part of the page that can't be drawn is named in its place, and `say` gets a line about it:
    a picture or a broken file is no reason to lose the result of a long run.

    Args:
        workdir: `metrics.jsonl`, `config.json`, `about.json`, `provenance.json` and the seconds of
            `summary.json` are read from it, as far as they are there.
        title: what was trained, in words.
        summary: of the evaluation that the page is about; None for a run that stopped before it,
            whose page says so and has its curves and tables, but no result and no sections.
        about: the data that it was measured on, or was to be.
        source: the same data; pictures are read from it.
        sections: of the task.
        lead: a paragraph under the title: what a reader must know before the numbers.
        say: takes a line for the user.
        into: the folder that the page is written to; `workdir` by default.

    Returns:
        Its path.

    Raises:
        train.files.WriteFailed: the page; what stood there before stays.
    """
    workdir = pathlib.Path(workdir)
    lines: Callable[[], list[dict[str, Any]]] = functools.cache(lambda: read_metrics(workdir, say))
    config: Callable[[], dict[str, Any]] = functools.cache(lambda: _read(workdir / "config.json"))
    attempt = partial(attempted, say)

    def facts() -> Markup:
        measured = None if summary is None else source
        result: dict[str, Any] = {}
        if summary is not None:
            result = _or(result, partial(_read, workdir / "summary.json"))
        seconds = result.get("seconds")
        found = _facts(about, measured, _or({}, config), _or([], lines), seconds)
        return render("facts.html", rows=found)

    def headline() -> Markup:
        scalars = {} if summary is None else summary.scalars
        return render(
            "headline.html", rows=[(readable(k), score(k, scalars[k])) for k in ordered(scalars)]
        )

    def curves() -> Markup:
        drawn = [attempt(f"the chart of {c.title}", partial(_figure, c)) for c in charts(lines())]
        return render("curves.html", curves=drawn) if drawn else Markup()

    def table(read: Callable[[], dict[str, Any]]) -> Markup:
        found = rows(read())
        return render("table.html", rows=found) if found else Markup()

    tables: dict[str, Callable[[], dict[str, Any]]] = {
        "Configuration": config,
        "Data": partial(_read, workdir / "about.json"),
        "Provenance": partial(_provenance, workdir / "provenance.json"),
    }
    page = render(
        "page.html",
        title=title,
        lead=lead,
        split=about.split,
        measured=summary is not None,
        facts=attempt("the facts", facts),
        headline=attempt("the result", headline),
        curves=attempt("the curves", curves),
        sections=[
            attempt(_name(section), partial(section, summary, about, source))
            for section in sections
            if summary is not None
        ],
        tables=[
            (heading, drawn)
            for heading, read in tables.items()
            if (drawn := attempt(f"the table {heading}", partial(table, read)))
        ],
    )
    path = pathlib.Path(workdir if into is None else into) / REPORT
    write(path, written(page))
    return path


def attempted(say: Callable[[str], None], what: str, make: Callable[[], Markup]) -> Markup:
    """What `make` makes; where it fails, that it does. The one place that lets a report go on."""
    try:
        return make()
    except Exception as error:
        words = legible(f"{what}: {cause(error)}")
        say(f"A part of the report could not be drawn: {words}.")
        return Markup('<p class="failed">This part could not be drawn: {}.</p>').format(words)


def _or(otherwise: T, read: Callable[[], T]) -> T:
    """`otherwise` where a file can't be read, which its own part of the page says."""
    try:
        return read()
    except (OSError, ValueError, Refused):
        return otherwise


def _name(section: Section) -> str:
    """Of a function, or of a `partial` of one."""
    return getattr(getattr(section, "func", section), "__name__", repr(section))


def rows(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Of a table: nested names joined by dots, lists of values by commas; empty lists left out."""
    found: list[tuple[str, str]] = []
    for key, one in value.items():
        if isinstance(one, Mapping):
            found += rows(one, f"{prefix}{key}.")
        elif one != []:
            found.append((prefix + key, _text(one)))
    return found


def _facts(
    about: About,
    measured: Source | None,
    config: dict,
    lines: list[dict],
    seconds: float | None,
) -> list[tuple[str, str]]:
    facts = [("Data", f"{about.name}: {extent_said(about)}, {classes_said(about)}")]
    if "model" in config:
        facts.append(("Model", _text(config["model"])))
    if measured is not None:
        facts.append(("Measured on", f"the {about.split} split, {len(measured):,} examples"))
    trained = [line for line in lines if line["kind"] == "train"]
    if trained:
        last = trained[-1]
        taken = f"{last['step']:,} steps, {last['epoch']:,.1f} epochs"
        # As `summary.json` has it, the test included, once there is one.
        took = _minutes(last["seconds"] if seconds is None else seconds)
        facts.append(("Trained for", f"{taken}, {took}"))
    return facts


def _figure(chart: Chart) -> Markup:
    last = [
        f"{series.label} {number(float(series.values[-1]))} at step {series.steps[-1]:,}"
        for series in chart.series
        if len(series.steps)
    ]
    return figure(partial(draw, chart), f"{chart.title} over steps; last: {'; '.join(last)}")


def _minutes(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.1f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return ", ".join(_text(one) for one in value)
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return repr(value)


def _read(path: pathlib.Path) -> dict[str, Any]:
    """A JSON object; {} where there is no file.

    Raises:
        ValueError: it holds something else.
    """
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_bytes())
    except RecursionError:
        raise ValueError(f"{path.name} is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} holds no JSON object")
    return found


def _provenance(path: pathlib.Path) -> dict[str, Any]:
    """Of a run that went on, the times alone when it did."""
    found = _read(path)
    if "resumed" in found:
        found["resumed"] = [part["started"] for part in found["resumed"]]
    return found
