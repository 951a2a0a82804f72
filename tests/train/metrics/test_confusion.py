"""Counts against hand values, quotients against scikit-learn."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
from jax.sharding import NamedSharding, PartitionSpec

from train.evaluate import add
from train.mesh import make_mesh, replicated
from train.metrics.confusion import (
    accuracy,
    balanced_accuracy,
    confusion,
    f1,
    in_top_k,
    iou,
    macro,
    micro,
    occurs,
    over_seen,
    precision,
    recall,
    seen,
    weighted,
)
from train.metrics.ranking import roc_auc


@pytest.mark.parametrize(
    ("labels", "predictions", "valid", "expected"),
    [
        ([0, 1, 2, 1], [0, 2, 2, 2], [1, 1, 1, 1], [[1, 0, 0], [0, 0, 2], [0, 0, 1]]),
        ([0, 1, 2, 1], [0, 2, 2, 2], [1, 0, 1, 1], [[1, 0, 0], [0, 0, 1], [0, 0, 1]]),
        # Outside the classes: neither wrapped nor clipped.
        ([-1, 3, 255, 2], [0, 0, 0, 1], [1, 1, 1, 1], [[0, 0, 0], [0, 0, 0], [0, 1, 0]]),
        ([0, 0, 0, 1], [-1, 3, 9, 0], [1, 1, 1, 1], [[0, 0, 0], [1, 0, 0], [0, 0, 0]]),
        ([0, 1, 2, 1], [0, 2, 2, 2], [0, 0, 0, 0], [[0, 0, 0]] * 3),
    ],
)
def test_confusion(labels, predictions, valid, expected, strict_dtypes):
    matrix = confusion(
        jnp.array(labels, jnp.int32), jnp.array(predictions, jnp.int32), 3, jnp.array(valid, bool)
    )
    assert matrix.dtype == jnp.int32
    assert matrix.tolist() == expected


def test_confusion_of_a_float64_run_is_int32(x64):
    labels = jnp.array([1, 0])
    matrix = confusion(labels, jnp.argmax(jnp.eye(2), -1), 2, jnp.ones(2, bool))
    assert matrix.dtype == jnp.int32
    assert matrix.tolist() == [[0, 1], [1, 0]]


def test_confusion_counts_past_the_integers_of_float32():
    """2^24 + 3 of one kind: a sum in float32 stops at 2^24."""
    many = 2**24 + 3
    zeros = jnp.zeros(many, jnp.uint8)
    assert confusion(zeros, zeros, 2, jnp.ones(many, bool)).tolist() == [[many, 0], [0, 0]]


def test_shapes_must_agree():
    with pytest.raises(AssertionError, match="shape"):
        confusion(jnp.zeros(3, int), jnp.zeros((3, 1), int), 2, jnp.ones(3, bool))


def test_confusion_adds_up_over_devices_without_gathering_the_batch():
    mesh = make_mesh(jax.devices()[:4])
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(-1, 6, (2, 32), np.int32)
    valid = rng.random(32) < 0.8
    expected = np.zeros((5, 5), int)
    for truth, guess, counts in zip(labels, predictions, valid, strict=True):
        if counts and truth in range(5) and guess in range(5):
            expected[truth, guess] += 1
    parts = NamedSharding(mesh, PartitionSpec("data"))
    arguments = jax.device_put((labels, predictions, valid), parts)
    function = jax.jit(confusion, static_argnums=2, out_shardings=replicated(mesh))
    compiled = function.lower(*arguments[:2], 5, arguments[2]).compile()
    found = re.findall(r"= (\S+) (all-\w+|collective-permute|reduce-scatter)\(", compiled.as_text())
    assert [(shape.split("{")[0], name) for shape, name in found] == [("s32[5,5]", "all-reduce")]
    np.testing.assert_array_equal(compiled(*arguments), expected)


def agrees_with_scikit_learn(matrix, labels, predictions):
    """Every number from the matrix is scikit-learn's from the pairs; macro, of those that occur."""
    classes = np.arange(len(matrix))
    np.testing.assert_array_equal(
        matrix, sklearn.metrics.confusion_matrix(labels, predictions, labels=classes)
    )
    assert accuracy(matrix) == pytest.approx(sklearn.metrics.accuracy_score(labels, predictions))
    recalls = sklearn.metrics.recall_score(
        labels, predictions, labels=np.unique(labels), average="macro", zero_division=0
    )
    assert balanced_accuracy(matrix) == pytest.approx(recalls, rel=1e-14)
    for average, ours in (
        (None, lambda values: values),
        ("macro", lambda values: macro(values, matrix)),
        ("micro", lambda values: micro(matrix)),
        ("weighted", lambda values: weighted(values, matrix)),
    ):
        named = np.unique(labels) if average == "macro" else classes
        expected = sklearn.metrics.precision_recall_fscore_support(
            labels, predictions, labels=named, average=average, zero_division=0
        )
        for metric, theirs in zip((precision, recall, f1), expected[:3], strict=True):
            np.testing.assert_allclose(ours(metric(matrix)), theirs, rtol=1e-14, atol=0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("absent", "unpredicted"),
    [
        ((), ()),
        ((2,), ()),
        ((), (4,)),
        ((2, 5), (4, 5)),
        ((0, 1, 2, 3, 4), ()),
        (range(1, 6), (0,)),
    ],
)
def test_quotients_equal_scikit_learn(seed, absent, unpredicted):
    rng = np.random.default_rng(seed)
    classes = np.arange(6)
    labels = rng.choice(np.setdiff1d(classes, absent), 60)
    predictions = rng.choice(np.setdiff1d(classes, unpredicted), 60)
    matrix = np.asarray(confusion(labels, predictions, 6, np.ones(60, bool)))
    agrees_with_scikit_learn(matrix, labels, predictions)
    if set(predictions) <= set(labels):  # else scikit-learn warns
        theirs = sklearn.metrics.balanced_accuracy_score(labels, predictions)
        assert balanced_accuracy(matrix) == pytest.approx(theirs, rel=1e-14)


