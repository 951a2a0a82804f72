"""The transposed convolution against its definition, PyTorch's, lax's, and its own adjoint."""

import functools
import itertools
import json
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from models import backends
from models.layers.conv import output_size
from models.layers.transposed import ConvTranspose, crop_width, transposed_size

GOLDEN = np.load(pathlib.Path(__file__).parents[2] / "golden" / "transposed.npz")
FORMS = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC")}

# Spatial shape of x, window, strides, padding, output_padding, dilations, groups
CASES = {
    "1-D": ((5,), (3,), (1,), [(0, 0)], (0,), (1,), 1),
    "1-D, stride 2, even": ((5,), (4,), (2,), [(1, 1)], (0,), (1,), 1),
    "1-D, stride 3, asymmetric": ((4,), (5,), (3,), [(1, 3)], (2,), (1,), 2),
    "1-D, gaps": ((4,), (2,), (4,), [(0, 0)], (0,), (1,), 1),
    "1-D, dilation above the stride": ((4,), (2,), (2,), [(0, 1)], (2,), (3,), 1),
    "1-D, beyond both ends": ((6,), (2,), (2,), [(2, 3)], (1,), (1,), 1),
    "2x2, stride 2": ((3, 4), (2, 2), (2, 2), [(0, 0), (0, 0)], (0, 0), (1, 1), 1),
    "2x2, stride 2, output padded": ((3, 4), (2, 2), (2, 2), [(0, 0), (0, 1)], (1, 1), (1, 1), 1),
    "3x3": ((4, 3), (3, 3), (1, 1), [(1, 1), (1, 1)], (0, 0), (1, 1), 1),
    "3x3, stride 2, output padded": ((3, 4), (3, 3), (2, 2), [(1, 1), (1, 1)], (1, 1), (1, 1), 1),
    "axes differ": ((3, 5), (4, 3), (3, 1), [(2, 0), (0, 1)], (1, 0), (1, 2), 1),
    "dilated": ((3, 4), (3, 2), (2, 3), [(2, 1), (0, 3)], (1, 0), (2, 3), 2),
    "depthwise": ((3, 3), (3, 3), (2, 2), [(1, 0), (0, 1)], (0, 1), (1, 1), 4),
    "1x1, gaps": ((3, 4), (1, 1), (2, 3), [(0, 0), (0, 0)], (1, 2), (1, 1), 1),
    "beyond the kernel": ((5, 4), (2, 1), (2, 2), [(2, 1), (1, 2)], (0, 1), (1, 1), 1),
    "one position": ((1, 1), (3, 4), (2, 2), [(0, 2), (2, 1)], (0, 0), (1, 1), 1),
}


def scattered(x, kernel, strides, pads, more, dilations, groups):
    """y[s i + d k - p] += x[i] kernel[k], one product at a time, in float64.

    x (B, spatial…, C), kernel (window…, C / groups, F).
    """
    *window, inner, features = kernel.shape
    axes = zip(x.shape[1:-1], window, strides, pads, more, dilations, strict=True)
    sizes = [(n - 1) * s - b - a + d * (k - 1) + o + 1 for n, k, s, (b, a), o, d in axes]
    y = np.zeros((len(x), *sizes, features))
    for at, tap in itertools.product(np.ndindex(*x.shape[1:-1]), np.ndindex(*window)):
        moves = zip(at, strides, tap, dilations, pads, strict=True)
        to = tuple(s * i + d * k - before for i, s, k, d, (before, _) in moves)
        if any(not 0 <= t < size for t, size in zip(to, sizes, strict=True)):
            continue
        for f, c in itertools.product(range(features), range(inner)):
            group = f // (features // groups)
            y[:, *to, f] += x[:, *at, group * inner + c] * kernel[*tap, c, f]
    return y


def layer(case, features=4, **fields):
    _, window, strides, pads, more, dilations, groups = case
    return ConvTranspose(
        features,
        window,
        strides=strides,
        padding=pads,
        output_padding=more,
        kernel_dilation=dilations,
        feature_group_count=groups,
        **fields,
    )


