"""Faster and Fast R-CNN's losses: torchvision's numbers, what is sampled, and steps."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import models
from models.detection.anchors import anchors_of
from models.detection.box_head import Boxes
from models.detection.detections import Images
from models.detection.faster_rcnn import narrowed
from models.detection.fpn import FPN
from models.detection.rpn import Regions
from train.tasks.detection.fast_rcnn import fast_rcnn_loss
from train.tasks.detection.faster_rcnn import RPN, faster_rcnn_loss, rpn_losses
from train.tasks.detection.regions import (
    BOX_HEAD,
    FAST_RCNN,
    FASTER_RCNN,
    box_head_losses,
    in_picture,
    sampled_regions,
)
from train.tasks.detection.truth import Truth

GRIDS = [(24, 32), (12, 16), (6, 8), (3, 4), (2, 2)]
SIZES = ((32,), (64,), (128,), (256,), (512,))


def truth_of(boxes, labels, *, capacity=3, ignored=()):
    """Of some images; the boxes numbered in `ignored` are crowds, in every image."""
    count = len(boxes)
    truth = Truth(
        np.zeros((count, capacity, 4), np.float32),
        np.zeros((count, capacity), np.int32),
        np.zeros((count, capacity), bool),
        np.zeros((count, capacity), bool),
        np.ones(count, bool),
    )
    for n, (own, classes) in enumerate(zip(boxes, labels, strict=True)):
        for i, (box, label) in enumerate(zip(own, classes, strict=True)):
            truth.boxes[n, i], truth.labels[n, i] = box, label
            (truth.ignored if i in ignored else truth.valid)[n, i] = True
    return truth


def golden_truth(expected):
    counts, labels = expected["truth/counts"], expected["truth/labels"]
    return truth_of(
        [own[:n] for own, n in zip(expected["truth/boxes"], counts, strict=True)],
        [own[:n] - 1 for own, n in zip(labels, counts, strict=True)],
    )


# --- torchvision's numbers ----------------------------------------------------------------------


def test_losses_of_all_anchors_are_torchvisions(golden, inputs):
    expected = golden("fasterrcnn_parts")
    levels = anchors_of((96, 128), GRIDS, (4, 8, 16, 32, 64), SIZES, (0.5, 1.0, 2.0))
    counts = tuple(len(level) for level in levels)
    regions = Regions(
        jnp.asarray(inputs.spaced("objectness", (3, sum(counts)), -6, 3)),
        jnp.asarray(np.float32(0.3) * inputs.drawn("deltas", (3, sum(counts), 4))),
        jnp.asarray(np.concatenate(levels)),
        counts,
    )
    everyone = RPN._replace(number=2 * sum(counts))
    run = jax.jit(partial(rpn_losses, how=everyone))
    objectness, boxes = run(jax.random.key(0), regions, golden_truth(expected))
    np.testing.assert_allclose(objectness, expected["loss/rpn_objectness"], rtol=1e-5)
    np.testing.assert_allclose(boxes, expected["loss/rpn_boxes"], rtol=1e-5)


def test_losses_of_all_regions_are_torchvisions(golden, inputs):
    expected = golden("fasterrcnn_parts")
    corner = 40 * np.abs(inputs.drawn("corner", (3, 40, 2)))
    far = corner + 8 + 30 * np.abs(inputs.drawn("far", corner.shape))
    rois = np.concatenate([corner, far], -1)
    objects = np.array([[5, 6, 90, 80], [20, 10, 43, 52], [60.5, 30.25, 124, 92]])
    rois[0, :8] = objects[[0, 1, 2, 0, 1, 2, 0, 1]] + 2 * inputs.drawn("near", (8, 4))
    rois = jnp.asarray(rois, jnp.float32)
    # For the regions and, behind them, the objects' own boxes.
    logits = inputs.spaced("logits", (3, 43, 5), -2, 3)
    deltas = inputs.drawn("box_deltas", (3, 43, 5, 4))
    everyone = BOX_HEAD._replace(number=200, fraction=0.5)
    truth = golden_truth(expected)
    sampled = jax.jit(partial(sampled_regions, how=everyone))
    wanted = sampled(jax.random.key(0), rois, jnp.ones((3, 40), bool), truth)
    assert wanted.valid.sum(1).tolist() == [43, 41, 40]
    boxes = Boxes(
        np.take_along_axis(logits, np.asarray(wanted.indices)[..., None], 1),
        np.take_along_axis(deltas, np.asarray(wanted.indices)[..., None, None], 1),
    )
    classes, moves = jax.jit(partial(box_head_losses, how=everyone))(boxes, wanted)
    np.testing.assert_allclose(classes, expected["loss/classes"], rtol=1e-5)
    np.testing.assert_allclose(moves, expected["loss/boxes"], rtol=1e-5)


# --- what is sampled ----------------------------------------------------------------------------


def test_what_is_sampled_of_regions():
    """By hand: near, of an IoU of 0.25, far, in a crowd, a row of padding; the object's own box."""
    boxes = [[[0, 0, 10, 10], [50, 50, 80, 80]]]
    regions = [[0, 0, 10, 9], [0, 0, 5, 5], [20, 20, 30, 30], [55, 55, 65, 65], [0, 0, 10, 10]]
    valid = jnp.asarray([[True, True, True, True, False]])
    truth = truth_of(boxes, [[3, 1]], ignored=(1,))
    regions = jnp.asarray([regions], jnp.float32)
    how = BOX_HEAD._replace(number=8, fraction=0.5)
    sampled = jax.jit(sampled_regions, static_argnames="how")
    wanted = sampled(jax.random.key(0), regions, valid, truth, how=how)
    chosen = {
        int(i): int(label)
        for i, label, there in zip(
            wanted.indices[0], wanted.labels[0], wanted.valid[0], strict=True
        )
        if there
    }
    assert chosen == {0: 4, 1: 0, 2: 0, 5: 4}
    np.testing.assert_allclose(
        wanted.deltas[0, np.flatnonzero(np.asarray(wanted.indices[0]) == 0)[0]],
        [0, 10 * 0.5 / 9, 0, 5 * np.log(10 / 9)],
        rtol=1e-5,
    )
    # Fast R-CNN's background overlaps an object by 0.1 at least.
    wanted = sampled(jax.random.key(0), regions, valid, truth, how=FAST_RCNN)
    assert set(wanted.indices[0][wanted.valid[0]].tolist()) == {0, 1, 5}
    assert wanted.rois.shape == (1, 64, 4)
    # Where there is no object, any of them; and none of an example that does not count.
    none = truth_of([[]], [[]])
    wanted = sampled(jax.random.key(0), regions, valid, none, how=FAST_RCNN)
    assert set(wanted.indices[0][wanted.valid[0]].tolist()) == {0, 1, 2, 3}
    none = none._replace(counted=np.array([False]))
    wanted = sampled(jax.random.key(0), regions, valid, none, how=FAST_RCNN)
    assert not wanted.valid.any()


