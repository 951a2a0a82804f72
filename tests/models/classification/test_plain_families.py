"""What every network of MLP, LeNet-5, AlexNet, VGG and the plain CNN is held to."""

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
# Variants, the smallest image that each takes, and fields of a tiny one.
FLAT = {"widths": (12, 12)}
ALEX = {"features": (4, 6, 6, 4, 4)} | FLAT
VGG = {"features": (4, 4, 4, 6, 6)} | FLAT
FAMILIES = {
    "mlp": ((1, 1, 1), FLAT),
    "lenet5": ((32, 32, 1), {}),
    "lenet5_1998": ((32, 32, 1), {}),
    "alexnet": ((63, 63, 3), ALEX),
    "alexnet_2012": ((63, 63, 3), ALEX),
    "vgg11": ((32, 32, 3), VGG),
    "vgg11_bn": ((32, 32, 3), VGG),
    "plain_cnn": ((4, 4, 1), {"channels": (4, 6, 8)}),
}
WITH_BACKBONE = [name for name in FAMILIES if name != "mlp"]


def image(name):
    """The shape of a batch of two: the variant's smallest, but an MLP's is of several pixels."""
    return (2, 5, 4, 3) if name == "mlp" else (2, *FAMILIES[name][0])


def tiny(name, **fields):
    return models.create(name, num_classes=3, **(FAMILIES[name][1] | fields))


def tree(network, shape, dtype="float32", *, train=False):
    """Shapes and dtypes of the output and of the variables; nothing is computed."""
    init = partial(network.init_with_output, train=train)
    return jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct(shape, dtype))


def paths(variables):
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    return ["/".join(key.key for key in path) + f" {leaf.shape}" for path, leaf in leaves]


def dtypes(variables):
    return {str(leaf.dtype) for leaf in jax.tree.leaves(variables)}


@pytest.mark.parametrize("name", FAMILIES)
def test_parameter_paths_are_an_interface(name):
    """Weights that people have saved carry these paths and shapes."""
    shape = (2, 28, 28, 1) if name == "mlp" else image(name)
    _, variables = tree(models.create(name, num_classes=10), shape)
    assert paths(variables) == (GOLDEN / f"{name}.txt").read_text().splitlines()


@pytest.mark.parametrize("name", models.names("classification"))
def test_what_a_backend_brings_is_taken_by_every_network(name):
    fields = {"conv_general_dilated": lax.conv_general_dilated, "norm": BatchNorm}
    models.create(name, num_classes=10, **fields)
    with pytest.raises(TypeError, match="no_such_field"):
        models.create(name, num_classes=10, no_such_field=1)


@pytest.mark.parametrize("name", WITH_BACKBONE)
def test_every_convolution_goes_through_the_given_one(name):
    seen = []

    def conv(lhs, rhs, *args, **kwargs):
        seen.append((lhs.dtype, rhs.dtype))
        return lax.conv_general_dilated(lhs, rhs, *args, **kwargs)

    network = models.create(name, num_classes=10, dtype="bfloat16", conv_general_dilated=conv)
    _, variables = tree(network, image(name))
    kernels = [p for p in paths(variables["params"]["backbone"]) if "kernel" in p]
    assert len(seen) == len(kernels)
    assert set(seen) == {(jnp.dtype("bfloat16"),) * 2}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    ("dtype", "param_dtype", "given", "maps", "logits"),
    [
        (None, "float32", "float32", "float32", "float32"),
        ("bfloat16", "float32", "float32", "bfloat16", "float32"),
        ("bfloat16", "bfloat16", "bfloat16", "bfloat16", "float32"),
        ("float64", "float64", "float64", "float64", "float64"),
        (None, "float64", "float32", "float64", "float64"),
    ],
)
def test_dtypes(name, dtype, param_dtype, given, maps, logits):
    network = tiny(name, dtype=dtype, param_dtype=param_dtype)
    out, made = tree(network, image(name), given, train=True)
    assert (out.shape, out.dtype) == ((2, 3), logits)
    assert dtypes(made["params"]) == {param_dtype}
    assert dtypes(made) <= {param_dtype, logits}
    if name != "mlp":
        backbone = {collection: tree["backbone"] for collection, tree in made.items()}
        apply = partial(network.backbone.apply, train=False)
        x = jax.ShapeDtypeStruct(image(name), given)
        assert dtypes(jax.eval_shape(apply, backbone, x)) == {maps}


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
        return jnp.asarray(value, leaf.dtype)

    _, variables = tree(network, shape)
    return jax.tree_util.tree_map_with_path(draw, variables)


@pytest.mark.parametrize("name", ["lenet5_1998", "alexnet_2012", "vgg11_bn"])
def test_bfloat16_is_near_float32(name):
    x = jnp.asarray(np.random.default_rng(0).normal(size=image(name)), jnp.float32)
    variables = jax.tree.map(lambda leaf: leaf[0], drawn(tiny(name), x.shape))
    exact, rounded = (
        jax.jit(partial(tiny(name, dtype=dtype).apply, train=False))(variables, x)
        for dtype in ("float32", "bfloat16")
    )
    assert 0 < float(jnp.abs(rounded - exact).max() / jnp.abs(exact).max()) < 0.05


