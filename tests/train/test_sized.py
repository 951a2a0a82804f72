"""Which images are brought to which size, and where."""

import dataclasses

import jax.numpy as jnp
import pytest

import models
from train.data.host import CentreCrop, Host, Letterbox
from train.data.source import About
from train.refusal import Refused
from train.sized import on_device, on_host, smallest

ABOUT = About("drawn", "train", ("a",), mirror=True, shape=(20, 28, 1))


def test_on_the_host_to_one_square():
    crop, box = CentreCrop(), Letterbox()
    assert on_host("x", 32, box) == (Host(box, ((32, 32),)),) * 2
    assert on_host("x", 32, crop, box) == (Host(crop, ((32, 32),)), Host(box, ((32, 32),)))
    with pytest.raises(Refused, match="data='x' has images of many shapes: size=0 names none"):
        on_host("x", 0, box)


@pytest.mark.parametrize(
    ("size", "by", "least", "shape"),
    [
        (0, "resize", 1, (20, 28)),
        (0, "resize", 20, (20, 28)),
        (0, "resize", 21, (21, 21)),
        (24, "resize", 21, (24, 24)),
        (28, "pad", 1, (28, 28)),
        (0, "pad", 30, (30, 30)),
    ],
)
def test_on_the_device_to_the_size_asked_or_needed(size, by, least, shape):
    fit = on_device(size, by, ABOUT, least=least, model="m")
    assert fit(jnp.ones((2, 20, 28, 1))).shape == (2, *shape, 1)
    many = dataclasses.replace(ABOUT, shape=None)
    x = jnp.ones((2, 3, 4, 1))
    assert on_device(size, by, many, least=least, model="m")(x) is x


def test_what_does_not_fit_is_refused():
    with pytest.raises(Refused, match="size=20: m takes images from 21 pixels on"):
        on_device(20, "resize", ABOUT, least=21, model="m")
    with pytest.raises(Refused, match="by='pad': images of 20x28 are larger than size=27"):
        on_device(27, "pad", ABOUT, least=1, model="m")


@pytest.mark.parametrize(("name", "size"), [("lenet5", 32), ("alexnet", 63), ("resnet20", 1)])
def test_the_smallest_image_is_the_networks(name, size):
    assert smallest(models.create(name, num_classes=3)) == size
