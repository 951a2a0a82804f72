"""R-CNN: regions warped as OpenCV warps them, and detections by softmax, SVMs and regressors."""

import pathlib
import re
from functools import partial

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from models.classification.plain import PlainCNN
from models.detection.rcnn import hidden_layers, narrowed, rcnn, warp

GOLDEN = pathlib.Path(__file__).parents[2] / "golden"


def network(**fields):
    made = {"num_classes": 3, "size": 8, "context": 1, "widths": (6,), "chunk": 4, **fields}
    return rcnn(PlainCNN, stages=(1, 1), channels=(4, 8), **made)


def started(net):
    return net.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)


IMAGE = np.random.default_rng(0).standard_normal((2, 20, 24, 3)).astype(np.float32)
warped = jax.jit(warp, static_argnames=("size", "context"))


def test_a_region_of_the_size_itself_is_copied_and_outside_is_zero():
    boxes = jnp.array([[3.0, 2, 11, 10], [-2, 14, 6, 22]])
    found = warped(IMAGE, boxes, jnp.array([0, 1]), size=8, context=0)
    np.testing.assert_array_equal(found[0], IMAGE[0, 2:10, 3:11])
    np.testing.assert_array_equal(found[1, :6, 2:], IMAGE[1, 14:20, :6])
    assert not np.any(found[1, 6:])
    assert not np.any(found[1, :, :2])


def test_the_border_shows_what_is_around_the_box():
    boxes = jnp.array([[4.0, 3, 10, 9]])
    found = warped(IMAGE, boxes, jnp.array([1]), size=8, context=1)
    np.testing.assert_allclose(found[0], IMAGE[1, 2:10, 3:11], rtol=1e-6, atol=1e-6)


