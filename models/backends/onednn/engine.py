"""oneDNN's convolutions, and batch normalisation in as few passes, through XLA's FFI on a CPU.

The extension beside this file is C++ that `python -m models.backends.onednn` compiles. Each call
uses all cores; calls come one after the other.
"""

import ctypes
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from models.backends import stock
from models.backends.convolution import Engine, Geometry, shape
from models.backends.normalisation import Form, NormEngine
from models.backends.onednn import build, phases
from models.backends.onednn.build import TARGETS


class Missing(Exception):
    """There is no extension that this process can use; the message says why, and what makes one."""


@cache
def extension() -> ctypes.CDLL:
    """The compiled extension, its functions registered with XLA.

    Raises:
        Missing: it can't be had.
    """
    try:
        library = build.load()
    except build.Impossible as error:
        raise Missing(str(error)) from None
    targets = {name: jax.ffi.pycapsule(getattr(library, name)) for name in TARGETS}
    for name, capsule in targets.items():
        jax.ffi.register_ffi_target(f"svertka_{name}", capsule, platform="cpu")
    library.Implementation.restype = ctypes.c_char_p
    numbers = ctypes.POINTER(ctypes.c_int64)
    library.Implementation.argtypes = [ctypes.c_int64, ctypes.c_int64, numbers]
    return library


def convolve(which: str, a: jax.Array, b: jax.Array, geometry: Geometry) -> jax.Array:
    """One of `Engine`'s three; XLA's where oneDNN has no fast form for the shape."""
    if a.dtype == jnp.bfloat16 and not build.computes_bfloat16():
        wide = convolve(which, a.astype(jnp.float32), b.astype(jnp.float32), geometry)
        return wide.astype(a.dtype)
    if phases.apart(which, geometry):
        return convolve(which, *phases.split(a, b, geometry))
    result = shape(which, a, b, geometry)
    if slow(which, a.shape, b.shape, result, a.dtype == jnp.bfloat16, geometry):
        return getattr(stock, which)(a, b, geometry)
    before, after = zip(*geometry.pads, strict=True)
    call = jax.ffi.ffi_call(f"svertka_{which.capitalize()}", jax.ShapeDtypeStruct(result, a.dtype))
    return call(
        a,
        b,
        strides=integers(geometry.strides),
        dilations=integers(geometry.dilations),
        before=integers(before),
        after=integers(after),
        groups=np.int64(geometry.groups),
    )


@cache
def slow(
    which: str,
    a: tuple[int, ...],
    b: tuple[int, ...],
    result: tuple[int, ...],
    bfloat16: bool,
    geometry: Geometry,
) -> bool:
    """Whether oneDNN has a reference implementation alone, or none."""
    x, w, y = {"forward": (a, b, result), "data": (result, b, a), "weights": (a, result, b)}[which]
    sizes = [*x[1:], *w[1:], *y[1:]]
    before, after = zip(*geometry.pads, strict=True)
    moves = [*geometry.strides, *geometry.dilations, *before, *after]
    numbers = integers([len(geometry.size), geometry.groups, *sizes, *moves])
    pointer = numbers.ctypes.data_as(ctypes.POINTER(ctypes.c_int64))
    kind = Engine._fields.index(which)
    name = extension().Implementation(kind, int(bfloat16), pointer).decode()
    return name == "" or "ref" in name


def integers(values: Sequence[int]) -> np.ndarray:
    """As C++ takes them."""
    return np.array(values, np.int64)


def normalise(x: jax.Array, scale: jax.Array, bias: jax.Array, *add: jax.Array, form: Form) -> Any:
    """`NormEngine.forward`."""
    extension()
    call = jax.ffi.ffi_call("svertka_NormForward", (like(x), like(scale), like(scale)))
    return call(x, scale, bias, *(add or (x,)), **flags(form))


def denormalise(dy: jax.Array, x: jax.Array, y: jax.Array, *others: jax.Array, form: Form) -> Any:
    """`NormEngine.cotangent`."""
    extension()
    scale = others[0]
    results = like(x), like(scale), like(scale), like(x if form.adds else scale)
    call = jax.ffi.ffi_call("svertka_NormBackward", results)
    return call(dy, x, y, *others, **flags(form))[: 3 + form.adds]


def like(x: jax.Array) -> jax.ShapeDtypeStruct:
    """Its shape and dtype."""
    return jax.ShapeDtypeStruct(x.shape, x.dtype)


def flags(form: Form) -> dict[str, Any]:
    """The attributes of a call."""
    return {"epsilon": np.float32(form.epsilon), "relu": form.relu, "adds": form.adds}


ENGINE = Engine(*(partial(convolve, which) for which in Engine._fields))
NORM = NormEngine(normalise, denormalise)
