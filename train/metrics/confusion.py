"""What a classifier got right: the confusion matrix, and what follows from it.

On the device integers are counted; on the host, once, they are divided. A quotient with nothing to
divide by is 0, as scikit-learn's `zero_division=0`: the precision of a class that is never
predicted. Averages over classes (`macro`, `weighted`, `balanced_accuracy`) leave out those that
never occur, whether or not they are predicted, as scikit-learn's `labels=unique(y_true)`: they have
no recall, and a 0 in its place would count against a network that was never asked. What is wrongly
taken for such a class counts against the class that it is of. Of pixels, `over_seen` leaves out
only what is not predicted either.
"""

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike


def confusion(
    labels: jax.Array, predictions: jax.Array, num_classes: int, valid: jax.Array
) -> jax.Array:
    """How often which class was taken for which.

    A pair that is not valid, or of which either class is not in 0..num_classes-1, is not counted.
    Scatter-add: it counts exactly, and XLA partitions it over a sharded batch (each device counts
    its own examples, then the matrices are summed), where the product of two one-hot matrices does
    num_classes^2 work an example.

    Args:
        labels, predictions: integers of one shape.
        num_classes: C.
        valid: bool of that shape.

    Returns:
        (C, C) int32: rows are the truth, columns the prediction.
    """
    import chex

    chex.assert_equal_shape([labels, predictions, valid])
    truth, guess = labels.astype(jnp.int32), predictions.astype(jnp.int32)
    counted = valid & (truth >= 0) & (truth < num_classes) & (guess >= 0) & (guess < num_classes)
    # An index past the end is dropped, where a negative one would wrap.
    row, column = (jnp.where(counted, one, num_classes) for one in (truth, guess))
    empty = jnp.zeros((num_classes, num_classes), jnp.int32)
    return empty.at[row, column].add(1, mode="drop")


def in_top_k(logits: jax.Array, labels: jax.Array, k: int) -> jax.Array:
    """Whether the label is among the k largest logits.

    Of equal logits the one of the lower class comes first, as in `argmax` and `lax.top_k`, so that
    a constant network is right about one class alone and k = 1 agrees with the accuracy. An example
    with a NaN among its logits is wrong, and so is a label outside the classes.

    Args:
        logits: (B, C).
        labels: (B,) integers.
        k: at least 1.

    Returns:
        (B,) bool.

    Raises:
        ValueError: k is less than 1.
    """
    if k < 1:
        raise ValueError(f"k={k} is less than 1")
    import chex

    chex.assert_rank([logits, labels], [2, 1])
    label = labels.astype(jnp.int32)[:, None]
    classes = jnp.arange(logits.shape[1], dtype=jnp.int32)[None, :]
    own = jnp.sum(jnp.where(classes == label, logits, 0), axis=1, keepdims=True)
    before = (logits > own) | ((logits == own) & (classes < label))
    known = jnp.any(classes == label, axis=1) & ~jnp.any(jnp.isnan(logits), axis=1)
    return known & (jnp.sum(before, axis=1) < k)


def accuracy(matrix: np.ndarray) -> float:
    """The share of examples on the diagonal of a (C, C) confusion matrix."""
    return float(_ratio(np.trace(matrix), np.sum(matrix)))


def precision(matrix: np.ndarray) -> np.ndarray:
    """(C, C) -> (C,) float64: of what was taken for a class, the share that is of it."""
    return _ratio(np.diagonal(matrix), np.sum(matrix, axis=0))


def recall(matrix: np.ndarray) -> np.ndarray:
    """(C, C) -> (C,) float64: of what is of a class, the share that was taken for it."""
    return _ratio(np.diagonal(matrix), np.sum(matrix, axis=1))


def f1(matrix: np.ndarray) -> np.ndarray:
    """(C, C) -> (C,) float64: the harmonic mean of precision and recall."""
    return _ratio(2.0 * np.diagonal(matrix), np.sum(matrix, axis=0) + np.sum(matrix, axis=1))


def iou(matrix: np.ndarray) -> np.ndarray:
    """(C, C) -> (C,) float64: intersection over union, TP / (TP + FP + FN); Jaccard's index."""
    true = np.diagonal(matrix)
    return _ratio(true, np.sum(matrix, axis=0) + np.sum(matrix, axis=1) - true)


def seen(matrix: np.ndarray) -> np.ndarray:
    """(C, C) -> (C,) bool: the classes that occur or are predicted."""
    return (np.sum(matrix, axis=0) + np.sum(matrix, axis=1)) > 0


def over_seen(values: np.ndarray, matrix: np.ndarray) -> float:
    """(C,) -> the mean over the classes that occur or are predicted: mIoU of `iou`; 0 for none.

    As scikit-learn's macro averages without `labels`. A class that is neither has no figure, and a
    0 in its place would count against a network that rightly left it out.
    """
    there = seen(matrix)
    return float(_ratio(np.sum(values[there]), np.sum(there)))


def balanced_accuracy(matrix: np.ndarray) -> float:
    """The mean recall of the classes that occur; 1 / C for whoever always says the same."""
    return float(_ratio(np.sum(recall(matrix)), np.sum(occurs(matrix))))


def occurs(matrix: np.ndarray) -> np.ndarray:
    """(C, C) -> (C,) bool: the classes of which there is an example."""
    return np.sum(matrix, axis=1) > 0


def macro(values: np.ndarray, matrix: np.ndarray) -> float:
    """(C,) -> the mean over the classes that occur, each of the same weight; 0 where none does."""
    there = occurs(matrix)
    return float(np.mean(values[there])) if there.any() else 0.0


def micro(matrix: np.ndarray) -> float:
    """Precision, recall and F1 of the counts of all classes together: the accuracy, all three.

    Who is taken for a wrong class is one too many there and one too few in its own.
    """
    return accuracy(matrix)


def weighted(values: np.ndarray, matrix: np.ndarray) -> float:
    """(C,) -> the mean over all classes, each weighing as much as it has examples."""
    support = np.sum(matrix, axis=1)
    return float(_ratio(np.sum(values * support), np.sum(support)))


def _ratio(part: ArrayLike, whole: ArrayLike) -> np.ndarray:
    """part / whole in float64; 0 where the whole is 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.zeros_like(whole), where=whole != 0)
