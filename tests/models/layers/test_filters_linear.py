"""Kernels and edges against SciPy and scikit-image, borders against NumPy, and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage as ndi
import skimage.filters as ski

from models.layers import filters
from models.layers.filters.borders import extend

MODES = ["reflect", "constant", "nearest", "wrap"]
PADDED = {"reflect": "symmetric", "constant": "constant", "nearest": "edge", "wrap": "wrap"}
SHAPES = [(7, 10), (1, 4)]
RNG = np.random.default_rng(0)
ODD, EVEN = RNG.normal(size=(5, 3)), RNG.normal(size=(2, 4))
PAIR, EVEN_PAIR = (RNG.normal(size=5), RNG.normal(size=3)), (RNG.normal(size=4), RNG.normal(size=6))
# Filter, SciPy's or scikit-image's; both take a picture, a mode and a cval.
FILTERS = {
    "correlate": (
        lambda x, **how: filters.correlate(x, ODD, **how),
        lambda x, **how: ndi.correlate(x, ODD, **how),
    ),
    "correlate, even": (
        lambda x, **how: filters.correlate(x, EVEN, **how),
        lambda x, **how: ndi.correlate(x, EVEN, **how),
    ),
    "correlate, pair": (
        lambda x, **how: filters.correlate(x, EVEN_PAIR, **how),
        lambda x, **how: ndi.correlate(x, np.outer(*EVEN_PAIR), **how),
    ),
    "convolve": (
        lambda x, **how: filters.convolve(x, ODD, **how),
        lambda x, **how: ndi.convolve(x, ODD, **how),
    ),
    "convolve, even": (
        lambda x, **how: filters.convolve(x, EVEN, **how),
        lambda x, **how: ndi.convolve(x, EVEN, **how),
    ),
    "convolve, pair": (
        lambda x, **how: filters.convolve(x, PAIR, **how),
        lambda x, **how: ndi.convolve(x, np.outer(*PAIR), **how),
    ),
    "convolve, even pair": (
        lambda x, **how: filters.convolve(x, EVEN_PAIR, **how),
        lambda x, **how: ndi.convolve(x, np.outer(*EVEN_PAIR), **how),
    ),
    "box": (
        lambda x, **how: filters.box(x, 3, **how),
        lambda x, **how: ndi.uniform_filter(x, 3, **how),
    ),
    "box, even": (
        lambda x, **how: filters.box(x, (4, 5), **how),
        lambda x, **how: ndi.uniform_filter(x, (4, 5), **how),
    ),
    "gaussian": (
        lambda x, **how: filters.gaussian(x, 1.1, **how),
        lambda x, **how: ndi.gaussian_filter(x, 1.1, **how),
    ),
    "gaussian, axes differ": (
        lambda x, **how: filters.gaussian(x, (0, 2.3), truncate=2.5, **how),
        lambda x, **how: ndi.gaussian_filter(x, (0, 2.3), truncate=2.5, **how),
    ),
    "laplacian of Gaussian": (
        lambda x, **how: filters.laplacian_of_gaussian(x, 1.4, **how),
        lambda x, **how: ndi.gaussian_laplace(x, 1.4, **how),
    ),
    "laplacian of Gaussian, axes differ": (
        lambda x, **how: filters.laplacian_of_gaussian(x, (0.3, 0.9), truncate=3, **how),
        lambda x, **how: ndi.gaussian_laplace(x, (0.3, 0.9), truncate=3, **how),
    ),
    "laplacian": (filters.laplacian, ndi.laplace),
    "sobel x": (
        lambda x, **how: filters.sobel(x, **how).x,
        lambda x, **how: ndi.sobel(x, 1, **how),
    ),
    "sobel y": (
        lambda x, **how: filters.sobel(x, **how).y,
        lambda x, **how: ndi.sobel(x, 0, **how),
    ),
    "prewitt x": (
        lambda x, **how: filters.prewitt(x, **how).x,
        lambda x, **how: ndi.prewitt(x, 1, **how),
    ),
    "prewitt y": (
        lambda x, **how: filters.prewitt(x, **how).y,
        lambda x, **how: ndi.prewitt(x, 0, **how),
    ),
    "scharr x": (
        lambda x, **how: filters.scharr(x, **how).x,
        lambda x, **how: 16 * ski.scharr(x, axis=1, **how),
    ),
    "scharr y": (
        lambda x, **how: filters.scharr(x, **how).y,
        lambda x, **how: 16 * ski.scharr(x, axis=0, **how),
    ),
    "scharr magnitude": (
        lambda x, **how: filters.magnitude(filters.scharr(x, **how)),
        lambda x, **how: 16 * 2**0.5 * ski.scharr(x, **how),
    ),
    "unsharp mask": (
        lambda x, **how: filters.unsharp_mask(x, 1.5, 0.7, **how),
        lambda x, **how: x + 0.7 * (x - ndi.gaussian_filter(x, 1.5, **how)),
    ),
    # Written out: nobody else has them.
    "sharpen": (
        filters.sharpen,
        lambda x, **how: ndi.correlate(x, [[0, -1, 0], [-1, 5, -1], [0, -1, 0.0]], **how),
    ),
    "emboss": (
        filters.emboss,
        lambda x, **how: ndi.correlate(x, [[-2, -1, 0], [-1, 1, 1], [0, 1, 2.0]], **how),
    ),
}


def pictures(shape, dtype=np.float64):
    return np.random.default_rng(1).uniform(0, 255, (2, *shape, 2)).astype(dtype)


def each(reference, x, **how):
    """Of every example and channel by itself, in float64."""
    x = np.moveaxis(np.float64(x), 3, 1)
    y = [[reference(channel, **how) for channel in example] for example in x]
    return np.moveaxis(np.array(y), 1, 3)


def close(actual, expected, tolerance):
    """To that part of the largest value expected; where that is about 0, of a picture's scale."""
    assert actual.shape == expected.shape
    scale = max(np.abs(expected).max(), 10)
    np.testing.assert_allclose(np.float64(actual), expected, rtol=0, atol=tolerance * scale)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", FILTERS)
