"""What Fast and Faster R-CNN are held to: their parts, what comes out, what is refused."""

import pathlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from models.detection.box_head import Boxes, found, pooled
from models.detection.fpn import FPN
from models.detection.region_network import head_of_vgg

GOLDEN = pathlib.Path(__file__).parents[2] / "golden"
EXTENT = np.array([[0, 0, 128, 96], [0, 0, 100, 64]], np.float32)
FAMILIES = (
    "fastrcnn_vgg16",
    "fastrcnn_resnet18",
    "fasterrcnn_vgg16",
    "fasterrcnn_resnet18_fpn",
    "fasterrcnn_resnet50_fpn_v2",
)
NET = {"stages": (1,) * 4, "channels": (4, 4, 4, 8), "stem_features": 4, "widths": (8,)}
VGG = {"stages": (1,) * 5, "features": (4, 4, 6, 6, 6), "widths": (8, 8)}
TOP = {"before_nms": (20, 12), "after_nms": (16, 8)}
TINY = {
    "fastrcnn_vgg16": VGG,
    "fastrcnn_resnet18": NET,
    "fasterrcnn_vgg16": VGG | TOP | {"rpn_width": 6},
    "fasterrcnn_resnet18_fpn": NET
    | TOP
    | {"neck": partial(FPN, width=4, outputs=1), "anchor_sizes": ((16, 32),)},
    "fasterrcnn_resnet50_fpn_v2": NET | TOP | {"convs": (4,)},
}
PROPOSALS = np.array([[[0, 0, 30, 40], [5, 6, 50, 20], [0, 0, 0, 0]]] * 2, np.float32)


def tiny(name, **fields):
    return models.create(name, num_classes=3, **(TINY[name] | fields))


def arguments(name, shape=(2, 64, 96, 3), dtype="float32"):
    """An image, and regions of it for what takes any."""
    image = jnp.asarray(np.random.default_rng(0).normal(size=shape), dtype)
    rois = jnp.asarray(PROPOSALS[: shape[0]])
    return (image, rois) if name.startswith("fastrcnn") else (image,)


def tree(network, *given, train=False):
    init = partial(network.init_with_output, train=train)
    return jax.eval_shape(init, jax.random.key(0), *given)


def paths(variables):
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    return ["/".join(key.key for key in path) + f" {leaf.shape}" for path, leaf in leaves]


@pytest.mark.parametrize("name", FAMILIES)
def test_parameter_paths_are_an_interface(name):
    """Weights that people have saved carry these paths and shapes."""
    _, variables = tree(models.create(name, num_classes=21), *arguments(name))
    assert paths(variables) == (GOLDEN / f"{name}.txt").read_text().splitlines()


@pytest.mark.parametrize("name", TINY)
def test_init_creates_the_same_whether_for_training_or_not(name):
    made = [tree(tiny(name), *arguments(name), train=train)[1] for train in (False, True)]
    assert paths(made[0]) == paths(made[1])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize("name", TINY)
