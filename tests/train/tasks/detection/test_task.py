"""The task of detection with a network that is no more than its contract."""

import csv
import json
import math
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from image_files import coco, pixels

from models.detection.detections import Detections, Images
from train.augment.homography import inverse, project
from train.data.arrays import Arrays
from train.data.coco import coco as open_coco
from train.data.order import once
from train.data.resident import Resident
from train.data.source import About
from train.data.subset import subset
from train.evaluate import evaluate, evaluation_step
from train.experiment import Parts
from train.mesh import compiled_evaluation, make_mesh
from train.predict import kind_of, predictions
from train.refusal import Refused
from train.report.coco_json import write_coco_json
from train.report.predictions import write_predictions
from train.shown import BOXES
from train.tasks.detection.source_pixels import extent, to_source
from train.tasks.detection.task import PROPOSALS, detection, first_variables, recalls, scored
from train.tasks.detection.truth import truth
from train.tasks.task import Aux, Ratio, Summary

CLASSES = 3
IDENTITY = np.eye(3, dtype=np.float32)


class Whole(nn.Module):
    """Finds all that is picture, of class 1, surely; and a little box of class 2, if bright."""

    @nn.compact
    def __call__(self, image, *others, train):
        return self.param("scale", nn.initializers.ones, ()) * image.mean((1, 2, 3))

    def detect(self, image, extent, *others):
        bright = image.mean((1, 2, 3)) > 0
        little = others[0][:, 0] if others else extent * 0.5
        boxes = jnp.stack([extent, little, little * 0], 1)
        scores = jnp.asarray([0.9, 0.5, 0.0])[None] * jnp.ones((len(image), 1))
        valid = jnp.stack([bright | True, bright, bright & False], 1)
        labels = jnp.broadcast_to(jnp.asarray([[1, 2, 0]], jnp.int32), scores.shape)
        zero = jnp.where(valid, scores, 0)
        return Detections(jnp.where(valid[..., None], boxes, 0), zero, labels * valid, valid)


def loss(variables, images, truth, key, *others):
    total = jnp.sum(truth.valid) * variables["params"]["scale"] + len(others)
    return total, Aux({}, {"loss": Ratio(total, jnp.ones(()))})


def task(**fields):
    return detection(
        Whole(), loss=loss, num_classes=CLASSES, mean=[100.0] * 3, std=[50.0] * 3, **fields
    )


def batch(**changes):
    found = {
        "image": jnp.full((2, 8, 12, 3), 150, jnp.uint8),
        "boxes": jnp.float32([[[0, 0, 4, 4], [2, 2, 2, 5], [1, 1, 3, 3]], [[0, 0, 8, 8]] * 3]),
        "box_label": jnp.asarray([[0, 1, 2], [1, 1, 1]], jnp.int32),
        "box_valid": jnp.asarray([[True, True, False], [True, True, True]]),
        "valid": jnp.asarray([True, True]),
        "matrix": jnp.asarray(np.stack([IDENTITY] * 2)),
        "size": jnp.asarray([[8, 12], [4, 6]], jnp.int32),
        "index": jnp.arange(2),
    }  # fmt: skip
    return found | changes


def test_truth_by_hand():
    found = truth(batch(
        box_crowd=jnp.asarray([[False] * 3, [False, True, False]]),
        box_difficult=jnp.asarray([[False] * 3, [False, False, True]]),
    ))  # fmt: skip
    assert found.valid.tolist() == [[True, False, False], [True, False, False]]
    assert found.ignored.tolist() == [[False] * 3, [False, True, True]]
    assert found.labels.tolist() == [[0, 0, 0], [1, 1, 1]]
    assert found.boxes[0].tolist() == [[0, 0, 4, 4], [0] * 4, [0] * 4]
    assert found.counted.tolist() == [True, True]
    plain = truth(batch(valid=jnp.asarray([True, False])))
    assert plain.valid.tolist() == [[True, False, False], [False] * 3]
    assert not plain.ignored.any()
    assert plain.counted.tolist() == [True, False]
    assert (plain.boxes.dtype, plain.labels.dtype) == (jnp.float32, jnp.int32)


def test_inputs_are_normalised_and_know_what_is_picture():
    found = task().inputs(batch())
    assert isinstance(found, Images)
    np.testing.assert_allclose(found.image, 1.0)
    assert found.image.dtype == found.extent.dtype == jnp.float32
    assert found.extent.tolist() == [[0, 0, 12, 8], [0, 0, 6, 4]]
    bare = {"image": batch()["image"]}
    assert task().inputs(bare).extent.tolist() == [[0, 0, 12, 8]] * 2
    half = task(preprocess=lambda x: x / 2).inputs(bare)
    np.testing.assert_allclose(half.image, (75 - 100) / 50)