def test_the_papers_numbers():
    assert RPN == (0.7, 0.3, 256, 0.5, 1 / 9, 0.0)
    assert BOX_HEAD == (0.5, 0.5, 512, 0.25, 1 / 9, 0.0)
    assert FAST_RCNN == (0.5, 0.5, 64, 0.25, 1.0, 0.1)
    assert FASTER_RCNN == (0.5, 0.5, 128, 0.25, 1.0, 0.1)


def test_regions_are_cut_to_the_picture():
    boxes = jnp.asarray([[[-5.0, 2, 8, 30], [20, 0, 30, 5], [0, 0, 0.5, 9]]])
    extent = jnp.asarray([[0.0, 0.0, 20.0, 10.0]])
    cut, valid = in_picture(boxes, jnp.ones((1, 3), bool), extent)
    assert cut[0, 0].tolist() == [0, 2, 8, 10]
    assert valid.tolist() == [[True, False, False]]


def test_losses_of_anchors_by_hand():
    """One of the two that are background reaches out of the picture, and is learnt from too."""
    anchors = jnp.asarray([[0, 0, 10, 10], [-1, 0, 9, 10], [30, 30, 40, 40]], jnp.float32)
    regions = Regions(jnp.asarray([[1.0, 2.0, 3.0]]), jnp.zeros((1, 3, 4)), anchors, (3,))
    truth = truth_of([[[30, 30, 40, 42]]], [[0]])
    objectness, boxes = jax.jit(partial(rpn_losses, how=RPN))(jax.random.key(0), regions, truth)
    losses = [np.log1p(np.exp(1.0)), np.log1p(np.exp(2.0)), np.log1p(np.exp(-3.0))]
    np.testing.assert_allclose(objectness, np.mean(losses), rtol=1e-6)
    # dy = 0.1 and dh = log 1.2, of which the first is below beta.
    distance = 0.1**2 / 2 * 9 + np.log(1.2) - 1 / 18
    np.testing.assert_allclose(boxes, distance / 3, rtol=1e-5)


# --- training -----------------------------------------------------------------------------------

SIDE = 64
NET = {"stages": (1, 1), "channels": (8, 8), "stem_features": 8, "maps": (0, 1)}
NET |= {"neck": partial(FPN, width=8, outputs=1), "widths": (16,)}
ANCHORS = {"anchor_sizes": ((16, 24),), "before_nms": (40, 20), "after_nms": (24, 12)}


