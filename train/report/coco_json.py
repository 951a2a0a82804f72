"""COCO's file of results: what a detector found, with the ids of the set's own file."""

import json
import pathlib
from typing import Any

from train.data.source import Source
from train.data.subset import image_id
from train.files import write
from train.metrics.coco_figures import results
from train.refusal import Refused
from train.tasks.task import Summary


def refuse_no_coco(source: Source) -> None:
    """Refuse a set whose files give its images no ids.

    Raises:
        Refused: as said; names the set.
    """
    if image_id(source, 0) is None:
        raise Refused(
            f"coco_json: the images of data={source.about.name!r} have no ids; those of "
            "coco:PATH have"
        )


def write_coco_json(path: pathlib.Path, summary: Summary, source: Source) -> None:
    """Writes every detection as {"image_id", "category_id", "bbox", "score"}, in source pixels.

    Args:
        path: of the file.
        summary: of an evaluation; `tables["detections"]`, see `train.tasks.detection.summary`.
        source: the split that was measured.

    Raises:
        Refused: what was measured are no detections, or the set gives no ids.
        train.files.WriteFailed: it can't be written; what stood there before stays.
    """
    if "detections" not in summary.tables:
        raise Refused(f"coco_json={str(path)!r}: what the run predicts are no detections")
    refuse_no_coco(source)
    about, found = source.about, list[dict[str, Any]]()
    ids = about.ids or tuple(range(len(about.classes)))
    for one in summary.tables["detections"]:
        categories = [ids[label] for label in one["labels"]]
        at = image_id(source, one["index"])
        found += results(at, one["boxes"], categories, one["scores"])
    write(path, json.dumps(found))