def test_it_is_scipys_or_scikit_images(name):
    mine, reference = FILTERS[name]

    @jax.jit
    def everywhere(x):
        return {mode: mine(x, mode=mode, cval=7.5) for mode in MODES} | {"default": mine(x)}

    for shape in SHAPES:
        x = pictures(shape)
        results = everywhere(x)
        default = results.pop("default")
        for mode, y in results.items():
            assert y.dtype == np.float64
            close(y, each(reference, x, mode=mode, cval=7.5), 1e-13)
        np.testing.assert_array_equal(default, results["reflect"])


@jax.jit
def of_all(x):
    return {name: mine(x, mode="wrap") for name, (mine, _) in FILTERS.items()}


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.int16])
def test_float32_is_right_to_its_rounding_and_what_integers_become(dtype):
    x = pictures((7, 10), dtype)
    for name, y in of_all(x).items():
        assert y.dtype == np.float32
        close(y, each(FILTERS[name][1], x, mode="wrap"), 1e-6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [1, 2, 5])
def test_borders_are_numpys_by_another_name(mode, size):
    x = pictures((size, 3), np.float32)
    pads = (7, 0), (11, 4)
    filled = {"constant_values": -2} if mode == "constant" else {}
    expected = np.pad(x, [(0, 0), *pads, (0, 0)], PADDED[mode], **filled)
    np.testing.assert_array_equal(extend(jnp.asarray(x), pads, mode=mode, cval=-2), expected)


def test_a_point_becomes_the_kernel_or_its_reverse():
    point = np.zeros((1, 5, 5, 1), np.float32)
    point[0, 2, 2] = 1
    kernel = np.arange(1.0, 10).reshape(3, 3)
    np.testing.assert_array_equal(filters.convolve(point, kernel)[0, 1:4, 1:4, 0], kernel)
    reverse = kernel[::-1, ::-1]
    np.testing.assert_array_equal(filters.correlate(point, kernel)[0, 1:4, 1:4, 0], reverse)
    # A tuple is a pair of vectors, a list of lists a matrix.
    ones = jnp.ones((1, 4, 4, 1))
    assert filters.correlate(ones, ((1, 2), (3, 4)), mode="wrap")[0, 0, 0, 0] == 21
    assert filters.correlate(ones, [[1, 2], [3, 4]], mode="wrap")[0, 0, 0, 0] == 10


@pytest.mark.parametrize("name", ["sobel", "prewitt", "scharr"])
@pytest.mark.parametrize("mode", MODES)
def test_scikit_images_edges_are_these_by_a_factor(name, mode):
    x = pictures((6, 9), np.float32)
    gradient, factor = (
        getattr(filters, name)(x, mode=mode),
        {"sobel": 4, "prewitt": 3}.get(name, 16),
    )
    theirs = getattr(ski, name)
    for axis, mine in ((1, gradient.x), (0, gradient.y)):
        close(mine, factor * each(theirs, x, axis=axis, mode=mode), 1e-6)
    close(filters.magnitude(gradient), factor * 2**0.5 * each(theirs, x, mode=mode), 1e-6)


def test_scikit_images_other_filters():
    x = pictures((6, 9), np.float32)
    close(filters.laplacian(x), -each(ski.laplace, x), 1e-6)
    sharp = each(ski.unsharp_mask, x, radius=2.0, amount=1.5, preserve_range=True)
    close(filters.unsharp_mask(x, 2.0, 1.5), sharp, 1e-6)
    defaults = each(ski.unsharp_mask, x, preserve_range=True)
    close(filters.unsharp_mask(x), defaults, 1e-6)