def squares(seed, counts):
    """Bright squares on dark ground: images, and where they are; the class is the channel."""
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(len(counts), SIDE, SIDE, 3)).astype(np.float32) * 0.1
    boxes, labels = [], []
    for n, count in enumerate(counts):
        corners = [(4, 4), (4, 36), (36, 4)][:count]
        own = [[x, y, x + 20, y + 16 + 4 * (n % 2)] for y, x in corners]
        kinds = [int(k) for k in rng.integers(0, 2, count)]
        for (x0, y0, x1, y1), k in zip(own, kinds, strict=True):
            image[n, y0:y1, x0:x1, k] += 3
        boxes.append(own)
        labels.append(kinds)
    extent = np.float32([[0, 0, SIDE, SIDE]] * len(counts))
    return Images(image, extent), truth_of(boxes, labels)


def proposals_of(truth):
    """The objects' boxes, a little moved, and two of background."""
    near = truth.boxes + np.float32([1, -1, 2, 1])
    far = np.float32([[[40, 40, 60, 60], [0, 50, 30, 64]]] * len(near))
    there = np.concatenate([truth.valid, np.ones((len(near), 2), bool)], 1)
    return np.concatenate([near, far], 1), there


def drawn(network, *inputs):
    """First variables; an initialiser of each would take longer to compile than a step."""
    tree = jax.eval_shape(partial(network.init, train=False), jax.random.key(0), *inputs)
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key != "kernel":
            return np.full(leaf.shape, path[-1].key in ("scale", "var"), leaf.dtype)
        size = (2 / np.prod(leaf.shape[:-1])) ** 0.5
        return np.asarray(size * rng.normal(size=leaf.shape), leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, tree)


@pytest.mark.parametrize("name", ["fasterrcnn_resnet18_fpn", "fastrcnn_resnet18"])
def test_a_few_steps_lower_the_loss_in_one_trace(name):
    """With three objects, some, one or none an image, the last ones not counted."""
    faster = name.startswith("faster")
    network = models.create(name, num_classes=3, **(NET | (ANCHORS if faster else {})))
    if faster:
        loss = faster_rcnn_loss(network, box_head=BOX_HEAD._replace(number=12))
    else:
        loss = fast_rcnn_loss(network, box_head=FAST_RCNN._replace(number=12))
    images, truth = squares(0, (3, 3))
    others = () if faster else proposals_of(truth)
    variables = drawn(network, images.image, *others)
    optimizer = optax.adam(3e-3)
    traces = []

    @jax.jit
    def step(variables, state, images, truth, others, key):
        traces.append(1)

        def of(params):
            return loss({**variables, "params": params}, images, truth, key, *others)

        (value, aux), gradient = jax.value_and_grad(of, has_aux=True)(variables["params"])
        updates, state = optimizer.update(gradient, state)
        params = optax.apply_updates(variables["params"], updates)
        parts = {key: ratio.total / ratio.weight for key, ratio in aux.sums.items()}
        return {"params": params, **aux.collections}, state, value, parts, gradient

    state = optimizer.init(variables["params"])
    before = variables
    losses = []
    for number in range(12):
        key = jax.random.key(number)
        variables, state, value, parts, gradient = step(
            variables, state, images, truth, others, key
        )
        losses.append(float(value))
    assert losses[-1] < 0.7 * losses[0]
    names = {"classes", "boxes"} | ({"rpn_objectness", "rpn_boxes"} if faster else set())
    assert parts.keys() == names | {"loss"}
    np.testing.assert_allclose(parts["loss"], sum(float(parts[each]) for each in names), rtol=1e-6)
    moved = [
        np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (before, variables)), strict=True)
    ]
    assert all(moved)

    for counts, counted in (((0, 0), True), ((1, 0), True), ((3, 1), True), ((3, 3), False)):
        images, truth = squares(1, counts)
        truth = truth._replace(counted=np.full(2, counted), valid=truth.valid & counted)
        others = () if faster else proposals_of(truth)
        _, _, value, parts, gradient = step(
            variables, state, images, truth, others, jax.random.key(9)
        )
        assert np.isfinite(value)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
        if not truth.valid.any():
            assert parts["boxes"] == 0
            assert not np.any(gradient["roi_head"]["deltas"]["kernel"])
            assert (parts["classes"] > 0) == counted
        if not truth.valid.any() and faster:
            assert parts["rpn_boxes"] == 0
    assert len(traces) == 1


def test_a_narrow_form_is_trained():
    """Every parameter of it has a gradient: none is made that nothing reads."""
    network = models.create("fasterrcnn_resnet18_fpn", num_classes=11, **narrowed((4, 4, 4, 8)))
    images, truth = squares(0, (2, 1))
    loss = faster_rcnn_loss(network)
    tree = jax.eval_shape(partial(network.init, train=False), jax.random.key(0), images.image)
    variables = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), tree)

    def of(params):
        return loss({**variables, "params": params}, images, truth, jax.random.key(0))[0]

    made = jax.eval_shape(jax.grad(of), variables["params"])
    assert jax.tree.structure(made) == jax.tree.structure(variables["params"])
