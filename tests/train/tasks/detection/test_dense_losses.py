"""Losses of RetinaNet and FCOS: torchvision's, by hand, and of batches with no object or many."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from models.detection.detections import Images
from models.detection.fcos import FCOSOutput
from models.detection.fpn import MaxPool
from models.detection.retinanet import RetinaNetOutput
from train.tasks.detection.fcos import assigned, centreness, fcos_loss, fcos_parts
from train.tasks.detection.ignored import in_ignored
from train.tasks.detection.retinanet import by_deltas, by_giou, retinanet_loss, retinanet_parts
from train.tasks.detection.truth import Truth

GRIDS = [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)]
CELLS = sum(height * width for height, width in GRIDS)
SIZES = [(32, 40, 50), (64, 80, 101), (128, 161, 203), (256, 322, 406), (512, 645, 812)]
HOW = {"high": 0.5, "low": 0.4}
ASSIGNED = jax.jit(partial(assigned, radius=1.5, reach=4.0))


def outputs(inputs, kind, count):
    """The head's outputs that tests/golden/torchvision_dense.py gave to torchvision."""
    rows = CELLS * (9 if kind == "retinanet" else 1)
    logits = jnp.asarray(inputs.spaced(f"{kind}/logits", (count, rows, 5), -8, 3))
    boxes = jnp.asarray(0.5 * inputs.drawn(f"{kind}/boxes", (count, rows, 4)))
    network = models.create(f"{kind}_resnet18_fpn", num_classes=5)
    maps = [jax.ShapeDtypeStruct((1, *grid, 8), jnp.float32) for grid in GRIDS]
    image = jax.ShapeDtypeStruct((1, 64, 96, 3), jnp.float32)
    if kind == "retinanet":
        return RetinaNetOutput(logits, boxes, *network.anchors(image, maps, SIZES, (0.5, 1.0, 2.0)))
    squares = [(stride,) for stride in network.strides]
    centred = jnp.asarray(inputs.drawn("fcos/centreness", (count, rows, 1))[..., 0])
    return FCOSOutput(
        logits, jnp.abs(5 * boxes), centred, *network.anchors(image, maps, squares, (1.0,))
    )


def first(output, count):
    return jax.tree.map(lambda x: x if x.ndim == 2 and x.shape[1] == 4 else x[:count], output)


def known(expected, count=3):
    """The truth of the golden file, with what padding must not say in the rows that are none."""
    boxes, labels = expected["truth/boxes"][:count].copy(), expected["truth/labels"][:count].copy()
    valid = np.arange(3) < expected["truth/counts"][:count, None]
    boxes[~valid], labels[~valid] = (3, 3, 60, 60), 2
    return truth(boxes, labels, valid)


def truth(boxes, labels, valid, ignored=None, counted=None):
    valid = np.asarray(valid, bool)
    ignored = np.zeros_like(valid) if ignored is None else np.asarray(ignored, bool)
    counted = np.ones(len(valid), bool) if counted is None else np.asarray(counted, bool)
    return Truth(np.float32(boxes), np.int32(labels), valid, ignored, counted)


# --- torchvision's ------------------------------------------------------------------------------


def test_retinanets_sums_are_torchvisions_per_image(golden, inputs):
    """One image at a time, where both normalise alike; and the three, by what each has there."""
    expected = golden("dense_parts")
    output, objects = outputs(inputs, "retinanet", 3), known(expected)
    positives = expected["retinanet/positives"]
    assert positives.tolist()[1] > 0 == positives.tolist()[2]
    compared = {"l1": by_deltas(), "smooth_l1": by_deltas(1.0), "giou": by_giou}

    @jax.jit
    def run(output, objects):
        made = {
            name: partial(retinanet_parts, **HOW, box_loss=box_loss)
            for name, box_loss in compared.items()
        }
        return {name: function(output, objects) for name, function in made.items()}

    weights = np.maximum(positives, 1)
    for name, (sums, count) in run(output, objects).items():
        assert int(count) == positives.sum()
        wanted = (expected["retinanet/classes"] * weights).sum()
        np.testing.assert_allclose(sums["class_loss"], wanted, rtol=1e-5)
        wanted = (expected[f"retinanet/boxes/{name}"] * weights).sum()
        np.testing.assert_allclose(sums["box_loss"], wanted, rtol=1e-5)
    for name, (sums, count) in run(first(output, 1), known(expected, 1)).items():
        assert int(count) == positives[0]
        np.testing.assert_allclose(
            sums["class_loss"] / count, expected["retinanet/classes"][0], rtol=1e-5
        )
        np.testing.assert_allclose(
            sums["box_loss"] / count, expected[f"retinanet/boxes/{name}"][0], rtol=1e-5
        )


