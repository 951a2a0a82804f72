"""What an evaluation of a detector comes to."""

from typing import Any

import numpy as np

from train.metrics.coco_figures import coco_figures
from train.metrics.detection import area, curves, eleven_points, over_classes
from train.tasks.task import Predictions, Summary, Sums, means


def summarise(sums: Sums, kept: list[dict[str, Any]], num_classes: int) -> Summary:
    """Scalars: map50, map50_11, COCO's, count, and at_cap where it is more than 0.

    `map50` is the mean, over the classes with an object, of the area under the curve of precision
    at IoU 0.5 (VOC 2010), NaN where no class has one; `map50_11` the same at eleven points (VOC
    2007). COCO's: `train.metrics.coco_figures`. What has no object of its kind is absent. `at_cap`
    are the images with as many detections as the network can give: there may have been more. Of a
    network that reads proposals also their `recall_50` and `recall_70`.

    Tables: `detections`, every example as `train.tasks.detection.task.scored` keeps it; `curves`, a
    `train.metrics.detection.Curve` a class; `predictions`, a row a detection.
    """
    by_class = curves(kept, num_classes)
    scalars = {"map50": over_classes([area(one) for one in by_class])}
    eleven = over_classes([eleven_points(one) for one in by_class])
    scalars |= {} if np.isnan(eleven) else {"map50_11": eleven}
    scalars |= coco_figures(kept, num_classes)
    scalars |= {name: value for name, value in means(sums).items() if not np.isnan(value)}
    scalars["count"] = int(sums.get("count", 0))
    if full := int(sums.get("at_cap", 0)):
        scalars["at_cap"] = full
    tables = {"detections": kept, "curves": by_class, "predictions": predictions(kept)}
    return Summary(scalars, tables)


def predictions(kept: list[dict[str, Any]]) -> Predictions:
    """A row a detection, in source pixels; an image without one has none."""
    indices = [one["index"] for one in kept for _ in one["labels"]]
    columns: dict[str, list[Any]] = {
        "class": [int(label) for one in kept for label in one["labels"]],
        "score": [float(score) for one in kept for score in one["scores"]],
    }
    for place, name in enumerate(("x0", "y0", "x1", "y1")):
        columns[name] = [float(box[place]) for one in kept for box in one["boxes"]]
    return Predictions(indices, columns, classes=("class",))
