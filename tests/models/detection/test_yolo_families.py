"""What every network of YOLOv1, YOLOv3 and YOLOX is held to."""

import pathlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import models
from models.layers.norm import BatchNorm

GOLDEN = pathlib.Path(__file__).parents[2] / "golden"
# Variants, the image that their paths are listed for, and fields of a tiny one.
THIN = {"stages": (1, 1, 1), "channels": (4, 4, 6), "stem_features": 4}
LEVELS = {"widths": (4, 4, 6), "depths": (0, 1, 3)}
SMALL = {"stages": (1, 1), "channels": (4, 6), "stem_features": 4}
STAGES = (((4, 7),), ((4, 3), (6, 1)), ((4, 3), (4, 3)))
FAMILIES = {
    "yolov1": (448, {"stages": STAGES, "hidden": 6}),
    "yolov1_small": (96, SMALL | {"hidden": 6}),
    "yolov3": (64, THIN | LEVELS),
    "yolov3_tiny": (64, {"features": (4,) * 4, "widths": (4, 6)}),
    "yolov3_small": (64, SMALL | {"widths": (4,)}),
    "yolox_darknet53": (64, THIN | LEVELS | {"pools": (3, 5), "head_width": 4}),
    "yolox_small": (64, SMALL | {"widths": (4,), "head_width": 4}),
}
SIDE = 32
"""Of a tiny one's images."""


def tiny(name, **fields):
    return models.create(name, num_classes=3, **(FAMILIES[name][1] | fields))


def tree(network, shape, dtype="float32", *, train=False):
    """Shapes and dtypes of the outputs and of the variables; nothing is computed."""
    init = partial(network.init_with_output, train=train)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    return jax.eval_shape(init, keys, jax.ShapeDtypeStruct(shape, dtype))


def paths(variables):
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    return ["/".join(key.key for key in path) + f" {leaf.shape}" for path, leaf in leaves]


def dtypes(variables):
    return {str(leaf.dtype) for leaf in jax.tree.leaves(variables)}