def drawn(case, features=4, channels=4, dtype=np.float64):
    """x and kernel."""
    shape, window, *_, groups = case
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(*window, channels // groups, features))
    return np.asarray(rng.normal(size=(2, *shape, channels)), dtype), np.asarray(kernel, dtype)


def close(actual, expected, tolerance):
    """To that part of the largest value expected, leaf by leaf."""

    def check(a, b):
        a, b = np.float64(a), np.float64(b)
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())

    jax.tree.map(check, actual, expected)


def test_the_scatter_of_a_small_case_by_hand():
    x, kernel = np.array([1.0, 2]).reshape(1, 2, 1), np.array([1.0, 10, 100]).reshape(3, 1, 1)
    y = scattered(x, kernel, (2,), [(0, 0)], (0,), (1,), 1)
    assert y[0, :, 0].tolist() == [1, 10, 102, 20, 200]
    y = scattered(x, kernel, (2,), [(1, 2)], (1,), (1,), 1)
    assert y[0, :, 0].tolist() == [10, 102, 20]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", CASES)
def test_it_is_its_definition(case):
    x, kernel = drawn(CASES[case])
    bias = np.arange(1.0, 5)
    y = layer(CASES[case]).apply({"params": {"kernel": kernel, "bias": bias}}, jnp.asarray(x))
    expected = scattered(x, kernel, *CASES[case][2:]) + bias
    assert y.shape == expected.shape
    assert y.dtype == np.float64
    np.testing.assert_allclose(y, expected, atol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", sorted({name.split("/")[0] for name in GOLDEN.files}))
def test_it_is_pytorchs(case):
    golden = {
        name.split("/")[1]: GOLDEN[name] for name in GOLDEN.files if name.split("/")[0] == case
    }
    arguments = json.loads(str(golden["arguments"]))
    groups = arguments.get("groups", 1)
    rank = len(arguments["kernel_size"])

    def ours(weight):
        """(C, O / groups, spatial…) -> (spatial…, C / groups, O)."""
        channels, features, *window = weight.shape
        weight = weight.reshape(groups, channels // groups, features, *window)
        return np.moveaxis(weight, (1, 0, 2), (-3, -2, -1)).reshape(*window, -1, groups * features)

    module = ConvTranspose(
        arguments["out_channels"],
        arguments["kernel_size"],
        strides=arguments.get("stride", 1),
        padding=arguments.get("padding", 0),
        output_padding=arguments.get("output_padding", 0),
        kernel_dilation=arguments.get("dilation", 1),
        feature_group_count=groups,
    )
    last = functools.partial(np.moveaxis, source=1, destination=-1)
    wide = {name: np.float64(golden[name]) for name in ("x", "weight", "bias", "cotangent")}
    params = {"kernel": ours(wide["weight"]), "bias": wide["bias"]}
    y, back = jax.vjp(
        lambda params, x: module.apply({"params": params}, x), params, last(wide["x"])
    )
    of_params, of_x = back(jnp.asarray(last(wide["cotangent"])))
    assert params["kernel"].ndim == rank + 2
    expected = {"kernel": ours(golden["weight_gradient"]), "bias": golden["bias_gradient"]}
    close((y, of_x, of_params), (last(golden["y"]), last(golden["x_gradient"]), expected), 1e-12)


def gradient_of_conv(case, x, kernel):
    """What lax makes of the input's gradient of the convolution that leads back to x."""
    _, window, strides, pads, more, dilations, groups = case
    axes = zip(x.shape[1:-1], window, strides, pads, dilations, more, strict=True)
    sizes = [transposed_size(*axis) for axis in axes]

    def conv(z):
        inner, features = kernel.shape[-2:]
        split = kernel.reshape(*window, inner, groups, features // groups)
        return lax.conv_general_dilated(
            z,
            split.swapaxes(-1, -3).reshape(*window, features // groups, groups * inner),
            strides,
            pads,
            rhs_dilation=dilations,
            dimension_numbers=FORMS[len(window)],
            feature_group_count=groups,
        )

    z = jnp.asarray(np.random.default_rng(1).normal(size=(len(x), *sizes, kernel.shape[-1])))
    return z, conv


# An output padding of a stride and more makes an output that a convolution maps to more than n.
LEADS_BACK = [case for case in CASES if "above the stride" not in case]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", LEADS_BACK)
def test_it_is_the_adjoint_of_a_convolution(case):
    x, kernel = map(jnp.asarray, drawn(CASES[case], features=8))
    z, conv = gradient_of_conv(CASES[case], x, kernel)
    module = layer(CASES[case], features=8, use_bias=False)
    y = module.apply({"params": {"kernel": kernel}}, x)
    there = conv(z)
    assert there.shape == x.shape
    np.testing.assert_allclose(jnp.vdot(there, x), jnp.vdot(z, y), rtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", ["axes differ", "dilated", "depthwise", "beyond the kernel"])
def test_gradients_are_laxs(case):
    x, kernel = map(jnp.asarray, drawn(CASES[case]))
    module = layer(CASES[case], use_bias=False)
    z, _ = gradient_of_conv(CASES[case], x, kernel)

    def theirs(kernel, x):
        _, conv = gradient_of_conv(CASES[case], x, kernel)
        return jax.linear_transpose(conv, z)(x)[0]

    _, expected = jax.vjp(theirs, kernel, x)
    _, actual = jax.vjp(
        lambda kernel, x: module.apply({"params": {"kernel": kernel}}, x), kernel, x
    )
    close(actual(z), expected(z), 1e-12)


# --- sizes and forms -------------------------------------------------------------------------


def test_size_leads_back_through_a_convolution():
    grid = itertools.product((1, 2, 5), (1, 2, 3, 4), (1, 2, 3), (0, (1, 0), "SAME"), (1, 2))
    for size, kernel, stride, padding, dilation in grid:
        for more in range(stride):
            out = transposed_size(size, kernel, stride, padding, dilation, more)
            if padding == "SAME":
                assert out == size * stride + more
            if out > 0 and not (padding == "SAME" and more):
                assert output_size(out, kernel, stride, padding, dilation) == size


@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        ((24, 2, 2), 48),  # U-Net's
        ((16, 64, 32, 16), 512),  # FCN-32s
        ((7, 3, 2, 1, 1, 1), 14),
        ((5, 3, 1, "VALID"), 7),
        ((5, 2, 3, "VALID"), 14),
        ((5, 2, 3, "SAME"), 15),
        ((2, 2, 1, (2, 1)), 0),
        (tuple(np.int64([7, 3, 2, 1, 1, 1])), 14),
    ],
)
def test_size_by_hand(arguments, size):
    assert transposed_size(*arguments) == size


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("window", "stride", "dilation"), [(3, 2, 1), (4, 2, 1), (2, 3, 1), (1, 3, 1), (3, 1, 2)]
)
def test_same_is_the_adjoint_of_a_same_convolution(window, stride, dilation):
    x, kernel = map(jnp.asarray, drawn(((5,), (window,), 1)))
    module = ConvTranspose(
        4, window, strides=stride, kernel_dilation=dilation, padding="SAME", use_bias=False
    )
    y = module.apply({"params": {"kernel": kernel}}, x)
    z = jnp.asarray(np.random.default_rng(1).normal(size=(2, 5 * stride, 4)))
    conv = nn.Conv(4, window, strides=stride, kernel_dilation=dilation, use_bias=False)
    there = conv.apply({"params": {"kernel": kernel.swapaxes(-1, -2)}}, z)
    assert y.shape == z.shape
    np.testing.assert_allclose(jnp.vdot(there, x), jnp.vdot(z, y), rtol=1e-12)


def test_one_form_for_all_axes_is_that_form_for_each():
    for short, long in ((1, [(1, 1), (1, 1)]), ((0, 2), [(0, 0), (2, 2)]), ("VALID", 0)):
        x = jax.ShapeDtypeStruct((1, 4, 5, 2), jnp.float32)
        one, other = (
            jax.eval_shape(
                ConvTranspose(3, (3, 3), strides=2, padding=padding).init_with_output,
                jax.random.key(0),
                x,
            )[0].shape
            for padding in (short, long)
        )
        assert one == other
    assert crop_width(3, 2, (1, 0), 1, 1) == (1, -1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"features": 0}, "features=0 must be a whole number, at least 1"),
        ({"kernel_size": (3, 0)}, "kernel_size=0"),
        ({"kernel_size": (3, 3, 3)}, r"kernel_size=\(3, 3, 3\) must have one or two axes"),
        ({"kernel_size": 3}, r"x of shape \(2, 4, 5, 6\) under kernel_size=3: expected 3 axes"),
        ({"strides": 0}, "strides=0"),
        ({"strides": (1, 2, 3)}, r"strides=\(1, 2, 3\) has 3 values for 2 spatial axes"),
        ({"kernel_dilation": (1, 0.5)}, "kernel_dilation=0.5"),
        ({"padding": -1}, "padding=-1 must not be negative"),
        ({"padding": "CIRCULAR"}, "padding='CIRCULAR' is none of VALID, SAME"),
        ({"padding": [(1, 2)]}, r"padding=\[\(1, 2\)\] has 1 values|padding=\(\(1, 2\),\) has 1"),
        ({"padding": 9}, r"padding=9 leaves nothing of x of shape \(2, 4, 5, 6\)"),
        ({"output_padding": 2, "strides": 2}, "output_padding=2 must be .* below the stride 2"),
        ({"output_padding": (0, 1), "strides": (2, 1)}, "output_padding=1 .* below the stride 1"),
        ({"output_padding": -1}, "output_padding=-1 must be a whole number, at least 0"),
        ({"output_padding": 0.5}, "output_padding=0.5 must be a whole number"),
        ({"feature_group_count": 0}, "feature_group_count=0"),
        ({"feature_group_count": 4}, "feature_group_count=4 does not divide the 6 channels of x"),
        ({"feature_group_count": 3}, "feature_group_count=3 does not divide the 8 .* features"),
    ],
)
def test_bad_fields_are_named(fields, message):
    module = ConvTranspose(**{"features": 8, "kernel_size": (3, 3), **fields})
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((2, 4, 5, 6)))


