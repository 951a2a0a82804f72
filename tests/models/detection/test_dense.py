"""What RetinaNet and FCOS are held to: their outputs, their training, what they find."""

import pathlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import models
from models.detection import fcos, retinanet
from models.detection.dense import GroupNorm, detections
from models.detection.fcos import FCOSHead, FCOSOutput
from models.detection.retinanet import RetinaNetHead, RetinaNetOutput
from models.layers.norm import BatchNorm, FrozenBatchNorm

GOLDEN = pathlib.Path(__file__).parents[2] / "golden"
FAMILIES = ("retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2", "fcos_resnet50_fpn")
TINY = {"stages": (1,) * 4, "channels": (4, 4, 4, 8), "stem_features": 4, "width": 8, "depth": 1}
GRIDS = [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)]
BATCH = (2, 64, 96, 3)


def tiny(name, **fields):
    norm = (
        {} if name == "retinanet_resnet50_fpn" else {"head_norm": partial(GroupNorm, num_groups=4)}
    )
    return models.create(name, num_classes=3, **(TINY | norm | fields))


def tree(network, shape=BATCH, dtype="float32", *, train=False):
    init = partial(network.init_with_output, train=train)
    return jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct(shape, dtype))


def paths(variables):
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    return ["/".join(key.key for key in path) + f" {leaf.shape}" for path, leaf in leaves]


