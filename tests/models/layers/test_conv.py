"""Convolution equals its definition and SciPy's; sizes are those of real outputs."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from models.layers.conv import output_size, pad_width

FORMS = ["VALID", "SAME", 1, (2, 0), (0, 3), "CIRCULAR", "REFLECT"]
MODES = {"CIRCULAR": "wrap", "REFLECT": "reflect"}


def for_axes(padding, rank):
    """One axis's form, as `nn.Conv` takes it for all of them."""
    return [padding] * rank if isinstance(padding, tuple) else padding


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("padding", FORMS, ids=str)
@pytest.mark.parametrize(
    ("stride", "dilation", "groups"), list(itertools.product((1, 2), (1, 2), (1, 2)))
)
@pytest.mark.parametrize(("shape", "window"), [((7,), (3,)), ((5, 6), (3, 2))], ids=["1-D", "2-D"])
def test_conv_is_its_definition(definition, shape, window, stride, dilation, groups, padding):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, *shape, 4)), rng.normal(size=(*window, 4 // groups, 6))
    conv = nn.Conv(
        6,
        window,
        strides=stride,
        padding=for_axes(padding, len(shape)),
        kernel_dilation=dilation,
        feature_group_count=groups,
        use_bias=False,
    )
    y = conv.apply({"params": {"kernel": kernel}}, jnp.asarray(x))
    pads = [pad_width(h, k, stride, padding, dilation) for h, k in zip(shape, window, strict=True)]
    steps, gaps = [stride] * len(shape), [dilation] * len(shape)
    expected = definition(x, kernel, steps, pads, gaps, groups, MODES.get(padding, "constant"))
    np.testing.assert_allclose(y, expected, atol=1e-12)
    sizes = [
        output_size(h, k, stride, padding, dilation) for h, k in zip(shape, window, strict=True)
    ]
    assert y.shape[1:-1] == tuple(sizes)


SCIPY = {
    "full": lambda k: (k - 1, k - 1),
    "same": lambda k: (k // 2, (k - 1) // 2),
    "valid": lambda k: (0, 0),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("mode", SCIPY)
@pytest.mark.parametrize("flip", [False, True], ids=["correlate", "convolve"])
@pytest.mark.parametrize(
    ("shape", "window"), [((8,), (3,)), ((8,), (4,)), ((6, 7), (3, 2)), ((7, 6), (2, 5))], ids=str
)
def test_conv_is_scipys(shape, window, flip, mode):
    rng = np.random.default_rng(1)
    x, kernel = rng.normal(size=shape), rng.normal(size=window)
    taps = np.flip(kernel) if flip else kernel
    conv = nn.Conv(1, window, padding=[SCIPY[mode](k) for k in window], use_bias=False)
    y = conv.apply({"params": {"kernel": taps[..., None, None]}}, jnp.asarray(x[None, ..., None]))
    function = scipy.signal.convolve if flip else scipy.signal.correlate
    np.testing.assert_allclose(y[0, ..., 0], function(x, kernel, mode, "direct"), atol=1e-12)


def test_the_definition_of_a_small_case_by_hand(definition):
    x = np.array([1.0, 2, 3, 4]).reshape(1, 4, 1)
    kernel = np.array([1.0, 10]).reshape(2, 1, 1)
    y = definition(x, kernel, [1], [(1, 0)], [1], 1)
    assert y[0, :, 0].tolist() == [10, 21, 32, 43]
    y = definition(x, kernel, [2], [(0, 1)], [2], 1)
    assert y[0, :, 0].tolist() == [31, 3]


@pytest.mark.parametrize("padding", FORMS, ids=str)
def test_output_size_is_that_of_real_outputs(padding):
    sizes, kernels, strides, dilations = (1, 2, 5, 8), (1, 2, 3, 4), (1, 2, 3), (1, 2)
    for kernel, stride, dilation in itertools.product(kernels, strides, dilations):
        conv = nn.Conv(
            1,
            (kernel, kernel),
            strides=stride,
            padding=for_axes(padding, 2),
            kernel_dilation=dilation,
        )
        for height, width in zip(sizes, sizes[1:] + sizes[:1], strict=True):
            x = jax.ShapeDtypeStruct((1, height, width, 1), jnp.float32)
            y, _ = jax.eval_shape(conv.init_with_output, jax.random.key(0), x)
            sizes_out = [output_size(n, kernel, stride, padding, dilation) for n in (height, width)]
            assert y.shape == (1, *sizes_out, 1), (height, width, kernel, stride, dilation)


@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        ((224, 7, 2, 3, 1), 112),  # ResNet's stem
        ((112, 3, 2, 1, 1), 56),  # its pooling
        ((32, 3, 1, "SAME", 1), 32),
        ((33, 3, 2, "SAME", 1), 17),
        ((10, 3, 1, "VALID", 4), 2),
        ((10, 3, 1, (1, 2), 1), 11),
        ((3, 5, 1, "VALID", 1), 0),
        ((32, 3, 1, np.int64(1), 1), 32),
        ((10, 3, 1, [np.int32(1), 2], 1), 11),
        (tuple(np.int64([33, 3, 2, 1, 1])), 17),
    ],
)
def test_output_size_by_hand(arguments, size):
    assert output_size(*arguments) == size


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 3), "size=0 must be a whole number, at least 1"),
        ((8, 0), "kernel=0"),
        ((8, 3, 0), "stride=0"),
        ((8, 3, 1, "SAME", -1), "dilation=-1"),
        ((8, 3, 1, "same"), "padding='same' is none of VALID, SAME"),
        ((8, 3, 1, (1, -2)), r"padding=\(1, -2\) must not be negative"),
        ((8, 3, 1, -1), "padding=-1 must not be negative"),
        ((8, 3, 1, (1, 2, 3)), r"padding=\(1, 2, 3\) is neither a whole number nor two"),
        ((8, 3, 1, (1,)), r"padding=\(1,\) is neither"),
        ((8, 3, 1, None), "padding=None is neither"),
        ((8, 3, 1, 0.5), "padding=0.5 is neither"),
        ((8, 3, 1, (1, "SAME")), r"padding=\(1, 'SAME'\) is neither"),
        ((8, 3.0), "kernel=3.0 must be a whole number"),
        ((8, 3, None), "stride=None"),
        ((8, 3, (1, 2)), r"stride=\(1, 2\)"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        output_size(*arguments)
