"""What GoogLeNet in both forms and Inception v3 are held to."""

import pathlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import models
from models.classification import googlenet, inception
from models.classification.auxiliary import WithAuxiliary
from models.classification.googlenet import GoogLeNet
from models.classification.inception import InceptionV3
from models.layers.norm import BatchNorm

GOLDEN = pathlib.Path(__file__).parents[2] / "golden"
# The smallest image outside training and in it, parameters of the main part, auxiliary heads.
FAMILIES = {
    "googlenet": (15, 15, 6_624_904, 2),
    "googlenet_2014": (31, 31, 6_998_552, 2),
    "inception_v3": (75, 299, 23_834_568, 1),
}
BLOCKS = {GoogLeNet: googlenet.STRIDES, InceptionV3: inception.STRIDES}


def tree(network, side, dtype="float32", *, train=False, channels=3):
    """Shapes and dtypes of the output and of the variables; nothing is computed."""
    init = partial(network.init_with_output, train=train)
    x = jax.ShapeDtypeStruct((2, side, side, channels), dtype)
    return jax.eval_shape(init, jax.random.key(0), x)


def paths(variables):
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    return ["/".join(key.key for key in path) + f" {leaf.shape}" for path, leaf in leaves]


def dtypes(variables):
    return {str(leaf.dtype) for leaf in jax.tree.leaves(variables)}


# --- which parameters there are ---------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_parameter_paths_are_an_interface(name):
    """Weights that people have saved carry these paths and shapes."""
    _, variables = tree(models.create(name, num_classes=10), FAMILIES[name][0])
    assert paths(variables) == (GOLDEN / f"{name}.txt").read_text().splitlines()


@pytest.mark.parametrize("name", FAMILIES)
def test_without_auxiliary_heads(name):
    smallest, _, parameters, _ = FAMILIES[name]
    network = models.create(name, num_classes=1000, aux=False)
    out, variables = tree(network, smallest, train=True)
    assert out.shape == (2, 1000)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == parameters
    assert variables["params"].keys() == {"backbone", "head"}


@pytest.mark.parametrize("name", FAMILIES)
def test_heads_speak_in_training_and_are_created_outside_it(name):
    _, size, _, heads = FAMILIES[name]
    network = models.create(name, num_classes=10)
    alone, made = tree(network, size)
    out, trained = tree(network, size, train=True)
    assert isinstance(out, WithAuxiliary)
    assert [leaf.shape for leaf in (alone, out.logits, *out.aux)] == [(2, 10)] * (2 + heads)
    assert paths(made) == paths(trained)


@pytest.mark.parametrize("name", FAMILIES)
def test_maps_are_those_of_the_named_blocks(name):
    backbone = models.create(name, num_classes=10).backbone
    blocks = BLOCKS[type(backbone)]
    default, every = (
        backbone.clone(maps=maps, parent=None) for maps in (type(backbone).maps, tuple(blocks))
    )
    maps, variables = tree(every, 224)
    assert paths(variables) == paths(tree(default, 224)[1])
    assert every.strides == tuple(blocks.values())
    for found, stride, channels in zip(maps, every.strides, every.channels, strict=True):
        assert found.shape[3] == channels
        # Where nothing is padded, a map lacks up to four positions.
        assert 0 <= 224 // stride - found.shape[1] <= (4 if name == "inception_v3" else 0)
    last = [b for b, after in zip(blocks, [*blocks][1:], strict=False) if blocks[b] < blocks[after]]
    assert default.maps == (*last[1:], [*blocks][-1])


@pytest.mark.parametrize("backbone", BLOCKS)
@pytest.mark.parametrize("maps", [(), ("inception9z", "conv1")])
def test_maps_that_are_no_blocks_are_refused(backbone, maps):
    with pytest.raises(ValueError, match=r"maps=\(.*expected at least one of .*, "):
        backbone(maps=maps)


