"""torchvision's RetinaNet and FCOS: outputs of heads and detections of its weights."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from models.pretrained.torchvision import from_torchvision

OUTPUTS = {"logits": "cls_logits", "deltas": "bbox_regression", "distances": "bbox_regression"}
NAMES = ("retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2", "fcos_resnet50_fpn")


def state_dict(expected, inputs):
    """The drawn weights, some of them scaled or set, as the script gave them to torchvision."""
    shapes, factors, values = (
        json.loads(str(expected[key])) for key in ("shapes", "factors", "values")
    )
    state = inputs.weights(shapes)
    for key, factor in factors.items():
        state[key] = state[key] * np.float32(factor)
    for key, value in values.items():
        state[key] = np.full_like(state[key], value)
    return state


def padded(sizes, inputs):
    """Images of these sizes, in a corner of zeros, and their extents."""
    height, width = (-(-max(side) // 32) * 32 for side in zip(*sizes, strict=True))
    x = np.zeros((len(sizes), height, width, 3), np.float32)
    for n, (rows, columns) in enumerate(sizes):
        x[n, :rows, :columns] = inputs.images((1, 3, rows, columns))[0].transpose(1, 2, 0)
    return jnp.asarray(x), jnp.asarray([[0, 0, c, r] for r, c in sizes], jnp.float32)


@pytest.mark.parametrize("name", NAMES)
def test_outputs_and_detections_are_torchvisions(golden, inputs, name):
    expected = golden(name)
    variables = from_torchvision(name, state_dict(expected, inputs))
    network = models.create(name, num_classes=5)
    image, extent = padded(json.loads(str(expected["sizes"])), inputs)

    def run(variables, image, extent):
        output = network.apply(variables, image, train=False)
        return output, network.apply(variables, image, extent, method="detect")

    output, found = jax.jit(run)(variables, image, extent)
    if name.startswith("fcos"):
        kept = {"bbox_ctrness": output.centreness, "bbox_regression": output.distances}
    else:
        kept = {"bbox_regression": output.deltas}
    for key, value in (kept | {"cls_logits": output.logits}).items():
        values = inputs.sampled(key, np.asarray(value))
        assert np.ptp(expected[key]) > 0.3 * expected[f"{key}/scale"]
        error = np.abs(np.float64(values) - expected[key]).max() / expected[f"{key}/scale"]
        assert error < 3e-5, key

    assert found.valid.sum(1).tolist() == expected["counts"].tolist()
    assert expected["counts"].min() > 2
    there = np.asarray(found.valid)
    np.testing.assert_array_equal(np.asarray(found.labels)[there], expected["labels"])
    np.testing.assert_allclose(np.asarray(found.scores)[there], expected["scores"], atol=2e-4)
    np.testing.assert_allclose(np.asarray(found.boxes)[there], expected["boxes"], atol=5e-3)
    for values in (found.boxes, found.scores, found.labels):
        assert not np.asarray(values)[~there].any()