def drawn(network, shape, copies=1):
    """Variables of several networks, drawn so that no scale is 1, no bias and no mean 0."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        name, shape = path[-1].key, (copies, *leaf.shape)
        if name in ("scale", "var"):
            value = rng.uniform(0.5, 1.5, shape)
        else:
            fan_in = np.prod(leaf.shape[:-1]) if name == "kernel" else 4
            value = rng.normal(size=shape) * (2 / fan_in) ** 0.5
        return np.asarray(value, leaf.dtype)

    _, variables = tree(network, shape)
    return jax.tree_util.tree_map_with_path(draw, variables)


@pytest.mark.parametrize("name", FAMILIES)
def test_parameter_paths_are_an_interface(name):
    """Weights that people have saved carry these paths and shapes."""
    side, _ = FAMILIES[name]
    _, variables = tree(models.create(name, num_classes=10), (1, side, side, 3))
    assert paths(variables) == (GOLDEN / f"{name}.txt").read_text().splitlines()


@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_backend_brings_is_taken(name):
    models.create(
        name, num_classes=10, conv_general_dilated=lax.conv_general_dilated, norm=BatchNorm
    )
    with pytest.raises(TypeError, match="no_such_field"):
        models.create(name, num_classes=10, no_such_field=1)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_convolution_goes_through_the_given_one(name):
    seen = []

    def conv(lhs, rhs, *args, **kwargs):
        seen.append(str(lhs.dtype))
        return lax.conv_general_dilated(lhs, rhs, *args, **kwargs)

    network = tiny(name, dtype="bfloat16", conv_general_dilated=conv)
    _, variables = tree(network, (1, SIDE, SIDE, 3))
    params = variables["params"]
    kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 4]
    assert len(seen) == len(kernels)
    outputs = [path for path in paths(params) if "output/kernel" in path]
    assert seen.count("float32") == len(outputs)
    assert seen.count("bfloat16") == len(kernels) - len(outputs)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    ("dtype", "param_dtype", "given", "maps", "outputs"),
    [
        (None, "float32", "float32", "float32", "float32"),
        ("bfloat16", "float32", "float32", "bfloat16", "float32"),
        ("bfloat16", "bfloat16", "bfloat16", "bfloat16", "float32"),
        ("float64", "float64", "float64", "float64", "float64"),
        (None, "float64", "float32", "float64", "float64"),
    ],
)
def test_dtypes(name, dtype, param_dtype, given, maps, outputs):
    network = tiny(name, dtype=dtype, param_dtype=param_dtype)
    shape = (2, SIDE, SIDE, 3)
    out, made = tree(network, shape, given, train=True)
    assert dtypes(out) == {outputs}
    assert dtypes(made["params"]) == {param_dtype}
    assert dtypes(made) <= {param_dtype, outputs}
    backbone = {collection: tree["backbone"] for collection, tree in made.items()}
    x = jax.ShapeDtypeStruct(shape, given)
    found = jax.eval_shape(partial(network.backbone.apply, train=False), backbone, x)
    assert dtypes(found) == {maps}
    sizes = [(SIDE // stride, SIDE // stride) for stride in network.backbone.strides]
    assert [leaf.shape[1:3] for leaf in found] == sizes
    assert tuple(leaf.shape[3] for leaf in found) == network.backbone.channels

    detect = partial(network.apply, method="detect")
    detections = jax.eval_shape(detect, made, x, jax.ShapeDtypeStruct((2, 4), "float32"))
    assert [str(leaf.dtype) for leaf in detections] == ["float32", "float32", "int32", "bool"]
    assert detections.boxes.shape == (2, network.limit, 4)


@pytest.mark.parametrize("name", FAMILIES)
def test_training_reaches_every_parameter_of_each_of_several_seeds(name):
    """Two networks in one program, as `vmap` over states trains them."""
    network = tiny(name)
    rng = np.random.default_rng(0)
    x = np.float32(rng.normal(size=(4, SIDE, SIDE, 3)))
    variables = drawn(network, x.shape, copies=2)
    params = variables.pop("params")
    outputs, _ = tree(network, x.shape)
    weights = jax.tree.map(lambda leaf: np.float32(rng.normal(size=leaf.shape)), outputs)

    def gradient(params, rest, key):
        def loss(params):
            made, keys = {"params": params, **rest}, {"dropout": key}
            out, updated = network.apply(made, x, train=True, mutable=list(rest), rngs=keys)
            terms = jax.tree.map(lambda a, b: (a * b).sum(), out, weights)
            return sum(jax.tree.leaves(terms)), updated

        return jax.grad(loss, has_aux=True)(params)

    keys = jax.random.split(jax.random.key(0), 2)
    found, updated = jax.jit(jax.vmap(gradient))(params, variables, keys)
    found, updated = jax.device_get((found, updated))
    for path, leaf in zip(paths(found), jax.tree.leaves(found), strict=True):
        assert np.isfinite(leaf).all(), path
        assert (np.abs(leaf).reshape(2, -1).max(1) > 0).all(), path
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), updated, variables)
    assert all(jax.tree.leaves(moved)), moved


def test_remat_changes_no_path_and_no_value():
    plain, spared = tiny("yolov3_small"), tiny("yolov3_small", remat=True)
    x = np.float32(np.random.default_rng(0).normal(size=(1, 16, 16, 3)))
    variables = jax.tree.map(lambda leaf: np.asarray(leaf)[0], drawn(plain, x.shape))
    assert tree(spared, x.shape) == tree(plain, x.shape)
    both = jax.jit(lambda v, x: [net.apply(v, x, train=False) for net in (plain, spared)])
    for one, other in zip(*both(variables, x), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_bad_images_are_named(name):
    network, shape = tiny(name), (1, SIDE, SIDE, 3)
    with pytest.raises(ValueError, match="expected 4 axes"):
        tree(network, shape[1:])
    with pytest.raises(ValueError, match="image of dtype uint8"):
        tree(network, shape, "uint8")
    stride = network.strides[-1]
    more = SIDE + stride
    message = f"multiples of {stride}, such as {SIDE}x{more}"
    with pytest.raises(ValueError, match=message):
        tree(network, (1, SIDE, SIDE + 1, 3))
    assert (network.input_size(SIDE), network.input_size(SIDE + 1)) == (SIDE, more)
    _, variables = tree(network, shape)
    other = jax.ShapeDtypeStruct((*shape[:3], 2), jnp.float32)
    with pytest.raises(ValueError, match=r"2 channel\(s\), the weights of [\w/]+ are for 3"):
        jax.eval_shape(partial(network.apply, train=False), variables, other)


@pytest.mark.parametrize("name", ["yolov1", "yolov1_small"])
def test_dense_layers_are_for_images_of_one_size(name):
    network = tiny(name)
    _, variables = tree(network, (1, SIDE, SIDE, 3))
    other = jax.ShapeDtypeStruct((1, SIDE, 2 * SIDE, 3), jnp.float32)
    with pytest.raises(
        ValueError, match=r"\dx\d+ cells of \d values; the dense layer is for .* \d+"
    ):
        jax.eval_shape(partial(network.apply, train=False), variables, other)


ANCHORS = (((1, 1),), ((2, 2),))


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("yolov3", {"anchors": ANCHORS}, r"anchors=.* for each of the levels of widths="),
        ("yolov3_small", {"anchors": (((0, 1),),)}, "sizes above 0"),
        ("yolov3_small", {"anchors": ((),)}, "sizes above 0"),
        ("yolov3_small", {"anchors": (((1, 2, 3),),)}, "pairs"),
        ("yolov3", {"depths": (5, 5, 4)}, r"depths=\(5, 5, 4\) must be odd, or 0"),
        ("yolov3", {"depths": (5, 5)}, r"depths=\(5, 5\) must be as many"),
        ("yolov3_small", {"widths": (8,) * 4, "depths": (1,) * 4}, "has no 4 last maps"),
        ("yolov3", {"stages": (1, 2)}, r"stages=\(1, 2\) and channels="),
        ("yolov3", {"channels": (64, 128, 257, 512, 512)}, "must be even"),
        ("yolov3", {"stem_features": 0}, "stem_features=0"),
        ("yolov3_tiny", {"features": (16,)}, r"features=\(16,\)"),
        ("yolox_small", {"head_width": 0}, "head_width=0"),
        ("yolox_small", {"pools": (5,)}, r"pools=\(5,\) must be odd, on at least 3"),
        ("yolox_darknet53", {"pools": (4,)}, r"pools=\(4,\) must be odd"),
        ("yolov1", {"boxes": 0}, "boxes=0 and hidden=4096"),
        ("yolov1", {"dropout": 1.0}, "dropout=1.0"),
        ("yolov1", {"stages": (((4, 3),), ())}, "none of them empty"),
        *((name, {"num_classes": 0}, "num_classes=0 must be at least 1") for name in FAMILIES),
    ],
)
def test_bad_fields_are_refused_at_construction(name, fields, message):
    with pytest.raises(ValueError, match=message):
        models.create(name, **({"num_classes": 10} | fields))
