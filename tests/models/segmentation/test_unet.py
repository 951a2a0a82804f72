"""U-Net: the paper's sizes, its sums in plain NumPy, and tiles that fit together."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import errors

import models
from models.segmentation.unet import UNet

TINY = {"num_classes": 3, "features": (2, 4, 6), "dtype": "float64", "param_dtype": "float64"}


def tree(network, shape, dtype="float32"):
    init = partial(network.init_with_output, train=False)
    return jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct(shape, dtype))


def drawn(network, shape):
    """Variables in float64, no scale 1, no bias and no mean 0."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key in ("scale", "var"):
            return rng.uniform(0.5, 1.5, leaf.shape)
        return rng.normal(size=leaf.shape) * 0.5

    return jax.tree_util.tree_map_with_path(draw, tree(network, shape, "float64")[1])


# --- the paper's form ---------------------------------------------------------------------------


def test_the_papers_sizes_and_parameters():
    network = models.create("unet_2015", num_classes=2)
    logits, variables = tree(network, (1, 572, 572, 1))
    assert logits.shape == (1, 388, 388, 2)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == 31_030_658
    assert set(variables) == {"params"}
    assert (network.margin, network.input_size(388)) == (92, 572)
    # Fig. 1: from the lowest map up again.
    assert variables["params"]["up4_up"]["kernel"].shape == (2, 2, 1024, 512)
    assert variables["params"]["up4_conv1"]["kernel"].shape == (3, 3, 1024, 512)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("levels", [2, 3, 4, 5, 6])
def test_sizes_are_the_least_that_divide_on_every_level(padding, levels):
    """Against the layers one by one, for every size."""

    def goes_through(size):
        taken = 4 if padding == "VALID" else 0
        for _ in range(levels - 1):
            size -= taken
            if size < 2 or size % 2:
                return None
            size //= 2
        size -= taken
        for _ in range(levels - 1):
            if size < 1:
                return None
            size = 2 * size - taken
        return size if size > 0 else None

    network = UNet(2, features=(2,) * levels, padding=padding)
    fits = {size: goes_through(size) for size in range(1, 600)}
    assert len([size for size in fits.values() if size]) > 5
    for size, out in fits.items():
        if out:
            assert out == size - 2 * network.margin
    largest = max(out for out in fits.values() if out)
    for wanted in range(1, largest + 1):
        least = min(size for size, out in fits.items() if out and out >= wanted)
        assert network.input_size(wanted) == least


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ({}, (1, 32, 40, 3), r"\(1, 32, 40, 3\): 40 pixels .* next size that does is 48"),
        ({}, (1, 31, 32, 3), "31 pixels do not divide on every level; the next .* is 32"),
        ({}, (1, 1, 1, 3), "1 pixels .* is 16"),
        ({"padding": "VALID"}, (1, 572, 571, 1), "571 pixels .* is 572"),
        ({"padding": "VALID"}, (1, 573, 572, 1), "573 pixels .* is 588"),
        ({"padding": "VALID"}, (1, 64, 64, 1), "64 pixels .* is 188"),
        # Divides on the way down, and leaves nothing on the way up.
        ({"padding": "VALID"}, (1, 140, 140, 1), "140 pixels .* is 188"),
    ],
)
def test_sizes_that_do_not_divide_are_refused_with_the_next(fields, shape, message):
    with pytest.raises(ValueError, match=message):
        tree(UNet(2, **fields), shape)


# --- the sums -----------------------------------------------------------------------------------


class Reference:
    """Evaluation in float64, level by level."""

    def __init__(self, network, variables, definition):
        self.network, self.definition = network, definition
        self.params, self.stats = variables["params"], variables.get("batch_stats")

    def conv(self, x, name, pad):
        layer = self.params[name]
        y = self.definition(x, layer["kernel"], [1, 1], [(pad, pad)] * 2, [1, 1], 1)
        return y + layer["bias"] if "bias" in layer else y

    def level(self, x, name):
        for number in (1, 2):
            x = self.conv(x, f"{name}_conv{number}", int(self.network.padding == "SAME"))
            if self.network.batch_norm:
                norm = f"{name}_norm{number}"
                p, s = self.params[norm], self.stats[norm]
                x = (x - s["mean"]) / np.sqrt(s["var"] + 1e-5) * p["scale"] + p["bias"]
            x = np.maximum(x, 0)
        return x

    def up(self, x, name):
        _, h, w, _ = x.shape
        if self.network.upsampling == "transposed":
            kernel = self.params[name]["kernel"]
            y = np.einsum("bijc,klcf->bikjlf", x, kernel).reshape(len(x), 2 * h, 2 * w, -1)
            return y + self.params[name]["bias"]
        return self.conv(double(x), name, 1)

    def __call__(self, x):
        skips, self.aux = [], []
        for level in (1, 2, 3):
            x = self.level(x, f"down{level}")
            if level < 3:
                skips.append(x)
                b, h, w, c = x.shape
                x = x.reshape(b, h // 2, 2, w // 2, 2, c).max((2, 4))
        for level in (2, 1):
            x = self.up(x, f"up{level}_up")
            skip = skips[level - 1]
            top, left = (skip.shape[1] - x.shape[1]) // 2, (skip.shape[2] - x.shape[2]) // 2
            skip = skip[:, top : top + x.shape[1], left : left + x.shape[2]]
            x = self.level(np.concatenate([skip, x], -1), f"up{level}")
            if level == 2 and self.network.aux:
                self.aux = [double(self.conv(x, "aux2", 0))]
        return self.conv(x, "head", 0)


def double(x):
    """Bilinear: a pixel of twice the size stands a quarter of a pixel beside the next."""
    for axis in (1, 2):
        first, last = np.take(x, [0], axis), np.take(x, [-1], axis)
        before = np.concatenate([first, np.delete(x, -1, axis)], axis)
        after = np.concatenate([np.delete(x, 0, axis), last], axis)
        pair = np.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis + 1)
        x = pair.reshape(*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :])
    return x


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("padding", "upsampling", "batch_norm"),
    [
        ("SAME", "transposed", True),
        ("SAME", "resize", False),
        ("VALID", "transposed", False),
        ("VALID", "resize", True),
    ],
)
def test_the_forward_pass(definition, padding, upsampling, batch_norm):
    network = UNet(**TINY, padding=padding, upsampling=upsampling, batch_norm=batch_norm)
    shape = (1, 8, 12, 2) if padding == "SAME" else (1, 44, 48, 1)
    variables = drawn(network, shape)
    assert set(variables) == ({"params", "batch_stats"} if batch_norm else {"params"})
    assert ("bias" in variables["params"]["down1_conv1"]) is not batch_norm
    x = np.random.default_rng(1).normal(size=shape)
    expected = Reference(network, variables, definition)(x)
    assert expected.shape == (1, *(n - 2 * network.margin for n in shape[1:3]), 3)
    assert expected.std() > 0.1
    found = jax.jit(partial(network.apply, train=False))(variables, x)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


