"""`predictions.csv`: what was predicted of every example of a split, a line each."""

import csv
import io
import math
import os
import pathlib
from typing import Any

import numpy as np

from train.data.source import Source
from train.files import write
from train.legible import legible
from train.report.names import places
from train.tasks.task import Predictions, Summary

PREDICTIONS = "predictions.csv"


def write_predictions(
    workdir: str | os.PathLike, summary: Summary, source: Source
) -> pathlib.Path | None:
    r"""Writes `predictions.csv` from `summary.tables["predictions"]`, a `Predictions`.

    The first column is `file`, from the root of the data ("test/cat/1.jpg"), or `index` where the
    source has no files; then those of the task. Lines are in the order of the source; examples
    that could not be read have none. UTF-8; what can't be shown of a name is escaped, a byte that
    is no UTF-8 as `\xe9`. A number that is not finite is left empty.

    Args:
        workdir: where it is written.
        summary: of an evaluation.
        source: the split that was measured; its names of classes are written.

    Returns:
        Its path; None where the task has no such table.

    Raises:
        train.files.WriteFailed: it can't be written; what stood there before stays.
    """
    found: Predictions | None = summary.tables.get("predictions")
    if found is None:
        return None
    index, files = np.asarray(found.indices, np.int64), places(source)
    out = io.StringIO(newline="")
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["index" if all(one is None for one in files) else "file", *found.columns])
    classes = source.about.classes
    for row in np.argsort(index, kind="stable").tolist():
        file = files[index[row]]
        cells: list[Any] = [int(index[row]) if file is None else file]
        for name, values in found.columns.items():
            value = values[row]
            cells.append(classes[int(value)] if name in found.classes else value)
        table.writerow(map(_cell, cells))
    path = pathlib.Path(workdir) / PREDICTIONS
    write(path, out.getvalue())
    return path


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return legible(value)
    if isinstance(value, float | np.floating):
        return f"{value:.6g}" if math.isfinite(value) else ""
    return str(value)
