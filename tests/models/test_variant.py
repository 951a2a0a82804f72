"""What the rows of the table of variants say is so; and nobody reads it from a name instead."""

import pathlib
import re
from functools import partial

import jax
import jax.numpy as jnp
import pytest

import models

ROOT = pathlib.Path(__file__).parents[2]
PARSED = re.compile(
    r"\bmodel\.(startswith|endswith|r?partition|r?split|removeprefix|removesuffix)\("
    r"|[\"'] in (\w+\.)?model\b"
)


def variables(network, image, *, regions=False):
    x = jax.ShapeDtypeStruct((1, *image), jnp.float32)
    others = [jax.ShapeDtypeStruct((1, 5, 4), jnp.float32)] if regions else []
    return jax.eval_shape(partial(network.init, train=False), jax.random.key(0), x, *others)


def image_of(network):
    size = network.input_size(64) if hasattr(network, "input_size") else 299
    return (size, size, 3)


def size_of(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", models.names())
def test_auxiliary_heads_can_be_left_out_where_there_are_any(name):
    row = models.variant(name)
    if row.auxiliary:
        less, more = (row.make(num_classes=5, aux=aux) for aux in (False, True))
        image = image_of(more)
        assert size_of(variables(less, image)) < size_of(variables(more, image))
    else:
        network = row.make(num_classes=5)
        shape = (40, 1) if name in models.names("sequence") else image_of(network)
        made = variables(network, shape, regions=row.proposals)
        heads = {"aux", "aux1"} & made["params"].keys()
        assert not heads


@pytest.mark.parametrize("name", models.names("segmentation"))
def test_the_backbone_is_the_classifiers(name):
    row = models.variant(name)
    network = row.make(num_classes=5)
    found = variables(network, image_of(network))["params"]
    if not row.classifier:
        assert "backbone" not in found
        return
    image = (224, 224, 3)
    classifier = variables(models.create(row.classifier, num_classes=5), image)["params"]
    assert found["backbone"] == classifier["backbone"]
    if row.converted is not None:
        zeros = jax.tree.map(lambda x: jnp.zeros((), x.dtype), classifier["hidden2"])
        dense = {key: {"kernel": _Kernel(classifier[key]["kernel"])} for key in LAYERS}
        taken = row.converted({**dense, "other": zeros})
        assert taken["hidden1"]["kernel"] == found["hidden1"]["kernel"].shape


LAYERS = ("hidden1", "hidden2", "head")


class _Kernel:
    """A dense kernel that takes no memory: its shape, and itself in another."""

    def __init__(self, kernel):
        self.shape, self.ndim = kernel.shape, kernel.ndim

    def reshape(self, shape):
        return shape


@pytest.mark.parametrize("name", models.names("segmentation"))
def test_a_narrow_form_is_narrow(name):
    row = models.variant(name)
    if row.narrowed is None:
        return
    channels = {"vgg16": (4,) * 5, "resnet18": (4,) * 4, "": (4,) * 5}[row.classifier]
    network = row.make(num_classes=5, **row.narrowed(channels))
    wide = row.make(num_classes=5)
    least = size_of(variables(wide, image_of(wide))) / 100
    assert size_of(variables(network, image_of(network))) < least
    if row.classifier:
        with pytest.raises(ValueError, match="stages, not 3"):
            row.narrowed((4, 4, 4))


@pytest.mark.parametrize("name", models.names("detection"))
def test_a_detectors_backbone_is_the_classifiers_and_what_it_takes_of_it_fits(name):
    row = models.variant(name)
    if not row.classifier:
        return
    network = row.make(num_classes=5)
    found = variables(network, image_of(network), regions=row.proposals)["params"]
    classifier = variables(models.create(row.classifier, num_classes=5), (224, 224, 3))["params"]
    taken = row.converted(classifier) if row.converted else {"backbone": classifier["backbone"]}
    for path, leaf in jax.tree_util.tree_leaves_with_path(taken):
        there = found
        for key in path:
            there = there[key.key]
        assert there.shape == leaf.shape, path


@pytest.mark.parametrize("name", models.names("detection"))
def test_a_detectors_narrow_form_is_narrow(name):
    row = models.variant(name)
    if row.narrowed is None:
        return
    wide, network = (row.make(num_classes=5, **f) for f in ({}, row.narrowed((4, 4, 4, 8))))
    sizes = [size_of(variables(n, (96, 96, 3), regions=row.proposals)) for n in (wide, network)]
    assert sizes[1] < sizes[0] / 100


@pytest.mark.parametrize("name", models.names("segmentation"))
def test_so_many_images_are_enough_to_train_and_fewer_are_not(name):
    row = models.variant(name)
    network = row.make(num_classes=5)
    image = image_of(network)
    known = variables(network, image)

    def trained(batch):
        x = jax.ShapeDtypeStruct((batch, *image), jnp.float32)
        train = partial(
            network.apply,
            train=True,
            rngs={"dropout": jax.random.key(0)},
            mutable=["batch_stats"],
        )
        return jax.eval_shape(train, known, x)

    trained(row.least_batch)
    if row.least_batch > 1:
        with pytest.raises(ValueError, match="1 value"):
            trained(row.least_batch - 1)


def test_nobody_reads_a_models_name():
    found = [
        f"{file.relative_to(ROOT)}: {line.strip()}"
        for floor in ("models", "train", "experiments")
        for file in sorted((ROOT / floor).rglob("*.py"))
        for line in file.read_text(encoding="utf-8").splitlines()
        if PARSED.search(line)
    ]
    assert found == []
    for line in (
        'if config.model.startswith("unet"):',
        'if "resnet" in config.model:',
        'model.rpartition("_")',
    ):
        assert PARSED.search(line)
    assert not PARSED.search('("unet",) in models')
