"""Auxiliary heads: when they speak, what init creates, dropout, what is refused."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.classification.auxiliary import (
    AuxiliaryClassifier,
    WithAuxiliary,
    auxiliary_classifier,
    parts,
)
from models.layers.pooling import global_average_pool

X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 5, 3)), jnp.float32)


class Toy(nn.Module):
    """x, 2 x or 3 x, by their names."""

    maps: tuple[str, ...]
    smallest: int = 2
    param_dtype: str = "float32"

    @property
    def layer(self):
        return partial(nn.Dense, use_bias=False)

    @nn.compact
    def __call__(self, x, *, train):
        return tuple(x * float(name) for name in self.maps)


class Head(nn.Module):
    num_classes: int
    layer: object
    dense: object

    @nn.compact
    def __call__(self, x, *, train):
        y = self.layer(4, name="layer")(global_average_pool(x))
        return self.dense(self.num_classes, name="dense")(y)


def toy(**fields):
    kwargs = {"head": Head, "reads": ("1", "2"), "last": "3", "dropout": 0.0, "smallest": 5}
    return auxiliary_classifier(Toy, num_classes=7, **(kwargs | fields))


def test_logits_alone_or_with_those_of_the_heads():
    network = toy()
    params = jax.device_get(network.init(jax.random.key(0), X, train=False)["params"])
    out = network.apply({"params": params}, X, train=True)
    assert isinstance(out, WithAuxiliary)
    assert out._fields == ("logits", "aux")
    mean = np.asarray(X).mean((1, 2))
    main = 3 * mean @ params["head"]["kernel"] + params["head"]["bias"]
    np.testing.assert_allclose(out.logits, main, rtol=1e-5)
    for factor, logits in enumerate(out.aux, 1):
        own = params[f"aux{factor}"]
        expected = factor * mean @ own["layer"]["kernel"] @ own["dense"]["kernel"]
        np.testing.assert_allclose(logits, expected + own["dense"]["bias"], rtol=1e-5, atol=1e-6)
    alone = network.apply({"params": params}, X, train=False)
    np.testing.assert_array_equal(alone, out.logits)


@pytest.mark.parametrize("train", [False, True])
def test_init_creates_every_parameter(train):
    made = toy().init(jax.random.key(3), X, train=train)
    assert made["params"].keys() == {"head", "aux1", "aux2"}
    other = toy().init(jax.random.key(3), X, train=not train)
    jax.tree.map(np.testing.assert_array_equal, made, other)


def test_without_heads_training_yields_logits():
    network = toy(aux=False)
    assert network.backbone.maps == ("3",)
    out, made = network.init_with_output(jax.random.key(0), X, train=True)
    assert made["params"].keys() == {"head"}
    assert out.shape == (2, 7)


def test_dropout_is_before_the_main_head_in_training():
    network = toy(dropout=0.5)
    x = jnp.ones((1, 5, 5, 1000))
    variables = network.init(jax.random.key(0), x, train=False)
    kernel = jnp.ones((1000, 7))
    variables["params"]["head"]["kernel"] = kernel
    apply = partial(network.apply, variables, x)
    keys = jax.random.split(jax.random.key(1), 2)
    one, two = (apply(train=True, rngs={"dropout": key}).logits[0, 0] for key in keys)
    assert one != two
    # 3000 on average, standard deviation 6 * sqrt(1000 / 4).
    assert abs(float(one) - 3000) < 5 * 6 * 250**0.5
    assert float(apply(train=False)[0, 0]) == 3000


def test_the_smallest_image_is_asked_for_in_training():
    variables = toy().init(jax.random.key(0), X[:, :3], train=False)
    toy().apply(variables, X[:, :3], train=False)
    message = r"image of shape \(2, 4, 5, 3\): 4x5 pixels are too few, .* 5x5"
    with pytest.raises(ValueError, match=message):
        toy().apply(variables, X[:, :4], train=True)
    toy().apply(variables, X[:, :5], train=True)
    assert (toy().smallest, toy(smallest=1).smallest, toy(aux=False).smallest) == (5, 2, 2)


def test_parts_of_any_output():
    assert parts(X) == (X, ())
    both = WithAuxiliary(X, (X, X))
    assert parts(both) is both


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_dropout_that_is_no_rate_is_refused(rate):
    with pytest.raises(ValueError, match=f"dropout={rate}"):
        AuxiliaryClassifier(Toy(("3",)), 7, dropout=rate)


def test_a_number_of_classes_below_1_is_refused():
    with pytest.raises(ValueError, match="num_classes=0"):
        AuxiliaryClassifier(Toy(("3",)), 0)