def test_logits_are_at_least_float32(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        network = tiny(name, dtype=dtype, param_dtype="float32" if dtype != "float64" else dtype)
        output, variables = tree(network, *arguments(name, dtype=dtype))
        wide = jnp.promote_types(dtype, "float32")
        boxes = output if isinstance(output, Boxes) else output.boxes
        assert {str(leaf.dtype) for leaf in boxes} == {str(wide)}
        if boxes is not output:
            assert output.regions.objectness.dtype == output.regions.deltas.dtype == wide
            assert output.regions.anchors.dtype == output.proposals.boxes.dtype == jnp.float32
        maps = jax.eval_shape(
            partial(network.apply, train=False, method="features"),
            variables,
            arguments(name, dtype=dtype)[0],
        )
        assert {str(one.dtype) for one in maps} == {dtype}
        extent = jnp.zeros((2, 4), jnp.float32)
        rois = arguments(name)[1:]
        others = (*rois, jnp.ones((2, 3), bool)) if rois else ()
        detect = partial(network.apply, method="detect")
        made = jax.eval_shape(detect, variables, arguments(name, dtype=dtype)[0], extent, *others)
        assert made.boxes.shape == (2, 100, 4)
        assert [str(leaf.dtype) for leaf in made] == ["float32", "float32", "int32", "bool"]


def test_detections_are_torchvisions(golden, inputs):
    expected = golden("fasterrcnn_parts")
    corner = 40 * np.abs(inputs.drawn("corner", (2, 40, 2)))
    far = corner + 8 + 30 * np.abs(inputs.drawn("far", corner.shape))
    rois = np.concatenate([corner, far], -1)
    objects = np.array([[5, 6, 90, 80], [20, 10, 43, 52], [60.5, 30.25, 124, 92]])
    rois[0, :8] = objects[[0, 1, 2, 0, 1, 2, 0, 1]] + 2 * inputs.drawn("near", (8, 4))
    logits = inputs.spaced("logits", (2, 43, 5), -2, 3)[:, :40]
    deltas = inputs.drawn("box_deltas", (2, 43, 5, 4))[:, :40]
    # Regions of padding, which would be found.
    rois, logits, deltas = (
        jnp.asarray(np.concatenate([one, one[:, :2]], 1), jnp.float32)
        for one in (rois, logits, deltas)
    )
    valid = jnp.asarray(np.arange(42) < 40)[None].repeat(2, 0)
    run = jax.jit(partial(found, score_threshold=0.05, nms_threshold=0.5, limit=100))
    detections = run(Boxes(logits, deltas), rois, valid, jnp.asarray(EXTENT))
    valid = np.asarray(detections.valid)
    assert valid.sum(1).tolist() == expected["counts"].tolist()
    assert (np.asarray(detections.labels)[valid] + 1).tolist() == expected["labels"].tolist()
    np.testing.assert_allclose(np.asarray(detections.scores)[valid], expected["scores"], rtol=1e-5)
    np.testing.assert_allclose(np.asarray(detections.boxes)[valid], expected["boxes"], atol=2e-4)


def test_the_steps_are_the_call():
    """And training proposes another number of regions."""
    name = "fasterrcnn_resnet18_fpn"
    network = tiny(name)
    (image,) = arguments(name, (1, 40, 48, 3))

    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key != "kernel":
            return jnp.full(leaf.shape, path[-1].key in ("scale", "var"), leaf.dtype)
        size = (1 / np.prod(leaf.shape[:-1])) ** 0.5
        return jnp.asarray(size * rng.normal(size=leaf.shape), leaf.dtype)

    variables = jax.tree_util.tree_map_with_path(draw, tree(network, image)[1])

    def both(variables, image):
        output = network.apply(variables, image, train=False)
        extent = jnp.asarray([[0.0, 0.0, 48.0, 40.0]])

        def steps(network):
            maps = network.features(image, train=False)
            regions = network.rpn(maps, (40, 48))
            proposals = network.proposals(regions, extent, train=False)
            more = network.proposals(regions, extent, train=True)
            return proposals, network.box_head(maps, proposals.boxes, train=False), more

        return output, network.apply(variables, method=steps)

    output, (proposals, boxes, more) = jax.jit(both)(variables, image)
    jax.tree.map(np.testing.assert_array_equal, output[1:], (proposals, boxes))
    assert proposals.boxes.shape == (1, 8, 4)
    assert more.boxes.shape == (1, 16, 4)
    assert np.asarray(proposals.valid).any()


def test_a_narrow_form_reads_one_map_at_stride_4():
    row = models.variant("fasterrcnn_resnet18_fpn")
    network = row.make(num_classes=11, **row.narrowed((4, 8, 8, 16)))
    assert network.strides == (4,)
    output, variables = tree(network, jax.ShapeDtypeStruct((2, 96, 96, 3), jnp.float32))
    assert output.regions.objectness.shape == (2, 24 * 24 * 9)
    assert output.boxes.logits.shape == (2, 64, 11)
    assert variables["params"]["fpn"].keys() == {
        "lateral1_conv",
        "lateral2_conv",
        "lateral3_conv",
        "lateral4_conv",
        "output1_conv",
    }
    with pytest.raises(ValueError, match="ResNet-18 has 4 stages, not 3"):
        row.narrowed((4, 4, 4))


def test_vggs_dense_layers_read_regions():
    vgg = {"backbone": {"a": 1}, "hidden1": 2, "hidden2": 3, "head": 4}
    assert head_of_vgg(vgg) == {"backbone": {"a": 1}, "roi_head": {"hidden1": 2, "hidden2": 3}}
    with pytest.raises(ValueError, match="hidden2 is missing"):
        head_of_vgg({"backbone": {}, "hidden1": 2, "head": 4})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"maps": (4,)}, r"maps=\(4,\) must ascend"),
        ({"maps": (1, 0)}, r"maps=\(1, 0\) must ascend"),
        ({"num_classes": 0}, "num_classes=0 must be at least 1"),
        ({"dropout": 1.0}, r"dropout=1\.0"),
        ({"limit": 0}, "limit=0"),
        ({"nms_threshold": 1.5}, r"nms_threshold=1\.5 must be from 0 to 1"),
        ({"rpn_score_threshold": -0.1}, r"rpn_score_threshold=-0\.1 must be from 0 to 1"),
        ({"after_nms": (4,)}, r"after_nms=\(4,\): in training and in prediction"),
        ({"before_nms": (0, 4)}, "before_nms"),
        ({"rpn_depth": 0}, "rpn_depth=0"),
        ({"anchor_sizes": ((32,), (64,))}, r"anchor_sizes=.* must be for 5 map\(s\)"),
        ({"anchor_sizes": ((32,), (64, 65), (1,), (2,), (3,))}, "as many for each"),
    ],
)
def test_bad_fields_are_named(fields, said):
    with pytest.raises(ValueError, match=said):
        models.create("fasterrcnn_resnet18_fpn", **({"num_classes": 3} | fields))


def test_roi_pooling_reads_one_map():
    maps = [jnp.zeros((1, 4, 4, 1))] * 2
    with pytest.raises(ValueError, match="reads one map, not 2"):
        pooled(maps, jnp.zeros((1, 1, 4)), strides=(4, 8), size=7)