@pytest.mark.parametrize("case", CASES)
def test_padding_that_is_asked_of_a_backend_is_never_negative(case):
    asked = []

    def conv(*arguments, padding, **keywords):
        asked.extend(padding)
        return lax.conv_general_dilated(*arguments, padding=padding, **keywords)

    module = layer(CASES[case], conv_general_dilated=conv)
    x = jax.ShapeDtypeStruct((2, *CASES[case][0], 4), jnp.float32)
    jax.eval_shape(module.init, jax.random.key(0), x)
    reach = [d * (k - 1) for k, d in zip(CASES[case][1], CASES[case][5], strict=True)]
    assert len(asked) == len(reach)
    assert all(0 <= min(pair) <= max(pair) <= r for pair, r in zip(asked, reach, strict=True))


def test_no_position_is_an_error():
    with pytest.raises(ValueError, match=r"x of shape \(2, 0, 3\)"):
        ConvTranspose(4, 3).init(jax.random.key(0), jnp.zeros((2, 0, 3)))


def test_its_parameters():
    module = ConvTranspose(8, (3, 2), feature_group_count=2, bias_init=nn.initializers.ones)
    x = jnp.zeros((1, 4, 4, 6))
    params = module.init(jax.random.key(0), x)["params"]
    assert jax.tree.map(jnp.shape, params) == {"kernel": (3, 2, 3, 8), "bias": (8,)}
    np.testing.assert_array_equal(module.apply({"params": params}, x), np.ones((1, 6, 5, 8)))
    assert set(module.clone(use_bias=False).init(jax.random.key(0), x)["params"]) == {"kernel"}