def test_stretched_as_by_opencv():
    """It rounds places to 1/32 of a pixel: the boxes are such that these are exact."""
    boxes = np.array([[2.0, 1, 10, 17], [4, 4, 20, 8], [-3, 6, 29, 14]], np.float32)
    found = warped(IMAGE, boxes, jnp.zeros(3, int), size=16, context=0)
    for box, one in zip(boxes, found, strict=True):
        x, y = (
            low + (np.arange(16, dtype=np.float32) + 0.5) / 16 * (high - low) - 0.5
            for low, high in ((box[0], box[2]), (box[1], box[3]))
        )
        x, y = np.meshgrid(x, y)
        expected = cv2.remap(IMAGE[0], x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        np.testing.assert_allclose(one, expected, rtol=1e-5, atol=1e-5)


def test_regions_of_large_images_take_no_room_beside_themselves():
    """A copy of each region's image would take 576 kB each, in all 16 times what comes out."""
    image = jax.ShapeDtypeStruct((2, 300, 160, 3), jnp.float32)
    boxes = jax.ShapeDtypeStruct((64, 4), jnp.float32)
    owner = jax.ShapeDtypeStruct((64,), jnp.int32)
    made = warped.lower(image, boxes, owner, size=56, context=4).compile().memory_analysis()
    assert made.temp_size_in_bytes < made.output_size_in_bytes == 64 * 56 * 56 * 3 * 4


def test_regions_of_images_one_after_the_other():
    net = network()
    variables = started(net)
    boxes = jnp.array([[[3.0, 2, 11, 10], [12, 4, 20, 16]], [[0, 0, 24, 20], [1, 1, 9, 9]]])
    flat, owner = boxes.reshape(-1, 4), jnp.array([0, 0, 1, 1])

    @jax.jit
    def both(variables, image):
        found = net.apply(variables, image, boxes, train=False)
        x = warp(image, flat, owner, size=8, context=1)
        alone = net.apply(variables, image[1:], train=False)  # the whole image is its region
        return found, net.apply(variables, x, train=False, method="classify"), alone

    for one, expected, third in zip(*both(variables, IMAGE), strict=True):
        np.testing.assert_allclose(one, expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(one[2], third[0], rtol=1e-4, atol=1e-6)


def shapes(network, *given):
    init = partial(network.init, train=False)
    return jax.eval_shape(init, jax.random.key(0), *given)


@pytest.mark.parametrize("name", ["rcnn_alexnet", "rcnn_resnet18"])
def test_paths_of_variables_are_an_interface(name):
    """Weights that people have saved carry these paths and shapes."""
    net = models.create(name, num_classes=21, svm=True, regressed=True)
    tree = jax.tree_util.tree_leaves_with_path(shapes(net, jnp.zeros((1, 64, 96, 3))))
    paths = ["/".join(key.key for key in path) + f" {leaf.shape}" for path, leaf in tree]
    assert paths == (GOLDEN / f"{name}.txt").read_text().splitlines()


def test_a_classifiers_layers_fit_but_for_its_head():
    classifier = models.create("alexnet", num_classes=1000)
    theirs = hidden_layers(shapes(classifier, jnp.zeros((1, 224, 224, 3)))["params"])
    net = models.create("rcnn_alexnet", num_classes=21)
    ours = shapes(net, jnp.zeros((1, 64, 96, 3)))["params"]
    assert theirs == {name: layers for name, layers in ours.items() if name != "head"}
    with pytest.raises(ValueError, match="params of head: backbone is missing"):
        hidden_layers({"head": {}})


def test_a_narrow_form_for_small_images():
    net = models.create("rcnn_resnet18", num_classes=11, **narrowed((4, 4, 8, 8)))
    assert (net.size, net.context) == (32, 4)
    params = shapes(net, jnp.zeros((1, 96, 96, 3)))["params"]
    assert params["hidden1"]["kernel"].shape == (8, 16)
    with pytest.raises(ValueError, match="ResNet-18 has 4 stages, not 2"):
        narrowed((4, 8))


@pytest.mark.parametrize("fields", [{}, {"svm": True}, {"svm": True, "regressed": True}])
def test_detections_by_what_the_network_has(fields):
    net = network(score_threshold=0.0, limit=6, **fields)
    variables = started(net)
    assert ("svm" in variables) == ("svm" in fields)
    if "svm" in variables:
        names = {"kernel", "bias"} | (
            {"box_kernel", "box_bias"} if "regressed" in fields else set()
        )
        assert set(variables["svm"]) == names
        bias = jnp.array([-1.0, 2.0])
        variables["svm"]["bias"] = bias
    if "regressed" in fields:  # class 1 moves right by half its width
        variables["svm"]["box_bias"] = jnp.array([0.0, 0, 0, 0, 0.5, 0, 0, 0])
    proposals = jnp.array([[[2.0, 2, 10, 10], [12, 4, 20, 16], [0, 0, 5, 5]]] * 2)
    valid = jnp.array([[True, True, False], [False, False, False]])
    extent = jnp.array([[0.0, 0, 24, 20]] * 2)
    found = jax.jit(lambda v, *a: net.apply(v, *a, method="detect"))(
        variables, IMAGE, extent, proposals, valid
    )
    assert found.valid.tolist() == [[True] * 4 + [False] * 2, [False] * 6]
    assert not np.any(found.boxes[1])
    if "svm" in fields:
        expected = jax.nn.sigmoid(3 * bias)
        np.testing.assert_allclose(found.scores[0, [0, 2]], expected[::-1], rtol=1e-6)
        assert found.labels[0, :4].tolist() == [1, 1, 0, 0]
    else:
        regions = jnp.array([[2.0, 2, 10, 10], [12, 4, 20, 16]])
        x = warp(IMAGE, regions, jnp.zeros(2, int), size=8, context=1)
        found_of = net.apply(variables, x, train=False, method="classify")
        shares = jax.nn.softmax(found_of.logits)[:, 1:]
        np.testing.assert_allclose(found.scores[0, :4], np.sort(shares.ravel())[::-1], rtol=1e-5)
    if "regressed" in fields:  # clipped to the picture
        np.testing.assert_allclose(found.boxes[0, :2], [[6, 2, 14, 10], [16, 4, 24, 16]], atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_types(dtype):
    with jax.enable_x64(dtype == "float64"):
        wide = jnp.promote_types(dtype, jnp.float32)
        net = network(dtype=dtype, param_dtype=wide)
        x = jnp.zeros((1, 8, 8, 3), dtype)
        found = jax.eval_shape(
            lambda key, x: net.init_with_output(key, x, train=False)[0], jax.random.key(0), x
        )
        assert {each.dtype for each in found} == {jnp.dtype(wide)}


@pytest.mark.parametrize(
    "fields",
    [
        {"num_classes": 1},
        {"context": 4},
        {"chunk": 0},
        {"widths": ()},
        {"dropout": 1.0},
        {"regressed": True},
    ],
)
def test_fields_that_are_refused(fields):
    ((name, value),) = fields.items()
    with pytest.raises(ValueError, match=re.escape(f"{name}={value}")):
        network(**fields)
