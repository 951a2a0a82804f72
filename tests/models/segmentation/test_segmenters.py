"""What every network for segmentation is held to."""

import pathlib
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import models
from models import backends
from models.classification.auxiliary import WithAuxiliary, parts
from models.layers.norm import BatchNorm
from models.layers.resize import bilinear
from models.segmentation.deeplab import DeepLabV3Head, DeepLabV3PlusHead, LargeFOV
from models.segmentation.fcn import FCNHead
from models.segmentation.segmenter import Segmenter

GOLDEN = pathlib.Path(__file__).parents[2] / "golden"
# Shape of a batch, and fields of a tiny one.
NET = {"stages": (1, 1), "channels": (4, 8), "stem_features": 4, "output_stride": 4}
VGG = {"stages": (1, 1, 1, 1, 1), "features": (4, 4, 6, 6, 6)}
LEVELS = {"features": (4, 6)}
FAMILIES = {
    "unet": ((2, 12, 8, 3), LEVELS),
    "unet_2015": ((2, 20, 24, 1), LEVELS),
    "fcn8s": ((2, 64, 32, 3), VGG | {"widths": (8, 8)}),
    "fcn_resnet50": ((2, 33, 40, 3), NET),
    "deeplab_largefov": ((2, 33, 24, 3), VGG | {"head": partial(LargeFOV, width=8)}),
    "deeplabv2_resnet101": ((2, 33, 40, 3), NET),
    "deeplabv3_resnet50": ((2, 33, 40, 3), NET | {"head": partial(DeepLabV3Head, width=8)}),
    "deeplabv3plus_resnet50": (
        (2, 33, 40, 3),
        NET | {"head": partial(DeepLabV3PlusHead, width=8, early=4)},
    ),
}
WITH_AUX = ("fcn_resnet50", "deeplabv3_resnet50")


def tiny(name, **fields):
    return models.create(name, num_classes=3, **(FAMILIES[name][1] | fields))


def image(name, dtype="float32", seed=0):
    shape = FAMILIES[name][0]
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def tree(network, shape, dtype="float32", *, train=False):
    """Shapes and dtypes of the output and of the variables; nothing is computed."""
    init = partial(network.init_with_output, train=train)
    return jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct(shape, dtype))


def paths(variables):
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    return ["/".join(key.key for key in path) + f" {leaf.shape}" for path, leaf in leaves]


def dtypes(variables):
    return {str(leaf.dtype) for leaf in jax.tree.leaves(variables)}


