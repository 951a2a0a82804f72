"""Non-maximum suppression: torchvision's indices, and a plain loop's."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.detection.detections import best
from models.detection.nms import class_nms, floor, nms

GOLDEN = np.load(pathlib.Path(__file__).parents[2] / "golden" / "torchvision_boxes.npz")
THRESHOLDS = (0.0, 0.3, 1 / 3, 0.5, 0.7, 1.0)


def greedy(boxes, scores, labels, valid, threshold, limit):
    """The definition, one pair at a time, in the boxes' own type."""
    order = [i for i in np.lexsort((np.arange(len(scores)), -np.float64(scores))) if valid[i]]
    kept = []
    for i in order:
        if all(labels[i] != labels[k] or not over(boxes[k], boxes[i], threshold) for k in kept):
            kept.append(i)
    return kept[:limit]


def over(a, b, threshold):
    zero = a.dtype.type(0)
    w = max(zero, min(a[2], b[2]) - max(a[0], b[0]))
    h = max(zero, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h
    return bool(union) and float(w * h / union) > threshold


def indices(kept):
    kept = jax.device_get(kept)
    assert kept.indices.dtype == np.int32
    number = int(kept.valid.sum())
    assert kept.valid[:number].all()
    assert not kept.indices[number:].any()
    return kept.indices[:number].tolist()


def scene(generator, count, kind):
    corners = generator.integers(-8, 10, (count, 2))
    size = generator.integers(-1 if kind == "upside down" else 0, 9, (count, 2))
    boxes = np.float32(np.concatenate([corners, corners + size], axis=1))
    if kind == "identical":
        boxes = boxes[generator.integers(0, 5, count)]
    if kind == "tenths":
        boxes *= np.float32(0.1)
    return boxes


@functools.cache
def compiled(threshold, limit):
    return jax.jit(functools.partial(class_nms, threshold=threshold, limit=limit))


@pytest.mark.parametrize("kind", ["real", "whole", "upside down"])
@pytest.mark.parametrize("row", range(len(THRESHOLDS)))
def test_indices_equal_torchvision(kind, row):
    for trial in range(4):
        name = f"nms/{kind}/{trial}"
        expected = GOLDEN[f"{name}/kept"][row]
        boxes, scores = GOLDEN[f"{name}/boxes"], GOLDEN[f"{name}/scores"]
        every = np.ones(60, bool)
        kept = compiled(THRESHOLDS[row], 60)(boxes, scores, np.zeros(60, np.int32), every)
        assert indices(kept) == expected[expected >= 0].tolist()


@pytest.mark.parametrize("kind", ["whole", "upside down", "identical", "tenths"])
@pytest.mark.parametrize("threshold", [1 / 3, 0.5, 0.7])
def test_classes_and_padding_as_a_plain_loop(kind, threshold):
    generator = np.random.default_rng(len(kind))
    for trial in range(12):
        boxes = scene(generator, 40, kind)
        scores = np.float32(generator.integers(0, (4, 1000)[trial % 2], 40)) / 8
        labels = generator.integers(0, 3, 40).astype(np.int32)
        valid = generator.random(40) < 0.8
        expected = greedy(boxes, scores, labels, valid, threshold, 16)
        assert indices(compiled(threshold, 16)(boxes, scores, labels, valid)) == expected


def test_products_round_before_they_are_subtracted():
    """IoUs of random fractions against the definition in float32 at thresholds that they equal."""
    generator = np.random.default_rng(7)
    corners = generator.random((2, 400, 2), np.float32)
    pairs = np.concatenate([corners, corners + generator.random((2, 400, 2), np.float32)], -1)
    low, high = np.maximum(*pairs)[:, :2], np.minimum(*pairs)[:, 2:]
    inner = np.prod(np.maximum(high - low, np.float32(0)), axis=1)
    area = np.prod(pairs[..., 2:] - pairs[..., :2], axis=-1)
    share = inner / (area[0] + area[1] - inner)
    some = share > 0
    for i in np.flatnonzero(some)[:12]:
        boxes, scores = jnp.asarray(pairs[:, i]), jnp.asarray([2.0, 1.0])
        limits = (float(share[i]), float(np.nextafter(share[i], np.float32(0))))
        run = [nms(boxes, scores, jnp.ones(2, bool), threshold=t, limit=2) for t in limits]
        assert [indices(kept) for kept in run] == [[0, 1], [0]]


def test_classes_are_no_offsets():
    boxes = jnp.asarray([[0.0, 0, 10, 10], [-11, -11, -1, -1]])
    kept = class_nms(
        boxes, jnp.asarray([0.5, 0.9]), jnp.arange(2), jnp.ones(2, bool), threshold=0.5, limit=5
    )
    assert indices(kept) == [1, 0]


def test_equal_scores_keep_the_first_and_lowest_scores_count():
    boxes = jnp.asarray([[0.0, 0, 4, 4], [0, 0, 4, 4], [9, 9, 12, 12], [20, 20, 21, 21]])
    scores = jnp.asarray([1.0, 1.0, -jnp.inf, 1.0])
    assert indices(nms(boxes, scores, jnp.ones(4, bool), threshold=0.5, limit=4)) == [0, 3, 2]


def test_rows_of_padding_may_hold_anything():
    boxes = jnp.asarray([[jnp.nan] * 4, [0, 0, 4, 4], [0, 0, 4, 5], [jnp.inf] * 4])
    scores = jnp.asarray([jnp.nan, 0.1, 0.2, jnp.inf])
    valid = jnp.asarray([False, True, True, False])
    assert indices(nms(boxes, scores, valid, threshold=0.5, limit=2)) == [2]
    assert indices(nms(boxes, scores, valid & False, threshold=0.5, limit=2)) == []
    assert indices(nms(boxes[:0], scores[:0], valid[:0], threshold=0.5, limit=2)) == []


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_types_of_scores(dtype, x64):
    boxes = jnp.asarray([[0, 0, 4, 4], [0, 0, 4, 5], [9, 9, 12, 12]], jnp.float32)
    scores = jnp.asarray([0.5, 0.5 + 2.0**-40, 0.25], dtype)
    first = 1 if dtype == "float64" else 0
    kept = nms(boxes, scores, jnp.ones(3, bool), threshold=0.5, limit=3)
    assert indices(kept) == [first, 2]


def test_the_threshold_is_the_largest_number_not_above_it():
    for threshold in (0.1, 0.3, 1 / 3, 0.5, 0.6, 0.7, 0.0, 1.0):
        bound = floor(threshold, np.float32)
        assert bound.dtype == np.float32
        assert float(bound) <= threshold < float(np.nextafter(bound, np.float32(2)))


def test_no_gradient_and_vmap():
    def total(boxes):
        kept = jax.vmap(lambda b: nms(b, b[:, 0], b[:, 0] > -1, threshold=0.5, limit=2))(boxes)
        return jnp.sum(jnp.take_along_axis(boxes[..., 0], kept.indices, axis=1) ** 2)

    boxes = jnp.asarray([[[1.0, 0, 4, 4], [2, 0, 4, 4]], [[1, 0, 4, 4], [9, 0, 14, 4]]])
    slopes = jax.grad(total)(boxes)[..., 0]
    np.testing.assert_array_equal(slopes, [[2, 4], [2, 18]])


def test_best_fills_rows_with_zeros():
    boxes = jnp.asarray([[[0.0, 0, 4, 4], [1, 1, 5, 5], [0, 0, 4, 4]]])
    found = best(
        boxes, jnp.asarray([[0.25, 0.75, 0.5]]), jnp.asarray([[3, 4, 3]]), jnp.ones((1, 3), bool),
        threshold=0.5, limit=4,
    )  # fmt: skip
    assert [x.dtype.name for x in found] == ["float32", "float32", "int32", "bool"]
    np.testing.assert_array_equal(found.boxes[0, :2], boxes[0, 1:])
    np.testing.assert_array_equal(found.scores, [[0.75, 0.5, 0, 0]])
    np.testing.assert_array_equal(found.labels, [[4, 3, 0, 0]])
    np.testing.assert_array_equal(found.valid, [[True, True, False, False]])
    assert not found.boxes[0, 2:].any()
    none = best(boxes[:, :0], *[jnp.zeros((1, 0), t) for t in (float, int, bool)],
                threshold=0.5, limit=4)  # fmt: skip
    assert none.boxes.shape == (1, 4, 4)
    assert not none.valid.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": -0.1}, "threshold=-0.1"),
        ({"threshold": float("nan")}, "threshold=nan"),
        ({"limit": 0}, "limit=0"),
        ({"valid": jnp.ones(3, bool)}, "shapes"),
        ({"boxes": jnp.zeros((2, 5))}, "shapes"),
    ],
)
def test_refusals(change, message):
    given = {"boxes": jnp.zeros((2, 4)), "scores": jnp.zeros(2), "valid": jnp.ones(2, bool)}
    with pytest.raises(ValueError, match=message):
        nms(**given | {"threshold": 0.5, "limit": 1} | change)
