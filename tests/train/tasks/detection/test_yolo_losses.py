"""YOLO's losses: small cases by hand, and what must stay finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.detection.yolo_v1 import Predicted
from train.tasks.detection.simota import simota
from train.tasks.detection.truth import Truth
from train.tasks.detection.yolo_v1 import yolo_v1_parts
from train.tasks.detection.yolo_v3 import found_in, giou, places_of, squared_error, yolo_v3_parts
from train.tasks.detection.yolox import yolox_parts

ANCHORS = (((8.0, 8.0), (16.0, 16.0)),)


def truths(boxes, valid, labels=None):
    boxes, valid = jnp.asarray(boxes, jnp.float32), jnp.asarray(valid)
    labels = np.zeros(valid.shape, np.int32) if labels is None else np.int32(labels)
    return Truth(boxes, labels, valid, np.zeros(valid.shape, bool), np.ones(len(valid), bool))


def v3(y, truth, box_loss=squared_error):
    found = found_in([y], (8,), ANCHORS, (16, 16))
    return yolo_v3_parts(found, [y], (8,), ANCHORS, truth, box_loss)


def v1(y, truth):
    return yolo_v1_parts(Predicted(y[..., :10].reshape(*y.shape[:3], 2, 5), y[..., 10:]), 8, truth)


def yolox(y, truth):
    return yolox_parts([y], (8,), truth)[0]


CASES = {
    "v1": (v1, (1, 2, 2, 13)),
    "v3": (v3, (1, 2, 2, 2, 8)),
    "giou": (lambda y, t: v3(y, t, giou), (1, 2, 2, 2, 8)),
    "yolox": (yolox, (1, 2, 2, 8)),
}


@pytest.mark.parametrize("name", CASES)
def test_losses_are_finite_whatever_truths_there_are(name):
    parts, shape = CASES[name]
    y = 0.3 * jax.random.normal(jax.random.key(0), shape)
    calls = []

    @jax.jit
    def grads(y, boxes, valid):
        calls.append(0)
        found = {n: jax.grad(lambda y, n=n: parts(y, truths(boxes, valid))[n])(y) for n in NAMES}
        return parts(y, truths(boxes, valid)), found

    same = [[2, 2, 6, 6], [2, 2, 7, 7]]
    edge = [[12, 12, 20, 20], [0, 0, 16, 16]]
    for boxes, valid in ((same, [1, 1]), (edge, [1, 1]), (np.full((2, 4), np.nan), [0, 0])):
        values, found = grads(y, jnp.asarray([boxes], jnp.float32), jnp.asarray([valid], bool))
        for n in NAMES:
            assert np.isfinite(values[n])
            assert np.isfinite(found[n]).all()
            if n != "object_loss":
                assert (np.abs(found[n]).sum() > 0) == bool(sum(valid))
    assert len(calls) == 1


NAMES = ("box_loss", "object_loss", "class_loss")


V3 = jax.jit(v3)


def test_v3_by_hand():
    y = np.zeros((1, 2, 2, 2, 8), np.float32)
    # A box of 8x16 at the centre of cell (0, 0): both anchors have shape IoU 1/2, the first is it.
    parts = V3(y, truths([[[0, -4, 8, 12]]], [[True]], [[2]]))
    weight = 2 - 8 * 16 / 256
    np.testing.assert_allclose(parts["box_loss"], weight * np.log(2) ** 2 / 2, rtol=1e-5)
    # Of 8 predictions none but its own overlaps it by more than a half: all have log 2.
    np.testing.assert_allclose(parts["object_loss"], 8 * np.log(2), rtol=1e-5)
    np.testing.assert_allclose(parts["class_loss"], 3 * np.log(2), rtol=1e-5)


def test_v3_ignores_predictions_that_overlap_a_truth():
    y = np.zeros((1, 2, 2, 2, 8), np.float32)
    y[..., 1, 2:4] = -0.5  # the second anchor: 9.7 pixels
    parts = V3(y, truths([[[0, 0, 8, 8]]], [[True]]))  # IoU 64 / 94 with cell (0, 0)'s second
    np.testing.assert_allclose(parts["object_loss"], 7 * np.log(2), rtol=1e-5)


def test_a_centre_on_the_edge_is_of_the_last_cell():
    boxes = np.float32([[[12, 12, 20, 20], [-4, 12, 4, 20]]])
    y = np.zeros((1, 2, 2, 2, 8), np.float32)
    run = jax.jit(lambda boxes: places_of(boxes, jnp.ones((1, 2), bool), [y], (8,), ANCHORS))
    place = run(boxes)
    assert place.tolist() == [[6, 4]]


def test_v1_by_hand():
    y = np.zeros((1, 2, 2, 13), np.float32)
    y[0, 0, 0, :5] = [0.5, 0.5, 0.5, 0.5, 1]  # root of 1/4: 4x4 at the cell's centre
    y[0, 0, 0, 5:10] = [0.5, 0.5, np.sqrt(0.5), np.sqrt(0.5), 0.5]  # 8x8: IoU 1
    y[0, 1, 1, 4] = 2.0
    parts = jax.jit(v1)(y, truths([[[0, 0, 8, 8]]], [[True]], [[1]]))
    np.testing.assert_allclose(parts["box_loss"], 0, atol=1e-6)
    np.testing.assert_allclose(parts["object_loss"], 0.5**2 + 0.5 * (1 + 4), rtol=1e-5)
    np.testing.assert_allclose(parts["class_loss"], 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "object_loss"),
    [("v1", 6 * 0.5 * 0.5**2), ("v3", 6 * np.log(2)), ("yolox", 3 * np.log(2))],
)
def test_what_lies_in_a_crowd_is_no_background(name, object_loss):
    """What cell (0, 0) predicts, and nothing else, lies in it; no IoU with it reaches a half."""
    parts, shape = CASES[name]
    y = np.zeros(shape, np.float32)
    if name == "v1":  # squares of 4 pixels in the cells' centres, with a confidence of a half
        y[..., :10] = 0.5
    if name == "yolox":
        y[..., :2] = 0.5
    crowd = truths([[[-12, -12, 8, 8]]], [[False]])._replace(ignored=np.array([[True]]))
    found = jax.jit(parts)(y, crowd)
    np.testing.assert_allclose(found["object_loss"], object_loss, rtol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_losses_without_room_for_a_truth(name):
    parts, shape = CASES[name]
    found = jax.jit(parts)(jnp.zeros(shape), truths(np.zeros((1, 0, 4)), np.zeros((1, 0), bool)))
    none = {"v1": 0.0, "yolox": 4 * np.log(2)}.get(name, 8 * np.log(2))
    assert [float(found[n]) for n in NAMES] == pytest.approx([0, none, 0], rel=1e-6)


def reference(boxes, objectness, logits, centres, strides, truth, labels, valid):
    """SimOTA of one image in plain loops."""
    inside, both = {}, {}
    live = [n for n in range(len(truth)) if valid[n]]
    for n in live:
        x0, y0, x1, y1 = truth[n]
        for a, (x, y) in enumerate(centres):
            box = x0 < x < x1 and y0 < y < y1
            reach = 2.5 * strides[a]
            near = abs(x - (x0 + x1) / 2) < reach and abs(y - (y0 + y1) / 2) < reach
            inside[n, a], both[n, a] = box or near, box and near
    candidates = [a for a in range(len(boxes)) if any(inside[n, a] for n in live)]
    claims = {}
    for n in live:
        cost, ious = {}, {}
        for a in candidates:
            low, high = (
                np.maximum(boxes[a][:2], truth[n][:2]),
                np.minimum(boxes[a][2:], truth[n][2:]),
            )
            inner = np.prod(np.maximum(high - low, 0))
            areas = [np.prod(b[2:] - b[:2]) for b in (boxes[a], truth[n])]
            ious[a] = inner / (sum(areas) - inner)
            p = np.sqrt(1 / (1 + np.exp(-logits[a])) / (1 + np.exp(-objectness[a])))
            target = np.arange(len(p)) == labels[n]
            entropy = -np.log(np.where(target, p, 1 - p)).sum()
            cost[a] = entropy - 3 * np.log(ious[a] + 1e-8) + 1e5 * (not both[n, a])
        k = max(int(sum(sorted(ious.values())[-10:])), 1)
        for a in sorted(candidates, key=cost.get)[:k]:
            claims.setdefault(a, []).append((cost[a], n, ious[a]))
    return {a: min(c)[1:] for a, c in claims.items()}


def test_simota_is_the_plain_loops():
    rng = np.random.default_rng(0)
    row, column = np.indices((6, 6))
    centres = (np.stack([column, row], -1).reshape(-1, 2) + 0.5) * 8
    strides = np.full(36, 8.0)
    half = rng.uniform(4, 12, (4, 36, 2))
    middle = centres + rng.normal(0, 3, (4, 36, 2))
    boxes = np.concatenate([middle - half, middle + half], -1)
    corner = rng.uniform(0, 30, (4, 3, 2))
    truth = np.concatenate([corner, corner + rng.uniform(6, 20, (4, 3, 2))], -1)
    # Half of the predictions lie near a truth, so that truths take several, and meet in some.
    near = rng.integers(0, 3, (4, 18))
    boxes[:, ::2] = np.take_along_axis(truth, near[..., None], 1) + rng.normal(0, 2, (4, 18, 4))
    logits, some = rng.normal(0, 2, (4, 36, 5)), rng.normal(0, 2, (4, 36))
    labels = rng.integers(0, 5, (4, 3))
    valid = np.array([[1, 1, 1], [1, 1, 0], [0, 1, 1], [0, 0, 0]], bool)
    each = [jnp.asarray(x, jnp.float32) for x in (boxes, some, logits, centres, strides, truth)]
    found = jax.jit(simota)(*each, jnp.asarray(labels, jnp.int32), jnp.asarray(valid))
    shared = 0
    for b in range(4):
        wanted = reference(
            boxes[b], some[b], logits[b], centres, strides, truth[b], labels[b], valid[b]
        )
        assert set(np.flatnonzero(found.positive[b])) == set(wanted)
        for a, (n, overlap) in wanted.items():
            assert found.truth[b, a] == n
            np.testing.assert_allclose(found.iou[b, a], overlap, rtol=1e-4, atol=1e-6)
        shared += len(wanted)
    assert shared > 10