# --- dtypes and what is brought in ------------------------------------------------------------


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    ("dtype", "param_dtype", "image", "maps", "logits", "variables"),
    [
        (None, "float32", "float32", "float32", "float32", {"float32"}),
        ("bfloat16", "float32", "float32", "bfloat16", "float32", {"float32"}),
        (None, "bfloat16", "bfloat16", "bfloat16", "float32", {"float32", "bfloat16"}),
        (None, "float64", "float32", "float64", "float64", {"float64"}),
    ],
)
def test_dtypes(name, dtype, param_dtype, image, maps, logits, variables):
    size = FAMILIES[name][1]
    network = models.create(name, num_classes=10, dtype=dtype, param_dtype=param_dtype)
    out, made = tree(network, size, image, train=True)
    assert dtypes(out) == {logits}
    assert dtypes(made) == variables
    assert dtypes(made["params"]) == {param_dtype}
    assert dtypes(tree(network.backbone.clone(parent=None), size, image)[0]) == {maps}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_convolution_and_norm_goes_through_the_given_one(name):
    convolved, normed = [], []

    def conv(lhs, rhs, *args, **kwargs):
        convolved.append((lhs.dtype, rhs.dtype))
        return lax.conv_general_dilated(lhs, rhs, *args, **kwargs)

    class Norm(BatchNorm):
        def __call__(self, x, *, train, **how):
            normed.append((self.epsilon, self.momentum))
            return super().__call__(x, train=train, **how)

    norm = partial(Norm, momentum=0.5)
    fields = {"dtype": "bfloat16", "conv_general_dilated": conv, "norm": norm}
    network = models.create(name, num_classes=10, **fields)
    _, variables = tree(network, FAMILIES[name][1], train=True)
    kernels = [path for path in paths(variables["params"]) if "conv/kernel" in path]
    assert len(convolved) == len(kernels)
    assert set(convolved) == {(jnp.dtype("bfloat16"),) * 2}
    expected = 0 if name == "googlenet_2014" else len(kernels)
    assert normed == [(1e-3, 0.5)] * expected


# --- images -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("train", [False, True])
def test_the_smallest_image_is_named(name, train):
    smallest = FAMILIES[name][train]
    network = models.create(name, num_classes=10)
    assert network.backbone.smallest == FAMILIES[name][0]
    assert network.smallest == FAMILIES[name][1]
    tree(network, smallest, train=train)
    with pytest.raises(ValueError, match=rf"are too few, .* {smallest}x{smallest}"):
        tree(network, smallest - 1, train=train)


@pytest.mark.parametrize("name", FAMILIES)
def test_bad_images_are_refused(name):
    network = models.create(name, num_classes=10)
    init = partial(jax.eval_shape, partial(network.init, train=False), jax.random.key(0))
    with pytest.raises(ValueError, match=r"image of shape \(299, 299, 3\): expected 4 axes"):
        init(jax.ShapeDtypeStruct((299, 299, 3), "float32"))
    with pytest.raises(ValueError, match="image of dtype uint8"):
        init(jax.ShapeDtypeStruct((1, 299, 299, 3), "uint8"))
    variables = init(jax.ShapeDtypeStruct((1, 299, 299, 3), "float32"))
    grey = jax.ShapeDtypeStruct((1, 299, 299, 1), "float32")
    with pytest.raises(ValueError, match=r"1 channel\(s\), the weights of .* are for 3"):
        jax.eval_shape(partial(network.apply, train=False), variables, grey)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_input_transform_is_first(name):
    """On abstract values: what the first convolution is given is what the transform yields."""
    network = models.create(name, num_classes=10, aux=False)
    seen = []

    def conv(lhs, rhs, *args, **kwargs):
        seen.append(lhs)
        raise StopIteration

    smallest = FAMILIES[name][0]
    _, shapes = tree(network, smallest)
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    constants = variables["input_transform"]["backbone"]["input"]
    constants |= {"scale": np.float32([2, 3, 4]), "shift": np.float32([5, 6, 7])}
    x = jnp.ones((1, smallest, smallest, 3))
    with pytest.raises(StopIteration):
        network.clone(backbone=network.backbone.clone(conv_general_dilated=conv)).apply(
            variables, x, train=False
        )
    np.testing.assert_array_equal(seen[0][0, 0, 0], [7, 9, 11])