def drawn(network, copies=1):
    """Variables of several networks, no scale 1, no bias and no mean 0."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        name, shape = path[-1].key, (copies, *leaf.shape)
        if name in ("scale", "var"):
            value = rng.uniform(0.5, 1.5, shape)
        else:
            fan_in = np.prod(leaf.shape[:-1]) if name == "kernel" else 4
            value = rng.normal(size=shape) * (2 / fan_in) ** 0.5
        return jnp.asarray(value, leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, tree(network)[1])


def one(variables):
    return jax.tree.map(lambda leaf: leaf[0], variables)


def spaced_outputs(inputs, kind, count):
    """As the script of torchvision_dense_parts.npz has them."""
    cells = sum(height * width for height, width in GRIDS)
    rows = cells * (9 if kind == "retinanet" else 1)
    logits = jnp.asarray(inputs.spaced(f"{kind}/logits", (count, rows, 5), -8, 3))
    boxes = jnp.asarray(0.5 * inputs.drawn(f"{kind}/boxes", (count, rows, 4)))
    network = models.create(f"{kind}_resnet18_fpn", num_classes=5)
    maps = [jax.ShapeDtypeStruct((1, *grid, 8), jnp.float32) for grid in GRIDS]
    image = jax.ShapeDtypeStruct((1, 64, 96, 3), jnp.float32)
    if kind == "retinanet":
        sizes = [(32, 40, 50), (64, 80, 101), (128, 161, 203), (256, 322, 406), (512, 645, 812)]
        anchors, counts = network.anchors(image, maps, sizes, (0.5, 1.0, 2.0))
        return RetinaNetOutput(logits, boxes, anchors, counts)
    anchors, counts = network.anchors(image, maps, [(8,), (16,), (32,), (64,), (128,)], (1.0,))
    centreness = jnp.asarray(inputs.drawn("fcos/centreness", (count, rows, 1))[..., 0])
    return FCOSOutput(logits, jnp.abs(5 * boxes), centreness, anchors, counts)


# --- parameters --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_parameter_paths_are_an_interface(name):
    _, variables = tree(models.create(name, num_classes=91))
    assert paths(variables) == (GOLDEN / f"{name}.txt").read_text().splitlines()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_backbone_is_a_classifiers(name):
    _, variables = tree(models.create(name, num_classes=91))
    row = models.variant(name)
    _, classifier = tree(models.create(row.classifier, num_classes=10))
    for kind in ("params", "batch_stats"):
        assert paths(variables[kind]["backbone"]) == paths(classifier[kind]["backbone"])
    assert not row.background


@pytest.mark.parametrize("kind", ["retinanet", "fcos"])
def test_every_class_is_rare_at_first(kind):
    network = models.create(f"{kind}_resnet50_fpn", num_classes=3)
    maps = (jnp.ones((1, 4, 3, 256)), jnp.ones((1, 2, 2, 256)))
    fields = network.layers(maps[0])
    head = FCOSHead(**fields) if kind == "fcos" else RetinaNetHead(anchors=9, **fields)
    (logits, *_), variables = jax.jit(head.init_with_output)(jax.random.key(0), maps)
    assert logits.shape == (1, 16 * (1 if kind == "fcos" else 9), 3)
    assert 0.008 < float(jnp.median(jax.nn.sigmoid(logits))) < 0.012
    made = variables["params"]
    np.testing.assert_allclose(made["class_logits"]["bias"], -np.log(0.99 / 0.01), rtol=1e-6)
    for layer in (made["class_logits"], made["class_tower"]["conv1"], made["box_tower"]["conv4"]):
        assert 0.0098 < float(layer["kernel"].std()) < 0.0102


@pytest.mark.parametrize("name", FAMILIES)
def test_remat_and_training_rename_nothing(name):
    made = [paths(tree(tiny(name, remat=remat), train=remat)[1]) for remat in (False, True)]
    assert made[0] == made[1]


# --- outputs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_rows_are_those_of_all_levels(name):
    for train in (False, True):
        output, _ = tree(tiny(name), train=train)
        each = 1 if name.startswith("fcos") else 9
        assert output.counts == tuple(h * w * each for h, w in GRIDS)
        rows = sum(output.counts)
        assert output.logits.shape == (2, rows, 3)
        assert output.anchors.shape == (rows, 4)
        boxes = output.distances if name.startswith("fcos") else output.deltas
        assert boxes.shape == (2, rows, 4)
        assert name.startswith("retina") or output.centreness.shape == (2, rows)


def test_anchors_are_as_far_apart_as_torchvisions():
    """On 64x96 the last levels halve 3 columns and 1 row: 48 and 64 pixels, then 96 and 64."""
    network = tiny("fcos_resnet50_fpn")
    maps = [jax.ShapeDtypeStruct((1, *grid, 8), jnp.float32) for grid in GRIDS]
    image = jax.ShapeDtypeStruct(BATCH, jnp.float32)
    anchors, counts = network.anchors(image, maps, [(stride,) for stride in network.strides], (1,))
    assert network.strides == (8, 16, 32, 64, 128)
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    sixth = centres[sum(counts[:3]) :]
    np.testing.assert_array_equal(sixth, [[0, 0], [48, 0], [0, 0]])
    np.testing.assert_array_equal(centres[:13], [[8 * (n % 12), 8 * (n // 12)] for n in range(13)])
    assert anchors[0].tolist() == [-4, -4, 4, 4]


def test_anchors_of_an_image_that_is_not_padded_follow_the_strides():
    network = tiny("fcos_resnet50_fpn")
    maps = [jax.ShapeDtypeStruct((1, n, n, 8), jnp.float32) for n in (5, 3, 2, 1, 1)]
    image = jax.ShapeDtypeStruct((1, 33, 33, 3), jnp.float32)
    anchors, _ = network.anchors(image, maps, [(stride,) for stride in network.strides], (1,))
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    np.testing.assert_array_equal(centres[:5, 0], [0, 8, 16, 24, 32])
    np.testing.assert_array_equal(centres[25:28, 0], [0, 16, 32])
    np.testing.assert_array_equal(centres[34:36, 0], [0, 32])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    ("dtype", "param_dtype", "given", "wide"),
    [
        (None, "float32", "float32", "float32"),
        ("bfloat16", "float32", "float32", "float32"),
        ("bfloat16", "bfloat16", "bfloat16", "float32"),
        ("float64", "float64", "float64", "float64"),
    ],
)
def test_dtypes(name, dtype, param_dtype, given, wide):
    network = tiny(name, dtype=dtype, param_dtype=param_dtype)
    output, made = tree(network, BATCH, given, train=True)
    kept = {"logits", "deltas", "distances", "centreness"} & set(vars(output))
    assert {str(getattr(output, key).dtype) for key in kept} == {wide}
    assert output.anchors.dtype == jnp.float32
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(made["params"])} == {param_dtype}
    x = jax.ShapeDtypeStruct(BATCH, given)
    extent = jax.ShapeDtypeStruct((2, 4), jnp.float32)
    found = jax.eval_shape(partial(network.apply, method="detect"), made, x, extent)
    assert [str(leaf.dtype) for leaf in found] == ["float32", "float32", "int32", "bool"]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_convolution_goes_through_the_given_one(name):
    seen = []

    def conv(lhs, rhs, *args, **kwargs):
        seen.append(str(lhs.dtype))
        return lax.conv_general_dilated(lhs, rhs, *args, **kwargs)

    _, variables = tree(tiny(name, dtype="bfloat16", conv_general_dilated=conv))
    kernels = [path for path in paths(variables["params"]) if "kernel" in path]
    heads = [path for path in kernels if path.startswith("head/")]
    last = [path for path in heads if "tower" not in path]
    assert len(seen) == len(kernels) + 4 * len(heads)
    assert seen.count("float32") == 5 * len(last)


# --- training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["retinanet_resnet18_fpn", "fcos_resnet18_fpn"])
def test_training_reaches_every_parameter_of_each_of_several_seeds(name):
    network = tiny(name, stages=(1, 1), channels=(4, 8), maps=(0, 1))
    variables = drawn(network, copies=2)
    x = jnp.asarray(np.random.default_rng(1).normal(size=BATCH), jnp.float32)

    def run(params, statistics):
        def loss(params):
            output, after = network.apply(
                {"params": params, "batch_stats": statistics},
                x,
                train=True,
                mutable=["batch_stats"],
            )
            kept = [
                value for key, value in vars(output).items() if key not in ("anchors", "counts")
            ]
            # Waves: a sum would leave nothing of what is normalised.
            return sum(
                (y * jnp.sin(jnp.arange(y.size).reshape(y.shape))).sum() for y in kept
            ), after

        return jax.grad(loss, has_aux=True)(params)

    found, after = jax.jit(jax.vmap(run))(variables["params"], variables["batch_stats"])
    for path, leaf in zip(paths(found), jax.tree.leaves(found), strict=True):
        assert bool(jnp.isfinite(leaf).all()), path
        assert bool((jnp.abs(leaf).reshape(2, -1).max(1) > 0).all()), path
    moved = jax.tree.map(
        lambda a, b: bool((a != b).any()), after["batch_stats"], variables["batch_stats"]
    )
    assert all(jax.tree.leaves(moved))


def test_frozen_statistics_leave_the_backbones_norms_alone():
    network = tiny("retinanet_resnet50_fpn", norm=FrozenBatchNorm)
    assert network.backbone.norm is FrozenBatchNorm
    assert tiny("fcos_resnet50_fpn").backbone.norm is BatchNorm


# --- what is found -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["retinanet", "fcos"])
def test_detections_are_torchvisions(golden, inputs, kind):
    """Of more candidates than are looked at, and more detections than are kept."""
    expected = golden("dense_parts")
    output = spaced_outputs(inputs, kind, 2)
    if kind == "retinanet":
        scores, boxes = jax.nn.sigmoid(output.logits), retinanet.boxes(output)
    else:
        scores, boxes = fcos.scores(output), fcos.boxes(output)
    network = models.create(f"{kind}_resnet18_fpn", num_classes=5)
    extent = jnp.asarray([[0, 0, 96, 64], [0, 0, 70, 50]], jnp.float32)
    found = jax.jit(partial(network.detections, counts=output.counts))(scores, boxes, extent=extent)
    assert bool(found.valid.all())
    assert expected[f"{kind}/counts"].tolist() == [found.valid.shape[1]] * 2
    flat = [np.asarray(value).reshape(-1, *value.shape[2:]) for value in found]
    np.testing.assert_array_equal(flat[2], expected[f"{kind}/labels"])
    np.testing.assert_allclose(flat[1], expected[f"{kind}/scores"], rtol=1e-5)
    np.testing.assert_allclose(flat[0], expected[f"{kind}/boxes"], atol=1e-3)


FIND = {"score_threshold": 0.3, "nms_threshold": 0.5, "limit": 5}


def test_detections_by_hand():
    """Two levels of two rows; each looks at its three best pairs of a box and a class."""
    boxes = jnp.asarray(
        [[[0, 0, 10, 10], [1, 0, 11, 10], [-5, 2, 20, 30], [40, 40, 50, 50]]], float
    )
    scores = jnp.asarray([[[0.9, 0.8], [0.7, 0.75], [0.3, 0.31], [0.1, 0.95]]])
    extent = jnp.asarray([[0, 0, 18, 45]], jnp.float32)
    run = jax.jit(partial(detections, counts=(2, 2), candidates=3, **FIND))
    found = run(scores, boxes, extent=extent)
    # 0.7 is no candidate; 0.75 overlaps 0.8; 0.3 is not above the threshold.
    assert found.valid.tolist() == [[True] * 4 + [False]]
    assert found.labels.tolist() == [[1, 0, 1, 1, 0]]
    np.testing.assert_allclose(found.scores, [[0.95, 0.9, 0.8, 0.31, 0]], rtol=1e-6)
    kept = [[18, 40, 18, 45], [0, 0, 10, 10], [0, 0, 10, 10], [0, 2, 18, 30], [0, 0, 0, 0]]
    np.testing.assert_array_equal(found.boxes, [kept])


def test_nothing_is_found_below_the_threshold():
    network = tiny("retinanet_resnet18_fpn", score_threshold=1.0, limit=4)
    extent = jnp.broadcast_to(jnp.asarray([[0, 0, 96, 64]], jnp.float32), (2, 4))
    found = jax.jit(partial(network.apply, method="detect"))(
        one(drawn(network)), jnp.ones(BATCH), extent
    )
    assert found.boxes.shape == (2, 4, 4)
    assert not any(bool(value.any()) for value in found)


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"maps": ()}, r"maps=\(\) must ascend"),
        ({"maps": (2, 1)}, r"maps=\(2, 1\) must ascend"),
        ({"maps": (1, 4)}, r"maps=\(1, 4\) must ascend.* 0 to 3"),
        ({"width": 0}, "width=0 must be"),
        ({"depth": 0}, "depth=0 must be"),
        ({"candidates": 0}, "candidates=0 must be"),
        ({"limit": 1.5}, "limit=1.5 must be"),
        ({"score_threshold": -0.1}, "score_threshold=-0.1 must be from 0 to 1"),
        ({"nms_threshold": 1.1}, "nms_threshold=1.1 must be from 0 to 1"),
        ({"prior": 0.0}, "prior=0.0 must be above 0"),
        ({"num_classes": 0}, "num_classes=0 must be at least 1"),
    ],
)
@pytest.mark.parametrize("name", ["retinanet_resnet18_fpn", "fcos_resnet18_fpn"])
def test_bad_fields_are_named(name, fields, message):
    with pytest.raises(ValueError, match=message):
        models.create(name, **({"num_classes": 3} | fields))


def test_bad_images_and_unknown_fields_are_named():
    network = tiny("fcos_resnet50_fpn")
    with pytest.raises(ValueError, match="expected 4 axes"):
        tree(network, BATCH[1:])
    with pytest.raises(ValueError, match="image of dtype uint8"):
        tree(network, BATCH, "uint8")
    with pytest.raises(TypeError, match="no_such_field"):
        tiny("fcos_resnet50_fpn", no_such_field=1)