def test_batches_on_many_devices_add_up_to_one_batch():
    """50 examples in batches of 16 over four devices, the last padded: as 50 at once."""
    rng = np.random.default_rng(1)
    labels, predictions = rng.integers(0, 5, (2, 64), np.int32)
    valid = np.arange(64) < 50
    parts = NamedSharding(make_mesh(jax.devices()[:4]), PartitionSpec("data"))
    count = jax.jit(confusion, static_argnums=2)
    total = {}
    for batch in np.split(np.arange(64), 4):
        pair = jax.device_put((labels[batch], predictions[batch], valid[batch]), parts)
        total = add(total, {"confusion": count(*pair[:2], 5, pair[2])})
    assert total["confusion"].dtype == np.int64
    agrees_with_scikit_learn(total["confusion"], labels[:50], predictions[:50])


def test_accuracy_misleads_where_one_class_is_rare():
    """The lecture's warning: 990 healthy, 10 ill; "healthy" is right 99 times of 100."""
    labels = np.repeat([0, 1], [990, 10])
    always = np.array([[990, 0], [10, 0]])
    # Finds 9 of the 10, and alarms 21 healthy ones.
    finds = np.array([[969, 21], [1, 9]])
    assert accuracy(always) == 0.99 > accuracy(finds) == 0.978
    assert balanced_accuracy(always) == 0.5
    assert balanced_accuracy(finds) == pytest.approx((969 / 990 + 9 / 10) / 2)
    assert (recall(always)[1], precision(always)[1], f1(always)[1]) == (0, 0, 0)
    assert (recall(finds)[1], precision(finds)[1], f1(finds)[1]) == (0.9, 0.3, 0.45)
    assert macro(f1(always), always) < 0.5 < 0.7 < macro(f1(finds), finds)
    # What weighs classes by their size is misled as well.
    assert weighted(f1(always), always) > 0.98
    assert micro(always) == 0.99
    assert roc_auc(labels, np.zeros(1000)) == 0.5
    # Pairs of one ill and one healthy: 9 x 969 in order, 9 x 21 and 1 x 969 tied, 1 x 21 reversed.
    alarm = np.repeat([0, 1, 0, 1], [969, 21, 1, 9])
    assert roc_auc(labels, alarm) == pytest.approx((9 * 969 + 9 * 10.5 + 969 / 2) / 9900)


def test_nothing_counted_is_nothing_right():
    empty = np.zeros((3, 3), np.int64)
    assert accuracy(empty) == balanced_accuracy(empty) == micro(empty) == 0
    for metric in (precision, recall, f1):
        assert metric(empty).tolist() == [0, 0, 0]
        assert macro(metric(empty), empty) == weighted(metric(empty), empty) == 0


