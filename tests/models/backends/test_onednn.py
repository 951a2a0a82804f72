"""The extension as a whole: always the same bits, from many threads, for many shapes, in networks.

And how it is compiled, and what is said where it can't be.
"""

import concurrent.futures
import ctypes
import functools
import hashlib
import importlib.metadata
import os
import pathlib
import re
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import models
from models import backends
from models.backends import convolution, normalisation
from models.backends.onednn import build
from models.backends.onednn import engine as onednn

LAST = ("NHWC", "HWIO", "NHWC")


def random(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def close(actual, expected, tolerance):
    """To that part of the largest value expected, leaf by leaf."""

    def check(a, b):
        scale = max(np.abs(np.float64(b)).max(), 1e-30)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)

    jax.tree.map(check, actual, expected)


conv = functools.partial(
    convolution.conv_general_dilated, dimension_numbers=LAST, engine=onednn.ENGINE
)


# --- bits -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("extension")
@pytest.mark.parametrize("channels", [3, 16, 32], ids=["stem", "narrow", "wide"])
def test_the_same_bits_every_time(channels):
    @jax.jit
    def run(x, w, scale):
        def f(x, w, scale):
            y = conv(x, w, (1, 1), "SAME")
            how = {"epsilon": 1e-5, "act": jax.nn.relu, "add": None, "dtype": y.dtype}
            y, mean, var = normalisation.batch_normalise(y, scale, scale, **how, engine=onednn.NORM)
            return jnp.square(y).sum() + var.sum(), (y, mean, var)

        return jax.value_and_grad(f, (0, 1, 2), has_aux=True)(x, w, scale)

    operands = random(0, 16, 33, 31, channels), random(1, 3, 3, channels, 32), random(2, 32)
    first = run(*operands)
    for _ in range(5):
        # Elsewhere in memory.
        moved = [a + 0 for a in operands]
        jax.tree.map(np.testing.assert_array_equal, run(*moved), first)
    # Another program that computes the same.
    again = jax.jit(lambda *operands: run(*operands))(*operands)
    jax.tree.map(np.testing.assert_array_equal, again, first)


@pytest.mark.usefixtures("extension")
def test_calls_from_several_threads():
    cases = []
    for i, (size, channels, features, stride) in enumerate(
        [(9, 3, 8, 1), (8, 16, 16, 1), (10, 8, 16, 2), (9, 32, 32, 1), (7, 40, 33, 1)]
    ):
        x, w = random(i, 4, size, size, channels), random(i + 9, 3, 3, channels, features)
        run = jax.jit(
            lambda x, w, stride=stride: jax.value_and_grad(
                lambda x, w: jnp.square(conv(x, w, (stride, stride), "SAME")).sum(), (0, 1)
            )(x, w)
        )
        cases.append((run, x, w, jax.block_until_ready(run(x, w))))

    def often(case):
        run, x, w, expected = case
        for _ in range(40):
            jax.tree.map(np.testing.assert_array_equal, run(x, w), expected)
        return True

    with concurrent.futures.ThreadPoolExecutor(len(cases) * 2) as pool:
        assert all(pool.map(often, cases * 2, timeout=120))


@pytest.mark.usefixtures("extension")
def test_tracing_in_several_threads():
    def trace(i):
        x, w = random(i, 2, 6 + i % 3, 5 + i // 3, 8), random(i, 3, 3, 8, 8)
        y = conv(x, w, (1, 1), "SAME")
        close(y, lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=LAST), 1e-5)
        return True

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        assert all(pool.map(trace, range(12), timeout=120))


def direct(library, which, a, b, geometry):
    """The name of the implementation: made, kept, and dropped as those of calls are."""
    result = convolution.shape(which, a, b, geometry)
    x, w, y = {"forward": (a.shape, b.shape, result)}[which]
    before, after = zip(*geometry.pads, strict=True)
    moves = [*geometry.strides, *geometry.dilations, *before, *after]
    numbers = onednn.integers([2, geometry.groups, *x[1:], *w[1:], *y[1:], *moves])
    return library.Implementation(0, 0, numbers.ctypes.data_as(ctypes.POINTER(ctypes.c_int64)))


