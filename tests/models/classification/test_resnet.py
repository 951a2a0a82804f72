"""ResNets against a plain NumPy forward pass, their shapes, dtypes, paths and gradients."""

import pathlib
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import models
from models.classification.resnet import BasicBlock, Bottleneck, CIFARStem, ResNet, Shortcut
from models.layers.norm import BatchNorm, NoNorm

GOLDEN = pathlib.Path(__file__).parents[2] / "golden"
RESNETS = [
    name
    for name in models.names("classification")
    if isinstance(getattr(models.create(name, num_classes=1), "backbone", None), ResNet)
]
FAMILIES = ["resnet20", "resnet18_cifar", "resnet18", "resnet50", "resnext50_32x4d"]
TINY = {
    "A": ("resnet20", {}),
    "B": ("resnet20", {"shortcut": "B"}),
    "C": ("resnet20", {"shortcut": "C"}),
    "plain": ("resnet20", {"shortcut": "none"}),
    "stem": ("resnet18", {}),
    "bottleneck": ("resnet50", {}),
    # A width of 64 where 256 come out is 2 where 8 do.
    "groups": ("resnext50_32x4d", {"block": partial(Bottleneck, groups=2, width=64)}),
}


def tiny(case, **fields):
    """One of the families with two blocks: a plain one, and one that changes the shape."""
    name, own = TINY[case]
    small = {"stages": (1, 1), "channels": (8, 16), "stem_features": 8}
    return models.create(name, num_classes=3, **(small | own | fields))


def tree(network, dtype=jnp.float32, shape=(2, 32, 32, 3), *, train=False):
    """Shapes and dtypes of the output and of the variables; nothing is computed."""
    init = partial(network.init_with_output, train=train)
    return jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct(shape, dtype))


def paths(variables):
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    return ["/".join(key.key for key in path) + f" {leaf.shape}" for path, leaf in leaves]


def dtypes(variables):
    return {str(leaf.dtype) for leaf in jax.tree.leaves(variables)}


