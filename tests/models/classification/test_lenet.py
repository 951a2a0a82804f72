"""Both forms of LeNet-5 against plain NumPy, the table of C3 and the codes of the output."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from models.classification.lenet import TABLE, codes, squash

# LeCun et al. 1998, table I, as it is printed: a row a map of S2, a column a map of C3.
PRINTED = (
    "X...XXX..XXXX.XX",
    "XX...XXX..XXXX.X",
    "XXX...XXX..X.XXX",
    ".XXX..XXXX..X.XX",
    "..XXX..XXXX.XX.X",
    "...XXX..XXXX.XXX",
)


def drawn(network, shape, seed=0):
    """Variables of which no bias is 0, in float64."""
    init = partial(network.init, train=False)
    made = jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct(shape, "float64"))
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape) * 0.2, made)


def halves(x, how):
    batch, height, width, channels = x.shape
    cut = x[:, : height // 2 * 2, : width // 2 * 2]
    return how(cut.reshape(batch, height // 2, 2, width // 2, 2, channels), axis=(2, 4))


def convolve(definition, x, layer):
    return definition(x, layer["kernel"], [1, 1], [(0, 0)] * 2, [1, 1], 1) + layer["bias"]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("shape", [(1, 32, 32, 1), (1, 33, 38, 1)])
def test_the_modern_forward_pass(definition, shape):
    network = models.create("lenet5", num_classes=10, param_dtype="float64")
    x = np.random.default_rng(1).normal(size=shape)
    variables = drawn(network, shape)
    params = variables["params"]
    y = x
    for name in ("conv1", "conv2", "conv3"):
        y = y if name == "conv1" else halves(y, np.max)
        y = np.maximum(convolve(definition, y, params["backbone"][name]), 0)
    y = y.mean((1, 2))
    y = np.maximum(y @ params["hidden1"]["kernel"] + params["hidden1"]["bias"], 0)
    expected = y @ params["head"]["kernel"] + params["head"]["bias"]
    found = jax.jit(partial(network.apply, train=False))(variables, x)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-10)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("shape", [(1, 32, 32, 1), (1, 33, 38, 1)])
def test_the_forward_pass_of_1998(definition, shape):
    network = models.create("lenet5_1998", num_classes=12, param_dtype="float64")
    x = np.random.default_rng(1).normal(size=shape)
    variables = drawn(network, shape)
    params = variables["params"]["backbone"]

    def bent(x):
        return 1.7159 * np.tanh(2 / 3 * x)

    def subsampled(x, layer):
        return bent(halves(x, np.sum) * layer["coefficient"] + layer["bias"])

    y = subsampled(bent(convolve(definition, x, params["c1"])), params["s2"])
    # Windows of C3 follow each other by map, then by what the map is connected to.
    kernel, connection = np.zeros((5, 5, 6, 16)), 0
    for target in range(16):
        for source in range(6):
            if PRINTED[source][target] == "X":
                kernel[:, :, source, target] = params["c3"]["kernel"][:, :, connection]
                connection += 1
    assert connection == 60
    c3 = {"kernel": kernel, "bias": params["c3"]["bias"]}
    y = subsampled(bent(convolve(definition, y, c3)), params["s4"])
    y = bent(convolve(definition, y, params["c5"])).mean((1, 2))
    f6 = variables["params"]["f6"]
    y = bent(y @ f6["kernel"] + f6["bias"])
    expected = [[-sum((unit - code) ** 2) for code in codes(12)] for unit in y]
    found = jax.jit(partial(network.apply, train=False))(variables, x)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_parameters_of_1998_layer_by_layer():
    """The paper's own counts, section II.B; the codes are not trained."""
    network = models.create("lenet5_1998", num_classes=10)
    init = partial(network.init, train=False)
    x = jax.ShapeDtypeStruct((1, 32, 32, 1), jnp.float32)
    variables = jax.eval_shape(init, jax.random.key(0), x)
    assert set(variables) == {"params"}
    params = variables["params"]
    layers = params["backbone"] | {"f6": params["f6"]}
    counts = {name: sum(v.size for v in layer.values()) for name, layer in layers.items()}
    expected = {"c1": 156, "s2": 12, "c3": 1_516, "s4": 32, "c5": 48_120, "f6": 10_164}
    assert counts == expected
    assert sum(counts.values()) == 60_000


def test_the_table_is_the_printed_one():
    for target, sources in enumerate(TABLE):
        assert list(sources) == [s for s in range(6) if PRINTED[s][target] == "X"]


def test_squashing_keeps_one_and_minus_one():
    np.testing.assert_allclose(squash(jnp.array([-1.0, 0, 1, 100])), [-1, 0, 1, 1.7159], atol=1e-4)


def test_codes_are_pictures_then_fixed_bits():
    found = codes(300)
    assert found.shape == (300, 84)
    assert set(np.unique(found)) == {-1, 1}
    np.testing.assert_array_equal(codes(7), found[:7])
    one = found[1].reshape(12, 7)
    assert "".join(" #"[int(v > 0)] for v in one[1]) == "   ##  "
    assert "".join(" #"[int(v > 0)] for v in one[10]) == " ######"
    # The first byte of sha256("10") is 0x4a.
    assert found[10, :8].tolist() == [-1, 1, -1, -1, 1, -1, 1, -1]
    apart = [int((a != b).sum()) for a, b in itertools.combinations(found[:10], 2)]
    assert min(apart) >= 5
    assert len({row.tobytes() for row in found}) == 300


def test_weights_of_1998_start_within_their_fan_in():
    network = models.create("lenet5_1998", num_classes=10)
    init = jax.jit(partial(network.init, train=False))
    params = init(jax.random.key(0), jnp.zeros((1, 32, 32, 2)))["params"]
    layers = params["backbone"] | {"f6": params["f6"]}
    fans = np.repeat([len(row) for row in TABLE], [len(row) for row in TABLE]) * 25
    bounds = {"c1": 50, "s2": 4, "s4": 4, "c3": fans, "c5": 400, "f6": 120}
    for name, fan_in in bounds.items():
        layer = layers[name]
        weights = np.asarray(layer.get("kernel", layer.get("coefficient"))) * fan_in / 2.4
        assert 0.5 < np.abs(weights).max() <= 1, name
        assert weights.min() < 0 < weights.max(), name
        assert not np.asarray(layer["bias"]).any(), name
    spread = np.abs(np.asarray(layers["c3"]["kernel"]) * fans / 2.4).max((0, 1))
    assert (spread > 0.7).all()