@pytest.mark.parametrize(
    ("matrix", "wanted"),
    [
        ([[0.5, 0, 2], [0, 0.5, 1], [0, 0, 1]], [2, 1, 5, 3]),  # letterboxed
        ([[-1, 0, 6], [0, 1, 0], [0, 0, 1]], [0, 0, 6, 4]),  # mirrored
        ([[0, -1, 5], [1, 0, 0], [0, 0, 1]], [1, 0, 5, 6]),  # a quarter turn
        ([[4, 0, -4], [0, 4, -4], [0, 0, 1]], [0, 0, 12, 8]),  # a crop from within
        ([[1, 0, 0], [0, 1, 0], [0.5, 0, -1]], [0, 0, 12, 8]),  # a corner out of sight
    ],
)
def test_the_extent_of_a_moved_picture(matrix, wanted):
    one = batch(matrix=jnp.asarray([matrix] * 2, jnp.float32), size=jnp.asarray([[4, 6]] * 2))
    assert extent(one).tolist() == [wanted] * 2


def test_boxes_go_back_to_the_source():
    turned = np.float32([[0, -1, 5], [1, 0, 0], [0, 0, 1]])
    assert to_source([[1, 0, 5, 6]], turned, [4, 6]).tolist() == [[0, 0, 6, 4]]
    boxes = np.float32([[1, 2, 3, 5], [-3, 0, 40, 2]])
    found = to_source(boxes, IDENTITY, [4, 6])
    np.testing.assert_array_equal(found, np.float32([[1, 2, 3, 4], [0, 0, 6, 2]]), strict=True)
    assert to_source(np.zeros((0, 4)), IDENTITY, [4, 6]).shape == (0, 4)
    # A map with a horizon, against the device's own inverse.
    tilted = np.float32([[1, 0.1, 2], [0.05, 1.1, 1], [0.002, 0.001, 1]])
    x, y = (jnp.asarray([[v]]) for v in ([3.0, 7, 3, 7], [2.0, 2, 6, 6]))
    x, y, _ = project(inverse(jnp.asarray(tilted)[None]), x[0], y[0])
    wanted = [x.min(), y.min(), x.max(), y.max()]
    np.testing.assert_allclose(to_source([[3, 2, 7, 6]], tilted, [99, 99])[0], wanted, rtol=1e-4)


def test_what_reads_proposals_gets_them_everywhere():
    one = batch(
        proposals=jnp.asarray([[[1, 1, 2, 2]], [[3, 3, 5, 5]]], float),
        proposal_valid=jnp.ones((2, 1), bool),
    )
    of = task(reads=PROPOSALS)
    images, proposals, valid = of.inputs(one)
    variables = first_variables(Whole(), jax.random.key(0), of.inputs(one))
    assert isinstance(images, Images)
    assert (proposals.shape, valid.shape) == ((2, 1, 4), (2, 1))
    found = of.predict(variables, of.inputs(one))["boxes"]
    assert found[:, 1].tolist() == [[1, 1, 2, 2], [3, 3, 5, 5]]
    total, _ = of.loss(variables, one, jax.random.key(0))
    plain, _ = task().loss(variables, batch(), jax.random.key(0))
    assert total - plain == 2
    with pytest.raises(KeyError):
        of.inputs(batch())


def test_num_classes_is_checked():
    with pytest.raises(ValueError, match="num_classes=0 must be at least 1"):
        detection(Whole(), loss=loss, num_classes=0, mean=[0.0], std=[1.0])


def record(**changes):
    found = {
        "boxes": np.float32([[2, 1, 5, 3], [0, 0, 1, 1], [np.nan] * 4, [0, 0, 1, 1], [0] * 4]),
        "scores": np.float32([0.25, 0.75, 0.5, 0.5, 0]),
        "labels": np.int32([1, 0, 0, 3, 0]),
        "valid": np.array([True, True, True, True, False]),
        "matrix": np.float32([[0.5, 0, 2], [0, 0.5, 1], [0, 0, 1]]),
        "size": np.int32([4, 6]),
        "index": 5,
    }
    return found | changes


