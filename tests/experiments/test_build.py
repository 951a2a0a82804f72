"""What holds of the `build` of every experiment: runs of several seeds share what it makes."""

import copy
import dataclasses

import pytest

from experiments import (
    ablation_nets,
    classify,
    forecast,
    lenet_mnist,
    mlp_vs_cnn,
    mnist1d_table,
    resnet_cifar,
    resnet_imagenet,
    segment,
    sequence,
)
from train.data.source import About

ABOUT = About(
    "drawn",
    "train",
    ("a", "b", "c"),
    mirror=True,
    shape=(32, 32, 3),
    mean=(100.0, 110.0, 120.0),
    std=(50.0, 50.0, 60.0),
    mask_classes=("ground", "cat", "dog"),
)
SEVERAL = {"accumulation": 2, "batch_size": 8, "ema": 0.9}
RECIPES = [
    (ablation_nets, {"downsample": "stride", "norm": "none"}),
    (classify, {"model": "googlenet", "freeze": "backbone/conv1", "backbone_rate": 0.1}),
    (classify, {"data": "folder:x", "size": 32, "init_from": "w.pth", "model": "resnet18"}),
    (lenet_mnist, {}),
    (mlp_vs_cnn, {"model": "cnn_permuted"}),
    (resnet_cifar, {"gentle_start": 0.1}),
    (resnet_imagenet, {"model": "resnet20", "size": 32, "remat": True}),
    (segment, {"model": "fcn8s", "size": 64, "dropout": 0.1}),
    (segment, {"model": "unet", "channels": (4, 8), "optimizer": "muon"}),
    (sequence, {"shift": 0.1, "mixup": 0.2}),
]


def unseeded(config):
    """The same configuration, but that nobody may ask for its seed."""

    class Unseeded(type(config)):
        def __getattribute__(self, name):
            assert name not in ("seed", "seeds"), "the seed was read"
            return super().__getattribute__(name)

    made = copy.copy(config)
    object.__setattr__(made, "__class__", Unseeded)
    return made


@pytest.mark.parametrize(("module", "fields"), RECIPES)
def test_no_build_reads_the_seed(module, fields):
    config = dataclasses.replace(module.recipe("digits"), **SEVERAL | fields)
    config = unseeded(dataclasses.replace(config, **config.settled(ABOUT, 100, 1)))
    with pytest.raises(AssertionError, match="seed"):
        _ = config.seed
    many = fields.get("data") == "folder:x"
    parts = module.build(config, dataclasses.replace(ABOUT, shape=None) if many else ABOUT)
    parts.optimizer(parts.hyper)


@pytest.mark.parametrize(
    "module",
    [
        ablation_nets,
        classify,
        forecast,
        lenet_mnist,
        mlp_vs_cnn,
        mnist1d_table,
        resnet_cifar,
        resnet_imagenet,
        segment,
        sequence,
    ],
)
def test_an_experiment_has_what_readers_of_its_runs_ask_it_for(module):
    """`config.json` names the module; its runs are read by what is called so in it."""
    assert module.__name__ == module.NAME
    assert dataclasses.is_dataclass(module.Config)
    for name in ("build", "splits", "recipe", "main"):
        assert callable(getattr(module, name))
