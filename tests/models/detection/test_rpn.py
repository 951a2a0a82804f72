"""Region proposals: torchvision's of drawn outputs, and what the fixed shapes hold."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.detection.anchors import anchors_of
from models.detection.rpn import Regions, propose

GRIDS = [(24, 32), (12, 16), (6, 8), (3, 4), (2, 2)]
SIZES = ((32,), (64,), (128,), (256,), (512,))
EXTENT = np.array([[0, 0, 128, 96], [0, 0, 100, 64]], np.float32)
TOP = {"training": 150, "testing": 80}


def drawn(inputs, count=2):
    """As the script draws them for three images; the first ones of these."""
    levels = anchors_of((96, 128), GRIDS, (4, 8, 16, 32, 64), SIZES, (0.5, 1.0, 2.0))
    counts = tuple(len(level) for level in levels)
    objectness = inputs.spaced("objectness", (3, sum(counts)), -6, 3)[:count]
    deltas = np.float32(0.3) * inputs.drawn("deltas", (3, sum(counts), 4))[:count]
    return Regions(
        jnp.asarray(objectness), jnp.asarray(deltas), jnp.asarray(np.concatenate(levels)), counts
    )


@pytest.mark.parametrize("mode", TOP)
def test_proposals_are_torchvisions(golden, inputs, mode):
    expected = golden("fasterrcnn_parts")
    top = {"before": TOP[mode], "after": TOP[mode]}
    run = jax.jit(partial(propose, **top, score_threshold=0.1, nms_threshold=0.7))
    found = run(drawn(inputs), EXTENT)
    assert found.boxes.shape == (2, TOP[mode], 4)
    valid = np.asarray(found.valid)
    assert valid.sum(1).tolist() == expected[f"proposals/{mode}/counts"].tolist()
    np.testing.assert_allclose(
        np.asarray(found.boxes)[valid], expected[f"proposals/{mode}"], atol=2e-4
    )
    np.testing.assert_allclose(
        np.asarray(found.scores)[valid], expected[f"proposals/{mode}/scores"], rtol=1e-5
    )


def test_rows_that_are_not_valid_are_0():
    """One level, of which the better two boxes are one; one has no extent in the picture."""
    anchors = np.float32([[0, 0, 10, 10], [0, 0, 10, 10.5], [50, 50, 60, 60], [20, 20, 30, 30]])
    deltas = np.zeros((1, 4, 4), np.float32)
    regions = Regions(np.float32([[1, 2, 5, -1]]), deltas, anchors, (4,))
    extent = np.float32([[0, 0, 40, 40]])
    run = jax.jit(partial(propose, before=9, after=3, nms_threshold=0.7))
    found = run(regions, extent, score_threshold=0.0)
    assert found.valid.tolist() == [[True, True, False]]
    assert found.boxes.tolist() == [[[0, 0, 10, 10.5], [20, 20, 30, 30], [0, 0, 0, 0]]]
    assert found.scores[0, 2] == 0
    # A score at the threshold is kept.
    least = float(jax.nn.sigmoid(jnp.float32(2.0)))
    assert run(regions, extent, score_threshold=least).valid.sum() == 1
    assert not run(regions, extent, score_threshold=0.99).valid.any()


def test_levels_do_not_drop_one_another():
    anchors, deltas = np.float32([[0, 0, 10, 10]] * 4), np.zeros((1, 4, 4), np.float32)
    regions = Regions(np.float32([[1, 2, 3, 0]]), deltas, anchors, (2, 2))
    extent = np.float32([[0, 0, 40, 40]])
    how = {"score_threshold": 0.0, "nms_threshold": 0.7}
    found = jax.jit(partial(propose, before=2, after=4, **how))(regions, extent)
    np.testing.assert_allclose(found.scores[0], [*jax.nn.sigmoid(jnp.asarray([3.0, 2.0])), 0, 0])


def test_no_gradient_passes(inputs):
    regions = drawn(inputs)

    def of(objectness, deltas):
        given = regions.replace(objectness=objectness, deltas=deltas)
        how = {"before": 5, "after": 5, "score_threshold": 0.0, "nms_threshold": 0.7}
        found = propose(given, jnp.asarray(EXTENT), **how)
        return jnp.sum(found.boxes) + jnp.sum(found.scores)

    gradient = jax.jit(jax.grad(of, (0, 1)))(regions.objectness, regions.deltas)
    assert not any(np.any(leaf) for leaf in gradient)


@pytest.mark.parametrize(
    ("image", "grid", "stride", "steps"),
    [
        ((96, 128), (2, 2), 64, (48, 64)),  # torchvision's, of a level that halves 3x4 places
        ((96, 128), (24, 32), 4, (4, 4)),
        ((100, 75), (7, 5), 16, (16, 16)),  # a map whose sides were rounded up
        ((100, 75), (6, 4), 16, (16, 16)),  # and one whose were rounded down
    ],
)
def test_anchors_are_a_stride_apart(image, grid, stride, steps):
    (level,) = anchors_of(image, [grid], (stride,), ((10,),), (1.0,))
    level = level.reshape(*grid, 4)
    assert level[0, 0].tolist() == [-5, -5, 5, 5]
    assert (level[1, 1] - level[0, 0]).tolist() == [steps[1], steps[0]] * 2