@pytest.mark.parametrize("name", FAMILIES)
def test_training_reaches_every_parameter_of_each_of_several_seeds(name):
    """Two networks in one program, as `vmap` over states trains them."""
    network = tiny(name)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(6, *image(name)[1:])), jnp.float32)
    variables = drawn(network, x.shape, copies=2)
    params = variables.pop("params")

    def gradient(params, rest, key, weights):
        def loss(params):
            made = {"params": params, **rest}
            rngs = {"dropout": key}
            logits, updated = network.apply(made, x, train=True, mutable=list(rest), rngs=rngs)
            return (logits * weights).sum(), updated

        return jax.grad(loss, has_aux=True)(params)

    keys = jax.random.split(jax.random.key(0), 2)
    weights = jnp.asarray(rng.normal(size=(2, 6, 3)), jnp.float32)
    found, updated = jax.jit(jax.vmap(gradient))(params, variables, keys, weights)
    assert jax.tree.structure(found) == jax.tree.structure(params)
    for path, leaf in zip(paths(found), jax.tree.leaves(found), strict=True):
        assert bool(jnp.isfinite(leaf).all()), path
        # A bias before BatchNorm moves nothing: the mean is taken off again.
        if "_bn" not in name or "conv" not in path or "kernel" in path:
            assert bool((jnp.abs(leaf).reshape(2, -1).max(1) > 0).all()), path
            assert bool((leaf[0] != leaf[1]).any()), path
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), updated, variables)
    assert all(jax.tree.leaves(moved)), moved


@pytest.mark.parametrize("name", FAMILIES)
def test_the_smallest_image_is_taken_and_the_next_smaller_one_is_named(name):
    network = models.create(name, num_classes=10)
    height, width, channels = FAMILIES[name][0]
    assert tree(network, (1, height, width + 9, channels))[0].shape == (1, 10)
    for less in ((1, height - 1, width + 9, channels), (1, height + 9, width - 1, channels)):
        with pytest.raises(ValueError, match=rf"the smallest .* is {height}x{width}\b"):
            tree(network, less)


@pytest.mark.parametrize("name", FAMILIES)
def test_bad_images_are_named(name):
    network, shape = tiny(name), image(name)
    with pytest.raises(ValueError, match="expected 4 axes"):
        tree(network, shape[1:])
    with pytest.raises(ValueError, match="image of dtype uint8"):
        tree(network, shape, "uint8")
    _, variables = tree(network, shape)
    other = jax.ShapeDtypeStruct((*shape[:3], 2), jnp.float32)
    message = "40 values, .* for 60" if name == "mlp" else r"2 channel\(s\), the weights of \w+ are"
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(partial(network.apply, train=False), variables, other)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_number_of_classes_that_is_none_is_refused(name):
    with pytest.raises(ValueError, match="num_classes=0 must be at least 1"):
        models.create(name, num_classes=0)
    with pytest.raises(TypeError, match="num_classes='10' is not a whole number"):
        models.create(name, num_classes="10")


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("mlp", {"widths": (3, 0)}, r"widths=\(3, 0\)"),
        ("alexnet", {"features": (4, 4, 4, 4)}, r"features=\(4, 4, 4, 4\), .* must be five each"),
        ("alexnet", {"groups": (1, 0, 1, 1, 1)}, r"groups=\(1, 0, 1, 1, 1\) .* above 0"),
        ("alexnet", {"groups": (1, 3, 1, 1, 1)}, "3 groups of 64 to 192 channels"),
        ("alexnet", {"groups": (1, 1, 1, 1, 3)}, "3 groups of 256 to 256 channels"),
        ("alexnet", {"size": 0}, r"size=0 and widths=\(4096, 4096\) must be at least 1"),
        ("vgg16", {"widths": (0,), "dropout": (0, 0)}, r"widths=\(0,\) must be at least 1"),
        ("vgg16", {"widths": (8,)}, r"dropout=\(0.0, 0.5, 0.5\) must be 2 rates"),
        ("vgg16", {"dropout": (0, 0, 1.0)}, r"dropout=\(0, 0, 1.0\) must be 3 rates"),
        ("vgg16", {"dropout": (0, -0.1, 0)}, r"dropout=\(0, -0.1, 0\)"),
        ("vgg16", {"stages": (1, 1)}, r"stages=\(1, 1\) and features=\(64, 128, 256, 512, 512\)"),
        ("vgg16", {"features": (1, 1, 1, 1, 0)}, r"features=\(1, 1, 1, 1, 0\)"),
        ("plain_cnn", {"stages": (2, 2)}, r"stages=\(2, 2\) and channels=\(32, 48, 64\)"),
        ("plain_cnn", {"stages": (), "channels": ()}, r"stages=\(\) and channels=\(\)"),
        ("plain_cnn", {"kernel_size": 4}, "kernel_size=4 must be odd"),
        ("plain_cnn", {"kernel_size": -1}, "kernel_size=-1 must be odd and at least 1"),
        ("plain_cnn", {"dilations": ()}, r"dilations=\(\) must be at least one"),
        ("plain_cnn", {"dilations": (1, 0)}, r"dilations=\(1, 0\) .* above 0"),
        ("plain_cnn", {"downsample": "min"}, "downsample='min' is none of 'max', 'average', "),
    ],
)
def test_bad_fields_are_refused_at_construction(name, fields, message):
    with pytest.raises(ValueError, match=message):
        models.create(name, num_classes=10, **fields)