def test_more_shapes_than_are_kept(extension):
    """The oldest are dropped, and whoever needs one again gets it again."""
    source = (build.FOLDER / "convolution.cc").read_text()
    kept = int(re.search(r"kPlans = (\d+)", source)[1])
    x, w = random(0, 2, 6, 6, 8), random(1, 3, 3, 8, 8)
    run = jax.jit(lambda x, w: jax.vjp(lambda x, w: conv(x, w, (1, 1), "SAME"), x, w)[1](x))
    first = run(x, w)
    for size in range(1, kept + 20):
        one = jax.ShapeDtypeStruct((1, 1, 4, size, 8), jnp.float32)
        kernel = jax.ShapeDtypeStruct((1, 1, 1, 8, 8), jnp.float32)
        geometry = convolution.Geometry((4, size), (1, 1), (1, 1), (1, 1), ((0, 0), (0, 0)), 1)
        assert direct(extension, "forward", one, kernel, geometry)
        if size % 100 == 0:
            jax.tree.map(np.testing.assert_array_equal, run(x, w), first)
    jax.tree.map(np.testing.assert_array_equal, run(x, w), first)


@pytest.mark.usefixtures("extension")
def test_sizes_of_an_image_in_one_program():
    """Sixty-four shapes, called in turn and in reverse."""
    w = random(1, 3, 3, 4, 8)
    images = [random(i, 1 + i % 2, 3 + i // 8, 3 + i % 8, 4) for i in range(64)]
    ours = jax.jit(lambda images, w: [conv(x, w, (1, 1), [(1, 1)] * 2) for x in images])(images, w)
    for x, y in reversed(list(zip(images, ours, strict=True))):
        full = np.pad(np.float64(x), [(0, 0), (1, 1), (1, 1), (0, 0)])
        windows = np.lib.stride_tricks.sliding_window_view(full, (3, 3), axis=(1, 2))
        close(y, np.einsum("nhwcij,ijco->nhwo", windows, np.float64(w)), 1e-5)


@pytest.mark.usefixtures("extension")
def test_a_refusal_of_the_library_is_an_error_of_the_call():
    """What Python does not let through comes back as an exception, from C++ too."""
    call = jax.ffi.ffi_call("svertka_Forward", jax.ShapeDtypeStruct((1, 2, 9, 9, 4), jnp.float32))
    one, none = onednn.integers([1, 1]), onednn.integers([0, 0])
    with pytest.raises(jax.errors.JaxRuntimeError, match="oneDNN"):
        jax.block_until_ready(
            call(
                random(0, 1, 2, 5, 5, 8),
                random(1, 1, 3, 3, 8, 4),
                strides=one,
                dilations=one,
                before=none,
                after=none,
                groups=np.int64(1),
            )
        )


# --- a network ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["onednn", "jax"])
def test_a_network_is_the_same_by_every_backend(request, name):
    if name == "onednn":
        request.getfixturevalue("extension")
    backend = backends.choose(name, jax.devices()[:1])
    x, labels = random(0, 6, 12, 12, 3), jnp.arange(6)

    def step(backend):
        network = models.create("resnet20", num_classes=10, **backend.fields)
        variables = jax.jit(functools.partial(network.init, train=False))(jax.random.key(0), x)

        def loss(params):
            logits, stats = network.apply(
                {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
            )
            cross = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
            return cross, (logits, stats)

        run = jax.jit(jax.value_and_grad(loss, has_aux=True))
        evaluated = jax.jit(functools.partial(network.apply, train=False))(variables, x)
        return variables, run(variables["params"]), evaluated

    variables, ((loss, (logits, stats)), grads), evaluated = step(backend)
    theirs, ((loss_, (logits_, stats_)), grads_), evaluated_ = step(backends.XLA)
    # Names, shapes and first values: parameters know no backend.
    assert jax.tree.structure(variables) == jax.tree.structure(theirs)
    jax.tree.map(np.testing.assert_array_equal, variables, theirs)
    close((loss, logits, evaluated), (loss_, logits_, evaluated_), 1e-4)
    close(stats, stats_, 1e-4)
    # A value that rounding moves across a ReLU moves its gradient: by the network's scale.
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(grads_))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * largest), grads, grads_
    )


