"""The table of variants: every name has its parameter count, every bad name its answer."""

import functools

import jax
import jax.numpy as jnp
import pytest

import models

CIFAR = {
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "resnet18_cifar": 11_173_962,
}
IMAGENET = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnext50_32x4d": 25_028_904,
    "resnext101_32x8d": 88_791_336,
    "wide_resnet50_2": 68_883_240,
    "wide_resnet101_2": 126_886_696,
    "alexnet": 61_100_840,
    "alexnet_2012": 60_965_224,
    "vgg11": 132_863_336,
    "vgg13": 133_047_848,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "vgg11_bn": 132_868_840,
    "vgg13_bn": 133_053_736,
    "vgg16_bn": 138_365_992,
    "vgg19_bn": 143_678_248,
    "googlenet": 13_004_888,
    "googlenet_2014": 13_378_280,
    "inception_v3": 27_161_264,
}
# Grey images of 10 classes: the side of one, and the parameters.
GREY = {
    "mlp": (28, 247_766),
    "lenet5": (32, 61_706),
    "lenet5_1998": (32, 60_000),
    "plain_cnn": (28, 109_802),
}


def test_every_variant_has_a_row_here():
    assert set(models.names()) == CIFAR.keys() | IMAGENET.keys() | GREY.keys()


ROWS = [
    *((name, 10, (32, 32, 3), parameters) for name, parameters in CIFAR.items()),
    *((name, 1000, (224, 224, 3), parameters) for name, parameters in IMAGENET.items()),
    *((name, 10, (side, side, 1), parameters) for name, (side, parameters) in GREY.items()),
]


@pytest.mark.parametrize(("name", "num_classes", "image", "parameters"), ROWS)
def test_parameter_counts(name, num_classes, image, parameters):
    network = models.create(name, num_classes=num_classes)
    init = functools.partial(network.init, train=False)
    x = jax.ShapeDtypeStruct((1, *image), jnp.float32)
    params = jax.eval_shape(init, jax.random.key(0), x)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == parameters


@pytest.mark.parametrize(
    ("name", "near"),
    [("resnet52", "resnet50"), ("ResNet50", "resnet50"), ("zzz", "wide_resnet101_2")],
)
def test_an_unknown_name_is_answered_with_the_nearest(name, near):
    with pytest.raises(ValueError, match=rf"network '{name}' is unknown; nearest: .*\b{near}\b"):
        models.create(name, num_classes=10)


def test_an_unknown_field_is_named():
    with pytest.raises(TypeError, match="depth"):
        models.create("resnet20", num_classes=10, depth=3)
