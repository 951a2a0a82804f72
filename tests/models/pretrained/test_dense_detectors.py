"""torchvision's RetinaNet and FCOS: outputs of heads and detections of its weights."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from models.pretrained.naming import family_of
from models.pretrained.published import fields
from models.pretrained.torchvision import from_torchvision, tensors

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
        called = {"capture_intermediates": lambda module, method: module.name is None}
        found, kept = network.apply(variables, image, extent, method="detect", **called)
        return kept["intermediates"]["__call__"][0], found

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


# --- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_has_its_place(golden, name):
    expected = {
        key: tuple(shape)
        for key, shape in json.loads(str(golden("detection_names")[name])).items()
        if not key.endswith("num_batches_tracked")
    }
    wanted = tensors(name, 91)
    assert {tensor.name: tensor.shape for tensor in wanted.values()} == expected
    assert len(wanted) == len(expected)


@pytest.mark.parametrize("name", NAMES)
def test_tensors_of_earlier_files_are_known_too(golden, name):
    """As the published files have them: a pyramid's convolution alone, a tower one sequence."""
    known = [*json.loads(str(golden(name)["shapes"]))]
    rename = family_of(name).earlier

    def earlier(key):
        key = re.sub(r"(_blocks\.\d)\.0\.", r"\1.", key)
        if name != "retinanet_resnet50_fpn":
            return key
        return re.sub(r"(head\.conv)\.(\d)\.0", lambda m: f"{m[1]}.{2 * int(m[2])}", key)

    old = [earlier(key) for key in known]
    changed = 12 + 16 * (name == "retinanet_resnet50_fpn")
    assert sum(a != b for a, b in zip(old, known, strict=True)) == changed
    assert [rename(key) for key in old] == known
    assert [rename(key) for key in known] == known


def test_the_number_of_classes_is_that_of_the_weights(golden):
    shapes = json.loads(str(golden("retinanet_resnet50_fpn")["shapes"]))
    state = {key: np.zeros(shape, np.float16) for key, shape in shapes.items()}
    head = from_torchvision("retinanet_resnet50_fpn", state)["params"]["head"]
    assert head["class_logits"]["kernel"].shape == (3, 3, 256, 9 * 5)
    del state["head.regression_head.bbox_reg.bias"]
    with pytest.raises(ValueError, match=r"head\.regression_head\.bbox_reg\.bias is missing"):
        from_torchvision("retinanet_resnet50_fpn", state)


# --- published weights -------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "epsilon"), [*zip(NAMES, (0.0, 1e-5, 1e-5), strict=True)])
def test_only_the_first_retinanet_was_trained_without_an_epsilon(name, epsilon):
    """What a channel of variance 1e-6 becomes: 1000 times as large, or 301."""
    network = models.create(name, num_classes=91, **fields(name, "COCO_V1"))
    norm = network.backbone.norm()
    x = jnp.full((1, 1, 1, 1), 2.0)
    variables = norm.init(jax.random.key(0), x, train=False)
    variables["batch_stats"]["var"] = jnp.full((1,), 1e-6)
    found = norm.apply(variables, x, train=False)
    np.testing.assert_allclose(found, 2 / np.sqrt(1e-6 + epsilon), rtol=1e-5)
