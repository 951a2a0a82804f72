"""Means of predictions, by hand: of several networks, and of mirror images."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from train.tasks.classification import classification
from train.tasks.detection.task import detection
from train.tasks.pixel_losses import cross_entropy, soft_dice, weighted
from train.tasks.regression import regression
from train.tasks.segmentation import segmentation
from train.tasks.several import ensemble, mirrored
from train.tasks.task import Ratio


class Scaled(nn.Module):
    """The first row of an image times a number: (B, H, W, 1) -> (B, W)."""

    @nn.compact
    def __call__(self, x, *, train):
        del train
        return x[:, 0, :, 0] * self.param("scale", nn.initializers.ones, ())


class Pixels(nn.Module):
    """Each pixel and its column: (B, H, W, C) -> the same, which no mirror image gives back."""

    margin = 0

    @nn.nowrap
    def input_size(self, size):
        return size

    @nn.compact
    def __call__(self, x, *, train):
        del train
        scale = self.param("scale", nn.initializers.ones, ())
        return x * scale + 0.3 * jnp.arange(x.shape[2], dtype=x.dtype).reshape(1, 1, -1, 1) * x


def variables(scale):
    return {"params": {"scale": jnp.float32(scale)}}


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


LOGITS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
LABELS = np.array([0, 1, 2, 0, 1], np.int32)


def classes(count=3, **fields):
    return classification(Scaled(), num_classes=count, **{"mean": (0.0,), "std": (1.0,), **fields})


def rows(logits=LOGITS, labels=LABELS):
    count = len(logits)
    return {
        "image": jnp.asarray(logits)[:, None, :, None],
        "label": jnp.asarray(labels),
        "valid": jnp.ones(count, bool).at[-1].set(False),
        "index": jnp.arange(count, dtype=jnp.int32),
    }


def test_the_mean_of_two_classifiers_by_hand():
    # The second sees its images by another scale, as a run of other statistics does.
    both = ensemble([classes(), classes(std=(0.5,))])
    batch, held = rows(), {"0": variables(1.0), "1": variables(-1.0)}
    wanted = (softmax(LOGITS) + softmax(-2 * LOGITS)) / 2
    np.testing.assert_allclose(both.predict(held, both.inputs(batch)), wanted, rtol=1e-5)
    sums, records = both.measure(held, batch)
    losses = -np.log(wanted[np.arange(5), LABELS])[:4]
    np.testing.assert_allclose(sums["loss"], (losses.sum(), 4), rtol=1e-5)
    assert int(np.trace(sums["confusion"])) == (wanted.argmax(-1) == LABELS)[:4].sum()
    np.testing.assert_array_equal(records["predicted"], wanted.argmax(-1))
    np.testing.assert_allclose(records["confidence"], wanted.max(-1), rtol=1e-5)


def test_a_probability_of_zero_is_a_finite_loss():
    both = ensemble([classes()] * 2)
    batch = rows(np.array([[0, 300, 0]] * 5, np.float32))
    sums, _ = both.measure({"0": variables(1.0), "1": variables(1.0)}, batch)
    assert 87 < sums["loss"].total < 300


def test_images_and_their_mirror_images_by_hand():
    task = mirrored(classes())
    found = task.predict(variables(1.0), task.inputs(rows()))
    wanted = (softmax(LOGITS) + softmax(LOGITS[:, ::-1])) / 2
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    twice = ensemble([task, classes()])
    found = twice.predict({"0": variables(1.0), "1": variables(1.0)}, twice.inputs(rows()))
    np.testing.assert_allclose(found, (wanted + softmax(LOGITS)) / 2, rtol=1e-5)


SCENE = np.random.default_rng(1).normal(size=(2, 4, 5, 3)).astype(np.float32)


def masks():
    loss = weighted((1.0, cross_entropy()), (0.5, soft_dice()))
    return segmentation(Pixels(), num_classes=3, mean=(0.0,) * 3, std=(1.0,) * 3, loss=loss)


def scenes():
    return {
        "image": jnp.asarray(SCENE),
        "mask": jnp.asarray(np.random.default_rng(2).integers(0, 3, SCENE.shape[:3]), jnp.uint8),
        "matrix": jnp.broadcast_to(jnp.eye(3), (2, 3, 3)),
        "size": jnp.full((2, 2), 4),
        "index": jnp.arange(2),
        "valid": jnp.ones(2, bool),
    }


def test_masks_of_mirror_images_come_back():
    task = mirrored(masks())
    found = task.predict(variables(1.0), task.inputs(scenes()))
    slope = 0.3 * np.arange(5).reshape(1, 1, 5, 1)
    wanted = (softmax(SCENE * (1 + slope)) + softmax(SCENE * (1 + slope[:, :, ::-1]))) / 2
    np.testing.assert_allclose(found["probabilities"], wanted, rtol=1e-5)
    assert found["mask"].dtype == jnp.uint8
    np.testing.assert_array_equal(found["mask"], wanted.argmax(-1))
    np.testing.assert_array_equal(
        task.measure(variables(1.0), scenes()).records["mask"], found["mask"]
    )


def numbers():
    return regression(
        Scaled(), targets="abc", mean=(0.0,), std=(1.0,), target_mean=(1, 2, 3), target_std=2.0
    )


def targets():
    return {**rows(), "target": jnp.asarray(LOGITS[::-1].copy())}


def test_numbers_are_averaged():
    both = ensemble([numbers()] * 2)
    held = {"0": variables(1.0), "1": variables(3.0)}
    found = both.predict(held, both.inputs(targets()))["target"]
    wanted = LOGITS * 4 + [1, 2, 3]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    np.testing.assert_allclose(
        both.measure(held, targets()).records["predicted"], wanted, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("task", "batch"), [(classes(), rows()), (masks(), scenes()), (numbers(), targets())]
)
def test_one_network_twice_is_measured_as_alone(task, batch):
    """So what is measured of predictions is what the task measures of its network."""
    twice = ensemble([task] * 2)
    own = task.measure(variables(1.3), batch)
    found = twice.measure({"0": variables(1.3), "1": variables(1.3)}, batch)
    for one, other in zip(own, found, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert isinstance(one[name], Ratio) == isinstance(other[name], Ratio)
            np.testing.assert_allclose(one[name], other[name], rtol=2e-5, atol=1e-6, err_msg=name)


def test_of_two_classes_the_odds_are_kept():
    task, batch = classes(2), rows(LOGITS[:, :2] * 20, LABELS % 2)
    own = task.measure(variables(1.0), batch).records["log_odds"]
    twice = ensemble([task] * 2).measure({"0": variables(1.0), "1": variables(1.0)}, batch)
    np.testing.assert_allclose(twice.records["log_odds"], own, rtol=1e-4, atol=1e-5)


def test_what_has_no_mean_is_refused():
    boxes = detection(Scaled(), loss=None, num_classes=1, mean=(0.0,), std=(1.0,))
    for make in (mirrored, lambda task: ensemble([task])):
        with pytest.raises(ValueError, match="have no mean"):
            make(boxes)
    with pytest.raises(ValueError, match="mirror images tell nothing"):
        mirrored(numbers())
    with pytest.raises(ValueError, match="names none"):
        ensemble([])
    with pytest.raises(ValueError, match="isn't trained"):
        mirrored(classes()).loss(variables(1.0), rows(), None)