def variables_of(network, shape, dtype=jnp.float32, seed=0):
    """Variables drawn so that no scale is 1, no bias and no mean 0."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        name = path[-1].key
        if name in ("scale", "var"):
            value = rng.uniform(0.5, 1.5, leaf.shape)
        else:
            value = rng.normal(size=leaf.shape) * (0.3 if name == "kernel" else 0.5)
        return jnp.asarray(value, leaf.dtype)

    _, variables = tree(network, dtype, shape)
    return jax.tree_util.tree_map_with_path(draw, variables)


# --- the forward pass, once more, in NumPy ----------------------------------------------------


class Reference:
    """Evaluation in float64; stride on the 3x3, padding (k - 1) / 2 on both sides."""

    def __init__(self, variables, definition, groups):
        variables = jax.device_get(variables)
        self.params = variables["params"]["backbone"]
        self.stats = variables["batch_stats"]["backbone"]
        self.definition, self.groups = definition, groups

    def conv_norm(self, x, scope, conv, norm, stride=1, groups=1):
        params, stats = self.params, self.stats
        for name in scope:
            params, stats = params[name], stats[name]
        kernel = params[conv]["kernel"]
        pads = [(k // 2, k // 2) for k in kernel.shape[:2]]
        y = self.definition(x, kernel, [stride] * 2, pads, [1, 1], groups)
        p, s = params[norm], stats[norm]
        return (y - s["mean"]) / np.sqrt(s["var"] + 1e-5) * p["scale"] + p["bias"]

    def block(self, x, name, features, stride, option):
        basic = self.groups is None
        y = np.maximum(self.conv_norm(x, [name], "conv1", "norm1", stride if basic else 1), 0)
        if basic:
            y = self.conv_norm(y, [name], "conv2", "norm2")
        else:
            y = self.conv_norm(y, [name], "conv2", "norm2", stride, self.groups)
            y = self.conv_norm(np.maximum(y, 0), [name], "conv3", "norm3")
        changes = stride > 1 or x.shape[-1] != features
        if option == "none":
            return np.maximum(y, 0)
        if option == "C" or (option == "B" and changes):
            x = self.conv_norm(x, [name, "shortcut"], "conv", "norm", stride)
        elif changes:
            x = np.concatenate([x, np.zeros((*x.shape[:3], features - x.shape[3]))], -1)
            x = x[:, ::stride, ::stride]
        return np.maximum(x + y, 0)

    def __call__(self, x, channels, option, imagenet):
        x = np.maximum(self.conv_norm(x, ["stem"], "conv", "norm", 2 if imagenet else 1), 0)
        if imagenet:
            x = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=-np.inf)
            windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))
            x = windows[:, ::2, ::2].max((-1, -2))
        x = self.block(x, "stage1_block1", channels[0], 1, option)
        return self.block(x, "stage2_block1", channels[1], 2, option)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", TINY)
def test_the_forward_pass_is_the_papers(definition, case):
    groups = {"bottleneck": 1, "groups": 2}.get(case)
    imagenet = case not in ("A", "B", "C", "plain")
    shape = (1, 15, 10, 3) if imagenet else (1, 5, 6, 3)
    network = tiny(case, dtype="float64", param_dtype="float64")
    variables = variables_of(network, shape, jnp.float64)
    x = np.random.default_rng(5).normal(size=shape)
    reference = Reference(variables, definition, groups)
    last = reference(x, network.backbone.channels, network.backbone.shortcut, imagenet)
    head = variables["params"]["head"]
    expected = last.mean((1, 2)) @ np.asarray(head["kernel"]) + np.asarray(head["bias"])
    logits = jax.jit(partial(network.apply, train=False))(variables, x)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(logits, expected, atol=1e-10)


def test_shortcut_a_by_hand():
    x = jnp.arange(1.0, 19).reshape(1, 3, 3, 2)
    shortcut = Shortcut(5, 2, "A", conv=nn.Conv, norm=BatchNorm)
    y = shortcut.apply({}, x, train=True)
    expected = [[[1, 2, 0, 0, 0], [5, 6, 0, 0, 0]], [[13, 14, 0, 0, 0], [17, 18, 0, 0, 0]]]
    assert y[0].tolist() == expected
    same = Shortcut(2, 1, "A", conv=nn.Conv, norm=BatchNorm).apply({}, x, train=True)
    np.testing.assert_array_equal(same, x)


# --- which parameters there are ---------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_parameter_paths_are_an_interface(name):
    """Weights that people have saved carry these paths and shapes."""
    _, variables = tree(models.create(name, num_classes=10))
    assert paths(variables) == (GOLDEN / f"{name}.txt").read_text().splitlines()


@pytest.mark.parametrize("name", RESNETS)
def test_shortcuts_project_only_where_the_shape_changes(name):
    network = models.create(name, num_classes=10)
    backbone = tree(network)[1]["params"]["backbone"]
    found = {block for block, params in backbone.items() if "shortcut" in params}
    shapes_change = {f"stage{stage}_block1" for stage in range(2, len(network.backbone.stages) + 1)}
    if network.backbone.channels[0] != network.backbone.stem_features:
        shapes_change.add("stage1_block1")
    assert found == (set() if network.backbone.shortcut == "A" else shapes_change)


# Weights and two vectors of normalisation for each projection, beside option A's 269,722.
OPTION_B = (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64)
OPTION_C = OPTION_B + sum((3 if c == 16 else 2) * (c * c + 2 * c) for c in (16, 32, 64))


@pytest.mark.parametrize(
    ("option", "more"), [("A", 0), ("none", 0), ("B", OPTION_B), ("C", OPTION_C)]
)
def test_shortcut_options_have_their_parameters(option, more):
    _, variables = tree(models.create("resnet20", num_classes=10, shortcut=option))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == 269_722 + more


def test_the_parameters_of_a_plain_network_by_hand():
    """He et al. 2015, section 4.2: 20 layers, of them seven of 16 channels and six of 32 and 64."""
    weights = 9 * (3 * 16 + 6 * 16 * 16 + 16 * 32 + 5 * 32 * 32 + 32 * 64 + 5 * 64 * 64)
    channels = 7 * 16 + 6 * 32 + 6 * 64
    fields = {"num_classes": 10, "shortcut": "none"}
    for norm, each in ((BatchNorm, 2), (NoNorm, 1)):
        _, variables = tree(models.create("resnet20", norm=norm, **fields))
        size = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        assert size == weights + each * channels + 65 * 10
        assert ("batch_stats" in variables) == (norm is BatchNorm)


class CutOff(BatchNorm):
    """What comes over the shortcut is dropped."""

    def __call__(self, x, *, train, act=None, add=None):
        return super().__call__(x, train=train, act=act)


@pytest.mark.parametrize("case", ["A", "bottleneck"])
def test_a_plain_network_is_a_residual_one_whose_shortcuts_are_cut(case):
    shape = (2, 9, 8, 3) if case == "A" else (2, 33, 32, 3)
    plain = tiny(case, shortcut="none").backbone
    cut = tiny(case, shortcut="A", norm=CutOff).backbone
    residual = tiny(case, shortcut="A").backbone
    variables = variables_of(plain, shape)
    assert paths(variables) == paths(tree(residual, shape=shape)[1])
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
    apply = (jax.jit(partial(one.apply, train=False)) for one in (plain, cut, residual))
    found, expected, other = (each(variables, x)[-1] for each in apply)
    np.testing.assert_array_equal(found, expected)
    assert float(jnp.abs(found - other).max()) > 0.1


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize("norm", [BatchNorm, NoNorm])
def test_dtypes_of_plain_networks(dtype, norm):
    fields = {"shortcut": "none", "norm": norm, "dtype": dtype}
    wide = "float64" if dtype == "float64" else "float32"
    network = tiny("A", param_dtype=wide, **fields)
    out, made = tree(network, wide, train=True)
    assert out.dtype == wide
    assert dtypes(made) == {wide}
    assert dtypes(tree(network.backbone, wide)[0]) == {dtype}


@pytest.mark.parametrize(
    ("channels", "projects"), [((4, 4), (0, 1)), ((6, 6), (1, 1)), ((4, 6), (0, 1)), ((4,), (0,))]
)
def test_either_a_stride_or_a_width_makes_a_block_project(channels, projects):
    stages = (1,) * len(channels)
    network = ResNet(stages, channels, BasicBlock, stem=CIFARStem, stem_features=4)
    params = tree(network)[1]["params"]
    blocks = [params[f"stage{stage}_block1"] for stage in range(1, len(stages) + 1)]
    assert tuple("shortcut" in block for block in blocks) == projects


def test_convolutions_start_as_he_et_al_say():
    network = tiny("B", stages=(1,), channels=(64,), stem_features=16)
    init = jax.jit(partial(network.init, train=False))
    params = init(jax.random.key(0), jnp.zeros((1, 4, 4, 3)))["params"]
    kernel = params["backbone"]["stage1_block1"]["conv1"]["kernel"]
    assert kernel.shape == (3, 3, 16, 64)
    assert float(kernel.std()) == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.03)
    assert abs(float(kernel.mean())) < 2e-3


# --- shapes and dtypes ------------------------------------------------------------------------


@pytest.mark.parametrize("name", RESNETS)
def test_strides_and_channels_are_those_of_the_maps(name):
    backbone = models.create(name, num_classes=10).backbone
    maps, _ = tree(backbone, shape=(2, 33, 64, 3))
    assert len(maps) == len(backbone.stages) == len(backbone.strides) == len(backbone.channels)
    for found, stride, channels in zip(maps, backbone.strides, backbone.channels, strict=True):
        assert found.shape == (2, -(-33 // stride), -(-64 // stride), channels)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    ("dtype", "param_dtype", "image", "maps", "logits", "variables"),
    [
        (None, "float32", "float32", "float32", "float32", {"float32"}),
        ("float32", "float32", "float32", "float32", "float32", {"float32"}),
        ("bfloat16", "float32", "float32", "bfloat16", "float32", {"float32"}),
        ("bfloat16", "bfloat16", "bfloat16", "bfloat16", "float32", {"float32", "bfloat16"}),
        ("float64", "float64", "float64", "float64", "float64", {"float64"}),
        (None, "float64", "float32", "float64", "float64", {"float64"}),
    ],
)
def test_dtypes(name, dtype, param_dtype, image, maps, logits, variables):
    network = models.create(name, num_classes=10, dtype=dtype, param_dtype=param_dtype)
    out, made = tree(network, image, train=True)
    assert (out.shape, out.dtype) == ((2, 10), logits)
    assert dtypes(made) == variables
    assert dtypes(made["params"]) == {param_dtype}
    assert dtypes(tree(network.backbone, image)[0]) == {maps}


@pytest.mark.parametrize("case", ["A", "bottleneck"])
def test_bfloat16_is_near_float32(case):
    shape = (2, 16, 16, 3)
    variables = variables_of(tiny(case), shape)
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
    exact, rounded = (
        jax.jit(partial(tiny(case, dtype=dtype).apply, train=False))(variables, x)
        for dtype in ("float32", "bfloat16")
    )
    assert 0 < float(jnp.abs(rounded - exact).max() / jnp.abs(exact).max()) < 0.05


@pytest.mark.parametrize("name", FAMILIES)
def test_every_convolution_goes_through_the_given_one(name):
    seen = []

    def conv(lhs, rhs, *args, **kwargs):
        seen.append((lhs.dtype, rhs.dtype))
        return lax.conv_general_dilated(lhs, rhs, *args, **kwargs)

    fields = {"dtype": "bfloat16", "conv_general_dilated": conv}
    _, variables = tree(models.create(name, num_classes=10, **fields))
    kernels = [p for p in paths(variables["params"]["backbone"]) if "kernel" in p]
    assert len(seen) == len(kernels)
    assert set(seen) == {(jnp.dtype("bfloat16"),) * 2}


def test_a_norm_goes_in_with_its_own_fields():
    network = tiny("A", norm=partial(BatchNorm, momentum=0.0, unbiased=True))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 4, 3)), jnp.float32)
    variables = variables_of(network, x.shape)
    train = jax.jit(partial(network.apply, train=True, mutable=["batch_stats"]))
    _, after = train(variables, x)
    stem = variables["params"]["backbone"]["stem"]["conv"]
    y = nn.Conv(8, (3, 3), padding=1, use_bias=False).apply({"params": stem}, x)
    found = after["batch_stats"]["backbone"]["stem"]["norm"]["var"]
    np.testing.assert_allclose(found, np.asarray(y).reshape(-1, 8).var(0, ddof=1), rtol=1e-4)


# --- dilation ---------------------------------------------------------------------------------

DILATED = {
    # Equal channels: the stride alone makes a block project.
    "A": {"channels": (8, 8, 16), "stages": (1, 2, 2)},
    "B": {"channels": (8, 8, 8), "stages": (1, 2, 2)},
    "stem": {"channels": (8, 8, 16, 16), "stages": (1, 1, 2, 1)},
    "bottleneck": {"channels": (8, 8, 16, 16), "stages": (1, 1, 2, 1)},
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", DILATED)
def test_a_dilated_map_holds_the_strided_one(case):
    """The same weights: every n-th value is the strided map's, float64, odd sizes too."""
    fields = DILATED[case] | {"param_dtype": "float64"}
    network = tiny(case, **fields).backbone
    shape = (1, 65, 50, 3) if network.stem is not CIFARStem else (1, 17, 14, 3)
    variables = variables_of(network, shape, jnp.float64)
    x = np.random.default_rng(0).normal(size=shape)
    expected = jax.jit(partial(network.apply, train=False))(variables, x)
    for output_stride in network.strides[:-1][-2:]:
        dilated = tiny(case, **fields, output_stride=output_stride).backbone
        assert paths(tree(dilated, shape=shape)[1]) == paths(variables)
        assert dilated.strides == tuple(min(s, output_stride) for s in network.strides)
        found = jax.jit(partial(dilated.apply, train=False))(variables, x)
        axes = zip(found, expected, dilated.strides, network.strides, strict=True)
        for number, (wide, narrow, stride, undilated) in enumerate(axes):
            assert wide.shape[1:3] == (-(-shape[1] // stride), -(-shape[2] // stride)), number
            every = undilated // stride
            assert np.abs(narrow).max() > 0.1
            np.testing.assert_allclose(wide[:, ::every, ::every], narrow, rtol=1e-9, atol=1e-12)
        assert found[-1].size > 3 * expected[-1].size


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet20", "resnet18_cifar"])
def test_dilations_are_those_of_torchvision(name):
    """`replace_stride_with_dilation`: the first block of a stage has that of the stage before."""
    seen = []

    def conv(lhs, rhs, strides, *args, rhs_dilation, **kwargs):
        if rhs.shape[0] == 3:
            seen.append((strides[0], rhs_dilation[0]))
        given = {"rhs_dilation": rhs_dilation} | kwargs
        return lax.conv_general_dilated(lhs, rhs, strides, *args, **given)

    network = models.create(name, num_classes=10).backbone
    least = network.strides[0]
    stages = (2,) * len(network.stages)
    fields = {"stages": stages, "output_stride": 2 * least, "conv_general_dilated": conv}
    tree(models.create(name, num_classes=10, **fields))
    blocks = seen[1:] if network.stem is CIFARStem else seen
    if network.block is BasicBlock:
        expected = [(1, 1)] * 4 + [(2, 1)] + [(1, 1)] * 3 + [(1, 1)] + [(1, 2)] * 3
        expected += [(1, 2)] + [(1, 4)] * 3 if len(stages) == 4 else []
    else:
        expected = [(1, 1)] * 2 + [(2, 1), (1, 1)] + [(1, 1), (1, 2)] + [(1, 2), (1, 4)]
    assert blocks == expected


@pytest.mark.parametrize("output_stride", [12, 64, 0, -8, 2, 8.0, "8"])
def test_an_output_stride_of_no_map_is_refused(output_stride):
    message = rf"output_stride={output_stride!r} is none of the strides \(4, 8, 16, 32\)"
    with pytest.raises(ValueError, match=message):
        models.create("resnet50", num_classes=10, output_stride=output_stride)


# --- training ---------------------------------------------------------------------------------


def gradient_and_stats(network, variables, x):
    weights = jnp.asarray(np.random.default_rng(1).normal(size=(len(x), 3)), jnp.float32)

    @jax.jit
    def run(params, x):
        def loss(params):
            made = {"params": params, "batch_stats": variables["batch_stats"]}
            logits, after = network.apply(made, x, train=True, mutable=["batch_stats"])
            return (logits * weights).sum(), after["batch_stats"]

        return jax.grad(loss, has_aux=True)(params)

    return run(variables["params"], x)


@pytest.mark.parametrize("case", TINY)
def test_training_reaches_every_parameter_and_every_statistic(case):
    network = tiny(case)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 16, 3)), jnp.float32)
    variables = variables_of(network, x.shape)
    gradient, stats = gradient_and_stats(network, variables, x)
    assert jax.tree.structure(gradient) == jax.tree.structure(variables["params"])
    for name, leaf in zip(paths(gradient), jax.tree.leaves(gradient), strict=True):
        assert bool(jnp.isfinite(leaf).all()), name
        assert float(jnp.abs(leaf).max()) > 1e-6, name
    before = variables["batch_stats"]
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), stats, before)
    assert all(jax.tree.leaves(moved)), moved
    evaluation = jax.jit(partial(network.apply, train=False, mutable=["batch_stats"]))
    _, after = evaluation(variables, x)
    jax.tree.map(np.testing.assert_array_equal, after["batch_stats"], before)


