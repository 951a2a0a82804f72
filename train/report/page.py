"""The frame of a report: what was trained on what, the numbers, the curves, the provenance."""

import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from train.data.source import About, Source, classes_said
from train.logs import read_metrics
from train.metrics import FRACTIONS
from train.report.curves import Chart, charts, draw, readable
from train.report.markup import figure, number, percent, render
from train.tasks.task import Summary

Part = Callable[[Summary, About, Source], Markup]
"""What a task adds to the page: one or more `<section>`s."""

Section = Part
REPORT = "report.html"


def write_report(
    workdir: str | os.PathLike,
    title: str,
    summary: Summary | None,
    about: About,
    source: Source,
    parts: Sequence[Part],
    *,
    lead: str = "",
) -> pathlib.Path:
    """Writes `report.html`, one file that needs no other, no network and no script.

    Args:
        workdir: `metrics.jsonl`, `config.json`, `about.json` and `provenance.json` are read from
            it, as far as they are there.
        title: what was trained, in words.
        summary: of the evaluation that the page is about; None for a run that stopped before it,
            whose page says so and has its curves and records, but no result and no parts.
        about: the data that it was measured on, or was to be.
        source: the same data; pictures are read from it.
        parts: of the task.
        lead: a paragraph under the title: what a reader must know before the numbers.

    Returns:
        Its path.
    """
    workdir = pathlib.Path(workdir)
    lines = read_metrics(workdir)
    config = _read(workdir / "config.json")
    record = _read(workdir / "provenance.json")
    if "resumed" in record:
        record["resumed"] = [part["started"] for part in record["resumed"]]
    page = render(
        "page.html",
        title=title,
        lead=lead,
        facts=_facts(about, None if summary is None else source, config, lines),
        headline=[] if summary is None else _headline(summary.scalars),
        split=about.split,
        curves=[_figure(chart) for chart in charts(lines)],
        parts=[] if summary is None else [part(summary, about, source) for part in parts],
        tables=[
            (heading, table)
            for heading, table in (
                ("Configuration", rows(config)),
                ("Data", rows(_read(workdir / "about.json"))),
                ("Provenance", rows(record)),
            )
            if table
        ],
    )
    path = workdir / REPORT
    path.write_text(page, encoding="utf-8")
    return path


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
    about: About, measured: Source | None, config: dict, lines: list[dict]
) -> list[tuple[str, str]]:
    shape = "images of varying size"
    if about.shape is not None:
        height, width, channels = about.shape
        shape = f"{height}×{width} {'grey' if channels == 1 else 'colour'} images"
    facts = [("Data", f"{about.name}: {shape}, {classes_said(about)}")]
    if "model" in config:
        facts.append(("Model", _text(config["model"])))
    if measured is not None:
        facts.append(("Measured on", f"the {about.split} split, {len(measured):,} examples"))
    trained = [line for line in lines if line["kind"] == "train"]
    if trained:
        last = trained[-1]
        taken = f"{last['step']:,} steps, {last['epoch']:,.1f} epochs"
        facts.append(("Trained for", f"{taken}, {_minutes(last['seconds'])}"))
    return facts


def _headline(scalars: Mapping[str, float]) -> list[tuple[str, str]]:
    """What ranks before loss, and the count of examples last."""
    first = {"accuracy": 0, "miou": 0, "count": 2}
    names = sorted(scalars, key=lambda name: first.get(name, 1))
    return [(readable(name), _score(name, scalars[name])) for name in names]


def _score(name: str, value: float) -> str:
    if name == "count":
        return number(int(value))
    return percent(value) if name in FRACTIONS else number(value)


def _figure(chart: Chart) -> Markup:
    last = [
        f"{series.label} {number(float(series.values[-1]))} at step {series.steps[-1]:,}"
        for series in chart.series
        if len(series.steps)
    ]
    return figure(draw(chart), f"{chart.title} over steps; last: {'; '.join(last)}")


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
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