def drawn(network, shape, copies=1, dtype=None):
    """Variables of several networks, drawn so that no scale is 1, no bias and no mean 0."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        name, shape = path[-1].key, (copies, *leaf.shape)
        if name in ("scale", "var"):
            value = rng.uniform(0.5, 1.5, shape)
        else:
            fan_in = np.prod(leaf.shape[:-1]) if name == "kernel" else 4
            value = rng.normal(size=shape) * (2 / fan_in) ** 0.5
        return jnp.asarray(value, dtype or leaf.dtype)

    _, variables = tree(network, shape)
    return jax.tree_util.tree_map_with_path(draw, variables)


def one(variables):
    return jax.tree.map(lambda leaf: leaf[0], variables)


# --- parameters --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_parameter_paths_are_an_interface(name):
    """Weights that people have saved carry these paths and shapes."""
    shape = (1, 572, 572, 1) if name == "unet_2015" else (1, 64, 64, 3)
    _, variables = tree(models.create(name, num_classes=21), shape)
    assert paths(variables) == (GOLDEN / f"{name}.txt").read_text().splitlines()


@pytest.mark.parametrize("name", FAMILIES)
def test_init_creates_the_same_whether_for_training_or_not(name):
    made = [tree(tiny(name), FAMILIES[name][0], train=train)[1] for train in (False, True)]
    assert paths(made[0]) == paths(made[1])
    assert (("aux" in made[0]["params"]) is True) == (name in WITH_AUX)


class Maps(nn.Module):
    """A backbone of as many maps as it has strides."""

    strides: tuple[int, ...]

    @nn.compact
    def __call__(self, x, *, train):
        return tuple(nn.Conv(4, (1, 1))(x[:, ::stride, ::stride]) for stride in self.strides)


def test_init_draws_the_same_whether_for_training_or_not():
    network = Segmenter(Maps((1, 2)), 3, FCNHead, aux=FCNHead)
    x = jnp.ones((2, 3, 4, 3))
    made = [network.init(jax.random.key(3), x, train=train) for train in (False, True)]
    assert {"aux", "head"} < set(made[0]["params"])
    jax.tree.map(np.testing.assert_array_equal, *made)


@pytest.mark.parametrize("name", FAMILIES)
def test_remat_renames_nothing(name):
    made = [tree(tiny(name, remat=remat), FAMILIES[name][0])[1] for remat in (False, True)]
    assert paths(made[0]) == paths(made[1])


@pytest.mark.parametrize("name", [*WITH_AUX, "deeplabv2_resnet101", "deeplabv3plus_resnet50"])
@pytest.mark.parametrize("output_stride", [4, 8])
def test_the_output_stride_renames_nothing(name, output_stride):
    shape = FAMILIES[name][0]
    network = tiny(name, output_stride=output_stride)
    assert network.backbone.strides[-1] == output_stride
    assert paths(tree(network, shape)[1]) == paths(tree(tiny(name), shape)[1])


# --- what comes out -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", models.names("segmentation"))
def test_logits_are_of_every_pixel(name):
    """At the least size that `input_size` names for some, and with auxiliary ones in training."""
    network = models.create(name, num_classes=5)
    channels = 1 if name == "unet_2015" else 3
    height, width = network.input_size(33), network.input_size(50)
    assert min(height - 33, width - 50) >= 2 * network.margin
    found = (height - 2 * network.margin, width - 2 * network.margin)
    for train in (False, True):
        output, _ = tree(network, (2, height, width, channels), train=train)
        logits, aux = parts(output)
        assert logits.shape == (2, *found, 5)
        headed = train and bool(getattr(network, "aux", None))
        assert isinstance(output, WithAuxiliary) == headed
        assert [one.shape for one in aux] == [logits.shape] * headed


@pytest.mark.parametrize("name", ["deeplab_largefov", "fcn_resnet50", "deeplabv3plus_resnet50"])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (17, 2)])
def test_small_images_are_taken(name, size):
    output, _ = tree(tiny(name), (1, *size, 3))
    assert output.shape == (1, *size, 3)


@pytest.mark.parametrize("name", WITH_AUX)
def test_logits_are_the_heads_brought_to_the_images_size(name):
    network, x = tiny(name), image(name)
    variables = one(drawn(network, x.shape))
    keep = {"capture_intermediates": lambda module, _: module.name in ("head", "aux")}
    apply = partial(network.apply, mutable=["batch_stats", "intermediates"], train=True, **keep)
    rngs = {"dropout": jax.random.key(0)}
    output, kept = jax.jit(partial(apply, rngs=rngs))(variables, x)
    for found, head in ((output.logits, "head"), (output.aux[0], "aux")):
        before = kept["intermediates"][head]["__call__"][0]
        assert before.shape == (2, 9, 10, 3)
        np.testing.assert_allclose(found, bilinear(before, 33, 40), atol=1e-5)


def test_without_its_auxiliary_head_training_yields_logits():
    network = tiny("fcn_resnet50", aux=False)
    output, variables = tree(network, (2, 33, 40, 3), train=True)
    assert output.shape == (2, 33, 40, 3)
    assert set(variables["params"]) == {"backbone", "head"}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    ("dtype", "param_dtype", "given", "logits"),
    [
        (None, "float32", "float32", "float32"),
        ("bfloat16", "float32", "float32", "float32"),
        ("bfloat16", "bfloat16", "bfloat16", "float32"),
        ("float64", "float64", "float64", "float64"),
        (None, "float64", "float32", "float64"),
    ],
)
def test_dtypes(name, dtype, param_dtype, given, logits):
    network = tiny(name, dtype=dtype, param_dtype=param_dtype)
    output, made = tree(network, FAMILIES[name][0], given, train=True)
    assert dtypes(output) == {logits}
    assert dtypes(made["params"]) == {param_dtype}
    assert dtypes(made) <= {param_dtype, logits}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_convolution_goes_through_the_given_one(name):
    seen = []

    def conv(lhs, rhs, *args, **kwargs):
        seen.append(str(lhs.dtype))
        assert lhs.dtype == rhs.dtype
        return lax.conv_general_dilated(lhs, rhs, *args, **kwargs)

    network = tiny(name, dtype="bfloat16", conv_general_dilated=conv)
    _, variables = tree(network, FAMILIES[name][0], train=True)
    kernels = [path for path in paths(variables["params"]) if "kernel" in path]
    assert len(seen) == len(kernels)
    # The last layers, whose logits are float32.
    last = ("head", "logits", "up", "up16", "up8", "score16", "score8")
    assert seen.count("float32") == sum(path.split("/")[-2] in last for path in kernels)


@pytest.mark.parametrize("name", ["unet", "deeplabv3_resnet50"])
def test_bfloat16_is_near_float32(name):
    x = image(name)
    variables = one(drawn(tiny(name), x.shape))
    exact, rounded = (
        jax.jit(partial(tiny(name, dtype=dtype).apply, train=False))(variables, x)
        for dtype in ("float32", "bfloat16")
    )
    assert 0 < float(jnp.abs(rounded - exact).max() / jnp.abs(exact).max()) < 0.05


# --- training -----------------------------------------------------------------------------------


def gradient(network):
    """(params, other variables, x, key, weights) -> (gradient, new statistics)."""

    def run(params, rest, x, key, weights):
        def loss(params):
            made = {"params": params, **rest}
            rngs = {"dropout": key}
            output, after = network.apply(made, x, train=True, mutable=list(rest), rngs=rngs)
            logits, aux = parts(output)
            return sum(((y * weights).sum() for y in (logits, *aux)), jnp.float32(0)), after

        return jax.grad(loss, has_aux=True)(params)

    return run


@pytest.mark.parametrize("name", FAMILIES)
def test_training_reaches_every_parameter_of_each_of_several_seeds(name):
    """Two networks in one program, as `vmap` over states trains them."""
    network, x = tiny(name), image(name)
    variables = drawn(network, x.shape, copies=2)
    params = variables.pop("params")
    shape = parts(tree(network, x.shape)[0]).logits.shape
    weights = jnp.asarray(np.random.default_rng(1).normal(size=(2, *shape)), jnp.float32)
    keys = jax.random.split(jax.random.key(0), 2)
    run = jax.jit(jax.vmap(gradient(network), (0, 0, None, 0, 0)))
    found, after = run(params, variables, x, keys, weights)
    assert jax.tree.structure(found) == jax.tree.structure(params)
    for path, leaf in zip(paths(found), jax.tree.leaves(found), strict=True):
        assert bool(jnp.isfinite(leaf).all()), path
        assert bool((jnp.abs(leaf).reshape(2, -1).max(1) > 0).all()), path
        assert bool((leaf[0] != leaf[1]).any()), path
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), after, variables)
    assert all(jax.tree.leaves(moved)), moved


def test_remat_changes_no_gradient():
    plain, again = (tiny("unet", remat=remat) for remat in (False, True))
    x = image("unet")
    variables = one(drawn(plain, x.shape))
    params = variables.pop("params")
    weights = jnp.asarray(np.random.default_rng(1).normal(size=(*x.shape[:3], 3)), jnp.float32)
    expected, found = (
        jax.jit(gradient(network))(params, variables, x, jax.random.key(0), weights)
        for network in (plain, again)
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(b).max()),
        found,
        expected,
    )
    traced = jax.make_jaxpr(partial(again.apply, train=False))({"params": params, **variables}, x)
    levels = [e for e in traced.eqns if e.primitive.name in ("remat", "remat2", "checkpoint")]
    assert len(levels) == 2 * 2 - 1


@pytest.mark.parametrize(
    ("backend", "name"), [("onednn", "unet"), ("onednn", "deeplab_largefov"), ("jax", "unet")]
)
def test_backends_agree(backend, name):
    try:
        chosen = backends.choose(backend, jax.devices()[:1])
    except backends.Missing as missing:
        pytest.skip(str(missing))
    x = image(name)
    plain, ours = tiny(name), tiny(name, **chosen.fields)
    variables = one(drawn(plain, x.shape))
    assert paths(tree(ours, x.shape)[1]) == paths(variables)
    params = variables.pop("params")
    weights = jnp.asarray(np.random.default_rng(1).normal(size=(*x.shape[:3], 3)), jnp.float32)
    expected, found = (
        jax.jit(gradient(network))(params, variables, x, jax.random.key(0), weights)
        for network in (plain, ours)
    )
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-5 * largest),
        found,
        expected,
    )


def test_a_batch_over_devices_is_normalised_as_a_whole():
    network = tiny(
        "deeplabv3_resnet50", head=partial(DeepLabV3Head, width=8, dropout=0.0), aux=False
    )
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 17, 16, 3)), jnp.float32)
    variables = one(drawn(network, x.shape))
    apply = jax.jit(partial(network.apply, train=True, mutable=["batch_stats"]))
    expected = apply(variables, x)
    mesh = Mesh(np.array(jax.devices()), ("data",))
    found = apply(variables, jax.device_put(x, NamedSharding(mesh, PartitionSpec("data"))))
    # One image a device: the pooled branch sees all four.
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4), found, expected)


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_bad_images_are_named(name):
    network, shape = tiny(name), FAMILIES[name][0]
    with pytest.raises(ValueError, match="expected 4 axes"):
        tree(network, shape[1:])
    with pytest.raises(ValueError, match="image of dtype uint8"):
        tree(network, shape, "uint8")
    with pytest.raises(ValueError, match=r"0x\d+ pixels are too few"):
        tree(network, (2, 0, *shape[2:]))
    _, variables = tree(network, shape)
    other = jax.ShapeDtypeStruct((*shape[:3], 2), jnp.float32)
    with pytest.raises(ValueError, match=r"2 channel\(s\), the weights of [\w/]+ are"):
        jax.eval_shape(partial(network.apply, train=False), variables, other)


@pytest.mark.parametrize("name", models.names("segmentation"))
def test_a_number_of_classes_that_is_none_is_refused(name):
    with pytest.raises(ValueError, match="num_classes=0 must be at least 1"):
        models.create(name, num_classes=0)
    with pytest.raises(TypeError, match="num_classes='10' is not a whole number"):
        models.create(name, num_classes="10")


@pytest.mark.parametrize("name", models.names("segmentation"))
def test_what_a_backend_brings_is_taken_by_every_network(name):
    fields = {"conv_general_dilated": lax.conv_general_dilated, "norm": BatchNorm}
    models.create(name, num_classes=10, **fields)
    with pytest.raises(TypeError, match="no_such_field"):
        models.create(name, num_classes=10, no_such_field=1)


def test_an_auxiliary_head_needs_a_map_of_its_own():
    with pytest.raises(ValueError, match=r"aux=.*strides=\(1,\) has one map"):
        Segmenter(Maps((1,)), 3, FCNHead, aux=FCNHead)
    output, _ = tree(Segmenter(Maps((1,)), 3, FCNHead), (2, 5, 4, 3))
    assert output.shape == (2, 5, 4, 3)