@pytest.mark.usefixtures("x64")
def test_in_training_the_levels_have_logits_of_their_own(definition):
    network = UNet(**TINY, batch_norm=False, aux=True)
    variables = drawn(network, (1, 8, 12, 2))
    x = np.random.default_rng(1).normal(size=(1, 8, 12, 2))
    reference = Reference(network, variables, definition)
    expected = reference(x)
    # The same parameters, whichever call they are made in.
    made = jax.eval_shape(partial(network.init, train=True), jax.random.key(0), x)
    assert jax.tree.structure(made) == jax.tree.structure(variables)
    found, aux = jax.jit(partial(network.apply, train=True))(variables, x)
    assert len(aux) == 1
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(aux[0], reference.aux[0], rtol=1e-9, atol=1e-9)
    alone = jax.jit(partial(network.apply, train=False))(variables, x)
    np.testing.assert_allclose(alone, expected, rtol=1e-9, atol=1e-9)


def test_an_output_of_the_transposed_convolution_begins_with_its_inputs_variance():
    """Section 3: sqrt(2 / N), N being the incoming nodes of one neuron; 2x2 at stride 2 has C."""
    network = UNet(2, features=(2, 64), batch_norm=False)
    init = jax.jit(partial(network.init, train=False))
    kernel = init(jax.random.key(0), jnp.zeros((1, 2, 2, 1)))["params"]["up1_up"]["kernel"]
    assert kernel.shape == (2, 2, 64, 32)
    np.testing.assert_allclose(np.std(kernel), np.sqrt(2 / 64), rtol=0.03)


@pytest.mark.usefixtures("x64")
def test_a_tiles_logits_are_those_of_the_whole_image():
    """Overlapping tiles (fig. 2): every pixel of logits has seen all of its context."""
    network = UNet(**TINY, padding="VALID")
    x = np.random.default_rng(0).normal(size=(1, 60, 68, 1))
    variables = drawn(network, x.shape)
    apply = jax.jit(partial(network.apply, train=False))
    whole = apply(variables, x)
    assert whole.shape == (1, 20, 28, 3)
    for top, left in ((0, 0), (4, 8), (16, 24)):  # poolings meet the same pixels every 4
        tile = apply(variables, x[:, top : top + 44, left : left + 44])
        assert tile.shape == (1, 4, 4, 3)
        cut = whole[:, top : top + 4, left : left + 4]
        np.testing.assert_allclose(tile, cut, rtol=1e-10)


def test_dropout_is_on_the_two_lowest_levels_of_the_way_down():
    network = UNet(2, features=(2, 4, 6), dropout=0.5, batch_norm=False)
    x = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)
    variables = tree(network, x.shape)[1]
    apply = partial(network.apply, mutable=["intermediates"], capture_intermediates=True)
    for train in (False, True):
        rngs = {"dropout": jax.random.key(0)} if train else {}
        _, kept = jax.eval_shape(partial(apply, train=train, rngs=rngs), variables, x)
        dropped = [
            value["__call__"][0].shape
            for name, value in kept["intermediates"].items()
            if name.startswith("Dropout")
        ]
        assert dropped == [(2, 4, 4, 4), (2, 2, 2, 6)]
    with pytest.raises(errors.InvalidRngError):
        jax.eval_shape(partial(apply, train=True), variables, x)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"features": (8,)}, r"features=\(8,\) must be at least two"),
        ({"features": ()}, r"features=\(\)"),
        ({"features": (8, 0)}, r"features=\(8, 0\) must be whole, and at least 1"),
        ({"features": (8, 4.0)}, r"features=\(8, 4.0\) must be whole"),
        ({"features": (8, 9)}, r"features=\(8, 9\): all but the first are halved"),
        ({"padding": "REFLECT"}, "padding='REFLECT' is neither"),
        ({"upsampling": "nearest"}, "upsampling='nearest' is neither"),
        ({"padding": "VALID", "aux": True}, "aux=True with padding='VALID'"),
        ({"dropout": 1.0}, "dropout=1.0 must be from 0 to below 1"),
        ({"dropout": -0.5}, "dropout=-0.5"),
    ],
)
def test_bad_fields_are_refused_at_construction(fields, message):
    with pytest.raises(ValueError, match=message):
        models.create("unet", num_classes=2, **fields)
