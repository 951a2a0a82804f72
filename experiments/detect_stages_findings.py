"""What the stages of R-CNN come to: a table, a page, and seconds an image."""

import contextlib
import time
from collections.abc import Mapping
from typing import Any

import rich.table

from train import workdir as directory
from train.data.proposals import regions
from train.metrics.quantities import readable, show
from train.opened import Opened
from train.prepared import Prepared
from train.refusal import Refused
from train.report.page import REPORT
from train.report.study import write_study
from train.study import Study
from train.tasks.task import Summary

WORDS = {"softmax": "softmax", "svm": "SVMs", "boxes": "SVMs, boxes regressed"}
"""Stage -> what finds objects after it."""
RECALLS = ("recall_50", "recall_70")
"""What is the same for all stages: it is of their proposals."""
SHOWN = ("map50", "ap", "ap50", "ap75")
"""Of each stage, on the terminal."""
TIMED = 8
"""Test images that prediction is timed on."""


def timed(prepared: Prepared, last: Opened) -> dict[str, float]:
    """Seconds that an image takes at prediction, one at a time: in all, and for its proposals."""
    test, pictures = prepared.data.test, []
    for i in range(len(test)):
        with contextlib.suppress(Refused):  # one that can't be read, which the run has said
            pictures.append(test[i]["image"])
        if len(pictures) == TIMED:
            break
    last.predict(pictures[:1], batch_size=1)  # compiles
    began = time.perf_counter()
    last.predict(pictures, batch_size=1)
    whole = time.perf_counter() - began
    began = time.perf_counter()
    for picture in pictures:
        regions(picture, prepared.config.proposals)
    proposing = time.perf_counter() - began
    count = len(pictures)
    return {"seconds_per_image": whole / count, "proposal_seconds": proposing / count}


def compared(
    runs: Study, config: Any, found: Mapping[str, Mapping[str, Any]], seconds: Mapping[str, float]
) -> Summary:
    """Write and say what the stages come to."""
    last = found["boxes"]
    shared = {name: last[name] for name in RECALLS if last.get(name) is not None}
    own = {
        stage: {name: value for name, value in scalars.items() if name not in shared}
        for stage, scalars in found.items()
    }
    scalars = {  # the last stage first, which a table of many runs shows
        f"{name} ({stage})": value
        for stage, each in reversed(own.items())
        for name, value in each.items()
    }
    scalars |= {**shared, **seconds}
    directory.write(
        runs.path / directory.SUMMARY,
        {
            "data": config.data,
            "model": config.model,
            "seed": config.seed,
            "steps": config.steps,
            **{f"test/{name}": value for name, value in scalars.items()},
        },
    )
    facts = {readable(name): show(name, value) for name, value in {**shared, **seconds}.items()}
    page = write_study(
        runs.path,
        f"{config.model} on {config.data}, its stages",
        {WORDS[stage]: each for stage, each in own.items()},
        links={WORDS[stage]: f"{stage}/{REPORT}" for stage in found},
        facts={"Data": config.data, "Model": config.model, "Proposals": config.proposals, **facts},
        alike=False,
        say=runs.terminal.say,
    )
    runs.terminal.heading("stages")
    table = rich.table.Table("stage", *map(readable, SHOWN))
    for stage, each in own.items():
        values = ((name, each.get(name)) for name in SHOWN)
        cells = ("–" if value is None else show(name, value) for name, value in values)
        table.add_row(WORDS[stage], *cells)
    runs.terminal.show(table)
    for name, value in facts.items():
        runs.terminal.say(f"{name[0].upper()}{name[1:]}: {value}")
    runs.terminal.say(f"  {page}")
    return Summary(scalars, {"stages": own})