def test_one_example_in_its_own_pixels():
    annotations = {
        "boxes": np.float32([[0, 0, 6, 4], [1, 1, 1, 3], [0, 0, 2, 2]]),
        "box_label": np.int32([1, 0, 2]),
        "box_crowd": np.array([False, False, True]),
        "box_area": np.float32([9, 0, 3]),
    }
    found = scored(record(), annotations, CLASSES)
    assert found["index"] == 5
    assert found["size"].tolist() == [4, 6]
    # By falling score; NaN and a class that the data do not have are left out.
    assert found["boxes"].tolist() == [[0, 0, 0, 0], [0, 0, 6, 4]]
    assert found["scores"].tolist() == [0.75, 0.25]
    assert found["labels"].tolist() == [0, 1]
    assert found["true_boxes"].tolist() == [[0, 0, 6, 4], [0, 0, 2, 2]]
    assert found["true_labels"].tolist() == [1, 2]
    assert found["crowd"].tolist() == [False, True]
    assert found["difficult"].tolist() == [False, False]
    assert found["area"].tolist() == [9, 3]
    none = {"boxes": np.zeros((0, 4), np.float32), "box_label": np.zeros(0, np.int32)}
    empty = scored(record(valid=np.zeros(5, bool)), none, CLASSES)
    assert "area" not in empty
    assert {len(empty[name]) for name in ("boxes", "scores", "true_boxes", "crowd")} == {0}


def scenes(objects=True):
    """Three images: bright with its whole a thing of class 1; dark, likewise; bright, empty."""
    image = np.stack([np.full((8, 12, 3), value, np.uint8) for value in (200, 20, 200)])
    whole = np.float32([[0, 0, 12, 8]])
    boxes = [whole, whole, np.zeros((0, 4), np.float32)]
    labels = [np.int32([1]), np.int32([1]), np.zeros(0, np.int32)]
    if not objects:
        boxes, labels = boxes[2:] * 3, labels[2:] * 3
    about = About("scenes", "test", ("a", "b", "c"), True, shape=(8, 12, 3))
    return Arrays({"image": image, "boxes": boxes, "box_label": labels}, about)


def evaluated(source, of=None):
    of = of or task()
    loader = Resident(
        source, mesh=make_mesh(jax.devices()[:1]), batch_size=2, order=once, capacity={"boxes": 2}
    )
    measure = compiled_evaluation(evaluation_step(of, loader), loader.mesh)
    (summary,) = evaluate(measure, of, loader, source, {"params": {"scale": jnp.ones(())}})
    return summary


def test_a_split_is_measured(tmp_path):
    summary = evaluated(scenes())
    # Class 1: found in both, then once in the empty image, of the same score: the order stands.
    assert summary.scalars["map50"] == 1
    assert summary.scalars["map50_11"] == pytest.approx(1)
    assert summary.scalars["count"] == 3
    assert summary.scalars["ap"] == pytest.approx(1)
    assert summary.scalars["ap_small"] == pytest.approx(1)  # of 96 pixels
    assert summary.scalars["ar1"] == 1
    assert not {"ap_large", "ap_medium", "at_cap"} & set(summary.scalars)
    assert all(math.isfinite(value) for value in summary.scalars.values())
    assert [one["index"] for one in summary.tables["detections"]] == [0, 1, 2]
    assert [one.positives for one in summary.tables["curves"]] == [0, 2, 0]
    path = write_predictions(tmp_path, summary, scenes())
    rows = list(csv.reader(path.read_text().splitlines()))
    assert rows[:3] == [
        ["index", "class", "score", "x0", "y0", "x1", "y1"],
        ["0", "b", "0.9", "0", "0", "12", "8"],
        ["0", "c", "0.5", "0", "0", "6", "4"],
    ]
    assert [row[0] for row in rows[1:]] == ["0", "0", "1", "2", "2"]


def test_a_split_without_an_object_and_one_without_detections():
    none = evaluated(scenes(objects=False))
    assert math.isnan(none.scalars.pop("map50"))  # what ranks is there in any case
    assert none.scalars == {"count": 3}
    of = task()
    nothing = of._replace(
        measure=lambda v, b: (found := of.measure(v, b))._replace(
            records=found.records | {"valid": found.records["valid"] & False}
        )
    )
    silent = evaluated(scenes(), nothing)
    assert (silent.scalars["map50"], silent.scalars["ap"], silent.scalars["ar100"]) == (0, 0, 0)
    assert len(silent.tables["predictions"].indices) == 0
    assert set(task().summarise({}, []).scalars) == {"map50", "count"}


def test_a_cap_that_is_reached_is_said():
    full = task()
    found = full.measure(
        {"params": {"scale": jnp.ones(())}}, batch(valid=jnp.asarray([True, False]))
    )
    assert (int(found.sums["count"]), int(found.sums["at_cap"])) == (1, 0)
    summary = full.summarise({"count": np.int64(5), "at_cap": np.int64(2)}, [])
    assert summary.scalars["at_cap"] == 2


