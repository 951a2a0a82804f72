"""A split is measured exactly: fixed logits, a padded tail, other devices, wide sums."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.data.arrays import Arrays
from train.data.order import once
from train.data.resident import Resident
from train.data.source import About
from train.evaluate import add, evaluate, evaluation_step
from train.mesh import compiled_evaluation, make_mesh
from train.tasks.classification import classification
from train.tasks.task import Ratio


class Brightest(nn.Module):
    """The logits are the pixels."""

    @nn.compact
    def __call__(self, x, *, train):
        return x[:, 0, :, 0]


COUNT, CLASSES = 11, 3
PIXELS = np.array([[9, 0, 0], [0, 9, 0], [0, 0, 9]], np.uint8)[np.arange(COUNT) % 3]
LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 1, 1], np.int32)  # the tenth is a mistake
SOURCE = Arrays(
    {"image": PIXELS[:, None, :, None], "label": LABELS},
    About("three", "test", ("a", "b", "c"), mirror=False),
)
TASK = classification(Brightest(), num_classes=CLASSES, mean=(0,), std=(1,))


def measured(batch_size, devices, **kwargs):
    mesh = make_mesh(jax.devices()[:devices])
    loader = Resident(SOURCE, mesh=mesh, batch_size=batch_size, order=once)
    measure = compiled_evaluation(evaluation_step(TASK, loader), mesh)
    return evaluate(measure, TASK, loader, SOURCE, {"params": {}}, **kwargs)


@pytest.mark.parametrize(("batch_size", "devices"), [(1, 1), (4, 1), (11, 1), (16, 1), (4, 4)])
def test_batches_and_devices_do_not_change_what_is_measured(batch_size, devices):
    (summary,) = measured(batch_size, devices)
    assert summary.scalars["count"] == COUNT
    assert summary.scalars["accuracy"] == pytest.approx(10 / 11)
    assert summary.tables["confusion"].tolist() == [[3, 0, 0], [1, 4, 0], [0, 0, 3]]
    assert [one["index"] for one in summary.tables["mistakes"]] == [9]
    right, wrong = np.log1p(2 * np.exp(-9.0)), 9 + np.log1p(2 * np.exp(-9.0))
    assert summary.scalars["loss"] == pytest.approx((10 * right + wrong) / 11, rel=1e-5)


def test_a_loader_that_drops_the_tail_is_found_out():
    mesh = make_mesh(jax.devices()[:1])
    loader = Resident(SOURCE, mesh=mesh, batch_size=4, order=once)
    loader.steps = 2
    measure = compiled_evaluation(evaluation_step(TASK, loader), mesh)
    with pytest.raises(RuntimeError, match="measured 8 examples of test, not its 11"):
        evaluate(measure, TASK, loader, SOURCE, {"params": {}})


def test_sums_are_wide():
    once_ = {"n": jnp.int32(2**31 - 1), "loss": Ratio(jnp.float32(2**24), jnp.float32(1))}
    total = add(add({}, once_), {"n": jnp.int32(1), "loss": Ratio(jnp.float32(1), jnp.float32(1))})
    assert total["n"] == 2**31
    assert total["loss"].total == 2**24 + 1
    assert total["n"].dtype == np.int64
