"""Feature pyramids against torchvision's, by hand, and on backbones."""

import functools

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.classification.resnet import ResNet18
from models.detection.fpn import FPN, Convolutions, MaxPool, Pyramid
from models.layers.norm import BatchNorm

SIZES = ((13, 22), (7, 11), (3, 6))
CHANNELS = (2, 3, 4)
CASES = {
    "pool": {"extra": MaxPool},
    "from backbone": {"extra": Convolutions},
    "from pyramid": {
        "extra": functools.partial(Convolutions, source="pyramid"),
        "norm": BatchNorm,
    },
}


def theirs(path):
    """torchvision's name of a variable of ours."""
    *module, kind = path[1:]
    kinds = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
    if module[0] == "extra":
        return f"extra_blocks.{module[1].replace('conv', 'p')}.{kinds.get(kind, kind)}"
    name, _, layer = module[0].partition("_")
    block = "inner_blocks" if name.startswith("lateral") else "layer_blocks"
    return f"{block}.{int(name[-1]) - 1}.{int(layer == 'norm')}.{kinds.get(kind, kind)}"


def filled(shapes, inputs):
    """Variables with the values that the script gave to torchvision."""
    flat = flax.traverse_util.flatten_dict(shapes)
    named = {}
    for path, leaf in flat.items():
        order = (3, 2, 0, 1) if len(leaf.shape) == 4 else range(len(leaf.shape))
        named[theirs(path)] = tuple(leaf.shape[axis] for axis in order)
    assert len(named) == len(flat)
    values = inputs.weights(named)
    return flax.traverse_util.unflatten_dict(
        {
            path: values[theirs(path)].transpose(2, 3, 1, 0)
            if len(leaf.shape) == 4
            else values[theirs(path)]
            for path, leaf in flat.items()
        }
    )


@pytest.mark.parametrize("name", CASES)
def test_every_value_is_torchvisions(name, golden, inputs):
    maps = tuple(
        inputs.drawn(f"map{h}", (2, h, w, c)) for (h, w), c in zip(SIZES, CHANNELS, strict=True)
    )
    network = FPN(5, **CASES[name])
    shapes = jax.eval_shape(functools.partial(network.init, train=False), jax.random.key(0), maps)
    variables = filled(shapes, inputs)
    found = jax.jit(functools.partial(network.apply, train=False))(variables, maps)
    cases = golden("fpn")
    assert len(found) == sum(key.startswith(f"{name}/") for key in cases)
    for number, value in enumerate(found):
        np.testing.assert_allclose(value, cases[f"{name}/{number}"], atol=2e-5, err_msg=name)


def small(**how):
    backbone = ResNet18(stages=(1, 1, 1, 1), channels=(4, 4, 8, 8), stem_features=4, **how)
    return functools.partial(Pyramid, backbone, width=8, **{k: how[k] for k in how if k != "norm"})


@pytest.mark.parametrize(
    ("how", "strides"),
    [
        ({"maps": (0, 1, 2, 3)}, (4, 8, 16, 32)),
        ({"maps": (0, 1, 2, 3), "extra": MaxPool}, (4, 8, 16, 32, 64)),
        ({"maps": (1, 2, 3), "extra": Convolutions}, (8, 16, 32, 64, 128)),
        ({"maps": (1, 3), "extra": functools.partial(Convolutions, source="pyramid")}, None),
    ],
)
def test_strides_and_channels_are_those_of_the_maps(how, strides):
    network = small()(**how)
    if strides is not None:
        assert network.strides == strides
    image = jnp.zeros((1, 256, 128, 3))
    run = lambda x: network.init_with_output(jax.random.key(0), x, train=False)  # noqa: E731
    maps, variables = jax.eval_shape(run, image)
    assert len(maps) == len(network.strides)
    for value, stride, channels in zip(maps, network.strides, network.channels, strict=True):
        assert value.shape == (1, 256 // stride, 128 // stride, channels)
    assert set(variables["params"]) == {"backbone", "fpn"}


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16, np.float64])
def test_output_dtypes(dtype, x64):
    extra, norm = Convolutions, BatchNorm
    network = small(dtype=dtype, param_dtype=dtype)(maps=(1, 2, 3), extra=extra, fpn_norm=norm)
    image = jnp.zeros((2, 64, 64, 3), dtype)
    run = lambda x: network.init_with_output(jax.random.key(0), x, train=True)  # noqa: E731
    maps, variables = jax.eval_shape(run, image)
    assert {value.dtype for value in maps} == {jnp.dtype(dtype)}
    assert {value.dtype for value in jax.tree.leaves(variables["params"])} == {jnp.dtype(dtype)}


def test_begins_within_the_bound_of_its_inputs():
    network = FPN(64)
    variables = network.init(jax.random.key(0), (jnp.zeros((1, 2, 2, 32)),), train=False)
    for name, inputs in (("lateral1_conv", 32), ("output1_conv", 64 * 9)):
        kernel = variables["params"][name]["kernel"]
        bound = (3 / inputs) ** 0.5
        assert 0.95 * bound < np.abs(kernel).max() <= bound
        assert not np.any(variables["params"][name]["bias"])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: FPN(0), "width=0 must be a whole number"),
        (lambda: small()(maps=()), r"maps=\(\) must ascend"),
        (lambda: small()(maps=(2, 1)), r"maps=\(2, 1\) must ascend"),
        (lambda: small()(maps=(1, 4)), r"maps=\(1, 4\) must ascend"),
        (lambda: Convolutions(8, None, source="c5"), "source='c5' is none of"),
    ],
)
def test_fields_that_make_no_pyramid_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()
