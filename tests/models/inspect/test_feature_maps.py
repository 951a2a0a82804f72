"""Feature maps are what the backbone yields, and what stands in place of a map counts."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from models.classification.classifier import classifier
from models.classification.resnet import BasicBlock, CIFARStem, ResNet
from models.inspect.feature_maps import cut, ending, feature_maps, map_shapes, program, stages


def drawn(network, shape):
    x = jax.random.normal(jax.random.key(1), shape)
    return jax.jit(lambda x: network.init(jax.random.key(0), x, train=False))(x), x


def shapes_alone(name, shape, **fields):
    network, x = models.create(name, num_classes=3, **fields), jax.ShapeDtypeStruct(shape, "f4")
    init = lambda x: network.init(jax.random.key(0), x, train=False)  # noqa: E731
    return program(network, jax.eval_shape(init, x), x)


def test_maps_are_the_backbones_own():
    network = models.create("plain_cnn", num_classes=3, stages=(1, 1), channels=(2, 3))
    variables, x = drawn(network, (2, 6, 6, 1))
    inner = {name: each["backbone"] for name, each in variables.items()}
    wanted = network.backbone.apply(inner, x, train=False)
    found = feature_maps(network, variables, x)
    assert [*found] == ["backbone[0]", "backbone[1]"]
    for one, other in zip(found.values(), wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_map_within_what_is_computed_again_can_be_read():
    made = partial(ResNet, (1,), (4,), BasicBlock, CIFARStem, 4)
    plain, remat = (classifier(made, num_classes=2, remat=each) for each in (False, True))
    variables, x = drawn(plain, (1, 8, 8, 3))
    inner = next(n for n in map_shapes(plain, variables, x) if n.startswith("backbone/stage1"))
    one, other = (feature_maps(n, variables, x, names=[inner])[inner] for n in (plain, remat))
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "shape", "fields", "wanted"),
    [
        ("plain_cnn", (1, 8, 8, 1), {}, {f"stage{n + 1}": f"backbone[{n}]" for n in range(3)}),
        ("fcn1d", (1, 8, 1), {}, {f"norm{n}": f"backbone/norm{n}" for n in (1, 2, 3)}),
        ("cnn1d", (1, 16, 1), {}, {f"conv{n}": f"conv{n}" for n in (1, 2, 3)}),
        ("tcn_small", (1, 8, 1), {}, {f"level{n}": f"backbone/level{n}" for n in (1, 2, 3, 4)}),
        ("mlp", (1, 4, 4, 1), {}, {}),
        (
            "resnet1d_small",
            (1, 16, 1),
            {},
            {"stem": "backbone/stem"}
            | {f"stage{n}": f"backbone/stage{n}_block2" for n in (1, 2, 3)},
        ),
        (
            "unet",
            (1, 8, 8, 1),
            {"features": (2, 4)},
            {f"{n}": f"{n}_norm2" for n in ("down1", "down2", "up1")} | {"head": "head"},
        ),
    ],
)
def test_stages_are_of_the_backbone_or_of_what_is_in_it(name, shape, fields, wanted):
    assert stages(shapes_alone(name, shape, **fields)) == wanted


class Twice(nn.Module):
    """One layer, called for two sizes."""

    @nn.compact
    def __call__(self, x):
        layer = nn.Conv(2, (1, 1), name="shared")
        return layer(x).sum() + layer(x[:, ::2]).sum()


def test_maps_of_a_shared_layer_are_told_apart():
    x = jnp.ones((1, 4, 4, 1))
    variables = Twice().init(jax.random.key(0), x)
    shapes = map_shapes(Twice(), variables, x)
    assert shapes == {"shared[0]": (1, 4, 4, 2), "shared[1]": (1, 2, 4, 2)}


def test_an_unknown_name_is_refused():
    x = jnp.ones((1, 4, 4, 1))
    variables = Twice().init(jax.random.key(0), x)
    with pytest.raises(ValueError, match=r"layer='x' is no map of Twice; there are shared\[0\]"):
        feature_maps(Twice(), variables, x, names=["x"])


def test_a_program_is_cut_at_a_variable():
    def double(x):
        y = 2 * x
        return jnp.sin(y) + x, y

    whole = jax.make_jaxpr(double)(1.0)
    out, at = whole.jaxpr.outvars
    behind = ending(cut(whole, at), out)
    (found,) = behind(1.0, 5.0)
    assert found == pytest.approx(np.sin(5) + 1)
    # So it is where the variable is an argument.
    (found,) = ending(cut(whole, whole.jaxpr.invars[0]), out)(1.0, 3.0)
    assert found == pytest.approx(np.sin(6) + 3)
