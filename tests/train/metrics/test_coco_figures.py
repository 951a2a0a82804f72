"""COCO's figures equal those of pycocotools."""

import contextlib
import io

import numpy as np
import pytest

from train.metrics.coco_figures import coco_figures, results

STATS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar100")


def boxes(rng, count, scale):
    corners = rng.uniform(0, 200, (count, 2))
    return np.float32(np.concatenate([corners, corners + rng.uniform(4, scale, (count, 2))], 1))


def example(rng, *, objects, detections, classes, ties=False, area=False):
    """Objects at random; detections near them and elsewhere."""
    true = boxes(rng, objects, 160)
    near = true[rng.integers(0, objects, detections)] if objects else boxes(rng, detections, 90)
    found = near + rng.normal(0, 3, near.shape).astype(np.float32) * (
        rng.random((len(near), 1)) < 0.8
    )
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
    scores = np.sort(rng.random(detections).astype(np.float32))[::-1]
    labels = rng.integers(0, classes, objects)
    one = {
        "boxes": np.float32(found),
        "scores": np.round(scores, 1) if ties else scores,
        "labels": np.int32(rng.integers(0, classes, detections)),
        "true_boxes": true,
        "true_labels": np.int32(labels),
        "crowd": rng.random(objects) < 0.2,
        "difficult": np.zeros(objects, bool),
    }
    return one | ({"area": np.float32(rng.uniform(100, 20000, objects))} if area else {})


def reference(examples, classes):
    """By pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, found = COCO(), []
    objects = []
    for i, one in enumerate(examples):
        for row, box in enumerate(np.float64(one["true_boxes"])):
            x0, y0, x1, y1 = box.tolist()
            area = one["area"][row] if "area" in one else (x1 - x0) * (y1 - y0)
            objects.append(
                {
                    "id": len(objects) + 1, "image_id": i, "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "category_id": int(one["true_labels"][row]), "area": float(area),
                    "iscrowd": int(one["crowd"][row] or one["difficult"][row]),
                }
            )  # fmt: skip
        for box, label, score in zip(
            np.float64(one["boxes"]), one["labels"], one["scores"], strict=True
        ):
            x0, y0, x1, y1 = box.tolist()
            found.append(
                {
                    "image_id": i, "category_id": int(label), "score": float(score),
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                }
            )  # fmt: skip
    truth.dataset = {
        "images": [{"id": i} for i in range(len(examples))],
        "categories": [{"id": c} for c in range(classes)],
        "annotations": objects,
        "info": {},
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    named = dict(zip(STATS, evaluation.stats.tolist(), strict=False))
    return {name: value for name, value in named.items() if value > -1}


@pytest.mark.parametrize("seed", range(6))
def test_equal_to_pycocotools(seed):
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(1, 4))
    examples = [
        example(
            rng,
            objects=int(rng.choice([0, 1, 5, 12])),
            detections=int(rng.choice([0, 3, 30, 150])),
            classes=classes,
            ties=seed % 2 == 1,
            area=seed == 4,
        )
        for _ in range(12)
    ]
    # More than 100 of one class in an image, and images without objects at either end.
    many = example(rng, objects=20, detections=260, classes=1)
    none = example(rng, objects=0, detections=4, classes=classes)
    bare = example(rng, objects=3, detections=0, classes=classes)
    examples = [none, *examples, many, bare, none]
    found, wanted = coco_figures(examples, classes), reference(examples, classes)
    assert found.keys() == wanted.keys()
    assert found == pytest.approx(wanted, abs=1e-12)
    assert 0 < found["ap"] < found["ap50"] < 1


def test_difficult_objects_are_regions_that_do_not_count():
    rng = np.random.default_rng(0)
    one = example(rng, objects=6, detections=20, classes=1)
    one |= {"crowd": np.zeros(6, bool), "difficult": np.arange(6) < 2}
    assert coco_figures([one], 1) == pytest.approx(reference([one], 1))
    crowd = one | {"crowd": one["difficult"], "difficult": one["crowd"]}
    assert coco_figures([crowd], 1) == coco_figures([one], 1)


def test_what_there_is_none_of_is_absent():
    rng = np.random.default_rng(0)
    none = example(rng, objects=0, detections=3, classes=2)
    assert coco_figures([], 2) == coco_figures([none], 2) == {}
    small = none | {
        "true_boxes": np.float32([[0, 0, 10, 10]]),
        "true_labels": np.int32([1]),
        "crowd": np.zeros(1, bool),
        "difficult": np.zeros(1, bool),
    }
    nothing = small | {"boxes": np.zeros((0, 4)), "labels": np.zeros(0, int), "scores": np.zeros(0)}
    found = coco_figures([nothing], 2)
    assert found.keys() == {*STATS} - {"ap_medium", "ap_large"}
    assert set(found.values()) == {0}
    crowd = small | {"crowd": np.ones(1, bool)}
    assert coco_figures([crowd], 2) == {}


def test_results_are_what_coco_reads():
    found = results(7, np.float32([[1, 2, 4, 6]]), [13], np.float32([0.5]))
    assert found == [{"image_id": 7, "category_id": 13, "bbox": [1, 2, 3, 4], "score": 0.5}]