# --- types and backends ----------------------------------------------------------------------


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("x", "param_dtype", "dtype", "expected"),
    [
        ("float32", "float32", None, "float32"),
        ("bfloat16", "float32", None, "float32"),
        ("float32", "float32", "bfloat16", "bfloat16"),
        ("bfloat16", "bfloat16", None, "bfloat16"),
        ("float64", "float32", None, "float64"),
        ("float32", "float64", None, "float64"),
        ("float64", "float64", "float32", "float32"),
        ("uint8", "float32", None, "float32"),
    ],
)
def test_types_are_those_of_a_convolution(x, param_dtype, dtype, expected):
    fields = {"dtype": dtype, "param_dtype": param_dtype}
    value = jax.ShapeDtypeStruct((1, 4, 2), x)
    for module in (ConvTranspose(3, 2, **fields), nn.Conv(3, (2,), **fields)):
        y, variables = jax.eval_shape(module.init_with_output, jax.random.key(0), value)
        assert y.dtype == expected
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype(param_dtype)}


@pytest.fixture(params=["onednn", "jax", "xla"])
def backend(request):
    try:
        return backends.choose(request.param, jax.devices()[:1])
    except backends.Missing as missing:
        pytest.skip(str(missing))


def vjp(module):
    """Value and gradients, compiled together."""

    def run(kernel, x, ct):
        y, back = jax.vjp(lambda *a: module.apply({"params": {"kernel": a[0]}}, a[1]), kernel, x)
        return y, *back(ct.astype(y.dtype))

    return jax.jit(run)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "case", ["1-D, stride 3, asymmetric", "2x2, stride 2, output padded", "beyond the kernel"]
)
def test_backends_agree(backend, case, dtype):
    x, kernel = (jnp.asarray(a, dtype) for a in drawn(CASES[case], channels=8, features=8))
    module = layer(CASES[case], features=8, use_bias=False)
    wide = [a.astype(jnp.float32) for a in (kernel, x)]
    shape = jax.eval_shape(module.apply, {"params": {"kernel": kernel}}, x).shape
    ct = jnp.asarray(np.random.default_rng(2).normal(size=shape), dtype)
    expected = vjp(module)(*wide, ct.astype(jnp.float32))
    ours = layer(CASES[case], 8, use_bias=False, conv_general_dilated=backend.conv_general_dilated)
    taken = "convolution_data" in str(jax.make_jaxpr(vjp(ours))(kernel, x, ct))
    assert taken is (backend.name != "xla")  # no fallback, however much is cropped or added
    actual = vjp(ours)(kernel, x, ct)
    assert {leaf.dtype for leaf in actual} == {np.dtype(dtype)}
    close(actual, expected, 1e-5 if dtype == "float32" else 2**-7)


@pytest.mark.parametrize("name", ["jax", "xla"])
def test_nothing_is_dilated_by_backend_jax(name):
    conv = backends.choose(name, jax.devices()[:1]).conv_general_dilated
    module = ConvTranspose(16, (2, 2), strides=2, use_bias=False, conv_general_dilated=conv)
    shapes = (2, 2, 8, 16), (2, 6, 6, 8), (2, 12, 12, 16)
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    text = vjp(module).lower(*arguments).compile().as_text()
    assert " dot(" in text or " convolution(" in text
    assert ("_dilate=" in text) is (name == "xla")


def test_it_is_mapped_over_weights(backend):
    module = ConvTranspose(8, (2, 2), strides=2, conv_general_dilated=backend.conv_general_dilated)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4, 8)), jnp.float32)
    variables = jax.vmap(module.init, (0, None))(jax.random.split(jax.random.key(0), 3), x)
    y = jax.jit(jax.vmap(module.apply, (0, None)))(variables, x)
    for i in range(3):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], variables)
        close(y[i], module.clone(conv_general_dilated=lax.conv_general_dilated).apply(one, x), 1e-5)