def test_directions_are_clockwise_from_the_right():
    rows, columns = np.indices((5, 5), np.float32)
    for ramp, angle in [
        (columns, 0),
        (rows, np.pi / 2),
        (-columns, np.pi),
        (-rows, -np.pi / 2),
        (rows - columns, 3 * np.pi / 4),
    ]:
        gradient = filters.sobel(ramp[None, ..., None])
        middle = filters.direction(gradient)[0, 1:4, 1:4, 0]
        np.testing.assert_allclose(middle, np.full((3, 3), angle), rtol=1e-6)
    ramp = columns[None, ..., None]
    edges = [filters.sobel, filters.prewitt, filters.scharr]
    assert [float(edge(ramp).x[0, 2, 2, 0]) for edge in edges] == [8, 6, 32]


def test_flat_regions_have_no_edges_and_no_nan():
    flat = jnp.full((1, 4, 4, 1), 0.3)
    for read in (filters.magnitude, filters.direction):

        def total(x, read=read):
            return read(filters.sobel(x)).sum()

        value, slope = jax.value_and_grad(total)(flat)
        assert float(value) == 0
        np.testing.assert_array_equal(slope, jnp.zeros_like(flat))


@pytest.mark.usefixtures("x64")
def test_gradients_are_the_adjoints():
    x, out = pictures((4, 5)), np.random.default_rng(2).normal(size=(2, 4, 5, 2))
    for mode in MODES:

        def linear(x, kernel, mode=mode):
            return filters.convolve(x, kernel, mode=mode)

        y = linear(x, ODD)
        by_x, by_kernel = jax.jit(jax.grad(lambda *args: (linear(*args) * out).sum(), (0, 1)))(
            x, ODD
        )
        # Linear in both: <out, y> is the value's own derivative along either.
        inner = float((out * y).sum())
        assert float((by_x * x).sum()) == pytest.approx(inner, rel=1e-10)
        assert float((by_kernel * ODD).sum()) == pytest.approx(inner, rel=1e-10)

    @jax.jit
    def edges(x):
        return (filters.magnitude(filters.sobel(x)) * out).sum()

    step = 1e-4 * np.random.default_rng(3).normal(size=x.shape)
    slope = float((jax.jit(jax.grad(edges))(x) * step).sum())
    assert slope == pytest.approx(float(edges(x + step) - edges(x - step)) / 2, rel=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_types_are_computed_in_float32(dtype):
    x = jnp.asarray(pictures((6, 9), np.float32), dtype)
    for name in ("gaussian", "laplacian of Gaussian", "unsharp mask", "emboss", "sobel x"):
        mine, reference = FILTERS[name]
        y = mine(x)
        assert y.dtype == dtype
        expected = each(reference, x)
        half_a_step = float(jnp.finfo(dtype).eps) / 2
        np.testing.assert_allclose(np.float64(y), expected, rtol=1.01 * half_a_step, atol=1e-3)


@pytest.mark.usefixtures("strict_dtypes")
def test_under_jit_and_vmap_it_is_the_same():
    x = jnp.asarray(pictures((6, 9), np.float32))

    def edges(x):
        gradient = filters.sobel(filters.gaussian(x, 1.0), mode="wrap")
        return filters.magnitude(gradient) + filters.direction(gradient)

    expected = edges(x)
    np.testing.assert_allclose(jax.jit(edges)(x), expected, rtol=1e-5)
    np.testing.assert_allclose(jax.vmap(edges)(x[:, None])[:, 0], expected, rtol=1e-5)


X = jnp.ones((1, 3, 3, 1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: filters.sobel(X, mode="mirror"), "mode='mirror' is none of reflect, constant, n"),
        (lambda: filters.sobel(X[0]), r"x of shape \(3, 3, 1\) is no picture \(B, H, W, C\)"),
        (lambda: filters.sobel(X[:, :0]), r"x of shape \(1, 0, 3, 1\) is no picture"),
        (lambda: filters.sobel(X > 0), "x of dtype bool is no picture"),
        (lambda: filters.laplacian(X + 1j), "x of dtype complex64 is no picture"),
        (lambda: filters.correlate(X, [np.ones(3), np.ones(3)]), "kernel is a list of arrays"),
        (lambda: filters.correlate(X, [1, 2]), r"kernel of shape \[\(2,\)\] is neither a matrix"),
        (lambda: filters.convolve(X, (ODD, ODD)), r"\[\(5, 3\), \(5, 3\)\] is neither"),
        (lambda: filters.convolve(X, np.ones((0, 3))), r"\[\(0, 3\)\] is neither"),
        (lambda: filters.correlate(X, (1, 2)), r"\[\(\), \(\)\] is neither"),
        (lambda: filters.box(X, 0), "size=0 must be a whole number, at least 1"),
        (lambda: filters.box(X, (3, 3, 3)), r"size=\(3, 3, 3\) has 3 values for 2 spatial axes"),
        (lambda: filters.gaussian(X, -1.0), r"sigma=-1.0 must be a finite number, at least 0"),
        (lambda: filters.gaussian(X, float("nan")), "sigma=nan must be a finite number"),
        (lambda: filters.gaussian(X, 1.0, truncate=-2), "truncate=-2 must be a finite number"),
        (lambda: filters.laplacian_of_gaussian(X, (0, 1.0)), r"sigma=\(0, 1.0\) must be above 0"),
    ],
)
def test_errors_name_the_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()
