"""SVMs and regressors of made images: what was learnt is found, and boxes come nearer."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.classification.plain import PlainCNN
from models.detection.boxes import paired_iou
from models.detection.detections import Images
from models.detection.rcnn import rcnn
from train.files import WriteFailed
from train.tasks.detection.rcnn_stages import collect, machines, regressors
from train.tasks.detection.truth import Truth


def scenes(seed, count=8):
    """Images of 24x24 with one square of 10, red or green; proposals about it and elsewhere."""
    rng = np.random.default_rng(seed)
    at = rng.integers(0, 14, (count, 2)).astype(np.float32)
    boxes = np.concatenate([at, at + 10], 1)
    labels = rng.integers(0, 2, (count, 1)).astype(np.int32)
    image = 0.1 * rng.standard_normal((count, 24, 24, 3)).astype(np.float32)
    for one, (x, y), label in zip(image, at.astype(int), labels[:, 0], strict=True):
        one[y : y + 10, x : x + 10, label] += 2
    near = boxes[:, None] + rng.uniform(-1.5, 1.5, (count, 6, 4)).astype(np.float32)
    far = rng.uniform(0, 18, (count, 10, 2)).astype(np.float32)
    proposals = np.concatenate([near, np.concatenate([far, far + 6], -1)], 1)
    true, false = np.ones((count, 1), bool), np.zeros((count, 1), bool)
    truth = Truth(boxes[:, None], labels, true, false, true[:, 0])
    images = Images(image, np.tile(np.float32([0, 0, 24, 24]), (count, 1)))
    return jax.tree.map(jnp.asarray, (images, truth, proposals, np.ones((count, 16), bool)))


def test_from_regions_to_detections(tmp_path):
    fields = {"num_classes": 3, "size": 8, "context": 1, "widths": (16,), "chunk": 64}
    fields |= {"stages": (1,), "channels": (8,), "svm": True}
    net = rcnn(PlainCNN, **fields)
    full = rcnn(PlainCNN, **fields, regressed=True)
    variables = full.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)
    batches = [scenes(0), scenes(1)]
    found = collect(net, variables, batches, tmp_path / "features")
    here = collect(net, variables, batches)
    np.testing.assert_array_equal(found.features, here.features)
    assert len(found.features) == 16 * 17
    with pytest.raises(WriteFailed, match="/dev/full could not be written: No space left"):
        collect(net, variables, batches[:1], pathlib.Path("/dev/full"))
    with pytest.raises(WriteFailed, match="none/features could not be written: FileNotFound"):
        collect(net, variables, batches[:1], tmp_path / "none" / "features")
    assert np.bincount(found.positive + 1)[0] == 16 * 16
    np.testing.assert_array_equal(found.overlap[found.positive >= 0].max(1), 1)

    variables["svm"] = machines(found, seed=0) | regressors(found)
    images, truth, proposals, valid = scenes(2)
    each = [
        jax.jit(lambda v, *a, n=n: n.apply(v, *a, method="detect"))(
            {**variables, "svm": {k: variables["svm"][k] for k in keys}}, *images, proposals, valid
        )
        for n, keys in ((net, ("kernel", "bias")), (full, tuple(variables["svm"])))
    ]
    for one in each:
        assert np.mean(one.labels[:, 0] == truth.labels[:, 0]) >= 7 / 8
    plain, moved = (paired_iou(one.boxes[:, 0], truth.boxes[:, 0]).mean() for one in each)
    assert moved > plain