@pytest.mark.parametrize("case", ["A", "bottleneck"])
def test_remat_changes_neither_parameters_nor_gradients(case):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 16, 3)), jnp.float32)
    plain, again = tiny(case), tiny(case, remat=True)
    variables = variables_of(plain, x.shape)
    expected = gradient_and_stats(plain, variables, x)
    found = gradient_and_stats(again, variables, x)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected
    )
    blocks = [
        equation
        for equation in jax.make_jaxpr(partial(again.apply, train=False))(variables, x).eqns
        if equation.primitive.name in ("remat", "remat2", "checkpoint")
    ]
    assert len(blocks) == 2


@pytest.mark.parametrize("name", RESNETS)
def test_remat_renames_nothing(name):
    plain, again = (tree(models.create(name, num_classes=10, remat=r))[1] for r in (False, True))
    assert paths(plain) == paths(again)


@pytest.mark.parametrize(("case", "last"), [("B", "norm2"), ("bottleneck", "norm3")])
def test_blocks_begin_as_their_shortcuts(case, last):
    """Goyal et al. 2017: where nothing projects, all blocks hand on what the stem yields."""
    alike = {"stages": (2,), "channels": (8,), "stem_features": 8}
    plain, zero = tiny(case, **alike), tiny(case, zero_init_residual=True, **alike)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 16, 3)), jnp.float32)
    one, other = (n.init(jax.random.key(0), x, train=False) for n in (plain, zero))
    expected = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf * ([key.key for key in path][-2:] != [last, "scale"]), one
    )
    jax.tree.map(np.testing.assert_array_equal, other, expected)
    inside = {name: other[name]["backbone"] for name in other}
    (found,) = zero.backbone.apply(inside, x, train=False)
    none = zero.backbone.clone(stages=(1,), block=Handing)
    of_stem = {name: {"stem": each["stem"]} for name, each in inside.items()}
    np.testing.assert_array_equal(found, none.apply(of_stem, x, train=False)[0])


