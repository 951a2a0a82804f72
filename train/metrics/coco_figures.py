"""COCO's figures of a detector, by the code of its evaluation (Lin et al. 2014)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from train.metrics.detection import Example

LIMITS = (1, 10, 100)
"""Detections of a class in an image that count, the best ones."""


def coco_figures(examples: Sequence[Example], num_classes: int) -> dict[str, float]:
    """Average precision at IoU 0.5, 0.55, …, 0.95, and average recall.

    Crowds are regions in which detections count for nothing, and so are difficult objects, of which
    COCO knows none. By size go the areas of objects, which are those of their boxes unless `area`
    of an example gives others: small below 32^2 pixels, large above 96^2.

    Args:
        examples: see `train.metrics.detection`.
        num_classes: of the data.

    Returns:
        ap, ap50, ap75, ap_small, ap_medium, ap_large with up to 100 detections of a class in an
        image; ar1, ar10, ar100 with so many. What has no object of its kind is absent.
    """
    from faster_coco_eval import COCO, COCOeval_faster  # late: it is used at evaluations alone

    objects: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for i, one in enumerate(examples):
        true = np.asarray(one["true_boxes"], np.float64)
        sides = true[:, 2:] - true[:, :2]
        areas = one.get("area", sides.prod(1))
        ignored = one["crowd"] | one["difficult"]
        for box, label, size, none in zip(
            np.concatenate([true[:, :2], sides], 1).tolist(),
            one["true_labels"].tolist(),
            areas.tolist(),
            ignored.tolist(),
            strict=True,
        ):
            objects.append(
                {
                    "id": len(objects) + 1,  # 0 means "no object" to COCO's code
                    "image_id": i,
                    "category_id": label,
                    "bbox": box,
                    "area": size,
                    "iscrowd": int(none),
                }
            )
        found += results(i, one["boxes"], one["labels"].tolist(), one["scores"])
    if not any(not one["iscrowd"] for one in objects):
        return {}
    truth = COCO(
        {
            "images": [{"id": i} for i in range(len(examples))],
            "categories": [{"id": c, "name": str(c)} for c in range(num_classes)],
            "annotations": objects,
        }
    )
    evaluation = COCOeval_faster(truth, truth.loadRes(found), "bbox")
    evaluation.params.maxDets = list(LIMITS)
    evaluation.evaluate()
    evaluation.accumulate()
    # (IoUs, recalls, classes, sizes, limits); (IoUs, classes, sizes, limits)
    precision, recall = (evaluation.eval[name] for name in ("precision", "recall"))
    values = {
        "ap": precision[..., 0, -1],
        "ap50": precision[0, ..., 0, -1],
        "ap75": precision[5, ..., 0, -1],
        "ap_small": precision[..., 1, -1],
        "ap_medium": precision[..., 2, -1],
        "ap_large": precision[..., 3, -1],
        **{f"ar{limit}": recall[..., 0, place] for place, limit in enumerate(LIMITS)},
    }
    known = {name: value[value > -1] for name, value in values.items()}
    return {name: float(value.mean()) for name, value in known.items() if value.size}


def results(
    image: Any, boxes: np.ndarray, categories: Sequence[int], scores: np.ndarray
) -> list[dict[str, Any]]:
    """What was found in an image, as COCO's tools read it: a box is x y width height.

    Args:
        image: its id.
        boxes: (n, 4), x0 y0 x1 y1.
        categories: (n,) ids.
        scores: (n,).
    """
    return [
        {
            "image_id": image,
            "category_id": category,
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "score": score,
        }
        for (x0, y0, x1, y1), category, score in zip(
            np.asarray(boxes).tolist(), categories, np.asarray(scores).tolist(), strict=True
        )
    ]
