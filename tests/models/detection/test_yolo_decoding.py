"""What the outputs of YOLOv1, YOLOv3 and YOLOX mean, by hand; and what is detected of them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from models.detection import yolo_v1, yolo_v3, yolox
from models.detection.darknet_neck import doubled
from models.detection.selection import select


def logit(p):
    return np.log(p / (1 - p))


def test_yolov3_boxes_by_hand():
    """Two rows of three cells at stride 8, two anchors; all at t = 0 but one."""
    output = np.zeros((1, 2, 3, 2, 5 + 2), np.float32)
    # Row 1, column 2, the second anchor, 10 wide and 20 high: a quarter of a cell right of its
    # left edge, three quarters below its upper one; twice as wide, half as high.
    output[0, 1, 2, 1] = [
        logit(0.25),
        logit(0.75),
        np.log(2),
        -np.log(2),
        logit(0.5),
        0,
        logit(0.2),
    ]
    anchors = ((4, 6), (10, 20))

    @jax.jit
    def read(output):
        levels = [output, output[:, :1, :1]]
        flat, _ = yolo_v3.decode(levels, (8, 16), (anchors,) * 2)
        return yolo_v3.boxes_of(output, 8, anchors), yolo_v3.scores_of(output), flat

    boxes, scores, flat = map(np.asarray, read(output))
    np.testing.assert_allclose(boxes[0, 1, 2, 1], [18 - 10, 14 - 5, 18 + 10, 14 + 5], rtol=1e-6)
    np.testing.assert_allclose(boxes[0, 0, 1, 0], [12 - 2, 4 - 3, 12 + 2, 4 + 3], rtol=1e-6)
    np.testing.assert_allclose(scores[0, 1, 2, 1], [0.25, 0.1], rtol=1e-6)

    assert flat.shape == (1, 2 * 3 * 2 + 2, 4)
    np.testing.assert_array_equal(flat[0, (1 * 3 + 2) * 2 + 1], boxes[0, 1, 2, 1])
    np.testing.assert_allclose(flat[0, -1], [8 - 5, 8 - 10, 8 + 5, 8 + 10])


def test_yolox_boxes_by_hand():
    output = np.zeros((1, 2, 3, 5 + 2), np.float32)
    output[0, 1, 2] = [0.5, -0.25, np.log(3), np.log(0.5), logit(0.5), logit(0.8), 0]

    @jax.jit
    def read(output):
        found = yolox.boxes_of(output, 4), yolox.scores_of(output)
        return *found, *yolox.decode([output, output[:, :1]], (4, 8))

    boxes, each, flat, scores = map(np.asarray, read(output))
    np.testing.assert_allclose(boxes[0, 1, 2], [10 - 6, 3 - 1, 10 + 6, 3 + 1], rtol=1e-6)
    np.testing.assert_allclose(boxes[0, 0, 1], [4 - 2, -2, 4 + 2, 2], rtol=1e-6)
    np.testing.assert_allclose(each[0, 1, 2], [0.4, 0.25], rtol=1e-6)
    assert (flat.shape, scores.shape) == ((1, 9, 4), (1, 9, 2))
    np.testing.assert_array_equal(flat[0, 5], boxes[0, 1, 2])


def test_yolov1_boxes_by_hand():
    """Two rows of three cells at stride 64: the image is 192 wide and 128 high."""
    boxes = np.zeros((1, 2, 3, 2, 5), np.float32)
    boxes[0, 1, 2, 1] = [0.25, 0.75, 0.5, -0.25, 0.6]
    classes = np.zeros((1, 2, 3, 2), np.float32)
    classes[0, 1, 2] = [0.5, 1]
    cells = yolo_v1.Predicted(boxes, classes)
    read = jax.jit(lambda cells: (yolo_v1.boxes_of(cells, 64), *yolo_v1.decode(cells, 64)))
    found, flat, scores = map(np.asarray, read(cells))
    # Centre (144, 112); a quarter of 192 wide, a sixteenth of 128 high.
    np.testing.assert_allclose(found[0, 1, 2, 1], [144 - 24, 112 - 4, 144 + 24, 112 + 4])
    np.testing.assert_array_equal(flat[0, (1 * 3 + 2) * 2 + 1], found[0, 1, 2, 1])
    np.testing.assert_allclose(scores[0, 11], [0.3, 0.6])
    assert np.abs(scores[0, :11]).max() == 0


@pytest.mark.parametrize("of", [yolo_v3.boxes_of, yolox.boxes_of])
def test_a_diverged_size_stays_finite(of):
    more = (((10, 10),),) if of is yolo_v3.boxes_of else ()
    output = np.full((1, 1, 1, *[1] * len(more), 6), 1e30, np.float32)
    assert bool(jnp.isfinite(of(output * np.float32([0, 0, 1, 1, 0, 0]), 8, *more)).all())


def test_pixels_are_doubled():
    x = jnp.asarray([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
    rows = [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    np.testing.assert_array_equal(doubled(x)[0, :, :, 0], rows)


BOXES = np.float32(
    [
        [0, 0, 10, 10],
        [1, 0, 11, 10],  # of IoU 9/11 with the first
        [20, 20, 30, 30],
        [50, 0, 60, 10],  # beyond the extent
    ]
)
SCORES = np.float32([[0.9, 0.3], [0.8, 0.7], [0.2, 0.04], [1, 1]])


def chosen(**fields):
    how = {"score_threshold": 0.05, "nms_threshold": 0.5, "candidates": 100, "limit": 5} | fields
    extent = np.float32([[0, 0, 40, 25]])
    found = jax.jit(partial(select, **how))(BOXES[None], SCORES[None], extent)
    return jax.tree.map(np.asarray, found)


def test_pairs_of_box_and_class_are_suppressed_within_their_class():
    found = chosen()
    assert found.valid.tolist() == [[True, True, True, False, False]]
    np.testing.assert_allclose(found.scores[0], [0.9, 0.7, 0.2, 0, 0])
    assert found.labels.tolist() == [[0, 1, 0, 0, 0]]
    np.testing.assert_array_equal(
        found.boxes[0], [BOXES[0], BOXES[1], [20, 20, 30, 25], [0] * 4, [0] * 4]
    )


def test_candidates_limit_and_thresholds_bound_what_is_found():
    assert chosen(candidates=2).scores[0].tolist() == pytest.approx([0.9, 0, 0, 0, 0])
    assert chosen(limit=1).scores.shape == (1, 1)
    assert int(chosen(score_threshold=0.8).valid.sum()) == 1
    assert int(chosen(nms_threshold=0.9).valid.sum()) == 5
    with pytest.raises(ValueError, match="candidates=0"):
        chosen(candidates=0)


@pytest.mark.parametrize("levels", [1, 2])
def test_a_network_detects_what_its_last_biases_say(levels):
    """With all weights 0 every cell says the same: the boxes are those of the biases."""
    fields = {"stages": (1, 1), "channels": (4, 4), "stem_features": 4, "limit": 20}
    x = np.zeros((1, 8, 16, 3), np.float32)
    extent = np.float32([[0, 0, 16, 8]])

    def detected(name, biases, **more):
        network = models.create(name, num_classes=2, **fields, **more)
        zeros = jax.tree.map(
            lambda leaf: np.zeros(leaf.shape, np.float32),
            jax.eval_shape(lambda: network.init(jax.random.key(0), x, train=False)),
        )
        for path, values in biases.items():
            head = zeros["params"]
            for part in path.split("/"):
                head = head[part]
            head["bias"] = np.float32(values)
        apply = jax.jit(lambda v, x: network.apply(v, x, extent, method="detect"))
        return jax.tree.map(np.asarray, apply(zeros, x))

    far = logit(0.1)
    widths = {"widths": (4,) * levels, "depths": (1,) * levels}
    # Only the coarsest level, of stride 4, sees an object: two rows of four cells.
    last = [0, 0, -9, -9, logit(0.9), far, logit(0.8)]
    none = [0, 0, 0, 0, -20, 0, 0]
    biases = {f"head{n}_output": last if n == levels else none for n in range(1, levels + 1)}
    anchors = (((4.0 * np.exp(9), 2.0 * np.exp(9)),),) * levels
    found = detected("yolov3_small", biases, anchors=anchors, **widths)
    assert int(found.valid.sum()) == 16
    np.testing.assert_allclose(found.scores[0, :8], 0.72, rtol=1e-5)
    assert found.labels[0, :8].tolist() == [1] * 8
    y, x0 = np.mgrid[:2, :4]
    corners = np.stack([4 * x0, 4 * y + 1, 4 * x0 + 4, 4 * y + 3], -1).reshape(8, 4)
    np.testing.assert_allclose(found.boxes[0, :8], corners, atol=1e-4)

    heads = {}
    for n in range(1, levels + 1):
        heads[f"head{n}/object_output"] = [logit(0.9) if n == levels else -20]
        heads[f"head{n}/class_output"] = [far, logit(0.8)]
        heads[f"head{n}/box_output"] = [0.5, 0.5, 0, -np.log(2)]
    found = detected("yolox_small", heads, head_width=4, **widths)
    # Of each box its best class alone.
    assert int(found.valid.sum()) == 8
    assert found.labels[0, :8].tolist() == [1] * 8
    np.testing.assert_allclose(found.boxes[0, :8], corners, atol=1e-4)

    if levels == 1:
        cell = [0.5, 0.5, 0.5, 0.5, 0.9, 0.5, 0.5, 0.5, 0.5, 0, 0, 0.8]
        found = detected("yolov1_small", {"head": cell * 8}, hidden=4)
        assert int(found.valid.sum()) == 8
        np.testing.assert_allclose(found.scores[0, :8], 0.72, rtol=1e-5)
        np.testing.assert_allclose(found.boxes[0, 5], [4, 5, 8, 7], atol=1e-5)