def run(**changes):
    """A run of the network, as `train.predict` takes one."""
    return SimpleNamespace(
        config=SimpleNamespace(workdir="here", batch_size=2, max_pixels=10**6),
        about=About("scenes", "train", ("a", "b", "c"), True, shape=(8, 12, 3)),
        parts=Parts(
            network=Whole(),
            task=task(**changes),
            optimizer=lambda hyper: optax.identity(),
            hyper={},
            transform=None,
            rank="map50",
            report=[],
        ),
        variables={"params": {"scale": jnp.ones(())}},
    )


def test_pictures_of_any_size_are_told_in_their_own_pixels():
    large = pixels(16, 24, seed=0) // 4 + 180
    (one, other) = predictions([run()], [large, np.zeros((8, 12, 3), np.uint8)])
    assert one.found.boxes.tolist() == [[0, 0, 24, 16], [0, 0, 12, 8]]
    assert one.found.labels.tolist() == [1, 2]
    assert one.found.size == (16, 24)
    about = run().about
    row = BOXES.row(one.found, about)
    assert row["detections"][0]["box"] == [0, 0, 24, 16]
    assert row["detections"][0]["score"] == pytest.approx(0.9)
    assert json.dumps(row)
    assert BOXES.words(other.found, about, 3) == "b 0.90"
    drawn = np.asarray(BOXES.drawn(large, one.found, about))
    assert drawn.shape == (320, 480, 3)  # enlarged, since names need room
    assert (drawn[0, -1] != large[0, -1]).any()


def test_runs_that_cannot_be_told_are_refused():
    assert kind_of(run()) is BOXES
    with pytest.raises(Refused, match=r"detections of several runs can't be averaged.* here, here"):
        next(predictions([run(), run()], [np.zeros((8, 12, 3), np.uint8)]))
    with pytest.raises(Refused, match="run='here' reads 'proposals', which a picture does not"):
        kind_of(run(reads=PROPOSALS))


def test_cocos_file_of_results(tmp_path):
    source = subset(open_coco(*coco(tmp_path)), [2, 1])
    kept = [
        scored(record(index=i, matrix=IDENTITY, size=np.int32([8, 6])), source.truth(i), CLASSES)
        for i in range(2)
    ]
    summary = task().summarise({"count": 2}, kept)
    write_coco_json(tmp_path / "found.json", summary, source)
    found = json.loads((tmp_path / "found.json").read_text())
    assert [one["category_id"] for one in found] == [1, 13] * 2  # the file's own
    assert found[3] == {"image_id": 3, "category_id": 13, "bbox": [2, 1, 3, 2], "score": 0.25}
    assert found[0]["image_id"] == source.image_id(0)
    with pytest.raises(Refused, match=r"data='scenes' have no ids"):
        write_coco_json(tmp_path / "found.json", summary, scenes())
    with pytest.raises(Refused, match=r"found\.json': what the run predicts are no detections"):
        write_coco_json(tmp_path / "found.json", Summary({}, {}), source)


def test_a_set_of_one_class():
    of = detection(Whole(), loss=loss, num_classes=1, mean=[0.0], std=[1.0])
    there = {"boxes": np.float32([[0, 0, 6, 4]]), "box_label": np.int32([0])}
    one = record(
        matrix=IDENTITY, labels=np.zeros(5, np.int32), boxes=np.float32([[0, 0, 6, 4]] * 5)
    )
    _, kept = of.score(one, there)
    scalars = of.summarise({"count": 1}, [kept]).scalars
    assert scalars["map50"] == scalars["ap"] == 1


def test_recall_of_proposals_by_hand():
    # The first object by an IoU of 0.6, the second by 0.8; the third is difficult.
    record = {
        "proposals": np.array([[10, 8, 22, 24], [32, 26, 44, 34], [0, 0, 9, 9]], np.float32) * 2,
        "proposal_valid": np.array([True, True, False]),
        "matrix": np.diag([2, 2, 1]).astype(np.float32),
        "size": np.array([48, 48]),
    }
    kept = {
        "true_boxes": np.array([[10, 8, 30, 24], [32, 26, 44, 36], [0, 0, 9, 9]], np.float32),
        "crowd": np.zeros(3, bool),
        "difficult": np.array([False, False, True]),
    }
    assert recalls(record, kept) == {"recall_50": Ratio(2, 2), "recall_70": Ratio(1, 2)}
