"""The built-in tables: every row can be, and compares what it says."""

import itertools

import jax
import jax.numpy as jnp
import pytest

from experiments import ablation_nets
from experiments.ablate_tables import AUGMENTATION, DEPTH, KERNEL, TABLES
from train.ablation import trials
from train.data.source import About
from train.experiment import refuse_idle

ABOUT = About(
    "fashion_mnist",
    "train",
    tuple("0123456789"),
    mirror=None,
    shape=(28, 28, 1),
    mean=(73.0,),
    std=(90.0,),
)


@pytest.mark.parametrize("name", TABLES)
def test_every_row_can_be(name):
    for trial in trials(ablation_nets, TABLES[name]):
        config = trial.config
        assert len(config.seeds) == 5
        assert (config.data, config.validation, config.weights) == ("fashion_mnist", 0, "last")
        refuse_idle(ablation_nets, config, ABOUT)
        parts = ablation_nets.build(config, ABOUT)
        batch = {"image": jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.uint8)}
        x = jax.eval_shape(parts.task.inputs, batch)
        assert x.shape[1] == (config.size or 28)


def test_depths_are_compared_at_each_depth():
    found = [
        (trial.config.model, trial.config.shortcut, trial.row.baseline)
        for trial in trials(ablation_nets, DEPTH)
    ]
    models = ("resnet20", "resnet32", "resnet44")
    assert found == [(m, s, s == "own") for m in models for s in ("own", "none")]


def test_all_designs_of_kernels_see_as_much():
    """Closed form: 1 + sum of (size - 1) * dilation * stride, and 1 * stride for each window."""
    for trial in trials(ablation_nets, KERNEL):
        network = ablation_nets.build(trial.config, ABOUT).network.backbone
        sees, stride = 1, 1
        for number, depth in enumerate(network.stages):
            if number:
                sees, stride = sees + stride, 2 * stride
            dilations = itertools.islice(itertools.cycle(network.dilations), depth)
            stage = (network.kernel_size - 1) * sum(dilations)
            assert stage == 6  # 7x7
            sees += stride * stage
        assert sees == 46


def test_augmentations_alone_and_together():
    names = {}
    for trial in trials(ablation_nets, AUGMENTATION):
        transform = ablation_nets.classify.augmentation(trial.config, ABOUT)
        names[trial.row.change] = transform is not None
    assert names.pop("none") is False
    assert len(names) == 7
    assert all(names.values())