def test_a_class_that_never_occurs_is_in_no_macro_average():
    right = np.diag([3, 5, 0])
    for metric in (precision, recall, f1):
        assert macro(metric(right), right) == 1
    taken = np.array([[3, 0, 1], [0, 4, 0], [0, 0, 0]])  # one of the first is taken for the third
    assert occurs(taken).tolist() == [True, True, False]
    assert macro(recall(taken), taken) == balanced_accuracy(taken) == (3 / 4 + 1) / 2
    assert macro(precision(taken), taken) == 1
    assert macro(f1(taken), taken) == pytest.approx((6 / 7 + 1) / 2)


def test_where_every_class_occurs_a_macro_average_is_the_mean_to_the_bit():
    matrix = np.random.default_rng(3).integers(1, 50, (37, 37))
    for metric in (precision, recall, f1):
        assert macro(metric(matrix), matrix) == np.mean(metric(matrix))


def test_sums_beyond_int32():
    """Batches add up in int64 on the host."""
    matrix = np.array([[3 * 2**31, 2**31], [0, 0]], np.int64)
    assert accuracy(matrix) == 0.75
    assert recall(matrix).tolist() == [0.75, 0]
    assert balanced_accuracy(matrix) == weighted(recall(matrix), matrix) == 0.75


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("logits", "label", "places"),
    [
        ([3, 2, 1, 0], 0, 1),
        ([3, 2, 1, 0], 2, 3),
        ([0, 0, 0, 0], 0, 1),  # a tie goes to the lower class
        ([0, 0, 0, 0], 3, 4),
        ([1, 2, 2, 0], 2, 2),
        ([-INF, INF, 0, INF], 3, 2),
        ([-INF, INF, 0, INF], 0, 4),
        ([NAN, 2, 1, 0], 0, None),
        ([NAN, 2, 1, 0], 1, None),
        ([3, 2, 1, 0], -1, None),
        ([3, 2, 1, 0], 4, None),
    ],
)
def test_in_top_k(logits, label, places):
    """`places`: the smallest k for which the label is in; None if there is none."""
    for k in range(1, 6):
        found = in_top_k(jnp.array([logits], jnp.float32), jnp.array([label]), k)
        assert found.tolist() == [places is not None and k >= places], k


def test_in_top_k_agrees_with_argmax_and_top_k(strict_dtypes):
    rng = np.random.default_rng(0)
    logits = jnp.array(rng.integers(0, 4, (64, 7)), jnp.float32)  # many ties
    labels = jnp.array(rng.integers(0, 7, 64), jnp.int32)
    best = jnp.argmax(logits, -1) == labels
    np.testing.assert_array_equal(in_top_k(logits, labels, 1), best)
    _, top = jax.lax.top_k(logits, 5)
    expected = (np.asarray(top) == np.asarray(labels)[:, None]).any(1)
    np.testing.assert_array_equal(jax.jit(in_top_k, static_argnums=2)(logits, labels, 5), expected)


def test_k_is_at_least_one():
    with pytest.raises(ValueError, match="k=0"):
        in_top_k(jnp.zeros((1, 3)), jnp.zeros(1, int), 0)


def test_f1_of_counts_whose_double_no_int32_holds():
    matrix = np.array([[2**30 + 5, 0], [0, 1]], np.int32)
    np.testing.assert_array_equal(f1(matrix), [1, 1])


def test_iou_by_hand():
    matrix = np.array([[3, 1, 0, 0], [2, 4, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0]])
    np.testing.assert_allclose(iou(matrix), [3 / 6, 4 / 8, 0, 0])
    assert seen(matrix).tolist() == [True, True, False, True]
    assert over_seen(iou(matrix), matrix) == pytest.approx((3 / 6 + 4 / 8 + 0) / 3)
    assert over_seen(iou(matrix * 0), matrix * 0) == 0


@pytest.mark.parametrize("absent", [None, 2])
def test_iou_equals_scikit_learns_jaccard(absent):
    rng = np.random.default_rng(7)
    labels, predictions = rng.integers(0, 5, (2, 400))
    if absent is not None:
        labels, predictions = (np.where(x == absent, 0, x) for x in (labels, predictions))
    matrix = np.asarray(
        confusion(jnp.asarray(labels), jnp.asarray(predictions), 5, jnp.ones(400, bool))
    )
    jaccard = sklearn.metrics.jaccard_score
    each = jaccard(labels, predictions, average=None, labels=range(5), zero_division=0)
    np.testing.assert_allclose(iou(matrix), each)
    macro_mean = jaccard(labels, predictions, average="macro")
    assert over_seen(iou(matrix), matrix) == pytest.approx(macro_mean)
    by_support = jaccard(labels, predictions, average="weighted")
    assert weighted(iou(matrix), matrix) == pytest.approx(by_support)