class Handing(nn.Module):
    """In a block's place, nothing."""

    features: int
    strides: int
    shortcut: object
    conv: object
    norm: object
    dilations: object
    last_norm: object

    def __call__(self, x, *, train):
        del train
        return x


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_classes": 0}, "num_classes=0 must be at least 1"),
        ({"num_classes": -3}, "num_classes=-3"),
        ({"shortcut": "D"}, "shortcut='D' is none of"),
        ({"stages": (3, 3)}, r"stages=\(3, 3\) and channels=\(16, 32, 64\)"),
        ({"stages": (3, 0, 3)}, r"stages=\(3, 0, 3\)"),
        ({"channels": (16, -32, 64)}, r"channels=\(16, -32, 64\)"),
        ({"stages": (), "channels": ()}, r"stages=\(\) and channels=\(\)"),
        ({"stem_features": 0}, "stem_features=0 must be at least 1"),
        ({"zero_init_residual": True, "shortcut": "none"}, "zero_init_residual=True: with"),
    ],
)
def test_bad_fields_are_refused_at_construction(fields, message):
    with pytest.raises(ValueError, match=message):
        models.create("resnet20", **({"num_classes": 10} | fields))


@pytest.mark.parametrize("num_classes", ["10", 10.0, None])
def test_a_number_of_classes_that_is_none_is_refused(num_classes):
    with pytest.raises(TypeError, match=f"num_classes={num_classes!r} is not a whole number"):
        models.create("resnet20", num_classes=num_classes)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 4, "groups": 32, "channels": (96,)}, "width=4 and features=96: "),
        ({"width": 1, "channels": (8,)}, "width=1 and features=8: "),
        ({"width": 0}, "groups=1 and width=0 must"),
        ({"groups": 0}, "groups=0 and width=64 must"),
    ],
)
def test_a_bottleneck_of_part_of_a_channel_is_refused(fields, message):
    block = partial(Bottleneck, **{k: v for k, v in fields.items() if k != "channels"})
    network = ResNet((1,), fields.get("channels", (256,)), block, stem=CIFARStem)
    with pytest.raises(ValueError, match=message):
        tree(network)


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((32, 32, 3), jnp.float32, r"image of shape \(32, 32, 3\): expected 4 axes"),
        ((2, 32, 32, 3), jnp.uint8, "image of dtype uint8"),
    ],
)
def test_bad_images_are_refused(shape, dtype, message):
    with pytest.raises(ValueError, match=message):
        tree(models.create("resnet20", num_classes=10), dtype, shape)


def test_shortcut_a_does_not_narrow():
    with pytest.raises(ValueError, match="cannot narrow 16 channels to features=8"):
        tree(models.create("resnet20", num_classes=10, channels=(8, 16, 32)))


def test_train_has_no_default():
    with pytest.raises(TypeError, match="train"):
        models.create("resnet20", num_classes=10).init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