# --- how it is compiled ------------------------------------------------------------------------


def test_no_compiler_is_said(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(build, "onednn", lambda: build.OneDNN(build.FOLDER, build.FOLDER))
    with pytest.raises(build.Impossible, match=r"no C\+\+ compiler"):
        build.build()
    monkeypatch.setattr(build, "folders", lambda: ())
    assert build.main() == 0
    line = capsys.readouterr().out
    assert line.startswith("No oneDNN extension (convolutions will be slower): there is no C++")
    assert line.count("\n") == 1


def test_cxx_names_the_compiler(monkeypatch, tmp_path):
    mine = tmp_path / "mine"
    mine.write_text("#!/bin/sh\n")
    mine.chmod(0o755)
    monkeypatch.setenv("CXX", str(mine))
    assert build.compiler() == str(mine)
    monkeypatch.setenv("CXX", str(tmp_path / "absent"))
    monkeypatch.setenv("PATH", str(tmp_path))
    mine.rename(tmp_path / "clang++")
    assert build.compiler() == "clang++"


@pytest.mark.parametrize("package", ["onednn-cpu-gomp", "onednn-devel-cpu-gomp"])
@pytest.mark.parametrize("empty", [False, True], ids=["not installed", "without its files"])
def test_a_missing_wheel_is_named_with_its_extra(monkeypatch, package, empty):
    real = importlib.metadata.files

    def files(name):
        if name != package:
            return real(name)
        if empty:
            return None
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(build.sys, "platform", "linux")
    monkeypatch.setattr(build.platform, "machine", lambda: "x86_64")
    other = {"onednn-cpu-gomp", "onednn-devel-cpu-gomp"} - {package}
    try:
        real(*other)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{other} is not installed")
    monkeypatch.setattr(importlib.metadata, "files", files)
    with pytest.raises(build.Impossible, match=rf"\({package}\).*pip install 'svertka\[onednn\]'"):
        build.built()


@pytest.mark.parametrize(("system", "machine"), [("darwin", "x86_64"), ("linux", "aarch64")])
def test_other_machines_are_refused(monkeypatch, system, machine):
    monkeypatch.setattr(build.sys, "platform", system)
    monkeypatch.setattr(build.platform, "machine", lambda: machine)
    with pytest.raises(build.Impossible, match=f"Linux on x86-64, not {system} {machine}"):
        build.built()


@pytest.fixture
def places(monkeypatch, tmp_path):
    """Beside the sources it can't be written; the user's cache is empty."""
    (tmp_path / "file").touch()
    monkeypatch.setattr(build, "FOLDER", tmp_path / "file" / "beside")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path


@pytest.fixture
def wheels():
    try:
        build.onednn(), build.compiler()
    except build.Impossible as missing:
        pytest.skip(str(missing))


@pytest.mark.usefixtures("wheels")
def test_it_is_built_where_it_can_be_written_and_loads(places, capsys):
    with pytest.raises(build.Impossible, match=f"not built.*{build.COMMAND}"):
        build.built()
    (places / "cache" / "svertka").mkdir(parents=True)
    old = places / "cache" / "svertka" / "svertka-onednn-0123.so"
    old.touch()
    assert build.main() == 0
    path = places / "cache" / "svertka" / build.name()
    assert capsys.readouterr().out == f"oneDNN extension: {path}\n"
    assert build.built() == [path]
    # Nothing half-made; what another kind of CPU or jaxlib uses stays.
    assert {entry.name for entry in path.parent.iterdir()} == {path.name, old.name}
    ctypes.CDLL(str(build.onednn().library), ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL(str(path))
    assert all(hasattr(library, name) for name in onednn.TARGETS)
    # A second time it is there already.
    before = path.stat().st_mtime_ns
    assert build.main() == 0
    assert path.stat().st_mtime_ns == before


@pytest.mark.usefixtures("wheels")
def test_what_does_not_compile_is_said_in_a_line(monkeypatch, places, capsys):
    broken = places / "broken"
    broken.write_text("#!/bin/sh\necho 'x.cc:1:2: error: no such thing' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    assert build.main() == 0
    line = capsys.readouterr().out
    assert line.endswith(f"{broken} failed: x.cc:1:2: error: no such thing\n")
    assert line.count("\n") == 1
    assert list((places / "cache" / "svertka").iterdir()) == []


@pytest.mark.usefixtures("wheels")
def test_nowhere_to_write_is_said(monkeypatch, places):
    monkeypatch.setenv("XDG_CACHE_HOME", str(places / "file" / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(places / "file" / "temporary"))
    with pytest.raises(build.Impossible, match="can be written") as error:
        build.build()
    assert str(places) in str(error.value)


SPOILT = {
    "empty": lambda content: b"",
    "text": lambda content: b"no library",
    "cut short": lambda content: content[: len(content) // 2],
    "a flipped bit": lambda content: content[:5000] + bytes([content[5000] ^ 1]) + content[5001:],
    "of another machine": lambda content: sealed(content[:18] + b"\xb7\x00" + content[20:-32]),
    "of another C library": lambda content: sealed(
        content[:-32].replace(b"GLIBC_2.2.5", b"GLIBC_9.9.9")
    ),
}


def sealed(content):
    return content + hashlib.sha256(content).digest()


@pytest.fixture
def compiled(extension, places):
    """The extension of this checkout, copied to where it may be spoilt."""
    path = places / "cache" / "svertka" / build.name()
    path.parent.mkdir(parents=True)
    path.write_bytes((pathlib.Path(build.__file__).parent / build.name()).read_bytes())
    return path


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_what_can_not_be_loaded_falls_back_and_is_built_anew(compiled, monkeypatch, capsys, spoil):
    sound = compiled.read_bytes()
    compiled.write_bytes(spoil(sound))
    monkeypatch.setattr(onednn, "extension", onednn.extension.__wrapped__)
    chosen = backends.choose("auto", jax.devices()[:1])
    assert chosen.name == "jax"
    words = r"the oneDNN extension can't be loaded \(.*\): " + build.COMMAND
    assert re.fullmatch(words, chosen.why)
    with pytest.raises(onednn.Missing, match=words):
        backends.choose("onednn", jax.devices()[:1])
    # Compiling takes ten seconds: the compiler's part is played.
    monkeypatch.setattr(build, "build", lambda: compiled.write_bytes(sound) and compiled)
    assert build.main() == 0
    said = capsys.readouterr().out
    assert said.startswith(f"oneDNN extension: {compiled} (built anew: ")
    assert said.count("\n") == 1
    assert build.main() == 0
    assert capsys.readouterr().out == f"oneDNN extension: {compiled}\n"


def test_one_that_can_not_be_loaded_hides_no_other(compiled, monkeypatch, tmp_path):
    other = tmp_path / "beside" / build.name()
    other.parent.mkdir()
    other.write_bytes(b"")
    monkeypatch.setattr(build, "FOLDER", other.parent)
    assert build.built() == [other, compiled]
    assert build.load()._name == str(compiled)


def test_without_a_home_it_lies_in_a_folder_of_the_user_s_own(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as without HOME and passwd
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    mine = tmp_path / f"svertka-{os.getuid()}"
    assert build.folders() == (build.FOLDER, mine)
    assert not build.owned(mine)
    mine.mkdir(mode=0o700)
    assert build.owned(mine)
    mine.chmod(0o777)  # anybody may have put there what is loaded
    assert not build.owned(mine)
    mine.rmdir()
    mine.symlink_to(build.FOLDER)
    assert not build.owned(mine)


def test_the_name_is_for_these_sources_this_jaxlib_and_this_processor(monkeypatch, tmp_path):
    names = {build.name()}
    assert names == {build.name()}
    source = tmp_path / "a.cc"
    source.write_text("// another")
    with monkeypatch.context() as one:
        one.setattr(build, "SOURCES", (*build.SOURCES, source))
        names.add(build.name())
    with monkeypatch.context() as one:
        one.setattr(build.jaxlib, "__version__", "0.0.1")
        names.add(build.name())
    with monkeypatch.context() as one:
        one.setattr(build, "processor", lambda: "flags: none")
        names.add(build.name())
    assert len(names) == 4
