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
}


def test_every_variant_has_a_row_here():
    assert set(models.names()) == CIFAR.keys() | IMAGENET.keys()


@pytest.mark.parametrize("name", models.names())
def test_parameter_counts(name):
    network = models.create(name, num_classes=10 if name in CIFAR else 1000)
    init = functools.partial(network.init, train=False)
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    params = jax.eval_shape(init, jax.random.key(0), image)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == (CIFAR | IMAGENET)[name]


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
