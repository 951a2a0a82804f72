"""What two classes are measured by beside the rest: balanced accuracy and ROC-AUC, in a split."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from train.evaluate import add
from train.tasks.classification import classification, score, summarise
from train.tasks.task import Ratio


def network(variables, x, *, train):
    return x[:, 0, :, 0]


class Logits:
    """Logits that stand in the image: (B, 1, 2, 1) -> (B, 2)."""

    apply = staticmethod(network)


def measured(logits, labels, batch_size):
    """The summary of a split in batches, the last one padded."""
    task = classification(Logits(), num_classes=2, mean=(0.0,), std=(1.0,))
    sums, kept = {}, []
    for start in range(0, len(labels), batch_size):
        places = np.arange(start, start + batch_size)
        valid = places < len(labels)
        places = np.minimum(places, len(labels) - 1)
        batch = {
            "image": jnp.asarray(logits[places], jnp.float32)[:, None, :, None],
            "label": jnp.asarray(labels[places]),
            "index": jnp.asarray(places),
            "valid": jnp.asarray(valid),
        }
        one, records = jax.device_get(task.measure({}, batch))
        sums = add(sums, one)
        for row in np.flatnonzero(valid):
            record = {name: values[row] for name, values in records.items()}
            kept.append(score(record, {"label": labels[places[row]]})[1])
    return task.summarise(sums, kept).scalars


@pytest.mark.parametrize("batch_size", [7, 30])
def test_a_split_of_two_classes_equals_scikit_learn(batch_size):
    rng = np.random.default_rng(0)
    labels = (rng.random(30) < 0.2).astype(np.int32)
    # Sure enough that probabilities in float32 are 0 and 1.
    logits = rng.normal(size=(30, 2)) * 200 + np.stack([-labels, labels], 1) * 100
    found = measured(logits, labels, batch_size)
    odds, said = logits[:, 1] - logits[:, 0], logits.argmax(1)
    assert found["count"] == 30
    assert found["roc_auc"] == pytest.approx(sklearn.metrics.roc_auc_score(labels, odds))
    expected = sklearn.metrics.balanced_accuracy_score(labels, said)
    assert found["balanced_accuracy"] == pytest.approx(expected)
    assert found["accuracy"] == pytest.approx(np.mean(labels == said))
    assert set(found) == {
        *("loss", "accuracy", "balanced_accuracy", "precision", "recall", "f1", "roc_auc", "count")
    }


def test_a_class_without_examples_has_no_area():
    found = measured(np.zeros((3, 2)), np.zeros(3, np.int32), 3)
    assert math.isnan(found["roc_auc"])
    assert found["balanced_accuracy"] == 1


def test_a_network_that_diverged_is_still_summed_up():
    found = measured(np.full((3, 2), np.nan), np.array([0, 1, 1], np.int32), 3)
    assert math.isnan(found["roc_auc"])


def test_three_classes_have_no_area():
    sums = {"loss": Ratio(1.0, 1.0), "confusion": np.diag([3, 1, 0])}
    scalars = summarise(sums, []).scalars
    assert "roc_auc" not in scalars
    assert scalars["balanced_accuracy"] == 1