def test_fcos_losses_are_torchvisions(golden, inputs):
    expected = golden("dense_parts")
    output, objects = outputs(inputs, "fcos", 3), known(expected)
    run = jax.jit(partial(fcos_parts, radius=1.5, reach=4.0))
    indices, positive = ASSIGNED(output, objects)
    np.testing.assert_array_equal(np.where(positive, indices, -1), expected["fcos/matched"])
    for case, count in (("one", 1), ("all", 3)):
        sums, positives = run(first(output, count), known(expected, count))
        assert int(positives) == (expected["fcos/matched"][:count] >= 0).sum()
        for name in ("class", "box", "centreness"):
            theirs = {"class": "classes", "box": "boxes"}.get(name, name)
            wanted = expected[f"fcos/{theirs}/{case}"]
            np.testing.assert_allclose(sums[f"{name}_loss"] / positives, wanted, rtol=1e-5)


# --- by hand ------------------------------------------------------------------------------------


def points():
    """Points of two levels on a line: at 0, 8 and 16 of stride 8, at 0 and 32 of stride 32."""
    centres = np.array([[0, 0], [8, 0], [16, 0], [0, 0], [32, 0]], np.float32)
    half = np.array([4, 4, 4, 16, 16], np.float32)[:, None]
    anchors = jnp.asarray(np.concatenate([centres - half, centres + half], -1))
    return FCOSOutput(jnp.zeros((1, 5, 2)), jnp.ones((1, 5, 4)), jnp.zeros((1, 5)), anchors, (3, 2))


def test_points_go_to_the_smallest_object_whose_middle_they_are_in():
    output = points()
    # Around (9, 0), 20 wide; around (9, 0), 30 wide; 160 wide, around (20, 0).
    boxes = [[[-6, -20, 24, 20], [-1, -20, 19, 20], [-60, -20, 100, 20]]]
    indices, positive = ASSIGNED(output, truth(boxes, [[0, 1, 0]], [[True] * 3]))
    # 0: 9 to the centre, 20 below: the second. 16: 7 to the centre. Stride 32: over 128 nothing is
    # (of the finest level's most, 64, nothing is either): the third's farthest side is 100 from 0.
    assert positive.tolist() == [[True, True, True, False, False]]
    assert indices.tolist()[0][:3] == [1, 1, 1]
    wide = [[-160, -20, 200, 20]]
    _, positive = ASSIGNED(output, truth([wide], [[0]], [[True]]))
    assert positive.tolist() == [[False, False, False, True, True]]
    _, positive = ASSIGNED(output, truth([wide], [[0]], [[False]]))
    assert not positive.any()
    _, positive = ASSIGNED(output, truth([wide], [[0]], [[True]], counted=[False]))
    assert not positive.any()


def test_centreness_by_hand():
    output = points()
    boxes = jnp.asarray([[[-2, -3, 6, 3], [-2, -3, 6, 3], *[[0, 0, 0, 0]] * 3]], jnp.float32)
    counted = jnp.asarray([[True, False, False, False, False]])
    np.testing.assert_allclose(
        centreness(boxes, output.anchors, counted), [[np.sqrt(2 / 6), 0, 0, 0, 0]], rtol=1e-6
    )


def test_what_lies_in_an_ignored_box_by_half_is_no_background():
    anchors = jnp.asarray([[0, 0, 4, 4], [8, 0, 12, 4], [9, 0, 13, 4], [20, 20, 24, 24]], float)
    boxes = [[[0, 0, 10, 10], [20, 20, 30, 30]]]
    objects = truth(boxes, [[0, 0]], [[False, True]], ignored=[[True, False]])
    assert in_ignored(anchors, objects).tolist() == [[True, True, False, False]]


@pytest.mark.parametrize("kind", ["retinanet", "fcos"])
def test_crowds_and_examples_that_do_not_count_weigh_nothing(inputs, kind):
    parts = {
        "retinanet": partial(retinanet_parts, **HOW, box_loss=by_giou),
        "fcos": partial(fcos_parts, radius=1.5, reach=4.0),
    }[kind]
    output = outputs(inputs, kind, 2)
    boxes, labels = np.tile([[[20, 10, 60, 50]]], (2, 1, 1)), [[1], [1]]

    def gradient(output, objects):
        return jax.grad(
            lambda logits: parts(output.replace(logits=logits), objects)[0]["class_loss"]
        )(output.logits)

    run = jax.jit(gradient)
    crowd = run(output, truth(boxes, labels, [[False]] * 2, ignored=[[True], [False]]))
    inside = np.asarray(
        in_ignored(output.anchors, truth(boxes, labels, [[False]] * 2, [[True]] * 2))
    )
    assert 0 < inside[0].sum() < inside[0].size
    assert not crowd[0][inside[0]].any()
    assert bool((jnp.abs(crowd[0][~inside[0]]).max(-1) > 0).all())
    assert bool((jnp.abs(crowd[1]).max(-1) > 0).all())
    other = run(output, truth(boxes, labels, [[True]] * 2, counted=[True, False]))
    assert bool(other[0].any())
    assert not other[1].any()


