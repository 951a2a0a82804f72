"""torchvision's Faster R-CNN: what its weights yield, part by part, on images of several sizes."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from models.layers.norm import FrozenBatchNorm
from models.pretrained.naming import FAMILIES
from models.pretrained.published import fields
from models.pretrained.torchvision import from_torchvision, tensors

NAMES = ("fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2")


def state_dict(inputs, expected):
    state = inputs.weights(json.loads(str(expected["shapes"])))
    for key, factor in json.loads(str(expected["factors"])).items():
        state[key] = state[key] * np.float32(factor)
    return state


def batch(inputs, expected):
    """Images at the top left of 96x128, and their extents."""
    sizes = json.loads(str(expected["sizes"]))
    image = np.zeros((len(sizes), 96, 128, 3), np.float32)
    for number, (height, width) in enumerate(sizes):
        one = inputs.images((1, 3, height, width))[0].transpose(1, 2, 0)
        image[number, :height, :width] = one
    return image, np.array([[0, 0, width, height] for height, width in sizes], np.float32)


def close(inputs, name, found, expected, key=None, tolerance=1e-4):
    key = key or name
    values = np.float64(inputs.sampled(name, np.asarray(found)))
    error = np.abs(values - expected[key]).max() / expected[f"{key}/scale"]
    assert np.ptp(expected[key]) > 0.2 * expected[f"{key}/scale"], key
    assert error < tolerance, (key, error)


@pytest.mark.parametrize("name", NAMES)
def test_every_part_is_torchvisions(golden, inputs, name):
    expected = golden(name)
    variables = from_torchvision(name, state_dict(inputs, expected))
    network = models.create(name, num_classes=5, before_nms=(1, 16), after_nms=(1, 20))
    image, extent = batch(inputs, expected)
    rois = np.broadcast_to(expected["rois"], (len(image), *expected["rois"].shape))

    def steps(network, image, extent, rois):
        maps = network.features(image, train=False)
        regions = network.rpn(maps, image.shape[1:3])
        proposals = network.proposals(regions, extent, train=False)
        boxes = network.box_head(maps, rois, train=False)
        read = network.box_head(maps, proposals.boxes, train=False)
        found = network.found(read, proposals.boxes, proposals.valid, extent)
        return regions, proposals, boxes, found

    run = jax.jit(partial(network.apply, method=steps))
    regions, proposals, boxes, found = run(variables, image, extent, rois)
    close(inputs, "objectness", regions.objectness, expected)
    close(inputs, "deltas", regions.deltas, expected)
    close(inputs, "logits", boxes.logits, expected)
    close(inputs, "box_deltas", boxes.deltas, expected)
    assert proposals.valid.sum(1).tolist() == expected["proposals/counts"].tolist()
    valid = np.asarray(proposals.valid)
    np.testing.assert_allclose(np.asarray(proposals.boxes)[valid], expected["proposals"], atol=2e-3)
    valid = np.asarray(found.valid)
    assert valid.sum(1).tolist() == expected["counts"].tolist()
    assert (np.asarray(found.labels)[valid] + 1).tolist() == expected["labels"].tolist()
    np.testing.assert_allclose(np.asarray(found.scores)[valid], expected["scores"], atol=2e-4)
    np.testing.assert_allclose(np.asarray(found.boxes)[valid], expected["boxes"], atol=5e-3)


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_has_its_place(golden, name):
    shapes = json.loads(str(golden("detection_names")[name]))
    theirs = {k: tuple(v) for k, v in shapes.items() if not k.endswith("num_batches_tracked")}
    wanted = tensors(name, 91)
    assert {tensor.name: tensor.shape for tensor in wanted.values()} == theirs
    assert len(wanted) == len(theirs)


def test_files_of_the_earlier_form_are_read():
    """As the published fasterrcnn_resnet50_fpn_coco-258fb6c6.pth has them."""
    earlier = FAMILIES["fasterrcnn_resnet50_fpn"].earlier
    renamed = {
        "rpn.head.conv.weight": "rpn.head.conv.0.0.weight",
        "backbone.fpn.inner_blocks.3.bias": "backbone.fpn.inner_blocks.3.0.bias",
        "backbone.fpn.layer_blocks.0.weight": "backbone.fpn.layer_blocks.0.0.weight",
    }
    for before, now in renamed.items():
        assert earlier(before) == now
        assert earlier(now) == now
    for same in ("backbone.body.layer1.0.conv1.weight", "rpn.head.cls_logits.bias"):
        assert earlier(same) == same


def test_published_weights_want_an_epsilon_of_0(golden, inputs):
    """torchvision's `overwrite_eps`: shows where variances are small, and not elsewhere."""
    name = "fasterrcnn_resnet50_fpn"
    expected = golden(name)
    state = state_dict(inputs, expected)
    for key in state:
        if key.endswith("running_var") and "backbone.body" in key:
            state[key][::3] *= np.float32(1e-4)
            state[key.replace("running_var", "weight")][::3] *= np.float32(1e-2)
    variables = from_torchvision(name, state)
    image = batch(inputs, expected)[0][:1]
    network = models.create(name, num_classes=5, **fields(name))
    method = lambda n, x: n.rpn(n.features(x, train=False), x.shape[1:3]).objectness  # noqa: E731
    objectness = jax.jit(partial(network.apply, method=method))
    found = {}
    for epsilon in (0, 1e-5):
        # In place of another network, compiled anew: the same with as much larger variances.
        larger = jax.tree_util.tree_map_with_path(
            lambda path, leaf, e=epsilon: leaf + np.float32(e * (path[-1].key == "var")),
            variables["batch_stats"],
        )
        found[epsilon] = objectness({**variables, "batch_stats": larger}, image)
        key = f"epsilon/{epsilon:g}"
        close(inputs, "objectness", found[epsilon], expected, key, tolerance=2e-4)
    scale = expected["epsilon/0/scale"]
    assert np.abs(found[0] - found[1e-5]).max() > 0.1 * scale


def test_which_published_weights_need_fields():
    assert fields("fasterrcnn_resnet50_fpn_v2") == {}
    assert fields("fasterrcnn_resnet50_fpn", "MINE") == {}
    norm = fields("fasterrcnn_resnet50_fpn", "COCO_V1")["norm"]()
    assert isinstance(norm, FrozenBatchNorm)
    assert norm.epsilon == 0
    with pytest.raises(ValueError, match="'resnet51' is none of torchvision's"):
        fields("resnet51")


def test_of_frozen_batchnorm_nothing_trains():
    """41,755,286 of 41,808,406 parameters are torchvision's trainable ones."""
    network = models.create("fasterrcnn_resnet50_fpn", num_classes=91, norm=FrozenBatchNorm)
    x = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    tree = jax.eval_shape(partial(network.init, train=False), jax.random.key(0), x)["params"]
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    sizes = {"/".join(key.key for key in path): leaf.size for path, leaf in leaves}
    frozen = sum(n for path, n in sizes.items() if path.endswith(("scale", "norm/bias")))
    frozen += sum(
        n for path, n in sizes.items() if path.endswith(("norm1/bias", "norm2/bias", "norm3/bias"))
    )
    assert sum(sizes.values()) == 41_808_406
    assert sum(sizes.values()) - frozen == 41_755_286
