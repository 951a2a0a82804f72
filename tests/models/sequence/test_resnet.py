"""ResNet1D and M5: sizes, shifts, and where the shortcut has what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from models.sequence.m5 import M5
from models.sequence.resnet import ResNet1D, SmallResNet1D

TINY = {"channels": (4, 6, 6), "stages": (1, 1, 1)}


def test_padded_by_its_own_other_end_a_series_has_no_ends():
    network = models.create("resnet1d_small", num_classes=3, **TINY)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 24, 1)), jnp.float32)
    variables = jax.jit(lambda key: network.init(key, x, train=False))(jax.random.key(0))
    apply = jax.jit(lambda x: network.apply(variables, x, train=False))
    y = apply(x)
    np.testing.assert_allclose(apply(jnp.roll(x, 4, 1)), y, atol=1e-6)
    assert float(jnp.abs(apply(jnp.roll(x, 1, 1)) - y).max()) > 1e-4
    padded = models.create("resnet1d_small", num_classes=3, circular=False, **TINY)
    apply = jax.jit(lambda x: padded.apply(variables, x, train=False))
    shifted, plain = map(apply, (jnp.roll(x, 4, 1), x))
    assert float(jnp.abs(shifted - plain).max()) > 1e-4


@pytest.mark.parametrize(
    ("backbone", "steps", "shape"),
    [
        (ResNet1D(), 33, (1, 33, 128)),
        (SmallResNet1D(), 40, (1, 10, 128)),
        (SmallResNet1D(circular=False), 41, (1, 11, 128)),
        (M5(), 32_000, (1, 32, 512)),
        (M5(), 4, (1, 1, 512)),
    ],
)
def test_steps_that_are_left(backbone, steps, shape):
    x = jax.ShapeDtypeStruct((1, steps, 1), jnp.float32)
    (y, length), _ = jax.eval_shape(
        lambda x: backbone.init_with_output(jax.random.key(0), x, train=False), x
    )
    assert y.shape == shape
    assert length is None


def test_a_shortcut_projects_where_the_shape_changes_alone():
    x = jax.ShapeDtypeStruct((1, 20, 1), jnp.float32)
    made = jax.eval_shape(lambda x: ResNet1D().init(jax.random.key(0), x, train=False), x)["params"]
    assert made["stage1_block1"]["shortcut"]["conv"]["kernel"].shape == (1, 1, 64)
    assert made["stage2_block1"]["shortcut"]["conv"]["kernel"].shape == (1, 64, 128)
    assert "shortcut" not in made["stage3_block1"]
    assert made["stage3_block1"]["shortcut_norm"]["scale"].shape == (128,)
    ours = jax.eval_shape(lambda x: SmallResNet1D().init(jax.random.key(0), x, train=False), x)
    assert set(ours["params"]["stage1_block1"]) == {"layer1", "layer2"}