# --- whole losses -------------------------------------------------------------------------------


class Toy(nn.Module):
    """A network whose parameters are its outputs, on a pyramid of one image."""

    kind: str

    @nn.compact
    def __call__(self, image, *, train):
        steps = self.variable("batch_stats", "steps", jnp.zeros, ())
        steps.value += train
        rows = 64 + 16 if self.kind == "fcos" else 9 * (64 + 16)

        def made(name, *shape):
            value = self.param(name, nn.initializers.normal(0.5), (rows, *shape))
            return jnp.broadcast_to(value[None], (len(image), *value.shape))

        network = models.create(f"{self.kind}_resnet18_fpn", num_classes=3)
        network = network.clone(maps=(1,), extra=MaxPool)
        maps = [jnp.zeros((1, 8, 8, 1)), jnp.zeros((1, 4, 4, 1))]
        sizes, ratios = [(16, 20, 25), (32, 40, 50)], (0.5, 1.0, 2.0)
        if self.kind == "retinanet":
            anchors = network.anchors(image, maps, sizes, ratios)
            return RetinaNetOutput(made("logits", 3), made("boxes", 4), *anchors)
        anchors = network.anchors(image, maps, [(8,), (16,)], (1.0,))
        reach = nn.relu(made("boxes", 4))
        return FCOSOutput(made("logits", 3), reach, made("centreness"), *anchors)


@pytest.mark.parametrize("kind", ["retinanet", "fcos"])
def test_batches_of_no_object_one_and_as_many_as_fit_train_in_one_program(kind):
    network = Toy(kind)
    image = jnp.zeros((2, 64, 64, 3))
    variables = jax.jit(partial(network.init, train=False))(jax.random.key(0), image)
    images = Images(image, jnp.asarray([[0, 0, 64, 64]] * 2, jnp.float32))
    loss_of = retinanet_loss if kind == "retinanet" else fcos_loss
    loss = loss_of(network)
    traced = []

    @jax.jit
    def run(variables, objects):
        traced.append(kind)

        def total(params):
            return loss(variables | {"params": params}, images, objects, jax.random.key(0))

        return jax.value_and_grad(total, has_aux=True)(variables["params"])

    rng = np.random.default_rng(1)
    corners = rng.uniform(0, 40, (2, 4, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(4, 24, (2, 4, 2))], -1)
    labels = rng.integers(0, 3, (2, 4))
    rows = np.arange(4) < np.array([[0], [1], [4]])[..., None]  # no object, one, all
    found = [run(variables, truth(boxes, labels, np.stack([each[0], each[0]]))) for each in rows]
    assert traced == [kind]
    for (total, aux), gradient in found:
        assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient))
        sums = {name: float(value.total / value.weight) for name, value in aux.sums.items()}
        assert float(total) == pytest.approx(sums.pop("loss"))
        assert float(total) == pytest.approx(sum(sums.values()))
        assert float(aux.collections["batch_stats"]["steps"]) == 1
    none, some = found[0], found[2]
    assert float(none[0][1].sums["box_loss"].total) == 0 < float(some[0][1].sums["box_loss"].total)
    for name in variables["params"].keys() - {"logits"}:
        assert not none[1][name].any()
        assert some[1][name].any()
    assert none[1]["logits"].any()
    # None counts: nothing to learn, and no NaN.
    nothing = truth(boxes, labels, np.zeros((2, 4)), counted=[False] * 2)
    (total, _), gradient = run(variables, nothing)
    assert float(total) == 0
    assert not any(bool(leaf.any()) for leaf in jax.tree.leaves(gradient))
    assert traced == [kind]


@pytest.mark.parametrize("kind", ["retinanet", "fcos"])
def test_a_set_without_room_for_boxes_is_all_background(inputs, kind):
    output = outputs(inputs, kind, 2)
    objects = truth(np.zeros((2, 0, 4)), np.zeros((2, 0)), np.zeros((2, 0)))
    if kind == "retinanet":
        parts = partial(retinanet_parts, **HOW, box_loss=by_deltas())
    else:
        parts = partial(fcos_parts, radius=1.5, reach=4.0)
    sums, positives = jax.jit(parts)(output, objects)
    assert int(positives) == 0 == float(sums["box_loss"])
    assert float(sums["class_loss"]) > 0
